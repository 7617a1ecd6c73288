"""Ordinary training of a network: minibatches, an optimiser, a schedule, augmentation."""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError, check_at_least, check_choices
from dd_jax.inner.augment import Augment, augment, cut_mix
from dd_jax.inner.flat import flat_gradient
from dd_jax.inner.losses import LOSSES, Apply, Gradient, chunked_loss
from dd_jax.inner.policies import POLICIES
from dd_jax.inner.stability import largest_curvature
from dd_jax.types import Batch, Params, Transform, see_each_other
from dd_jax.values import is_traced, is_zero

_MOST_AT_ONCE = 50  # networks under one vmap on an accelerator ...
_AT_ONCE_BYTES = 2**30  # ... and their weights; gradients, moments and activations come to several times that


@dataclasses.dataclass(frozen=True)
class Training:
    """How a network is trained: minibatches without replacement, whole passes of them."""

    epochs: int = 3
    """Passes through the training images."""
    batch_size: int = 128
    """Images in a minibatch."""
    learning_rate: float | None = 1e-3
    """Learning rate at the start. None: the mean of the step sizes that a distilled set was learnt with."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    schedule: Literal["cosine", "step", "drops", "constant"] = "cosine"
    """Schedule of the learning rate: to zero along a cosine, halved every `decay_epochs`, lowered at `drops`, or
    constant."""
    decay_epochs: int = 20
    """Epochs between two halvings of the schedule "step"."""
    augment: Augment = "none"
    """Random changes to the training images."""
    optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser: Adam, or gradient descent with momentum."""
    momentum: float = 0.9
    """Momentum of gradient descent: v <- momentum v + gradient."""
    weight_decay: float = 0.0
    """Weight decay: this number times the parameters is added to the gradient."""
    drops: tuple[float, ...] = (0.5,)
    """Shares of the epochs after which the schedule "drops" multiplies the learning rate by `drop_factor`."""
    drop_factor: float = 0.1
    """Factor on the learning rate at each drop."""
    cutmix: bool = False
    """Paste a rectangle of another image into each one, and mix their labels (Yun et al. 2019, CutMix)."""
    drop_last: bool = True
    """Leave out the last minibatch of a pass if it isn't full. Otherwise it is smaller."""
    dropout: float = 0.0
    """Share of activations that networks on graphs drop at random between layers. Other networks have no dropout."""
    keep: Literal["last", "best"] = "last"
    """Network to evaluate a set with: the last one, or the best one on validation along the way."""
    loss: Literal["cross_entropy", "squared"] = "cross_entropy"
    """Loss: cross-entropy, or the squared error from centred labels."""
    steps: int | None = None
    """Gradient steps, in whole passes, in place of `epochs`."""
    relative: bool = False
    """Take the learning rate as a share of the largest rate at which the network, as it starts, is stable."""
    average: float = 0.0
    """Decay per step of a moving average of the parameters, which replaces them at the end. 0: keep the last
    parameters."""
    sam_rho: float = 0.0
    """Distance from the parameters, in the direction of the largest loss, at which their gradient is taken (SAM: flat
    optima). 0: at the parameters."""
    gsam_alpha: float = 0.0
    """Share of the part of the plain gradient orthogonal to SAM's to subtract (GSAM). Needs sam_rho."""

    @property
    def on_pixels(self) -> bool:
        """Whether images are changed as pixels, so that their transform has to be known."""
        return self.augment in POLICIES


# The fields of a `Training` that enter a compiled one as arguments: see `values.without_numbers`.
TRAINING_NUMBERS: Mapping[str, float | None] = {
    "epochs": None,
    "learning_rate": None,
    "b1": None,
    "momentum": 0.0,
    "weight_decay": 0.0,
    "drop_factor": None,
    "sam_rho": 0.0,
    "gsam_alpha": 0.0,
}


class FitState(NamedTuple):
    """params; moments: the optimiser's; epoch: passes done; average: of the parameters, if there is one."""

    params: Params
    moments: optax.OptState
    epoch: Int[Array, ""]
    average: Params | None = None

    @property
    def network(self) -> Params:
        """What has been trained so far: the average, or the last parameters."""
        return self.params if self.average is None else self.average


class InitFn(Protocol):
    """params -> FitState."""

    def __call__(self, params: Params) -> FitState: ...


class EpochFn(Protocol):
    """(key, state, images) -> the state after one more pass; the key of the training, the same for every pass."""

    def __call__(self, key: jax.Array, state: FitState, images: Batch) -> FitState: ...


class Trainer(NamedTuple):
    """Training as pure functions of one network; vmap or map them over several."""

    init: InitFn
    epoch: EpochFn


def trainer(
    apply: Apply,
    training: Training,
    unit: Float[Array, ""] | None = None,
    transform: Transform | None = None,
    share: Callable[[Gradient], Gradient] | None = None,
) -> Trainer:
    """The training of networks `apply` that `training` describes, in epochs.

    Args:
        unit: what a relative learning rate is a share of, as `rate_unit` finds it.
        transform: between pixels and the images, for a training that changes pixels, see `augment`.
        share: what the gradient goes through, `divided` for instance; not that of SAM.

    Raises:
        OptionError: for settings out of range.

    Source: the released code of Wang et al. 2018, mode "train" (Adam with b1 0.5, batches of 1,024, halving steps).
    """
    prepare = passes(apply, training, unit, transform, share)
    optimiser = _optimiser(training)

    def init(params: Params) -> FitState:
        return FitState(params, optimiser.init(params), jnp.int32(0), params if training.average else None)

    def epoch(key: jax.Array, state: FitState, images: Batch) -> FitState:
        step, carry, given = prepare(key, state, images)
        (params, moments, average), _ = lax.scan(step, carry, given)
        return FitState(params, moments, state.epoch + 1, average)

    return Trainer(init, epoch)


def passes(
    apply: Apply,
    training: Training,
    unit: Float[Array, ""] | None = None,
    transform: Transform | None = None,
    share: Callable[[Gradient], Gradient] | None = None,
) -> Callable[[jax.Array, FitState, Batch], tuple[Callable[[Any, Any], tuple[Any, None]], Any, Any]]:
    """As `trainer`: (key, state, images) -> one pass as what `lax.scan` takes: a step, its carry, minibatches.

    The carry is (parameters, the optimiser's moments, their average or None); the minibatches have a leading axis.
    """
    _check(training)
    assert training.learning_rate is not None
    if training.relative and unit is None:
        raise OptionError(
            "Relative learning rates are for networks trained on distilled sets. Give the learning rate itself."
        )
    base_rate = training.learning_rate if unit is None else training.learning_rate * unit
    loss = LOSSES[training.loss]
    optimiser = _optimiser(training)

    def rate(epochs_done: jax.Array) -> jax.Array:
        if training.schedule == "cosine":
            return base_rate * 0.5 * (1.0 + jnp.cos(jnp.pi * epochs_done / training.epochs))
        if training.schedule == "drops":
            drops = jnp.floor(jnp.asarray(training.drops) * training.epochs + 1e-3)  # a third of 300 is 100, not 99
            return base_rate * training.drop_factor ** (jnp.floor(epochs_done) >= drops).sum()
        halvings = jnp.floor(epochs_done / training.decay_epochs) if training.schedule == "step" else 0.0
        return jnp.float32(base_rate) * 0.5**halvings

    def prepare(key: jax.Array, state: FitState, images: Batch) -> tuple[Any, Any, Any]:
        total = images.labels.shape[0]
        size, count = min(training.batch_size, total), steps_per_epoch(training, total)
        whole = count * size <= total
        order_key, change_key = jax.random.split(jax.random.fold_in(key, state.epoch))
        order = jax.random.permutation(order_key, total)
        missing = 0 if whole else count * size - total
        order = jnp.pad(order[: count * size], (0, missing), mode="wrap").reshape(count, size)
        loss_of = chunked_loss(apply, loss)
        sharp = is_zero(training.sam_rho)
        gradient_of = jax.grad(loss_of) if sharp else flat_gradient(loss_of, training.sam_rho, training.gsam_alpha)
        if share is not None and sharp:
            gradient_of = _shared(gradient_of, share)

        def step(carry: tuple[Params, optax.OptState, Params | None], part: tuple[jax.Array, jax.Array]):
            params, moments, average = carry
            index, chosen = part
            batch_key = jax.random.fold_in(change_key, index)
            keys = jax.random.split(batch_key, size)
            batch = Batch(_changed(keys, batch_key, images.images[chosen], training, transform), images.labels[chosen])
            if training.cutmix:
                num_classes = jax.eval_shape(apply, params, batch.images).shape[-1]
                batch = cut_mix(jax.random.fold_in(batch_key, size), batch, num_classes)
            weights = () if whole else (index * size + jnp.arange(size) < total,)
            gradient = gradient_of(params, batch, *weights)
            direction, moments = optimiser.update(gradient, moments, params)
            scale = rate(state.epoch + index / count)
            params = jax.tree.map(lambda p, d: p - (scale * d).astype(p.dtype), params, direction)
            average = jax.tree.map(
                lambda a, p: a + (1 - training.average) * (p - a), average, params if average else None
            )
            return (params, moments, average), None

        return step, (state.params, state.moments, state.average), (jnp.arange(count), order)

    return prepare


def fit(
    apply: Apply,
    params: Params,
    key: jax.Array,
    images: Batch,
    training: Training,
    transform: Transform | None = None,
    share: Callable[[Gradient], Gradient] | None = None,
) -> Params:
    """The parameters after all the epochs of `training` on `images`, from `params`; the rest as for `trainer`."""
    training = in_epochs(training, images.labels.shape[0])
    init, epoch = trainer(apply, training, rate_unit(apply, params, images, training), transform, share)
    return lax.fori_loop(0, training.epochs, lambda _, state: epoch(key, state, images), init(params)).network


def _shared(gradient_of: Callable[..., Params], share: Callable[[Gradient], Gradient]) -> Callable[..., Params]:
    """The same gradient of a minibatch, through `share`, whose parts may have images that don't count."""

    def of_part(params: Params, part: Any) -> Params:
        batch, weights = part
        counts = weights.mean()
        found = gradient_of(params, batch, jnp.where(counts > 0, weights, 1.0))
        return jax.tree.map(lambda leaf: counts.astype(leaf.dtype) * leaf, found)

    def gradient(params: Params, batch: Batch, weights: jax.Array | None = None) -> Params:
        if weights is None:
            return share(gradient_of)(params, batch)
        parts: Any = batch, weights / weights.mean()
        return share(of_part)(params, parts)

    return gradient


def in_epochs(training: Training, total: int) -> Training:
    """The training on `total` images with its steps, if it has a number of these, as epochs."""
    if training.steps is None:
        return training
    per_epoch = steps_per_epoch(training, total)
    return dataclasses.replace(training, epochs=-(-training.steps // per_epoch), steps=None)


def steps_per_epoch(training: Training, total: int) -> int:
    """Minibatches in a pass through `total` images."""
    size = min(training.batch_size, total)
    return total // size if training.drop_last else -(-total // size)


def rate_unit(apply: Apply, params: Params, images: Batch, training: Training) -> Float[Array, ""] | None:
    """What the learning rate of a training of this network on these images is a share of; None if it isn't relative."""
    if not training.relative:
        return None
    momentum = training.momentum if training.optimiser == "sgd" else 0.0
    return 2.0 * (1.0 + momentum) / largest_curvature(apply, params, images.images)


def nets_at_once(params: Params) -> int | None:
    """How many networks like this one to train under one vmap: none on a CPU, and fewer the larger they are."""
    if jax.default_backend() == "cpu":
        return None
    size = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return max(1, min(_MOST_AT_ONCE, _AT_ONCE_BYTES // max(size, 1)))


def _changed(keys: jax.Array, key: jax.Array, images: Any, training: Training, transform: Transform | None) -> Any:
    """Images, each changed by its own of the keys; of nodes what a network leaves out is drawn by the one `key`."""
    if see_each_other(images):
        if training.augment != "none":
            raise OptionError(f'Nodes of a graph can\'t be augmented, but augment is {training.augment!r}. Use "none".')
        return images.with_dropout(key, training.dropout) if training.dropout else images
    return augment(keys, images, training.augment, transform)


def _optimiser(training: Training) -> optax.GradientTransformation:
    if training.optimiser == "adam":
        direction = optax.scale_by_adam(b1=training.b1)
    else:
        direction = optax.identity() if is_zero(training.momentum) else optax.trace(decay=training.momentum)
    if is_zero(training.weight_decay):
        return direction
    return optax.chain(optax.add_decayed_weights(training.weight_decay), direction)


def _check(training: Training) -> None:
    check_at_least(1, training, "epochs", "batch_size", "decay_epochs")
    if training.learning_rate is None:
        raise OptionError(
            "learning_rate is None, but only a distilled set has step sizes to replace it. Give a number."
        )
    known = {name: value for name, value in vars(training).items() if not is_traced(value)}
    for name in ("learning_rate", "drop_factor"):
        if name in known and not 0 < known[name] < float("inf"):
            raise OptionError(f"{name} must be positive and finite, but is {known[name]}.")
    for name in ("b1", "momentum", "average", "dropout"):
        if name in known and not 0 <= known[name] < 1:
            raise OptionError(f"{name} must be at least 0 and below 1, but is {known[name]}.")
    for name in ("weight_decay", "sam_rho", "gsam_alpha"):
        if name in known and not 0 <= known[name] < float("inf"):
            raise OptionError(f"{name} must be at least 0 and finite, but is {known[name]}.")
    if known.get("gsam_alpha") and "sam_rho" in known and not training.sam_rho:
        raise OptionError(
            "gsam_alpha changes the gradient of SAM, but sam_rho is 0. Set sam_rho above 0, or leave out gsam_alpha."
        )
    if training.steps is not None and training.steps < 1:
        raise OptionError(f"steps must be at least 1, but is {training.steps}.")
    if not all(0 <= drop <= 1 for drop in training.drops):
        raise OptionError(f"drops should be fractions of the epochs, from 0 to 1, but are {training.drops}.")
    check_choices(training)
