"""Ordinary training of a network on real data: minibatches, Adam, a schedule."""

import dataclasses
import math
from typing import Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int

from dd_jax.errors import OptionError, unknown_name
from dd_jax.inner.augment import AUGMENTS, augment
from dd_jax.inner.losses import Apply, chunked_loss
from dd_jax.types import Batch, Params

SCHEDULES = ("cosine", "step", "constant")

_MOST_AT_ONCE = 50  # networks under one vmap on an accelerator ...
_AT_ONCE_BYTES = 2**30  # ... and their weights; gradients, moments and activations come to several times that


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained on real data: Adam on the cross-entropy of minibatches without replacement."""

    epochs: int = 3
    """Passes through the training images; what doesn't fill a last minibatch is left out of a pass."""
    batch_size: int = 128
    """Images in a minibatch."""
    learning_rate: float = 1e-3
    """Adam's, at the start."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Of the learning rate: to zero along a cosine, halved every `decay_epochs`, or constant."""
    decay_epochs: int = 20
    """Epochs between two halvings of the schedule "step"."""
    augment: Literal["none", "crop_flip", "resized_crop_flip"] = "none"
    """Random changes to the training images."""


class FitState(NamedTuple):
    """params; adam: the optimiser's moments; epoch: passes done."""

    params: Params
    adam: optax.OptState
    epoch: Int[Array, ""]


class InitFn(Protocol):
    """params -> FitState."""

    def __call__(self, params: Params) -> FitState: ...


class EpochFn(Protocol):
    """(key, state, real) -> the state after one more pass; the key of the training, the same for every pass."""

    def __call__(self, key: jax.Array, state: FitState, real: Batch) -> FitState: ...


class Trainer(NamedTuple):
    """Training as pure functions of one network; vmap or map them over several."""

    init: InitFn
    epoch: EpochFn


def trainer(apply: Apply, training: Training) -> Trainer:
    """The training of networks `apply` that `training` describes.

    Raises OptionError for settings out of range.
    Source: the released code of Wang et al. 2018, mode "train" (Adam with b1 0.5, batches of 1,024, halving steps).
    """
    _check(training)
    loss_of = chunked_loss(apply)
    adam = optax.scale_by_adam(b1=training.b1)

    def rate(epochs_done: jax.Array) -> jax.Array:
        if training.schedule == "cosine":
            return training.learning_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * epochs_done / training.epochs))
        halvings = jnp.floor(epochs_done / training.decay_epochs) if training.schedule == "step" else 0.0
        return jnp.float32(training.learning_rate) * 0.5**halvings

    def init(params: Params) -> FitState:
        return FitState(params, adam.init(params), jnp.int32(0))

    def epoch(key: jax.Array, state: FitState, real: Batch) -> FitState:
        size = min(training.batch_size, real.labels.shape[0])
        count = real.labels.shape[0] // size
        order_key, augment_key = jax.random.split(jax.random.fold_in(key, state.epoch))
        order = jax.random.permutation(order_key, real.labels.shape[0])[: count * size].reshape(count, size)

        def step(carry: tuple[Params, optax.OptState], part: tuple[jax.Array, jax.Array]):
            params, moments = carry
            index, chosen = part
            keys = jax.random.split(jax.random.fold_in(augment_key, index), size)
            images = augment(keys, real.images[chosen], training.augment)
            gradient = jax.grad(loss_of)(params, Batch(images, real.labels[chosen]))
            direction, moments = adam.update(gradient, moments)
            scale = rate(state.epoch + index / count)
            params = jax.tree.map(lambda p, d: p - (scale * d).astype(p.dtype), params, direction)
            return (params, moments), None

        (params, moments), _ = lax.scan(step, (state.params, state.adam), (jnp.arange(count), order))
        return FitState(params, moments, state.epoch + 1)

    return Trainer(init, epoch)


def fit(apply: Apply, params: Params, key: jax.Array, real: Batch, training: Training) -> Params:
    """The parameters after all the epochs of `training` on `real`, from `params`."""
    init, epoch = trainer(apply, training)
    return lax.fori_loop(0, training.epochs, lambda _, state: epoch(key, state, real), init(params)).params


def nets_at_once(params: Params) -> int | None:
    """How many networks like this one to train under one vmap: none on a CPU, and fewer the larger they are."""
    if jax.default_backend() == "cpu":
        return None
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return max(1, min(_MOST_AT_ONCE, _AT_ONCE_BYTES // max(size, 1)))


def _check(training: Training) -> None:
    for name in ("epochs", "batch_size", "decay_epochs"):
        if getattr(training, name) < 1:
            raise OptionError(f"{name} must be at least 1, but is {getattr(training, name)}.")
    if not 0 < training.learning_rate < float("inf"):
        raise OptionError(f"learning_rate must be positive and finite, but is {training.learning_rate}.")
    if not 0 <= training.b1 < 1:
        raise OptionError(f"b1 must be at least 0 and below 1, but is {training.b1}.")
    if training.schedule not in SCHEDULES:
        raise unknown_name("schedule", training.schedule, SCHEDULES)
    if training.augment not in AUGMENTS:
        raise unknown_name("augment", training.augment, AUGMENTS)
