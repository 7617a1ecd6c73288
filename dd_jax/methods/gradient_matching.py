"""Gradient matching: images on which a network in training has the gradients of real ones (Zhao et al. 2021)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError
from dd_jax.inner import by_class, class_batches, distance_named, draw_networks, mean_over
from dd_jax.inner.chunks import is_batchwise, is_wide
from dd_jax.methods.base import Advice, Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.gradient_matching_options import GradientMatchingOptions, check_options, with_loops
from dd_jax.methods.matched_gradients import MatchingLoss, class_wise, collective
from dd_jax.methods.matched_networks import expert_feed, matched_networks
from dd_jax.methods.matching import (
    MATCHING_ROLES,
    MatchingArrays,
    set_by_class,
    set_protocol,
    set_words,
    stored_images,
    summary_of,
    useful_devices,
    weighted_by_class,
)
from dd_jax.methods.outer import OuterOptimiser, OuterState, outer_sgd, scale_outer_learning_rate
from dd_jax.methods.sampling import less_sampling, runs_mapped
from dd_jax.models import Model, check_pretrained
from dd_jax.synthetic import SoftLabelled, Synthetic, is_equal, soft_labels
from dd_jax.types import Batch, Dataset, DistilledData, Experts, Learnable, Networks, Params, Pretrained

_BASE_COUNT = 10  # images of each class that Kim et al. give their learning rate for


class GradientMatchingState(NamedTuple):
    """The state of gradient matching, carried from one outer step to the next.

    Attributes:
        learnable: the images.
        outer: the optimiser's state.
        networks: those in training, with a leading axis.
        matches: outer steps so far.
    """

    learnable: Learnable
    outer: OuterState
    networks: Networks
    matches: Int[Array, ""]


class GradientMatchingInfo(NamedTuple):
    """What an outer step of gradient matching reports.

    Attributes:
        loss: distance of the gradients, summed over classes unless they are matched in one; mean over the networks.
        hypergradient_norm: global norm of its gradient.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]


@described(GradientMatchingOptions)
def gradient_matching(
    model: Model,
    options: GradientMatchingOptions | None = None,
    *,
    experts: Pretrained | Experts | None = None,
    **overrides: Any,
) -> Method:
    """Learn images with the gradients of real images of their class, in networks in training.

    min over x of E_{theta_0 ~ p} sum_t sum_c D(grad l(theta_t; A(X_c), c), grad l(theta_t; A(x_c), c))

    An outer step is one match, at one t: all classes. Before the next one the networks are trained on the set, or after
    `num_matches` drawn anew. A: `augment`, one change for all images of a class.

    Args:
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. gradient_matching(model, images_per_class=10).
        experts: networks to draw from while distilling, in place of random ones. The set is for random networks.

    Raises:
        OptionError: for options out of range or unknown names.
        DataError: if `experts` are of another architecture.

    Source: Zhao et al. 2021, *Dataset Condensation with Gradient Matching*, Algorithm 1; Zhao & Bilen 2021 (augment);
    Lee et al. 2022 (collective); Kim et al. 2022 (factor, clamp, train_on, image_steps, early_epochs, experts).
    """
    if "pretrained" in overrides:
        raise OptionError(
            "gradient_matching makes sets for randomly drawn networks, so networks that it "
            "learns from are experts. Give them as experts in place of pretrained."
        )
    opts = with_loops(with_overrides(options or GradientMatchingOptions(), overrides))
    check_options(model, opts)
    if isinstance(experts, Experts):
        raise OptionError(
            f"gradient_matching learns from single networks, but {experts.name} are snapshots of "
            "networks in training. Give a file of networks (dd_jax.load_pretrained reads it), or "
            "use trajectory_matching."
        )
    if experts is not None:
        check_pretrained(experts, model)
    synthetic, optimiser = _images(model, opts), _image_steps(model, opts)
    protocol = set_protocol(opts.augment, opts.protocol)
    num_classes = model.num_classes

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> GradientMatchingState:
        learnable = synthetic.init(key, dataset)
        steps = num_outer_steps * (num_classes if opts.image_steps == "per_class" else 1)
        # These networks only hold the place: every step that begins a network's life draws it.
        networks = draw_networks(model, jax.random.split(key, opts.num_inits))
        return GradientMatchingState(learnable, optimiser.init(learnable, steps), networks, jnp.int32(0))

    def distilled(state: GradientMatchingState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def real(dataset: Dataset) -> MatchingArrays:
        return MatchingArrays(by_class(dataset.train, num_classes), dataset.transform)

    feed = None
    hyperparameters = dataclasses.asdict(opts)
    summary = f"{summary_of(opts, model)}, networks matched {opts.num_matches} times each"
    if experts is not None:
        assert opts.num_matches is not None
        feed = expert_feed(experts, opts.num_inits, opts.num_matches)
        hyperparameters["experts"] = experts.fingerprint
        summary += f", drawn from {len(experts.accuracies['train'])} networks {experts.name}"
    step, arrays = compiled_step(_step, model, opts, _ROLES, real, (experts is not None,))
    parts = opts.batch_size if _shared(model, opts) else _divided(model, opts)
    return Method(
        "gradient_matching",
        init,
        step,
        distilled,
        model,
        hyperparameters,
        lambda available: useful_devices(available, opts.num_inits, parts),
        arrays,
        feed=feed,
        scale_learning_rate=scale_outer_learning_rate,
        summary=summary,
        protocol=protocol,
        advice=Advice("a smaller learning_rate" + (" or label_learning_rate" * opts.learn_labels), less_sampling(opts)),
    )


_ROLES = Roles(
    numbers={
        **MATCHING_ROLES.numbers,
        "inner_learning_rate": None,
        "inner_momentum": 0.0,
        "inner_weight_decay": 0.0,
        "label_learning_rate": None,
    },
    outside=MATCHING_ROLES.outside,
)


def _step(model: Model, opts: GradientMatchingOptions, from_pool: bool) -> StepFn:
    synthetic, optimiser = _images(model, opts), _image_steps(model, opts)
    shared = _shared(model, opts)
    advance = matched_networks(model, opts, from_pool, shared)
    gradient_of = _gradient(model, opts, synthetic, shared)
    at_once = None if runs_mapped(opts.over_inits) else opts.num_inits
    num_classes, divided = model.num_classes, _divided(model, opts)
    shares: Any = 1.0
    if opts.learn_labels:
        shares = SoftLabelled(1.0, jnp.float32(opts.label_learning_rate / (_count_scale(opts) * opts.learning_rate)))

    def step(
        key: jax.Array, state: GradientMatchingState, arrays: MatchingArrays
    ) -> tuple[GradientMatchingState, GradientMatchingInfo]:
        network_key, match_key = jax.random.split(key)
        whole = synthetic.batch(state.learnable, network_key, jnp.int32(0))
        networks = advance(network_key, state.networks, state.matches, whole, arrays)
        keys = jax.random.split(match_key, opts.num_inits)

        def update(learnable: Learnable, outer: OuterState, classes: jax.Array | None):
            """A step of the images by the classes given, or by all, which devices share."""

            def one(item: tuple[jax.Array, Params], part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
                share = num_classes // parts
                mine = part * share + jnp.arange(share) if classes is None else classes
                found = gradient_of(item[0], item[1], learnable, state.matches, arrays, mine)
                return jax.tree.map(lambda leaf: parts * leaf, found)  # the mean of the parts is the sum over classes

            loss, hypergradient = mean_over(one, (keys, networks), divided, at_once)
            learnable, outer = optimiser.update(hypergradient, outer, learnable, shares)
            return (synthetic.project(learnable, arrays.transform), outer), (loss, optax.global_norm(hypergradient))

        if opts.image_steps == "per_class":
            carried, (losses, norms) = lax.scan(
                lambda carry, c: update(*carry, c[None]), (state.learnable, state.outer), jnp.arange(num_classes)
            )
            info = GradientMatchingInfo(losses.sum(), jnp.sqrt(jnp.square(norms).sum()))
        else:
            carried, found = update(state.learnable, state.outer, None)
            info = GradientMatchingInfo(*found)
        return GradientMatchingState(*carried, networks, state.matches + 1), info

    return step


def _images(model: Model, options: GradientMatchingOptions) -> Synthetic:
    synthetic = stored_images(model, options)
    return soft_labels(synthetic, model.num_classes) if options.learn_labels else synthetic


def _divided(model: Model, options: GradientMatchingOptions) -> int:
    """Into how many shares, over devices, a match can be divided besides its networks: its classes, or not at all."""
    return 1 if options.collective or options.image_steps == "per_class" else model.num_classes


def _shared(model: Model, options: GradientMatchingOptions) -> bool:
    """Whether devices divide real images among them: of a single wide network, of which they can't divide classes."""
    if options.num_inits > 1 or _divided(model, options) > 1 or is_batchwise(model.apply):
        return False
    images = jax.ShapeDtypeStruct((1, *model.image_shape), jnp.float32)
    return is_wide(model.apply, jax.eval_shape(model.init, jax.random.key(0)), images)


def _gradient(model: Model, options: GradientMatchingOptions, synthetic: Synthetic, shared: bool) -> Callable[..., Any]:
    """(key, params, learnable, matches, arrays, classes) -> loss of these classes, and its gradient."""
    loss_of = _matching_loss(model, options, shared)
    if is_equal(options.images_per_class):
        whole = set_by_class(synthetic, model.num_classes)
    else:
        whole = weighted_by_class(synthetic, options.images_per_class, model.num_classes)
    most = options.match_images

    def some(key: jax.Array, mine: Batch, classes: jax.Array) -> Batch:
        """At most `match_images` images of each class."""
        count = mine.images.shape[1]
        if most is None or most >= count:
            return mine

        def drawn(c: jax.Array, of_class: Batch) -> Batch:
            chosen = jax.random.permutation(jax.random.fold_in(key, c), count)[:most]
            return jax.tree.map(lambda leaf: leaf[chosen], of_class)

        return jax.vmap(drawn)(classes, mine)

    def gradient(key, params, learnable, matches, arrays, classes):
        data_key, change_key = jax.random.split(key)
        images = class_batches(data_key, arrays.real, options.batch_size, classes)
        real = Batch(images, jnp.broadcast_to(classes[:, None], images.shape[:2]))
        keys = jax.random.split(change_key, model.num_classes)[classes]

        def objective(learnable: Learnable) -> jax.Array:
            mine = jax.tree.map(lambda leaf: leaf[classes], whole(learnable, jax.random.fold_in(key, 2)))
            return loss_of(matches)(params, some(jax.random.fold_in(key, 1), mine, classes), real, keys)

        return jax.value_and_grad(objective)(learnable)

    return gradient


def _image_steps(model: Model, options: GradientMatchingOptions) -> OuterOptimiser:
    """Gradient descent on the images; of steps class by class there are as many more."""
    often = model.num_classes if options.image_steps == "per_class" else 1
    return outer_sgd(
        _count_scale(options) * options.learning_rate,
        momentum=options.momentum,
        schedule=options.schedule,
        decay_every=often * options.decay_every,
    )


def _count_scale(options: GradientMatchingOptions) -> float:
    return float(np.mean(options.images_per_class)) / _BASE_COUNT if options.rate_by_count else 1.0


def _matching_loss(model: Model, options: GradientMatchingOptions, shared: bool) -> Callable[[jax.Array], MatchingLoss]:
    """Number of matches so far -> the loss of the next one."""
    distance = distance_named(options.distance)
    by_classes, in_one = (
        make(model.apply, distance, options.augment, options.layers, shared) for make in (class_wise, collective)
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


def _words(options: GradientMatchingOptions) -> tuple[str, ...]:
    name = "dsa" if options.augment.startswith("dsa") else "dc"
    if options.train_on == "real":
        name = "idc"
    if options.collective:
        name = {"dc": "dcc", "dsa": "dsac"}.get(name, f"{name}-collective")
    return (name, *set_words(options))


_SMALL = {"num_inits": 1, "batch_size": 16, "inner_epochs": 1, "num_training_images": 64}
SPEC = MethodSpec("gradient_matching", GradientMatchingOptions, gradient_matching, _words, _SMALL, "experts")
