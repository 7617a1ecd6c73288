"""The training of a network on a distilled set, in parts, so that it can be looked at along the way."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.inner import Training, trainer, unroll
from dd_jax.inner.losses import Apply
from dd_jax.synthetic import batches_of_steps
from dd_jax.types import Batch, DistilledData, Labels, Params

LOOKS = 20  # along a training from scratch


class Plan(NamedTuple):
    """What is compiled. training: from scratch, or None for the learnt steps; order: of the learnt batches."""

    training: Training | None
    order: str


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """The learnt steps, in P parts of L: their numbers and sizes, (P, L)."""

    numbers: Int[Array, "*parts length"]
    sizes: Float[Array, "*parts length"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lesson:
    """images (S, B, H, W, C) with their labels; parts: `Steps`, or the epochs (P, 2) that parts begin and end with."""

    images: Float[Array, "steps batch height width channels"]
    labels: Labels
    parts: Any


def plan_lesson(
    distilled: DistilledData, training: Training | None, num_epochs: int | None, every_step: bool
) -> tuple[Plan, Lesson, np.ndarray]:
    """The lesson, and the gradient steps done before it and after each of its parts, (P + 1,).

    num_epochs: passes through the batches; None for as many as were learnt. Further ones repeat the last one's sizes.
    every_step: whether each learnt step is a part of its own, and not each epoch.
    """
    if training is None:
        steps = learnt_steps(distilled, num_epochs)
        if every_step:
            steps = jax.tree.map(lambda leaf: leaf.reshape(-1, 1), steps)
        done = np.arange(steps.numbers.shape[0] + 1) * steps.numbers.shape[1]
        return Plan(None, distilled.protocol.order), Lesson(distilled.images, distilled.labels, steps), done
    epochs = 0 if num_epochs == 0 else training.epochs
    ends = np.unique(np.linspace(0, epochs, LOOKS + 1).round().astype(np.int32))
    total = distilled.images.shape[0] * distilled.images.shape[1]
    size = min(training.batch_size, total)
    per_epoch = total // size if training.drop_last else -(-total // size)
    parts = jnp.asarray(np.stack([ends[:-1], ends[1:]], 1))
    return Plan(training, "random"), Lesson(distilled.images, distilled.labels, parts), ends * per_epoch


def learnt_steps(distilled: DistilledData, num_epochs: int | None = None) -> Steps:
    """The steps of a distilled set, a part for each epoch: (E, S)."""
    num_epochs = distilled.num_epochs if num_epochs is None else num_epochs
    sizes = jnp.asarray(distilled.step_sizes).reshape(-1, distilled.num_steps)
    numbers = jnp.arange(num_epochs * distilled.num_steps).reshape(num_epochs, distilled.num_steps)
    return Steps(numbers, sizes[jnp.minimum(jnp.arange(num_epochs), distilled.num_epochs - 1)])


def study(apply: Apply, plan: Plan, lesson: Lesson, params: Params, key: jax.Array, look: Callable[[Params], Any]):
    """The parameters after the whole lesson, and what `look` sees after each part, stacked.

    key: of the order of the images and, from scratch, of their augmentation.
    """
    if plan.training is None:
        return lax.scan(_learnt(apply, plan, lesson, key, look), params, lesson.parts)
    init, epoch = trainer(apply, plan.training)
    pool = Batch(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (lesson.images, lesson.labels)))

    def some_epochs(state: Any, ends: jax.Array) -> tuple[Any, Any]:
        state = lax.fori_loop(ends[0], ends[1], lambda _, state: epoch(key, state, pool), state)
        return state, look(state.params)

    state, seen = lax.scan(some_epochs, init(params), lesson.parts)
    return state.params, seen


def _learnt(apply: Apply, plan: Plan, lesson: Lesson, key: jax.Array, look: Callable[[Params], Any]):
    def some_steps(params: Params, part: Steps) -> tuple[Params, Any]:
        batches = batches_of_steps(lesson.images, lesson.labels, plan.order, key, part.numbers)
        params = unroll(apply, params, batches, part.sizes, remat="none")
        return params, look(params)

    return some_steps
