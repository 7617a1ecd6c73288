"""The training of networks on a distilled set, in parts, so that they can be measured along the way.

What is compiled is the start of a training and one part of it: neither depends on how many networks there are, how many
parts, or what the networks are measured on.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError
from dd_jax.inner import (
    TRAINING_NUMBERS,
    FitState,
    Regression,
    Training,
    as_shares,
    in_epochs,
    rate_unit,
    regress,
    rule_named,
    steps_per_epoch,
    trainer,
    unroll_on,
)
from dd_jax.inner.losses import Apply
from dd_jax.models import KernelFn, Model
from dd_jax.parameterisation import PLAIN, Learnt, Parameterisation
from dd_jax.synthetic import batch_of_step
from dd_jax.types import Batch, DistilledData, Labels, Params, Transform
from dd_jax.values import with_numbers, without_numbers

NUM_PARTS = 20  # of a training from scratch, after each of which networks can be measured


class Plan(NamedTuple):
    """What is compiled. training: from scratch, or None for the learnt steps; order: of the learnt batches.

    The numbers of a training are in the `TrainingArrays`. parameterisation: of the set. kernel: of an infinitely wide
    network, which a regression trains. rule: of the learnt steps.
    """

    training: Training | Regression | None
    order: str
    parameterisation: Parameterisation = PLAIN
    kernel: KernelFn | None = None
    rule: str = "sgd"


class Steps(NamedTuple):
    """Learnt steps one after another: their numbers, sizes and, where there are any, momenta, (L,)."""

    numbers: Int[Array | np.ndarray, " length"]
    sizes: Float[Array | np.ndarray, " length"]
    momenta: Float[Array | np.ndarray, " length"] | None = None


Part: TypeAlias = Any  # `Steps`, or the epochs (2,) that a part begins and ends with; of a regression None


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainingArrays:
    """What was learnt, of which images are made, with their labels (S, B) or (S, B, K).

    Attributes:
        validation: what decides which network is kept, or None for the last one.
        transform: of the images, for a training that changes pixels.
        numbers: of the training, as in `TRAINING_NUMBERS`.
    """

    learnt: Learnt
    labels: Labels
    validation: Batch | None = None
    transform: Transform | None = None
    numbers: Mapping[str, Any] | None = None


class Course(NamedTuple):
    """A training. parts: of the training, in order; steps_done: gradient steps before them and after each, (P + 1,).

    Attributes:
        whole: the same training in as few parts as leave the same network at the end.
    """

    plan: Plan
    arrays: TrainingArrays
    parts: list[Part]
    whole: list[Part]
    steps_done: Int[np.ndarray, " moments"]


def plan_course(
    model: Model,
    distilled: DistilledData,
    training: Training | Regression | None,
    num_epochs: int | None,
    every_step: bool = False,
    validation: Batch | None = None,
) -> Course:
    """The course of a training on a distilled set.

    Args:
        num_epochs: passes through the batches; None for as many as were learnt. Further ones repeat the last one's
            sizes.
        every_step: whether each learnt step is a part of its own, and not each epoch.
        validation: real images by which the best network along a training is chosen; None keeps the last one.

    Raises:
        OptionError: where the network can't be trained so: in closed form those without weights are, and only those;
            and for the learnt steps of a graph, which has none.
    """
    _check_trains(model, training, num_epochs)
    if not distilled.parameterisation.kind.has_steps and not isinstance(training, Training):
        raise OptionError(
            '"as-distilled" needs learnt steps, but a distilled '
            f"{distilled.parameterisation.kind.name} has none. Use the protocol "
            f'"{distilled.protocol.name}", or a Training.'
        )
    labels = jnp.asarray(distilled.labels)
    arrays = TrainingArrays(jax.tree.map(jnp.asarray, dict(distilled.learnt)), labels)
    plan = Plan(None, distilled.protocol.order, distilled.parameterisation, rule=distilled.protocol.rule)
    if isinstance(training, Regression):
        plan = plan._replace(training=training, kernel=model.kernel)
        return Course(plan, arrays, [None], [None], np.zeros(1, int))
    if training is None:
        parts = learnt_steps(distilled, num_epochs, every_step)
        done = np.cumsum([0, *(len(part.numbers) for part in parts)])
        return Course(plan, arrays, parts, parts, done)
    total = distilled.num_examples
    training = in_epochs(training, total)
    epochs = 0 if num_epochs == 0 else training.epochs
    ends = np.unique(np.linspace(0, epochs, NUM_PARTS + 1).round().astype(np.int32))
    parts = list(np.stack([ends[:-1], ends[1:]], 1))
    whole = [np.asarray([0, epochs], np.int32)] if validation is None and epochs else parts
    transform = distilled.transform if training.on_pixels else None
    done = ends * steps_per_epoch(training, total)
    training, numbers = without_numbers(training, TRAINING_NUMBERS)
    arrays = dataclasses.replace(arrays, validation=validation, transform=transform, numbers=numbers)
    return Course(plan._replace(training=training, order="random", rule="sgd"), arrays, parts, whole, done)


def learnt_steps(distilled: DistilledData, num_epochs: int | None = None, every_step: bool = False) -> list[Steps]:
    """The steps of a distilled set, those of an epoch in one part, or each in a part of its own."""
    num_epochs = distilled.num_epochs if num_epochs is None else num_epochs
    count = distilled.num_batches
    learnt = (distilled.step_sizes, *(() if distilled.momenta is None else (distilled.momenta,)))
    per_epoch = [np.asarray(numbers).reshape(-1, count) for numbers in learnt]
    epochs = [
        Steps(np.arange(e * count, (e + 1) * count, dtype=np.int32), *(n[min(e, len(n) - 1)] for n in per_epoch))
        for e in range(num_epochs)
    ]
    if not every_step:
        return epochs
    return [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], part) for part in epochs for i in range(count)]


class OnSteps(NamedTuple):
    """A network between learnt steps, with what their rule remembers."""

    params: Params
    memory: Any


class Learner(NamedTuple):
    """A network in training from scratch. unit: of its learning rate, if that is relative."""

    state: FitState
    kept: "Kept"
    unit: Array | None


class Kept(NamedTuple):
    """The network to keep so far, and how many of the validation images it gets right, as a share."""

    params: Params
    accuracy: jax.Array


def begin(apply: Apply, plan: Plan, arrays: TrainingArrays, params: Params) -> Any:
    """A training before its first part: a network with what the rule of its steps remembers, or a `Learner`.

    For a regression the network itself.
    """
    if plan.training is None:
        return OnSteps(params, rule_named(plan.rule, jnp.zeros(1)).init(params))
    if not isinstance(plan.training, Training):
        return params
    training, pool = _training(plan, arrays), _pool(plan, arrays)
    unit = rate_unit(apply, params, pool, training)
    start = trainer(apply, training, unit, arrays.transform).init(params)
    return Learner(start, Kept(params, jnp.float32(-1)), unit)


def go_on(apply: Apply, plan: Plan, arrays: TrainingArrays, state: Any, key: jax.Array, part: Part) -> Any:
    """The training after one more part.

    Args:
        key: of the order of the images and, from scratch, of their augmentation; the same for all parts.
    """
    if plan.training is None:
        numbers, sizes, momenta = jax.tree.map(jnp.asarray, part)
        rule = rule_named(plan.rule, sizes, momenta, numbers[0])
        return OnSteps(*unroll_on(apply, state, numbers, rule, batch_of=_batch_of(plan, arrays, key), remat="none"))
    pool = _pool(plan, arrays)
    if isinstance(plan.training, Regression):
        assert plan.kernel is not None
        return regress(plan.kernel, pool, state.weights.shape[-1], plan.training.regulariser)
    epoch = trainer(apply, _training(plan, arrays), state.unit, arrays.transform).epoch

    def one(number: jax.Array, fitted: FitState) -> FitState:
        draws = plan.parameterisation.kind.draw is not None
        return epoch(key, fitted, _pool(plan, arrays, jax.random.fold_in(key, number)) if draws else pool)

    after = lax.fori_loop(part[0], part[1], one, state.state)
    return Learner(after, _kept(apply, state.kept, after.network, arrays.validation), state.unit)


def network_of(state: Any) -> Params:
    """The network that a training has come to."""
    if isinstance(state, Learner):
        return state.kept.params
    return state.params if isinstance(state, OnSteps) else state


def _training(plan: Plan, arrays: TrainingArrays) -> Training:
    assert isinstance(plan.training, Training)
    return with_numbers(plan.training, arrays.numbers or {})


def _batch_of(plan: Plan, arrays: TrainingArrays, key: jax.Array) -> Callable[[jax.Array], Batch]:
    """The number of a learnt step -> its batch."""
    form = plan.parameterisation
    still = form.decode(arrays.learnt) if form.kind.draw is None else None

    def batch_of(t: jax.Array) -> Batch:
        if still is None and plan.order == "fixed":
            labels = arrays.labels[t % len(arrays.labels)]
            return Batch(form.draw_batch(arrays.learnt, jax.random.fold_in(key, t), t % len(arrays.labels)), labels)
        images = form.draw(arrays.learnt, jax.random.fold_in(key, t)) if still is None else still
        return batch_of_step(images, arrays.labels, plan.order, key, t)

    return batch_of


def _pool(plan: Plan, arrays: TrainingArrays, key: jax.Array | None = None) -> Batch:
    """All the images as one batch, with labels as the training takes them; `key`: of what is random in them."""
    form = plan.parameterisation
    images = form.decode(arrays.learnt) if key is None else form.draw(arrays.learnt, key)
    pool = Batch(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in (images, arrays.labels)))
    if isinstance(plan.training, Training) and plan.training.loss == "cross_entropy":
        pool = pool._replace(labels=as_shares(pool.labels))
    return pool


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
        raise OptionError(f"Kernel regression has no epochs, but num_epochs is {num_epochs}. Leave it out.")
    if regression and model.kernel is None:
        raise OptionError(
            "Kernel regression is for infinitely wide networks (dd_jax.models.infinite_mlp), but "
            f"the {model.name} has weights and is trained in steps. Use another protocol, such as "
            '"kip-nn" for a set that was learnt by kernel regression.'
        )
    if not regression and model.kernel is not None:
        raise OptionError(
            f"The {model.name} is infinitely wide and has no weights to train in steps. Use the "
            'protocol "kip", with a set that dd_jax.methods.kernel_inducing_points learnt.'
        )
