"""A distilled set again, with what it is to be used on: of a run, or from elsewhere."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from dd_jax import models
from dd_jax.data import load_dataset
from dd_jax.data.load import is_graph
from dd_jax.errors import DataError, unknown_name
from dd_jax.evaluation import PROTOCOLS
from dd_jax.evaluation.protocols import misuse
from dd_jax.inner import Training
from dd_jax.models import Model
from dd_jax.own import is_own, load_own, look_in
from dd_jax.runs.directory import read_config
from dd_jax.runs.experiment import DEFAULT_MODEL, NETWORKS, Experiment, load, source
from dd_jax.runs.places import changed_source, is_missing, source_of, whole
from dd_jax.runs.progress import note, warnings_as_notes
from dd_jax.storage.artefact import load_distilled, load_provenance
from dd_jax.synthetic import ORDERS
from dd_jax.types import AS_DISTILLED, Dataset, DistilledData, Pretrained

Result = TypeVar("Result")


def load_run(
    out: str | Path, place: str | None = None, model: str | None = None
) -> tuple[DistilledData, Model, Dataset, Pretrained | None]:
    """What is needed to evaluate the run in `out` again: its distilled set, network, data and pretrained networks.

    The networks come from the run directory itself or, as long as it isn't finished, from the file they were in.

    Args:
        place: where the same dataset is now, as for `load_dataset`; None for where it was.
        model: another network, its settings after a colon; None for that of the run.

    Raises:
        DataError: if there is no run, if its dataset isn't there or no longer the one that it was made from, or if it
            was made in Python of what it doesn't hold: arrays, networks of one's own, or pretrained ones.
    """
    path = Path(out)
    distilled = load_distilled(path)
    if not (path / "config.json").is_file():
        raise DataError(
            f"{path} is not a run directory: it has no config.json. A set without a run is for dd-jax train or audit."
        )
    made_from, recorded = _recorded(path)
    fingerprint, name = str(recorded["fingerprint"]), place or str(recorded.get("name"))
    found = place or made_from.get("dataset") or made_from.get("name")
    if found is None:
        raise DataError(
            f"The run in {path} was made from arrays in memory, which it doesn't hold. Evaluate it in Python "
            f'with dd.evaluate(dd.load_distilled("{path}"), model, dataset), or give the same arrays as a file '
            "with --dataset npz:FILE."
        )
    if is_missing(found):
        raise DataError(
            f"{path} was distilled from {found}, but nothing is there (seen from {Path.cwd()}). Give the place "
            "of the same data with --dataset."
        )
    if model is None:
        _find_network(path, made_from)
    load_it = _load_of_command if "dataset" in made_from else _load_of_python
    dataset, own, pretrained = load_it(path, made_from, found, model)
    dataset = dataclasses.replace(dataset, name=name)  # as it was called, and not by its whole path
    if dataset.fingerprint != fingerprint:
        raise DataError(
            f"The dataset {dataset.name!r} is not the one that {path} was distilled from: its fingerprint is "
            f"{dataset.fingerprint}, and was {fingerprint}. Give the same data with --dataset."
        )
    if pretrained is not None and pretrained.fingerprint != distilled.protocol.pretrained:
        raise DataError(
            f"The networks {pretrained.name} are not those that {path} was distilled for: their fingerprint is "
            f"{pretrained.fingerprint}, and was {distilled.protocol.pretrained}. Put back the same file."
        )
    return distilled, own, dataset, pretrained


def _load_of_command(
    path: Path, made_from: dict[str, Any], found: str, model: str | None
) -> tuple[Dataset, Model, Pretrained | None]:
    """Dataset, network and pretrained networks of a run that a command made."""
    kept = path / NETWORKS
    networks = {"pretrained": kept} if kept.is_file() else {}
    if made_from.get("experts") is not None and made_from["model"] is not None:
        made_from = {**made_from, "experts": None}  # nothing that was learnt from is needed any more
    if model is not None and is_own(models.parse_model(made_from["model"] or DEFAULT_MODEL)[0]):
        made_from = {**made_from, "model": model}  # its own may be gone
    dataset, own, pretrained, _ = load(**{**made_from, "dataset": found, **networks}, make=False)
    if model is not None:
        own = made(model, dataset, own.settings.get("precision", "float32"))
    return dataset, own, pretrained


def _load_of_python(
    path: Path, reading: dict[str, Any], found: str, model: str | None
) -> tuple[Dataset, Model, Pretrained | None]:
    """The same of a run that was made in Python, whose network is found by its recorded settings."""
    config = read_config(path)["config"]
    recorded = dict(config["model"]) if isinstance(config.get("model"), dict) else {}
    name, precision = str(recorded.get("name")), recorded.get("precision", "float32")
    in_python = f'in Python, by dd.evaluate(dd.load_distilled("{path}"), model, dataset)'
    if isinstance(config.get("method"), dict) and config["method"].get("pretrained"):
        raise DataError(
            f"The set in {path} is for pretrained networks that were given in Python. Evaluate it "
            f"{in_python[:-1]}, pretrained=networks)."
        )
    if model is None and name not in models.MODELS:
        raise DataError(
            f"The run in {path} was made with the network {name!r}, which is not in dd_jax. Evaluate it "
            f"{in_python}, or name another network with --model."
        )
    dataset = load_dataset(**{**reading, "name": found})
    if model is not None:
        return dataset, made(model, dataset, precision), None
    return dataset, _as_recorded(recorded, dataset), None


def _find_network(path: Path, made_from: dict[str, Any]) -> None:
    """Let the user's own network of the run in `path` be found where it was; says if its source has changed since.

    Raises:
        DataError: if it is nowhere.
    """
    name = models.parse_model(made_from.get("model") or DEFAULT_MODEL)[0]
    code = read_config(path)["config"].get("code", {}) if is_own(name) else {}
    then = code.get(name, {}) if isinstance(code, dict) else {}
    if not (isinstance(then, dict) and {"file", "sha256"} <= then.keys()):
        return
    if not look_in(name, str(then["file"])):
        raise DataError(
            f"The run in {path} was made with the network {name}, which was in {then['file']} (sha256 "
            f"{str(then['sha256'])[:16]}...) but is no longer there, nor in {Path.cwd()} or on Python's path. "
            "Go to the directory that holds it, add that to PYTHONPATH, or name another network with --model."
        )
    load_own(name, "a network")
    if told := changed_source(name, then, source_of(name)):
        note(f"Note: {told}")


def load_set(
    path: str | Path, dataset: str | None = None, model: str | None = None, skip_broken: bool = False
) -> tuple[DistilledData, Model, Dataset, Pretrained | None]:
    """A distilled set with a network and real data to measure it on.

    Raises what `load_run` raises, and DataError where nothing says what data or which network.

    Args:
        path: a run directory, or an artefact from elsewhere.
        dataset, model: as for `dd-jax distill`, in place of those that the set was distilled with; needed where these
            aren't known.
        skip_broken: leave out images of `dataset` that can't be read.
    """
    path = Path(path)
    distilled = load_distilled(path)
    recorded = _recorded(path)[0] if (path / "config.json").is_file() else {}
    theirs = recorded.get("dataset") or recorded.get("name")
    if theirs and (dataset is None or whole(dataset) == whole(theirs)):
        distilled, own, data, pretrained = load_run(path, model=model)
    elif dataset is None:
        known = load_provenance(path).get("dataset", {}).get("name")
        hint = f", made from {known!r}" if known else ""
        raise DataError(f"{path} is a distilled set{hint} without its run. Name the dataset to test on with --dataset.")
    else:
        height, width, channels = distilled.images.shape[2:]
        of_images = distilled.parameterisation.kind.pictures is None
        if of_images == is_graph(dataset):
            kinds = ("images", "a graph") if of_images else ("nodes", "a set of images")
            needed = f"of {height} x {width} images with {channels} channels" if of_images else "that is a graph"
            raise DataError(
                f"{path} is a set of {kinds[0]}, but {dataset} is {kinds[1]}. Give a dataset {needed} with --dataset."
            )
        form: dict[str, Any] = {"image_size": (height, width), "channels": channels if channels in (1, 3) else None}
        form = form if of_images else {}
        data = load_dataset(dataset, **form, skip_broken=skip_broken)
        own, pretrained = made(model, data) if model is not None else _network_of(path, recorded, data), None
    return distilled, own, data, pretrained


def _network_of(path: Path, made_from: dict[str, Any], dataset: Dataset) -> Model:
    """The network that a set was learnt for, by what its run, or else the set itself, records; DataError for none."""
    if made_from.get("model") is not None:
        _find_network(path, made_from)
        return made(made_from["model"], dataset, made_from.get("precision", "float32"))
    if "dataset" in made_from and made_from.get("pretrained") is None and made_from.get("experts") is None:
        return made(DEFAULT_MODEL, dataset, made_from.get("precision", "float32"))
    recorded = load_provenance(path).get("model")
    recorded = recorded if isinstance(recorded, dict) else {}
    name = recorded.get("name")
    if name not in models.MODELS:
        known = "" if name is None else f", for the network {name!r}, which is not in dd_jax"
        raise DataError(f"{path} is a distilled set{known}. Name the network to train with --model.")
    own = _as_recorded(recorded, dataset)
    note(f"The network is the {name} that the set was learnt for. Name another one with --model.")
    return own


def _as_recorded(recorded: Mapping[str, Any], dataset: Dataset) -> Model:
    """The network of this library whose name and settings were recorded."""
    settings = {name: value for name, value in recorded.items() if name not in ("name", "precision")}
    return models.with_precision(
        models.make(recorded["name"], dataset, **settings), recorded.get("precision", "float32")
    )


def made(model: str, dataset: Dataset, precision: str = "float32") -> Model:
    """The network that its name, with settings after a colon, means for `dataset`."""
    return models.with_precision(models.from_spec(model, dataset), precision)


def protocol_named(name: str | None, num_epochs: int | None = None) -> str | Training | None:
    """The protocol of a name, with another number of epochs if wanted; "as-distilled" takes that elsewhere."""
    training = PROTOCOLS.get(name or AS_DISTILLED)
    if num_epochs is None or not isinstance(training, Training):
        return name
    return dataclasses.replace(training, epochs=num_epochs, steps=None)


def in_order(distilled: DistilledData, order: str | None) -> DistilledData:
    """The set, to be used in another order than it was learnt for; says what that means, OptionError for no order."""
    if order is None or order == distilled.protocol.order:
        return distilled
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    if problem := misuse(distilled):
        note(f"Note: {problem}")
    return dataclasses.replace(distilled, protocol=dataclasses.replace(distilled.protocol, order=order))


def with_notes(measure: Callable[[], Result]) -> Result:
    """What `measure` gives; what it warns of is told as a note, once."""
    with warnings_as_notes():
        return measure()


def _recorded(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the run in `path` was made from; and name and fingerprint of its dataset.

    The first is what `load` takes, with a "dataset", of a run that a command made; and of one that was made in Python
    what `load_dataset` takes, with a "name" unless the data were arrays.
    """
    saved = read_config(path)
    config, known = saved["config"], source(Experiment(experts="", resident_images=1, skip_broken=True))
    made_from, dataset, reading = config.get("source", {}), config.get("dataset"), saved["reading"]
    named = ("dataset", "model", "precision", "pretrained", "experts")
    if (
        not (isinstance(made_from, dict) and isinstance(dataset, dict) and "fingerprint" in dataset)
        or not set(made_from) <= set(known)
        or not all(isinstance(value, str) or value == known[name] for name, value in made_from.items() if name in named)
        or (made_from and "dataset" not in made_from)
        or not set(reading) <= set(inspect.signature(load_dataset).parameters)
        or not isinstance(reading.get("name", ""), str)
    ):
        raise DataError(
            f"{path / 'config.json'} is damaged: it doesn't say what the run was made from. Put back a copy of it."
        )
    return made_from or reading, dataset
