"""Gradient matching: images on which a network in training has the gradients of real ones (Zhao et al. 2021)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError, unknown_name
from dd_jax.inner import ByClass, Training, by_class, class_batches, distance_named, fit, map_over, mean_over, trainer
from dd_jax.methods.base import Method, with_overrides
from dd_jax.methods.matched_gradients import LAYERS, MatchingLoss, class_wise, collective
from dd_jax.methods.matching import check_matching, images_of, set_protocol, summary_of
from dd_jax.methods.outer import OuterState, outer_sgd
from dd_jax.methods.unrolled import minibatch
from dd_jax.models import Model
from dd_jax.types import Dataset, DistilledData, Learnable, Networks, Params

TRAIN_ON = ("distilled", "real")

_EPOCHS = 500  # of a network's life, where several images of each class are learnt


class GradientMatchingState(NamedTuple):
    """learnable: the images; outer: the optimiser's state.

    networks: those in training, with a leading axis; matches: outer steps so far.
    """

    learnable: Learnable
    outer: OuterState
    networks: Networks
    matches: Int[Array, ""]


class GradientMatchingInfo(NamedTuple):
    """loss: distance of the gradients, summed over classes unless they are matched in one; mean over the networks.

    hypergradient_norm: global norm of its gradient.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class GradientMatchingOptions:
    """Hyper-parameters of `gradient_matching`."""

    images_per_class: int = 1
    """Stored images of each class."""
    factor: int = 1
    """Each stored image becomes factor * factor images of the set: its tiles, enlarged (Kim et al. 2022: 2)."""
    init_images: Literal["noise", "real", "mean", "kmeans", "herding"] = "real"
    """What the images start as: noise, real training images, the class mean plus noise, or k-means centres."""
    distance: Literal["unit_cosine", "cosine", "mse", "l1"] = "unit_cosine"
    """Of two gradients: cosine distance of each output unit, of the whole, or squared or absolute differences."""
    layers: Literal["all", "convolutions"] = "all"
    """Whose gradients are compared."""
    collective: bool = False
    """Compare one gradient of all classes (Lee et al. 2022), and not one of each class."""
    warmup_networks: int = 0
    """If collective: networks for whose first `warmup_matches` matches classes are nevertheless compared one by one."""
    warmup_matches: int = 10
    """How many matches of those networks that is."""
    num_inits: int = 1
    """Networks that are trained and matched at the same time."""
    num_matches: int | None = None
    """Outer steps with a network before another one is drawn; None: as many as images of each class."""
    inner_epochs: int | None = None
    """Epochs that a network is trained for between two of its matches; None: 500 in all but for one image of each
    class, where no network is trained."""
    train_on: Literal["distilled", "real"] = "distilled"
    """What networks are trained on: the set as it now is, or real images (Kim et al. 2022)."""
    num_training_images: int = 2000
    """Real images, drawn anew each time, that networks are trained on, if on real ones."""
    inner_learning_rate: float = 0.01
    """Of the networks' gradient descent."""
    inner_momentum: float = 0.0
    """Of the networks' gradient descent; starts anew after each match."""
    inner_weight_decay: float = 0.0
    """Of the networks' gradient descent."""
    inner_batch_size: int = 256
    """Images in a minibatch of the networks' training."""
    inner_cutmix: bool = False
    """Whether networks are trained with CutMix."""
    batch_size: int = 256
    """Real images of each class that a match compares with, drawn with replacement."""
    augment: Literal["none", "crop_flip", "resized_crop_flip", "flip_rotate", "dsa", "dsa_no_flip"] = "none"
    """Random change to the images of a class, the same for real and distilled ones; also in the networks' training.
    "dsa" is Zhao & Bilen 2021, "dsa_no_flip" for digits."""
    learning_rate: float = 0.1
    """Outer learning rate of the images."""
    momentum: float = 0.5
    """Of the outer gradient descent."""
    schedule: Literal["cosine", "step", "constant"] = "constant"
    """Of the outer learning rate: "cosine" (to zero over the run), "step" (halved now and then) or "constant"."""
    decay_every: int = 2400
    """Outer steps between two halvings of the schedule "step"."""
    protocol: str | None = None
    """Training that the set is for and is judged by, a name in `dd_jax.PROTOCOLS`; None: "dsa" where `augment` is that
    ("dsa-digits" without mirrors), else "dc"."""
    over_inits: Literal["auto", "vmap", "map"] = "auto"
    """How networks are gone through: "vmap" (at once), "map" (one by one) or "auto" (by device)."""


def gradient_matching(model: Model, options: GradientMatchingOptions | None = None, **overrides: Any) -> Method:
    """Learn images whose gradients, in networks that are being trained, are those of real images of their class.

    min over x of E_{theta_0 ~ p} sum_t sum_c D(grad l(theta_t; A(X_c), c), grad l(theta_t; A(x_c), c))

    An outer step is one match, at one t: all classes, one joint step of the images. Before the next one the networks
    are trained on the set, or after `num_matches` drawn anew. A: `augment`, one change for all images of a class.
    options: hyper-parameters; overrides: single ones by name, e.g. gradient_matching(model, images_per_class=10).
    Raises OptionError for options out of range or unknown names.
    Source: Zhao et al. 2021, *Dataset Condensation with Gradient Matching*, Algorithm 1; Zhao & Bilen 2021 (augment);
    Lee et al. 2022 (collective); Kim et al. 2022 (factor, train_on, which steps class after class).
    """
    opts = with_loops(with_overrides(options or GradientMatchingOptions(), overrides))
    _check(model, opts)
    training = _training(opts)
    trainer(model.apply, training)  # says at once what is wrong with it
    matching_loss = _matching_loss(model, opts)
    synthetic = images_of(model, opts.images_per_class, opts.factor, opts.init_images)
    protocol = set_protocol(opts.augment, opts.protocol)
    optimiser = outer_sgd(
        opts.learning_rate, momentum=opts.momentum, schedule=opts.schedule, decay_every=opts.decay_every
    )
    assert opts.num_matches is not None
    num_matches = opts.num_matches
    per_class = opts.images_per_class * opts.factor**2
    mapped = opts.over_inits == "map" or (opts.over_inits == "auto" and jax.default_backend() == "cpu")
    at_once = None if mapped else opts.num_inits

    def draw(key: jax.Array) -> Networks:
        return jax.vmap(model.init)(jax.random.split(key, opts.num_inits))

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> GradientMatchingState:
        learnable = synthetic.init(key, dataset)
        # These networks only hold the place: every step that begins a network's life draws it.
        return GradientMatchingState(learnable, optimiser.init(learnable, num_outer_steps), draw(key), jnp.int32(0))

    def advance(key: jax.Array, state: GradientMatchingState, arrays: ByClass) -> Networks:
        """The networks of this match: new ones, or those of the last one after some more training."""

        def train(item: tuple[jax.Array, Params]) -> Params:
            fit_key, data_key = jax.random.split(item[0])
            if opts.train_on == "real":
                images = minibatch(data_key, arrays.split, opts.num_training_images)
            else:
                images = synthetic.batch(state.learnable, data_key, jnp.int32(0))
            return fit(model.apply, item[1], fit_key, images, training)

        def trained(key: jax.Array) -> Networks:
            return map_over(train, (jax.random.split(key, opts.num_inits), state.networks), at_once)

        if num_matches == 1:
            return draw(key)
        return lax.cond(state.matches % num_matches == 0, draw, trained, key)

    def step(
        key: jax.Array, state: GradientMatchingState, arrays: ByClass
    ) -> tuple[GradientMatchingState, GradientMatchingInfo]:
        network_key, match_key = jax.random.split(key)
        networks = advance(network_key, state, arrays)

        def one(item: tuple[jax.Array, Params], part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            data_key, change_key = jax.random.split(item[0])
            real = class_batches(data_key, arrays, opts.batch_size)
            keys = jax.random.split(change_key, model.num_classes)

            def objective(learnable: Learnable) -> jax.Array:
                images = synthetic.decode(learnable).images.reshape(-1, per_class, *model.image_shape)
                return matching_loss(state.matches)(item[1], images, real, keys)

            return jax.value_and_grad(objective)(state.learnable)

        keys = jax.random.split(match_key, opts.num_inits)
        loss, hypergradient = mean_over(one, (keys, networks), 1, at_once)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable)
        learnable = synthetic.project(learnable)
        return GradientMatchingState(learnable, outer, networks, state.matches + 1), GradientMatchingInfo(loss, norm)

    def distilled(state: GradientMatchingState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def useful_devices(available: int) -> int:
        return min(available, opts.num_inits)

    def arrays(dataset: Dataset) -> ByClass:
        return by_class(dataset.train, model.num_classes)

    def slower(state: GradientMatchingState, factor: float) -> GradientMatchingState:
        return state._replace(outer=state.outer._replace(factor=factor * state.outer.factor))

    hyperparameters = dataclasses.asdict(opts)
    return Method(
        "gradient_matching",
        init,
        step,
        distilled,
        model,
        hyperparameters,
        useful_devices,
        arrays,
        slower=slower,
        summary=f"{summary_of(opts, model)}, networks matched {num_matches} times each",
        protocol=protocol,
    )


def with_loops(options: GradientMatchingOptions) -> GradientMatchingOptions:
    """The options with numbers of matches and epochs in place of None.

    For 1, 10 and 50 images of each class these are 1 match; 10 with 50 epochs between them; 50 with 10.
    Source: Zhao et al. 2021, appendix A; the released code has a table of six cases.
    """
    count = options.images_per_class
    matches = max(count, 1) if options.num_matches is None else options.num_matches
    epochs = options.inner_epochs
    if epochs is None:
        epochs = 1 if matches == 1 else max(1, round(_EPOCHS / max(matches, 1)))
    return dataclasses.replace(options, num_matches=matches, inner_epochs=epochs)


def _matching_loss(model: Model, options: GradientMatchingOptions) -> Callable[[jax.Array], MatchingLoss]:
    """Number of matches so far -> the loss of the next one."""
    distance = distance_named(options.distance)
    by_classes, in_one = (
        make(model.apply, distance, options.augment, options.layers) for make in (class_wise, collective)
    )
    if not options.collective:
        return lambda matches: by_classes
    if not options.warmup_networks or not options.warmup_matches:
        return lambda matches: in_one

    def loss_of(matches: jax.Array) -> MatchingLoss:
        network, match = jnp.divmod(matches, jnp.int32(options.num_matches))
        warm = (network < options.warmup_networks) & (match < options.warmup_matches)
        return lambda *args: lax.cond(warm, by_classes, in_one, *args)

    return loss_of


def _training(options: GradientMatchingOptions) -> Training:
    assert options.inner_epochs is not None
    return Training(
        epochs=options.inner_epochs,
        batch_size=options.inner_batch_size,
        learning_rate=options.inner_learning_rate,
        schedule="constant",
        augment=options.augment,
        optimiser="sgd",
        momentum=options.inner_momentum,
        weight_decay=options.inner_weight_decay,
        cutmix=options.inner_cutmix,
        drop_last=False,
    )


def _check(model: Model, options: GradientMatchingOptions) -> None:
    check_matching(options)
    for name in ("num_matches", "inner_epochs", "num_training_images"):
        if getattr(options, name) < 1:
            raise OptionError(f"{name} must be at least 1, but is {getattr(options, name)}.")
    if not 0 < options.inner_learning_rate < float("inf"):
        raise OptionError(f"inner_learning_rate must be positive and finite, but is {options.inner_learning_rate}.")
    for name in ("warmup_networks", "warmup_matches"):
        if getattr(options, name) < 0:
            raise OptionError(f"{name} must be at least 0, but is {getattr(options, name)}.")
    if options.train_on not in TRAIN_ON:
        raise unknown_name("train_on", options.train_on, TRAIN_ON)
    if options.layers not in LAYERS:
        raise unknown_name("layers", options.layers, LAYERS)
    kernels = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0)))
    if options.layers == "convolutions" and not any(leaf.ndim == 4 for leaf in kernels):
        raise OptionError(f'The {model.name} has no convolutions to compare; use layers="all".')
