"""Pieces of expert trajectories: where inner training starts, and where it is to arrive."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from dd_jax.errors import DataError, OptionError
from dd_jax.methods.base import Given
from dd_jax.methods.trajectory_options import TrajectoryMatchingOptions, last_start
from dd_jax.models import Model, check_pretrained
from dd_jax.types import Dataset, Experts, Feed, Networks, Pretrained

_WINDOW_BYTES = 2**24  # of starts and targets that are in memory, and of those that are read ahead
_MOST_STEPS = 256


class ExpertWindows(NamedTuple):
    """What some outer steps start from and are to reach: leaves (steps, starts, ...), on the host or on a device.

    Attributes:
        start, target: networks, `expert_epochs` snapshots apart.
        number: (steps, starts), the snapshot of each start.
    """

    start: Networks
    target: Networks
    number: np.ndarray


def expert_windows(
    experts: Experts, options: TrajectoryMatchingOptions, num_outer_steps: int
) -> Callable[[int, int], ExpertWindows]:
    """(seed, window) -> what the outer steps window * num_outer_steps, ... start from and are to reach.

    For each start of each step one expert and one snapshot are drawn, by the number of the step, so that a step finds
    the same ones however many steps a window has.
    Source: Cazenavette et al. 2022, algorithm 1.
    """
    count = len(experts.accuracies)

    def read(seed: int, window: int) -> ExpertWindows:
        pieces, numbers = [], []
        for step in range(window * num_outer_steps, (window + 1) * num_outer_steps):
            generator = np.random.default_rng([seed, step])
            drawn = generator.integers(count, size=options.num_inits)
            starts = generator.integers(options.min_start, last_start(options, step), size=options.num_inits)
            ends = starts[:, None] + np.asarray([0, options.expert_epochs])
            pairs = [experts.read(int(e), both.tolist()) for e, both in zip(drawn, ends, strict=True)]
            pieces.append(jax.tree.map(lambda *leaves: np.stack(leaves), *pairs))
            numbers.append(starts.astype(np.int32))
        whole = jax.tree.map(lambda *leaves: np.stack(leaves), *pieces)
        start, target = (jax.tree.map(lambda leaf, end=end: leaf[:, :, end], whole) for end in (0, 1))
        return ExpertWindows(start, target, np.stack(numbers))

    return read


def expert_feed(experts: Experts, model: Model, options: TrajectoryMatchingOptions) -> Feed:
    """Windows of starts and targets, read from the disk a good many outer steps at a time."""
    one = jax.eval_shape(model.init, jax.random.key(0))
    pair = 2 * options.num_inits * sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(one))
    window = max(1, min(_MOST_STEPS, _WINDOW_BYTES // pair))
    return Feed(window, expert_windows(experts, options, window), _with_experts)


def _with_experts(given: Given, experts: ExpertWindows) -> Given:
    return given._replace(arrays=given.arrays._replace(experts=experts))


def check_experts(experts: Experts | Pretrained | None, model: Model, options: TrajectoryMatchingOptions) -> None:
    """OptionError or DataError unless there are experts of this architecture, with the snapshots asked for."""
    if not isinstance(experts, Experts):
        raise OptionError(
            "trajectory_matching learns from snapshots of networks in training, but got "
            f"{('no experts' if experts is None else f'the networks {experts.name}, which have none')}. "
            "Make experts with dd-jax pretrain --snapshots, and give their folder: --experts "
            "FOLDER, or experts=dd_jax.load_experts(folder)."
        )
    check_pretrained(experts, model)
    last = options.max_start - 1 + options.expert_epochs
    if last >= len(experts.epochs):
        raise OptionError(
            f"The last start is snapshot {options.max_start - 1} and its target is snapshot "
            f"{last}, {options.expert_epochs} later, but the experts {experts.name} have "
            f"snapshots 0 to {len(experts.epochs) - 1}. Lower max_start or expert_epochs, or "
            "train experts for more epochs."
        )


def check_dataset(experts: Experts, dataset: Dataset) -> None:
    """DataError unless the experts were trained on this dataset, in its model space."""
    if experts.dataset != dataset.fingerprint:
        raise DataError(
            f"The experts {experts.name} were trained on another dataset (fingerprint "
            f"{experts.dataset}) than {dataset.name} (fingerprint {dataset.fingerprint}), perhaps "
            "in another size or with other whitening. Train experts on this dataset."
        )
