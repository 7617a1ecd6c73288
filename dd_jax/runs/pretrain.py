"""Train many networks on real data and keep them in one file, to start inner training from."""

import dataclasses
import functools
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from dd_jax import models
from dd_jax.errors import DataError, DDJaxError, DivergedError, OptionError, values_at_least
from dd_jax.evaluation import evaluate_networks
from dd_jax.inner import (
    TRAINING_NUMBERS,
    Training,
    device_mesh,
    in_epochs,
    map_over,
    nets_at_once,
    on_each,
    replicate,
    trainer,
)
from dd_jax.models import Model, check_fits
from dd_jax.renamed import renamed
from dd_jax.runs.directory import open_run, refuse_difference
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.places import followed
from dd_jax.runs.progress import note, progress
from dd_jax.runs.provenance import provenance
from dd_jax.seeds import check_seed, key_of_seed
from dd_jax.storage.files import disk_errors, plain, write_bytes
from dd_jax.storage.pretrained import PARTS, load_pretrained, save_pretrained
from dd_jax.types import Batch, Dataset, Networks, Params, Pretrained
from dd_jax.values import quick_jit, with_numbers, without_numbers


@renamed(data="dataset")
def pretrain(
    model: Model,
    dataset: Dataset,
    *,
    num_nets: int = 200,
    num_held_out: int = 20,
    training: Training | None = None,
    seed: int = 0,
    out: str | Path,
    devices: int | None = None,
    show_progress: bool = True,
) -> Pretrained:
    """Train networks from random weights on the training split of `dataset`, and keep them in the file `out`.

    Args:
        num_nets, num_held_out: networks to distil with, and others to judge on, each with its own weights and
            minibatches.
        training: the training. None: three epochs of Adam.
        out: a .safetensors file. The same call continues an interrupted one after the last finished networks (on an
            accelerator many are trained at once), and adds to a file that has fewer networks of the same kind.
        devices: number of devices that train networks at the same time. None: all of them.

    Raises:
        DataError: if data and model don't match or the model isn't one of `dd_jax.models`.
        OptionError: for bad options.
        RunError: if `out` holds other networks or can't be written.
        DivergedError: if a network's weights stop being finite.
        KeyboardInterrupt: when asked to stop.
    """
    if jax.process_count() > 1:
        raise OptionError(
            "Networks are pretrained in one process, which uses all devices of its machine, but found several. "
            "Start one process."
        )
    if dataset.stream is not None:
        raise OptionError("Networks are pretrained on images that are all in memory. Leave out resident_images.")
    training = in_epochs(training or Training(), len(dataset.train.labels))
    values_at_least(1, num_nets=num_nets)
    values_at_least(0, num_held_out=num_held_out)
    seed = check_seed(seed)
    check_fits(model, dataset.train, dataset.num_classes)
    check_known(model)
    trainer(model.apply, training)  # raises what is wrong with its settings
    out = Path(out).expanduser().absolute()
    config = plain(
        {
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "model": {"name": model.name, **model.settings},
            "training": training_record(dataclasses.asdict(training)),
            "seed": seed,
        }
    )
    there = _already(out, config)
    counts = {"train": num_nets, "held_out": num_held_out}
    if there is not None:
        had = {part: len(accuracies) for part, accuracies in there.accuracies.items()}
        if all(counts[part] <= had[part] for part in PARTS):
            note(f"{out} already has the networks.")
            return there
        counts = {part: max(counts[part], had[part]) for part in PARTS}
    wanted = [(part, i) for part in PARTS for i in range(counts[part])]
    folder = out.with_name(out.name + ".parts")
    with open_run(folder, {"pretrain": config}), stop_requests() as stop:
        _split_up(there, folder)
        missing = [job for job in wanted if not _file(folder, *job).is_file()]
        if len(missing) < len(wanted):
            note(f"{len(wanted) - len(missing)} of {len(wanted)} networks were trained before. Training the others.")
        crew = _Crew(model, dataset, training, seed, device_mesh(devices), len(missing))
        with progress(len(wanted), len(wanted) - len(missing), show_progress) as show:
            done = len(wanted) - len(missing)
            for start in range(0, len(missing), crew.size):
                jobs = missing[start : start + crew.size]
                networks, accuracies = crew.train(jobs, stop, folder)
                singles = [jax.tree.map(lambda leaf, i=i: leaf[i], networks) for i in range(len(jobs))]
                diverged = [job for job, params in zip(jobs, singles, strict=True) if not is_finite(params)]
                for job, params, accuracy in zip(jobs, singles, accuracies, strict=False):
                    if job not in diverged:
                        _keep(_file(folder, *job), params, accuracy)
                if diverged:
                    part, index = diverged[0]
                    raise DivergedError(
                        f"The weights of network {index} of {part!r} are not finite. Try a smaller "
                        f"learning_rate. The others are kept in {folder}.",
                        0,
                    )
                done += len(jobs)
                show(done, accuracy=float(accuracies[: len(jobs)].mean()))
        made = _join(folder, wanted, model, dataset, config, out)
    shutil.rmtree(folder)
    return made


class _Crew:
    """Trains networks in groups of `size`."""

    def __init__(
        self,
        model: Model,
        dataset: Dataset,
        training: Training,
        seed: int,
        mesh: Mesh | None,
        most: int,
    ):
        self.model, self.dataset, self.mesh = model, dataset, mesh
        self.epochs, self.key = training.epochs, key_of_seed(seed)
        self.training, numbers = without_numbers(training, TRAINING_NUMBERS)
        per_device = nets_at_once(jax.eval_shape(model.init, self.key)) or 1
        self.size = max(1, min(per_device * (1 if mesh is None else mesh.size), most))
        self.numbers, self.real, self.transform = replicate((numbers, dataset.train, dataset.transform), mesh)

    def train(self, jobs: list[tuple[str, int]], stop, folder: Path) -> tuple[Networks, np.ndarray]:
        """The networks of `jobs` after training, and their accuracies on test; whatever fills the group comes after."""
        keys = jnp.stack([self._key(*jobs[min(i, len(jobs) - 1)]) for i in range(self.size)])
        keys = replicate(keys, self.mesh)
        states = start_training(self.model.init, self.model.apply, self.training, self.mesh, self.numbers, keys)
        given = self.numbers, self.real, self.transform
        for _ in range(self.epochs):
            if stop():
                raise KeyboardInterrupt(f"stopped; the same command continues ({folder})")
            states = _epoch(self.model.apply, self.training, self.mesh, keys, states, *given)
            jax.block_until_ready(states.epoch)
        networks = jax.tree.map(np.asarray, states.network)
        devices = 1 if self.mesh is None else self.mesh.size
        return networks, evaluate_networks(networks, self.model, self.dataset, devices=devices).accuracies

    def _key(self, part: str, index: int) -> jax.Array:
        return jax.random.fold_in(jax.random.fold_in(self.key, PARTS.index(part)), index)


@functools.partial(quick_jit, static_argnums=(0, 1, 2, 3))
def start_training(init, apply, training, mesh, numbers, keys):
    def each(numbers, keys):
        first = trainer(apply, with_numbers(training, numbers)).init
        return map_over(lambda key: first(init(jax.random.fold_in(key, 0))), keys, None)

    return on_each(each, mesh)(numbers, keys)


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=4)
def _epoch(apply, training, mesh, keys, states, numbers, real: Batch, transform):
    def each(keys, states, numbers, real, transform):
        epoch = trainer(apply, with_numbers(training, numbers), transform=transform).epoch

        def one(item):
            key, state = item
            return epoch(jax.random.fold_in(key, 1), state, real)

        return map_over(one, (keys, states), nets_at_once(jax.tree.map(lambda leaf: leaf[0], states.params)))

    return on_each(each, mesh)(keys, states, numbers, real, transform)


def num_selection(train: int) -> int:
    """How many of `train` networks to keep apart, to choose by: a tenth, ten at most; none of fewer than twenty."""
    return min(10, train // 10) if train >= 20 else 0


def is_finite(params: Params) -> bool:
    return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def check_known(model: Model) -> None:
    """Raise DataError unless the file will be readable: it names a model of the library and its settings."""
    try:
        built = models.make(model.name, model, **models.architecture(model))
    except DDJaxError as error:
        raise DataError(
            f"Networks are kept by the name of their model, so it must be in dd_jax.models. {error}"
        ) from error
    if not models.same_shapes(built, model):
        raise DataError(
            f"The model {model.name!r} differs from the one of that name in dd_jax.models. Use that one, or give "
            "yours another name."
        )


def training_record(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a training as plain values; those that older files don't know have their defaults."""
    return plain({**dataclasses.asdict(Training()), **settings})


def _already(out: Path, config: Mapping[str, Any]) -> Pretrained | None:
    """The networks that `out` has, if there is such a file; RunError if they are others than asked for."""
    if not out.exists():
        return None
    found = load_pretrained(out)
    there = {key: found.training.get(key) for key in config}
    there["training"] = training_record(there["training"] or {})
    there, _ = followed(there, config)
    refuse_difference(there, dict(config), f"{out} holds other networks", "Choose another file, or delete this one.")
    return found


def _split_up(there: Pretrained | None, folder: Path) -> None:
    """The networks of a finished file as parts again, so that others can be added."""
    if there is None:
        return
    for part in PARTS:
        networks = there.read(part, 0, len(there.accuracies[part]))
        for i, accuracy in enumerate(there.accuracies[part]):
            _keep(_file(folder, part, i), jax.tree.map(lambda leaf, i=i: leaf[i], networks), accuracy)


def _file(folder: Path, part: str, index: int) -> Path:
    return folder / f"{part}-{index:06d}.npz"


def _keep(path: Path, params: Any, accuracy: float) -> None:
    buffer = io.BytesIO()
    leaves = {f"{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(params))}
    np.savez(buffer, accuracy=np.float32(accuracy), **leaves)  # type: ignore[arg-type]
    with disk_errors("keep a trained network", path.parent):
        write_bytes(path, buffer.getvalue())


def _join(folder, wanted, model, dataset, config, out) -> Pretrained:
    """All the parts as one file."""
    template = jax.eval_shape(model.init, jax.random.key(0))
    networks, accuracies = {}, {}
    for part in PARTS:
        files = [_file(folder, *job) for job in wanted if job[0] == part]
        leaves = [np.zeros((len(files), *leaf.shape), np.float32) for leaf in jax.tree.leaves(template)]
        accuracies[part] = np.zeros(len(files), np.float32)
        for i, file in enumerate(files):
            with np.load(file) as stored:
                accuracies[part][i] = stored["accuracy"]
                for number, leaf in enumerate(leaves):
                    leaf[i] = stored[str(number)]
        networks[part] = jax.tree.unflatten(jax.tree.structure(template), leaves)
    about = Pretrained(
        f"{dataset.name}-{model.name}",
        model.name,
        models.architecture(model),
        model.image_shape,
        model.num_classes,
        accuracies,
        lambda part, first, last: jax.tree.map(lambda leaf: leaf[first:last], networks[part]),
        num_selection(len(accuracies["train"])),
        {**config, "made_with": provenance()},
        "",
    )
    return save_pretrained(out, networks, about)
