"""A whole experiment from one record: load, distil, evaluate, compare, draw."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias

import jax
import numpy as np

from dd_jax import models
from dd_jax.data import load_dataset
from dd_jax.data.images import ImageSize
from dd_jax.errors import OptionError
from dd_jax.evaluation import Evaluation
from dd_jax.inner import network_range
from dd_jax.methods import Method, MethodOptions, UnrolledOptions, check_networks, make_method, name_of
from dd_jax.methods.unrolled import protocol_of
from dd_jax.models import Model
from dd_jax.outcomes import outcome_of
from dd_jax.runs.directory import read_config
from dd_jax.runs.judging import Row, measure_rows, plain_rows, print_table, title_of
from dd_jax.runs.loop import Run, asked_config, distill
from dd_jax.runs.naming import DEFAULT_MODEL, default_out, hash_of_places, own_names
from dd_jax.runs.networks import load_networks, networks_file
from dd_jax.runs.places import NETWORKS as NETWORK_SOURCES
from dd_jax.runs.places import source_of, whole, whole_file
from dd_jax.runs.processes import on_first
from dd_jax.runs.progress import note
from dd_jax.runs.provenance import provenance
from dd_jax.runs.report import write_report
from dd_jax.runs.rollback import MAX_ROLLBACKS
from dd_jax.runs.runtime import be_deterministic
from dd_jax.storage.artefact import load_provenance, save_distilled
from dd_jax.storage.expert_files import read_index
from dd_jax.storage.files import disk_errors, plain, read_json, write_json
from dd_jax.storage.pretrained import load_pretrained, read_about, save_pretrained
from dd_jax.synthetic import share_images
from dd_jax.types import Dataset, Experts, Pretrained, Protocol

NETWORKS = "networks.safetensors"  # in a run directory: what is needed to judge it again


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One experiment: what is distilled, for which network, how long, and how it is judged."""

    dataset: str = "digits"
    """"digits", a TFDS image set such as "mnist", "folder:PATH" or "npz:PATH", or "graph:PATH" of an npz file."""
    image_size: int | None = None
    """Resize the images to this side while reading. None: keep their size, or take the size that the pretrained
    networks need."""
    channels: Literal[1, 3] | None = None
    """Make the images grey (1) or colour (3). None: keep them, or take the channels that the pretrained networks
    need."""
    resident_images: int | None = None
    """Training images in memory at a time, for a training split that is too large for memory. Outer steps read one part
    of the split after another. None: all of them."""
    skip_broken: bool = False
    """Leave out images that can't be read, and say so. Otherwise such images are named, and nothing is done."""
    zca: bool = False
    """Whiten the images by ZCA, fitted to the training split, instead of standardising them."""
    model: str | None = None
    """Network, with settings after a colon: "lenet", "mlp:hidden=(64, 64)", "convnet:width=32,depth=2", or your own as
    MODULE:FUNCTION. None: the network of the pretrained ones, or a small mlp."""
    pretrained: str | None = None
    """Networks to start from, in place of random weights: a file from `dd-jax pretrain`, the name of one of its presets
    (a missing file is made), or torchvision's weights of an AlexNet for the model alexnet."""
    experts: str | None = None
    """Networks to learn from, while the set is for networks drawn at random: a file or a preset, as for pretrained
    networks. Trajectory matching takes a folder from `dd-jax pretrain --snapshots`, or one of its presets."""
    precision: Literal["float32", "tf32", "bf16"] = "float32"
    """Precision of the networks' products and activations. "tf32" and "bf16" are for GPUs, faster and less exact."""
    method: MethodOptions = dataclasses.field(default_factory=UnrolledOptions)
    """Hyper-parameters of the method."""
    num_images: int | None = None
    """Images in the whole set, in place of images_per_class. class_shares says how the classes share them."""
    class_shares: Literal["balanced", "proportional"] = "balanced"
    """How the classes share num_images: "balanced" (equally, as far as possible) or "proportional" (as in the training
    images, with at least one image of each class)."""
    num_outer_steps: int = 1500
    """Outer steps: updates of the distilled images."""
    start_from: str | None = None
    """Run directory of another run: start from the images, labels and step sizes that it had after its last outer step.
    The optimiser and its schedule begin anew. None: start as the method says."""
    seed: int = 0
    """Seed of all random numbers in the distillation, from 0 to 2**63 - 1."""
    out: str | None = None
    """Run directory. The same command with the same directory resumes. None: runs/ and a name that tells what differs
    from the preset or the defaults."""
    eval_every: int | None = None
    """Outer steps between two validations. None: twenty validations in all."""
    num_eval_nets: int = 10
    """Networks to train at each validation."""
    num_nets: int = 200
    """Held-out networks for the final evaluation, and for each baseline."""
    baselines: bool = True
    """Also measure the baselines under the same protocol."""
    devices: int | None = None
    """Devices (accelerators, or else CPU cores) that share the work of an outer step. None: as many as make it
    faster."""
    max_rollbacks: int = MAX_ROLLBACKS
    """Number of times that a diverging run may return to its last good state and halve its outer learning rate."""
    patience: int | None = None
    """Validations in a row without a better set before distilling ends. None: distil to the last outer step."""
    deterministic: bool = False
    """Give the same bits every time on the same machine. Slower on GPUs, no difference on CPUs."""
    tensorboard: bool = False
    """Also write metrics and pictures for TensorBoard into the run directory."""


Loaded: TypeAlias = tuple[Method, Dataset, Pretrained | None]  # what `load_method` gives


@dataclasses.dataclass(frozen=True)
class Report:
    """What an experiment found. evaluation: of the distilled set, which is also the first of the rows."""

    run: Run
    evaluation: Evaluation
    rows: list[Row]


def run_experiment(experiment: Experiment, loaded: Loaded | None = None) -> Report:
    """Do it all, or what is left of it, in the experiment's run directory, and print the table.

    Raises what `load_dataset`, `load_pretrained`, `distill` and `evaluate` raise.

    Args:
        loaded: what `load_method` gives for it, where that is known.
    """
    if experiment.deterministic:
        be_deterministic()
    method, dataset, pretrained = loaded or load_method(experiment)
    if pretrained is not None:
        network_range(pretrained, method.protocol, "held_out")  # or it would fail at the end
    out = experiment.out or default_out(experiment)
    if out.endswith(f"-{hash_of_places(experiment)}"):
        note(
            f"{out} ends in a hash of the places of its files, because another run has the same names in another place."
        )
    note(describe_start(method, dataset, out))
    run = distill(
        method,
        dataset,
        num_outer_steps=experiment.num_outer_steps,
        seed=experiment.seed,
        out=out,
        eval_every=experiment.eval_every,
        num_eval_nets=experiment.num_eval_nets,
        devices=experiment.devices,
        max_rollbacks=experiment.max_rollbacks,
        tensorboard=experiment.tensorboard,
        patience=experiment.patience,
        start_from=experiment.start_from,
        record=record_of(experiment),
    )
    note(f"Distilled in {run.seconds:.0f} s, {100 * run.validation:.1f} % on validation. Measuring on test ...")
    if pretrained is not None:
        on_first(lambda: keep_networks(Path(out) / NETWORKS, pretrained, run.distilled.protocol))
    names = None if experiment.baselines else ()
    asked = asked_of(experiment)

    def early(rows: list[Row]) -> None:
        on_first(lambda: leave_results(run, rows, {**asked, "unfinished": True}))

    rows = measure_rows(run.distilled, method.model, dataset, experiment.num_nets, names, pretrained, early)
    report = Report(run, rows[0].evaluation, rows)
    on_first(lambda: leave(run, report, asked))
    print_table(title_of(rows, run.distilled, method.model, dataset, pretrained), rows)
    note(f"The distilled set, metrics, pictures and a report are in {run.out}: open {run.out}/report.html")
    return report


def record_of(experiment: Experiment) -> dict[str, Any]:
    """What the configuration of an experiment's run records besides that of `distill`."""
    found = {"source": recorded(experiment), "deterministic": experiment.deterministic}
    code = {name: source_of(name) for name in own_names(experiment)}
    return {**found, **({"code": code} if code else {})}


def asked_of(experiment: Experiment) -> dict[str, Any]:
    """What an experiment asks of the measurement on test."""
    return {"num_nets": experiment.num_nets, "baselines": experiment.baselines}


def is_finished(experiment: Experiment, loaded: Loaded) -> bool:
    """Whether the experiment's run directory holds all that it asks for."""
    assert experiment.out is not None
    out = Path(experiment.out)
    if not (out / "results.json").is_file() or not (out / "config.json").is_file():
        return False
    method, dataset, _ = loaded
    names = ("num_outer_steps", "seed", "eval_every", "num_eval_nets", "max_rollbacks", "patience", "start_from")
    options = {name: getattr(experiment, name) for name in names}
    asked = plain(asked_config(method, dataset, **options, record=record_of(experiment)))
    return read_config(out)["config"] == asked and read_json(out / "results.json").get("asked") == asked_of(experiment)


def leave(run: Run, report: Report, asked: Mapping[str, Any] | None = None) -> None:
    """Write the table, the pictures and the report into the run directory, and the accuracy into the artefact."""
    assert run.out is not None
    leave_results(run, report.rows, asked or {})
    found = report.evaluation
    test = {"accuracy": found.mean, "std": found.std, "nets": found.n, "split": found.split}
    save_distilled(run.out / "distilled", run.distilled, {**load_provenance(run.out), "test": test})
    draw(run, report)
    write_report(run.out)


def leave_results(run: Run, rows: list[Row], asked: Mapping[str, Any]) -> None:
    """Write the table into the run directory, as far as there is one.

    Args:
        asked: of the measurement, with "unfinished" where rows are still to come.
    """
    assert run.out is not None
    distilling = {"seconds": run.seconds, "validation": run.validation, "memory": run.memory}
    measured = {"results": plain_rows(rows), "distilling": distilling, "made_with": provenance(), "asked": asked}
    with disk_errors("save the results", run.out):
        write_json(run.out / "results.json", measured)


def draw(run: Run, report: Report) -> None:
    """The pictures of a run: its images, its curve, its step sizes."""
    from dd_jax.runs import pictures

    assert run.out is not None
    folder = run.out / "figures"
    pictures.save_images(folder / "distilled.png", run.distilled)
    means = {name: e.score for name, e, _ in report.rows if not name.startswith("distilled")}
    what = outcome_of(run.distilled.protocol).axis(run.distilled.class_names)
    pictures.save_curve(folder / "accuracy.png", run.history, means, what)
    if not run.distilled.protocol.from_scratch:
        pictures.save_steps(folder / "step_sizes.png", run.distilled.step_sizes)


def source(experiment: Experiment) -> dict[str, Any]:
    """What `load` makes the experiment's data, network and pretrained networks from; recorded with a run."""
    names = ("dataset", "model", "image_size", "channels", "zca", "precision", "pretrained")
    later = ("experts", "resident_images", "skip_broken")  # runs from before had none: left out where they say nothing
    given = {name: value for name in later if (value := getattr(experiment, name)) not in (None, False)}
    return {**{name: getattr(experiment, name) for name in names}, **given}


def recorded(experiment: Experiment) -> dict[str, Any]:
    """The source of an experiment with its paths from the root, so that it is found from wherever the run is used."""
    found = source(experiment)
    files = {name: whole_file(found[name]) for name in NETWORK_SOURCES if name in found}
    return {**found, "dataset": whole(experiment.dataset), **files}


def load_method(experiment: Experiment, make: bool = True, kept: dict[str, Any] | None = None) -> Loaded:
    """The method of an experiment, its data, and the networks that its sets are for, if these are pretrained.

    Args:
        make: whether to train networks that are missing. Raises what `load` and the method raise; a mistake in the
            options is told before networks are trained for it.
        kept: data and networks of the last experiment, which are used again where they are the same; those of this one
            are put in their place.
    """
    if isinstance(experiment.method, UnrolledOptions):
        protocol_of(experiment.method)
    check_networks(experiment.method, *(n for n in ("pretrained", "experts") if getattr(experiment, n) is not None))
    given = source(experiment)
    loaded = (kept or {}).get(repr(given)) or load(**given, make=make)
    if kept is not None:
        kept.clear()
        kept[repr(given)] = loaded
    dataset, model, pretrained, experts = loaded
    return make_method(model, _options(experiment, dataset), pretrained, experts), dataset, pretrained


def quick_start(experiment: Experiment) -> Experiment:
    """The experiment as quick to start as can be, where only shapes matter: from noise, and without ZCA if it may."""
    if experiment.experts is None and experiment.pretrained is None:  # which know their dataset
        experiment = dataclasses.replace(experiment, zca=False)
    if not hasattr(experiment.method, "init_images"):
        return experiment
    return dataclasses.replace(experiment, method=dataclasses.replace(experiment.method, init_images="noise"))


def _options(experiment: Experiment, dataset: Dataset) -> MethodOptions:
    """The options of the method, with its images shared among the classes where only their number is given."""
    total, options = experiment.num_images, experiment.method
    if total is None:
        return options
    if not hasattr(options, "images_per_class"):
        raise OptionError(f"num_images is for images, but {name_of(options)} learns something else. Leave it out.")
    num_batches = getattr(options, "num_batches", 1)
    if total % num_batches:
        raise OptionError(f"num_images must be a multiple of the {num_batches} batches, but is {total}.")
    shares = share_images(total // num_batches, dataset, experiment.class_shares == "proportional")
    note(f"Images of each class{' in each batch' if num_batches > 1 else ''}: {', '.join(map(str, shares))}.")
    return dataclasses.replace(options, images_per_class=shares)


def load(
    dataset: str,
    model: str | None = None,
    image_size: int | None = None,
    channels: int | None = None,
    zca: bool = False,
    precision: str = "float32",
    pretrained: str | Path | None = None,
    experts: str | Path | None = None,
    resident_images: int | None = None,
    skip_broken: bool = False,
    make: bool = True,
) -> tuple[Dataset, Model, Pretrained | None, Pretrained | Experts | None]:
    """The data, the network, the pretrained networks and the experts that their names in an experiment mean.

    Args:
        make: whether to train networks that are missing.
    """
    if pretrained is not None and experts is not None:
        raise OptionError(
            "A set is either for pretrained networks or learnt from experts. Give pretrained or experts, not both."
        )
    given = pretrained or experts
    path = None if given is None else networks_file(str(given), make)
    of_experts = experts is not None and path is not None and path.is_dir()
    about = None if path is None else read_index(path) if of_experts else read_about(path)
    if about is not None:
        height, width, depth = about["image_shape"]
        size: ImageSize = image_size or (height, width)
        channels = channels or (depth if depth in (1, 3) else None)
    else:
        size = image_size
    reading = {"resident_images": resident_images, "skip_broken": skip_broken}
    data = load_dataset(dataset, image_size=size, channels=channels, zca=zca, **reading)  # type: ignore[arg-type]
    if model is None and about is not None:
        made = models.make(about["model"], data, **about["settings"])
    else:
        made = models.from_spec(model or DEFAULT_MODEL, data)
    own = load_pretrained(path, made) if path is not None and experts is None else None
    learnt_from = load_networks(path, made) if path is not None and experts is not None else None
    return data, models.with_precision(made, precision), own, learnt_from


def keep_networks(path: Path, pretrained: Pretrained, protocol: Protocol) -> None:
    """Keep in `path` what is needed to judge a run again: all held-out networks, and as many that it distilled with."""
    held_out = len(pretrained.accuracies["held_out"])
    _, last = network_range(pretrained, protocol, "train")
    ranges = [(0, last)] if protocol.init == "fixed" else [(0, min(held_out, last))]
    selection = 0 if protocol.init == "fixed" else pretrained.num_selection
    if selection:
        ranges.append(network_range(pretrained, protocol, "selection"))
    pieces = [pretrained.read("train", *ends) for ends in ranges]
    networks = {
        "train": jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces),
        "held_out": pretrained.read("held_out", 0, held_out),
    }
    train_accuracies = np.concatenate([pretrained.accuracies["train"][slice(*ends)] for ends in ranges])
    accuracies = {"train": train_accuracies, "held_out": pretrained.accuracies["held_out"]}
    save_pretrained(path, networks, dataclasses.replace(pretrained, accuracies=accuracies, num_selection=selection))


def describe_start(method: Method, dataset: Dataset, out: str) -> str:
    """One line on what is about to happen."""
    at_a_time = "" if dataset.stream is None else f", {len(dataset.train.labels):,} of them in memory at a time,"
    into = method.summary or f"a set, by {method.name}"
    return (
        f"Distilling {dataset.size:,} images of {dataset.name}{at_a_time} into {into}, for "
        f"{method.model.name} ({models.num_params(method.model):,} parameters), on "
        f"{jax.devices()[0].device_kind}; run directory {out}"
    )
