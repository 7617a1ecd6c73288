"""What keeps a run from going astray: it goes back to the last good state, and on from there at a smaller rate."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dd_jax.evaluation import Evaluation
from dd_jax.methods.base import ScaleLearningRateFn

FACTOR = 0.5  # on the outer learning rate, each time
_COLLAPSE = 0.5  # of what was gained over chance

MAX_ROLLBACKS = 5


class Good(NamedTuple):
    """The method's state at the last good validation, on the host; step: outer steps done; rollbacks so far."""

    state: Any
    step: jax.Array
    rollbacks: jax.Array


def good_state(state: Any, step: int, rollbacks: int) -> Good:
    """A copy of `state`, as the run's own is donated at the next step."""
    return Good(jax.device_get(jax.tree.map(jnp.copy, state)), jnp.int32(step), jnp.int32(rollbacks))


def with_smaller_rate(good: Good, scale_learning_rate: ScaleLearningRateFn) -> Good:
    """The same state with a smaller outer rate; the next time it is smaller still."""
    state = jax.device_get(scale_learning_rate(jax.tree.map(jnp.asarray, good.state), FACTOR))
    return Good(state, good.step, good.rollbacks + 1)


def collapsed(found: Evaluation, best: float, num_classes: int) -> bool:
    """Whether what a validation finds is so much worse than the best that the run has gone astray.

    Runs that go well lose a tenth of their gain over chance now and then, noisy ones a fifth.
    """
    chance = 1.0 / num_classes
    return best > 2 * chance and found.score < chance + _COLLAPSE * (best - chance)
