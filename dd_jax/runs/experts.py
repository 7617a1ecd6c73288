"""Train many networks on real data and keep them as they were all along: expert trajectories."""

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import DivergedError, OptionError, unknown_name
from dd_jax.evaluation import evaluate_networks
from dd_jax.inner import (
    TRAINING_NUMBERS,
    Training,
    device_mesh,
    in_epochs,
    map_over,
    nets_at_once,
    on_each,
    pass_with_snapshots,
    replicate,
    trainer,
)
from dd_jax.models import Model, check_fits
from dd_jax.runs.directory import open_run
from dd_jax.runs.expert_plan import Plan, check_disk, claim, file_of, planned
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.pretrain import check_known, is_finite, start_training
from dd_jax.runs.progress import note, progress
from dd_jax.seeds import check_seed, key_of_seed
from dd_jax.storage.expert_files import DTYPES, expert_bytes, load_experts, save_expert, write_index
from dd_jax.storage.files import remove_temporary
from dd_jax.types import Batch, Dataset, Experts, Networks
from dd_jax.values import with_numbers, without_numbers

# Cazenavette et al. 2022, the released code: plain gradient descent, enough epochs for the largest of its experiments.
EXPERT_TRAINING = Training(
    epochs=50,
    batch_size=256,
    learning_rate=0.01,
    schedule="constant",
    augment="dsa",
    optimiser="sgd",
    momentum=0.0,
    drop_last=False,
)

_GROUP_BYTES = 4 * 2**30  # of snapshots that the networks which are trained at once have in memory
_WORK = ".training"  # folder in that of the experts, while they are made


def pretrain_experts(
    model: Model,
    dataset: Dataset,
    *,
    num_experts: int = 100,
    training: Training | None = None,
    every: int | None = None,
    out: str | Path,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16"] = "float32",
    devices: int | None = None,
    show_progress: bool = True,
) -> Experts:
    """Train networks from random weights on the training split of `dataset`, and keep them all along in `out`.

    What it all takes on the disk is told before the start. Raises RunError if the disk is too small, if `out` holds
    something else or can't be written; DataError if dataset and model don't match or the model isn't one of
    `dd_jax.models`; OptionError for bad options; DivergedError if a network's weights stop being finite, and
    KeyboardInterrupt when asked to stop: what was finished is kept.

    Args:
        num_experts: networks, each with its own weights and minibatches.
        training: how; None for that of Cazenavette et al. 2022 (`EXPERT_TRAINING`: 50 epochs of plain gradient descent,
            0.01, batches of 256, DSA).
        every: gradient steps between two snapshots, a divisor of those of an epoch; None for one after each epoch. The
            first snapshot is the untrained network.
        out: a folder, new or of experts. The same call continues what was cut short, after the last network that was
            finished, and makes files anew that are damaged; a larger one adds networks.
        dtype: of the stored weights; "bfloat16" halves their size, and rounds them to three digits.
        devices: how many devices train networks at the same time; None for all there are.

    Source: Cazenavette et al. 2022, *Dataset Distillation by Matching Training Trajectories*, section 3.1.
    """
    if jax.process_count() > 1:
        raise OptionError(
            "Experts are trained in one process, which uses all devices of its machine, but found several. Start "
            "one process."
        )
    if dataset.stream is not None:
        raise OptionError("Experts are trained on images that are all in memory. Leave out resident_images.")
    training = in_epochs(training or EXPERT_TRAINING, len(dataset.train.labels))
    _check(model, dataset, num_experts, training, every, dtype)
    out = Path(out).expanduser().absolute()
    plan = planned(model, dataset, training, every, check_seed(seed), dtype)
    rows = claim(out, plan.about)
    missing = [i for i in range(num_experts) if i not in rows]
    if not missing:
        shutil.rmtree(out / _WORK, ignore_errors=True)  # of a process that was killed at its very end
        note(f"{out} already has the experts.")
        return load_experts(out)
    check_disk(out, plan, len(missing), num_experts)
    with open_run(out / _WORK, {"experts": plan.about["training"]}), stop_requests() as stop:
        remove_temporary(out)
        crew = _Crew(model, dataset, training, plan, device_mesh(devices), num_experts)
        groups = sorted({i // crew.size for i in missing})
        with progress(num_experts, num_experts - len(missing), show_progress) as show:
            for group in groups:
                _keep(crew, group, [i for i in missing if i // crew.size == group], rows, out, stop)
                show(len(rows), accuracy=float(np.mean([row["accuracies"][-1] for row in rows.values()])))
    shutil.rmtree(out / _WORK)
    return load_experts(out)


class _Crew:
    """Trains networks in groups of `size`. Network i is always in group i // size, and so has the same bits."""

    def __init__(self, model: Model, dataset: Dataset, training: Training, plan: Plan, mesh: Any, most: int):
        self.model, self.dataset, self.plan, self.mesh = model, dataset, plan, mesh
        self.epochs, self.key = training.epochs, key_of_seed(plan.seed)
        self.training, numbers = without_numbers(training, TRAINING_NUMBERS)
        shapes = jax.eval_shape(model.init, self.key)
        at_once = (nets_at_once(shapes) or 1) * (1 if mesh is None else mesh.size)
        room = max(1, _GROUP_BYTES // expert_bytes(shapes, plan.snapshots, "float32"))
        self.size = max(1, min(at_once, room, most))
        self.given = replicate((numbers, dataset.train, dataset.transform), mesh)

    def train(self, group: int, stop: Callable[[], bool], out: Path) -> list[Networks]:
        """The snapshots of each network of a group."""
        numbers, real, transform = self.given
        keys = jnp.stack([jax.random.fold_in(self.key, group * self.size + i) for i in range(self.size)])
        keys = replicate(keys, self.mesh)
        states = start_training(self.model.init, self.model.apply, self.training, self.mesh, numbers, keys)
        found = [jax.tree.map(lambda leaf: np.asarray(leaf)[:, None], states.network)]
        for _ in range(self.epochs):
            if stop():
                raise KeyboardInterrupt(f"stopped; the same command continues ({out})")
            states, networks = _epoch(
                self.model.apply, self.training, self.mesh, self.plan.every, keys, states, numbers, real, transform
            )
            found.append(jax.tree.map(np.asarray, networks))
        whole = jax.tree.map(lambda *leaves: np.concatenate(leaves, 1), *found)
        return [jax.tree.map(lambda leaf, i=i: leaf[i], whole) for i in range(self.size)]

    def accuracies(self, snapshots: Networks) -> list[float]:
        """How good a network was at each of its snapshots."""
        split, devices = self.plan.about["split"], 1 if self.mesh is None else self.mesh.size
        found = evaluate_networks(snapshots, self.model, self.dataset, split=split, devices=devices)
        return [float(accuracy) for accuracy in found.accuracies]


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3), donate_argnums=5)
def _epoch(apply, training, mesh, every, keys, states, numbers, real: Batch, transform):
    def each(keys, states, numbers, real, transform):
        one_pass = pass_with_snapshots(apply, with_numbers(training, numbers), every, transform)

        def one(item):
            key, state = item
            return one_pass(jax.random.fold_in(key, 1), state, real)

        return map_over(one, (keys, states), nets_at_once(jax.tree.map(lambda leaf: leaf[0], states.params)))

    return on_each(each, mesh)(keys, states, numbers, real, transform)


def _keep(crew: _Crew, group: int, wanted: list[int], rows: dict[int, Any], out: Path, stop: Any) -> None:
    """Train a group, and write those of its networks that are wanted, with the index after each."""
    trained, diverged = crew.train(group, stop, out), []
    for number in wanted:
        snapshots = trained[number - group * crew.size]
        if not is_finite(snapshots):
            diverged.append(number)
            continue
        written = save_expert(out / file_of(number), snapshots, crew.plan.about["dtype"])
        rows[number] = {**written, "accuracies": crew.accuracies(snapshots)}
        write_index(out, {**crew.plan.about, "experts": [rows[i] for i in sorted(rows)]})
    if diverged:
        raise DivergedError(
            f"The weights of expert {diverged[0]} are not finite. Try a smaller learning_rate. The others are "
            f"kept in {out}.",
            0,
        )


def _check(model: Model, dataset: Dataset, num_experts: int, training: Training, every: int | None, dtype: str) -> None:
    if num_experts < 1:
        raise OptionError(f"num_experts must be at least 1, but is {num_experts}.")
    if dtype not in DTYPES:
        raise unknown_name("dtype", dtype, DTYPES)
    check_fits(model, dataset.train, dataset.num_classes)
    check_known(model)
    trainer(model.apply, training)  # raises what is wrong with its settings
