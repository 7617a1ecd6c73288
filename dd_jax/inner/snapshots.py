"""A pass of ordinary training that also gives the networks along the way."""

from collections.abc import Callable

import jax
from jax import lax

from dd_jax.errors import OptionError
from dd_jax.inner.fit import FitState, Training, passes
from dd_jax.inner.losses import Apply
from dd_jax.types import Batch, Networks, Transform


def pass_with_snapshots(
    apply: Apply, training: Training, every: int, transform: Transform | None = None
) -> Callable[[jax.Array, FitState, Batch], tuple[FitState, Networks]]:
    """(key, state, images) -> the state after one more pass, as `trainer` takes it, and the networks along the way.

    Args:
        every: gradient steps between two of these networks, which have a leading axis: n of a pass of n * every steps.

    Raises:
        OptionError: for settings of the training out of range and, when it is called, for an `every` that does not
            divide the steps of a pass.
    """
    prepare = passes(apply, training, transform=transform)

    def epoch(key: jax.Array, state: FitState, images: Batch) -> tuple[FitState, Networks]:
        step, carry, given = prepare(key, state, images)
        count = given[0].shape[0]
        check_every(every, count)

        def part(carry, given):
            carry, _ = lax.scan(step, carry, given)
            params, _, average = carry
            return carry, params if average is None else average

        split = jax.tree.map(lambda leaf: leaf.reshape(count // every, every, *leaf.shape[1:]), given)
        (params, moments, average), networks = lax.scan(part, carry, split)
        return FitState(params, moments, state.epoch + 1, average), networks

    return epoch


def check_every(every: int, count: int) -> None:
    """OptionError unless a network can be kept after every so many of the `count` steps of a pass."""
    if every < 1 or count % every:
        divisors = [n for n in range(1, count + 1) if count % n == 0]
        raise OptionError(
            f"every must divide the {count} gradient steps of a pass, but is {every}. Use one of "
            f"{', '.join(map(str, divisors))}, or None for one snapshot after each pass."
        )
