"""The outer optimisers: Adam, LAMB or gradient descent with momentum, with clipping and a schedule over a run."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, get_args

import jax
import jax.numpy as jnp
import optax

from dd_jax.errors import OptionError, unknown_name
from dd_jax.types import Learnable
from dd_jax.values import Number, is_traced

Schedule: TypeAlias = Literal["cosine", "step", "constant"]
SCHEDULES: tuple[str, ...] = get_args(Schedule)


@dataclasses.dataclass(frozen=True)
class OuterOptions:
    """The outer learning rate, over a run."""

    learning_rate: float = 0.02
    """Outer learning rate."""
    schedule: Schedule = "cosine"
    """Schedule of the outer learning rate: "cosine" (to zero over the run), "step" (halved now and then) or
    "constant"."""
    decay_every: int = 2400
    """Outer steps between two halvings of the schedule "step"."""


class OuterState(NamedTuple):
    """The state of outer, carried from one outer step to the next.

    Attributes:
        adam: the state of the gradient transformation, whichever it is.
        step, horizon: outer steps done and planned.
        factor: on the learning rate; 1 unless a run that diverged goes on with a smaller one.
    """

    adam: Any
    step: jax.Array
    horizon: jax.Array
    factor: jax.Array


class OuterInit(Protocol):
    """(learnable, num_outer_steps) -> OuterState."""

    def __call__(self, learnable: Learnable, num_outer_steps: int) -> OuterState: ...


class OuterUpdate(Protocol):
    """(hypergradient, state, learnable, shares of the learning rate, a prefix tree) -> (learnable, state)."""

    def __call__(
        self, hypergradient: Learnable, state: OuterState, learnable: Learnable, shares: Any = 1.0
    ) -> tuple[Learnable, OuterState]: ...


class OuterOptimiser(NamedTuple):
    """An optimiser of what is learnt that knows how long the run is."""

    init: OuterInit
    update: OuterUpdate


def outer_adam(
    learning_rate: Number,
    *,
    b1: Number = 0.5,
    b2: Number = 0.999,
    clip_norm: Number | None = None,
    clip_factor: Number | None = None,
    schedule: str = "cosine",
    decay_every: Number = 2400,
    decay_factor: Number = 0.5,
) -> OuterOptimiser:
    """Adam on the hypergradient, its global norm clipped to `clip_norm` first.

    Args:
        clip_factor: the norm is also clipped to so many times the running mean of norms, see `clip_by_running_norm`.
        schedule: "cosine" to zero over the run, "step" (times `decay_factor` every `decay_every` outer steps; 40 epochs
            of 60 batches of 1,024 MNIST images are 2,400) or "constant".

    Raises:
        OptionError: for a rate, clipping norm or decay that is not positive, or an unknown schedule.

    Source: Wang et al. 2018, section 4 (Adam(0.5, 0.999), step decay).
    """
    clip = _clip(clip_norm, clip_factor)
    return _outer(optax.scale_by_adam(b1=b1, b2=b2), learning_rate, clip, schedule, decay_every, decay_factor)


def outer_sgd(
    learning_rate: Number,
    *,
    momentum: Number | Mapping[str, Number] = 0.5,
    parts: Any = None,
    clip_norm: Number | None = None,
    clip_factor: Number | None = None,
    schedule: str = "constant",
    decay_every: Number = 2400,
    decay_factor: Number = 0.5,
) -> OuterOptimiser:
    """Gradient descent with momentum, v <- momentum v + hypergradient; the rest as for `outer_adam`.

    Args:
        momentum: one number, or several by the names of `parts`.
        parts: a prefix tree of what is learnt, with the name of a momentum at each leaf.

    Raises:
        OptionError: as `outer_adam` does, and for a momentum outside of [0, 1).

    Source: Zhao et al. 2021, section 4 (0.1, momentum 0.5, constant).
    """
    several = momentum if isinstance(momentum, Mapping) else {"momentum": momentum}
    for name, value in several.items():
        if not is_traced(value) and not 0.0 <= value < 1.0:
            raise OptionError(f"{name} must be at least 0 and below 1, but is {value}.")
    traces = {name: optax.trace(value) for name, value in several.items()}
    directions = optax.partition(traces, parts) if isinstance(momentum, Mapping) else traces["momentum"]
    return _outer(directions, learning_rate, _clip(clip_norm, clip_factor), schedule, decay_every, decay_factor)


def outer_lamb(
    learning_rate: Number,
    *,
    clip_norm: Number | None = None,
    schedule: str = "cosine",
    decay_every: Number = 2400,
    decay_factor: Number = 0.5,
) -> OuterOptimiser:
    """Adam's direction, of each array with the norm of that array: a share of it is what a step changes.

    The rest as for `outer_adam`.
    Source: You et al. 2020, *Large Batch Optimization for Deep Learning*, algorithm 2.
    """
    directions = optax.chain(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-6), optax.scale_by_trust_ratio())
    return _outer(directions, learning_rate, _clip(clip_norm), schedule, decay_every, decay_factor)


def _outer(
    directions: optax.GradientTransformation,
    learning_rate: Number,
    clip: optax.GradientTransformation,
    schedule: str,
    decay_every: Number,
    decay_factor: Number,
) -> OuterOptimiser:
    if schedule not in SCHEDULES:
        raise unknown_name("schedule", schedule, SCHEDULES)
    _check_positive(learning_rate=learning_rate, decay_every=decay_every, decay_factor=decay_factor)
    transform = optax.chain(clip, directions)

    def rate(step: jax.Array, horizon: jax.Array) -> jax.Array:
        if schedule == "cosine":
            fraction = jnp.minimum(step / horizon, 1.0)
            return learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * fraction))
        if schedule == "step":
            return learning_rate * decay_factor ** (step // decay_every).astype(jnp.float32)
        return jnp.float32(learning_rate)

    def init(learnable: Learnable, num_outer_steps: int) -> OuterState:
        return OuterState(transform.init(learnable), jnp.int32(0), jnp.int32(max(num_outer_steps, 1)), jnp.float32(1))

    def update(hypergradient, state, learnable, shares=1.0):
        directions, adam = transform.update(hypergradient, state.adam, learnable)
        scale = -rate(state.step, state.horizon) * state.factor

        def move(share: jax.Array | float, part: Learnable, direction: Learnable) -> Learnable:
            return jax.tree.map(lambda p, d: p + (share * scale * d).astype(p.dtype), part, direction)

        learnable = jax.tree.map(move, shares, learnable, directions)
        return learnable, state._replace(adam=adam, step=state.step + 1)

    return OuterOptimiser(init, update)


class RunningNormState(NamedTuple):
    """The state of clip_by_running_norm. mean: running mean of the clipped norms, 0 before the first of them."""

    mean: jax.Array


def clip_by_running_norm(factor: Number, decay: float = 0.9) -> optax.GradientTransformation:
    """Gradients whose global norm is at most `factor` times the running mean of the norms before, as they were clipped.

    mean <- decay mean + (1 - decay) min(norm, factor mean), and in the beginning the first norm. So a single huge
    gradient, as long unrolls have them, hardly moves the bound.
    Source: Feng et al. 2024, RaT-BPTT, the released code (factor 2, decay 0.9; there the norms as they are).
    """

    def init(params: Any) -> RunningNormState:
        del params
        return RunningNormState(jnp.float32(0))

    def update(gradient: Any, state: RunningNormState, params: Any = None) -> tuple[Any, RunningNormState]:
        del params
        norm = optax.global_norm(gradient).astype(jnp.float32)
        bound = jnp.where(state.mean > 0, factor * state.mean, norm)
        clipped = jnp.minimum(norm, bound)
        scale = jnp.where(norm > bound, bound / norm, 1.0)
        mean = jnp.where(state.mean > 0, decay * state.mean + (1 - decay) * clipped, clipped)
        return jax.tree.map(lambda leaf: scale.astype(leaf.dtype) * leaf, gradient), RunningNormState(mean)

    return optax.GradientTransformation(init, update)


def _clip(norm: Number | None, factor: Number | None = None) -> optax.GradientTransformation:
    """What bounds the norm of a gradient; the identity without bounds."""
    _check_positive(
        **{name: value for name, value in (("clip_norm", norm), ("clip_factor", factor)) if value is not None}
    )
    by_norm = optax.identity() if norm is None else optax.clip_by_global_norm(norm)
    return by_norm if factor is None else optax.chain(by_norm, clip_by_running_norm(factor))


def _check_positive(**numbers: Number) -> None:
    for name, value in numbers.items():
        if not is_traced(value) and not 0 < value < float("inf"):
            raise OptionError(f"{name} must be positive and finite, but is {value}.")


def scale_learning_rate(outer: OuterState, factor: float) -> OuterState:
    """The optimiser with its learning rate multiplied by `factor`, for good."""
    return outer._replace(factor=factor * outer.factor)


def scale_outer_learning_rate(state: Any, factor: float) -> Any:
    """What a method whose state has one optimiser, `outer`, goes on with after diverging: see `ScaleLearningRateFn`."""
    return state._replace(outer=scale_learning_rate(state.outer, factor))


def smooth(array: jax.Array, sigmas: Sequence[Number]) -> jax.Array:
    """`array` convolved with a Gaussian along each axis, of width `sigmas[axis]` (0: not at all), noise-preserving.

    A preconditioner for hypergradients of images: averaged over random networks, what they agree on is smooth, and
    alike from one inner step to the next. Scaled so that white noise keeps its variance.
    """
    for axis, (size, sigma) in enumerate(zip(array.shape, sigmas, strict=True)):
        if (is_traced(sigma) or sigma > 0) and size > 1:
            offsets = jnp.arange(size)[:, None] - jnp.arange(size)[None]
            weights = jnp.exp(-0.5 * jnp.square(offsets / sigma))
            weights = (weights / jnp.sqrt(jnp.square(weights).sum(1, keepdims=True))).astype(array.dtype)
            array = jnp.moveaxis(jnp.tensordot(weights, array, (1, axis)), 0, axis)
    return array
