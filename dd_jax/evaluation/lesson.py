"""The training of a network on a distilled set, in parts, so that it can be looked at along the way."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError
from dd_jax.inner import (
    Regression,
    Training,
    as_shares,
    in_epochs,
    rate_unit,
    regress,
    steps_per_epoch,
    trainer,
    unroll,
)
from dd_jax.inner.losses import Apply
from dd_jax.models import KernelFn, Model
from dd_jax.synthetic import as_graph, batches_of_steps
from dd_jax.types import Batch, DistilledData, Labels, Params, Transform

LOOKS = 20  # along a training from scratch


class Plan(NamedTuple):
    """What is compiled. training: from scratch, or None for the learnt steps; order: of the learnt batches.

    kernel: of an infinitely wide network, which a regression trains.
    """

    training: Training | Regression | None
    order: str
    kernel: KernelFn | None = None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Steps:
    """The learnt steps, in P parts of L: their numbers and sizes, (P, L)."""

    numbers: Int[Array, "*parts length"]
    sizes: Float[Array, "*parts length"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Lesson:
    """images (S, B, H, W, C) with their labels.

    parts: `Steps`, or the epochs (P, 2) that parts begin and end with; of a regression none.
    adjacency: (B, B) of a distilled graph, or None.
    validation: what decides which network is kept, or None for the last one.
    transform: of the images, for a training that changes pixels.
    """

    images: Float[Array, "steps batch height width channels"]
    labels: Labels
    parts: Any
    adjacency: Float[Array, "batch batch"] | None = None
    validation: Batch | None = None
    transform: Transform | None = None


def plan_lesson(
    model: Model,
    distilled: DistilledData,
    training: Training | Regression | None,
    num_epochs: int | None,
    every_step: bool,
    validation: Batch | None = None,
) -> tuple[Plan, Lesson, np.ndarray]:
    """The lesson, and the gradient steps done before it and after each of its parts, (P + 1,).

    num_epochs: passes through the batches; None for as many as were learnt. Further ones repeat the last one's sizes.
    every_step: whether each learnt step is a part of its own, and not each epoch.
    validation: real images by which the best network along a training is chosen; None keeps the last one.
    Raises OptionError where the network can't be trained so: in closed form those without weights are, and only those;
    and for the learnt steps of a graph, which has none.
    """
    _check_trains(model, training, num_epochs)
    if distilled.adjacency is not None and not isinstance(training, Training):
        raise OptionError('A distilled graph has no learnt steps: take the protocol "gcond", or a Training.')
    if isinstance(training, Regression):
        plan = Plan(training, distilled.protocol.order, model.kernel)
        return plan, Lesson(distilled.images, distilled.labels, None), np.zeros(1, int)
    if training is None:
        steps = learnt_steps(distilled, num_epochs)
        if every_step:
            steps = jax.tree.map(lambda leaf: leaf.reshape(-1, 1), steps)
        done = np.arange(steps.numbers.shape[0] + 1) * steps.numbers.shape[1]
        return Plan(None, distilled.protocol.order), Lesson(distilled.images, distilled.labels, steps), done
    total = distilled.images.shape[0] * distilled.images.shape[1]
    training = in_epochs(training, total)
    epochs = 0 if num_epochs == 0 else training.epochs
    ends = np.unique(np.linspace(0, epochs, LOOKS + 1).round().astype(np.int32))
    per_epoch = steps_per_epoch(training, total)
    parts = jnp.asarray(np.stack([ends[:-1], ends[1:]], 1))
    transform = distilled.transform if training.on_pixels else None
    lesson = Lesson(distilled.images, distilled.labels, parts, distilled.adjacency, validation, transform)
    return Plan(training, "random"), lesson, ends * per_epoch


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
    pool = Batch(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (lesson.images, lesson.labels)))
    if lesson.adjacency is not None:
        pool = as_graph(pool, lesson.adjacency)
    if isinstance(plan.training, Regression):
        assert plan.kernel is not None
        return regress(plan.kernel, pool, params.weights.shape[-1], plan.training.regulariser), None
    if plan.training.loss == "cross_entropy":
        pool = pool._replace(labels=as_shares(pool.labels))
    init, epoch = trainer(apply, plan.training, rate_unit(apply, params, pool, plan.training), lesson.transform)

    def some_epochs(carry: tuple[Any, Kept], ends: jax.Array) -> tuple[tuple[Any, Kept], Any]:
        state, kept = carry
        state = lax.fori_loop(ends[0], ends[1], lambda _, state: epoch(key, state, pool), state)
        kept = _kept(apply, kept, state.network, lesson.validation)
        return (state, kept), look(kept.params)

    (_, kept), seen = lax.scan(some_epochs, (init(params), Kept(params, jnp.float32(-1))), lesson.parts)
    return kept.params, seen


class Kept(NamedTuple):
    """The network to keep so far, and how many of the validation images it gets right, as a share."""

    params: Params
    accuracy: jax.Array


def _kept(apply: Apply, before: Kept, params: Params, validation: Batch | None) -> Kept:
    """The new network, or that of before if it was better on validation."""
    if validation is None:
        return Kept(params, before.accuracy)
    accuracy = (apply(params, validation.images).argmax(-1) == validation.labels).mean(dtype=jnp.float32)
    better = accuracy > before.accuracy
    return jax.tree.map(lambda new, old: jnp.where(better, new, old), Kept(params, accuracy), before)


def _check_trains(model: Model, training: Training | Regression | None, num_epochs: int | None) -> None:
    regression = isinstance(training, Regression)
    if regression and num_epochs is not None:
        raise OptionError(f"A regression is done at once and has no epochs, but num_epochs is {num_epochs}.")
    if regression and model.kernel is None:
        raise OptionError(
            f"The {model.name} has weights, and is trained in steps: kernel regression is for infinitely wide networks "
            '(dd_jax.models.infinite_mlp). Use another protocol, such as "kip-nn" for a set that was learnt for it.'
        )
    if not regression and model.kernel is not None:
        raise OptionError(
            f"The {model.name} has no weights to take steps with: it is trained in closed form, by the protocol "
            '"kip", and sets are learnt for it by dd_jax.methods.kernel_inducing_points.'
        )


def _learnt(apply: Apply, plan: Plan, lesson: Lesson, key: jax.Array, look: Callable[[Params], Any]):
    def some_steps(params: Params, part: Steps) -> tuple[Params, Any]:
        batches = batches_of_steps(lesson.images, lesson.labels, plan.order, key, part.numbers)
        params = unroll(apply, params, batches, part.sizes, remat="none")
        return params, look(params)

    return some_steps
