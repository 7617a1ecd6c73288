"""Distribution matching: images whose mean features, in random networks, are those of real ones (Zhao & Bilen 2023)."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner import SmoothAugment, by_class, class_batches, each_class, mean_over, siamese
from dd_jax.inner.chunks import Apply, apply_in_chunks
from dd_jax.methods.base import Advice, Method, MethodSpec, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.matching import (
    MATCHING_ROLES,
    MatchingArrays,
    MatchingOptions,
    padded_by_class,
    set_by_class,
    set_protocol,
    set_words,
    stored_images,
    summary_of,
    useful_devices,
)
from dd_jax.methods.outer import OuterOptimiser, OuterState, outer_sgd, scale_outer_learning_rate
from dd_jax.methods.sampling import check_sampling, less_sampling, runs_mapped
from dd_jax.models import Model
from dd_jax.synthetic import is_equal
from dd_jax.types import Dataset, DistilledData, Learnable, Params


class DistributionMatchingState(NamedTuple):
    """The state of distribution matching, carried from one outer step to the next.

    Attributes:
        learnable: the images.
        outer: the optimiser's state.
    """

    learnable: Learnable
    outer: OuterState


class DistributionMatchingInfo(NamedTuple):
    """What an outer step of distribution matching reports.

    Attributes:
        loss: squared distance of the mean features, summed over features and classes, mean over the networks.
        hypergradient_norm: global norm of its gradient.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class DistributionMatchingOptions(MatchingOptions):
    """Hyper-parameters of `distribution_matching`."""

    augment: SmoothAugment = "dsa"
    """Random change to the images of a class, the same for real and distilled ones. Take "dsa_no_flip" for digits."""
    learning_rate: float = 1.0
    """Outer learning rate of the images, in units of model space."""


@described(DistributionMatchingOptions)
def distribution_matching(model: Model, options: DistributionMatchingOptions | None = None, **overrides: Any) -> Method:
    """Learn images whose mean features are those of the real images of their class, in random networks.

    min over x of E_{theta ~ p} sum_c |mean_i phi(A(x_ci); theta) - mean_j phi(A(X_cj); theta)|^2

    phi: `model.features`; A: `augment`, for each class and network one change for all of its images.

    Args:
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. distribution_matching(model, images_per_class=10).

    Raises:
        OptionError: for options out of range or unknown names.

    Source: Zhao & Bilen 2023, *Dataset Condensation with Distribution Matching*, equation 6 and the released code.
    """
    opts = with_overrides(options or DistributionMatchingOptions(), overrides)
    check_sampling(opts)
    synthetic = stored_images(model, opts)
    protocol = set_protocol(opts.augment, opts.protocol)
    optimiser = _optimiser(opts)

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> DistributionMatchingState:
        learnable = synthetic.init(key, dataset)
        return DistributionMatchingState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: DistributionMatchingState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def real(dataset: Dataset) -> MatchingArrays:
        return MatchingArrays(by_class(dataset.train, model.num_classes), dataset.transform)

    step, arrays = compiled_step(_step, model, opts, MATCHING_ROLES, real)

    return Method(
        "distribution_matching",
        init,
        step,
        distilled,
        model,
        dataclasses.asdict(opts),
        lambda available: useful_devices(available, opts.num_inits, model.num_classes),
        arrays,
        scale_learning_rate=scale_outer_learning_rate,
        summary=f"{summary_of(opts, model)}, {opts.num_inits} random networks per outer step",
        protocol=protocol,
        advice=Advice(memory=less_sampling(opts)),
    )


def _step(model: Model, opts: DistributionMatchingOptions) -> StepFn:
    synthetic, optimiser = stored_images(model, opts), _optimiser(opts)
    equal = is_equal(opts.images_per_class)
    whole = set_by_class(synthetic, model.num_classes)
    padded = padded_by_class(synthetic, opts.images_per_class, model.num_classes)
    at_once = None if runs_mapped(opts.over_inits) else opts.num_inits

    def step(
        key: jax.Array, state: DistributionMatchingState, arrays: MatchingArrays
    ) -> tuple[DistributionMatchingState, DistributionMatchingInfo]:
        def one(key: jax.Array, part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            init_key, data_key, change_key = jax.random.split(key, 3)
            params = model.init(init_key)
            share = model.num_classes // parts
            mine = part * share + jnp.arange(share)
            batches = class_batches(data_key, arrays.real, opts.batch_size, mine)
            keys = jax.random.split(change_key, model.num_classes)[mine]

            def objective(learnable: Learnable) -> jax.Array:
                set_key = jax.random.fold_in(change_key, model.num_classes)
                batch, weights = (whole(learnable, set_key), None) if equal else padded(learnable, set_key)
                weights = None if weights is None else weights[mine]
                # The mean over the parts is the sum over all classes.
                found = feature_distance(
                    model.features, params, batch.images[mine], batches, keys, opts.augment, weights=weights
                )
                return parts * found

            return jax.value_and_grad(objective)(state.learnable)

        keys = jax.random.split(key, opts.num_inits)
        loss, hypergradient = mean_over(one, keys, model.num_classes, at_once)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable)
        state = DistributionMatchingState(synthetic.project(learnable, arrays.transform), outer)
        return state, DistributionMatchingInfo(loss, norm)

    return step


def _optimiser(opts: DistributionMatchingOptions) -> OuterOptimiser:
    return outer_sgd(opts.learning_rate, momentum=opts.momentum, schedule=opts.schedule, decay_every=opts.decay_every)


def feature_distance(
    features: Apply,
    params: Params,
    images: Float[Array, "classes per_class height width channels"],
    real: Float[Array, "classes size height width channels"],
    keys: jax.Array,
    change: str,
    weights: Float[Array, "classes per_class"] | None = None,
) -> Float[Array, ""]:
    """Squared distance of the mean features of distilled and real images, summed over features and classes.

    Args:
        keys: (K,), one for each class: real and distilled images are changed by the same one. Not differentiable in
            `real`.
        weights: of the distilled images of a class in their mean; None: all the same.
    """

    def of_class(item: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        key, mine, theirs, weight = item
        goal = lax.stop_gradient(mean_features(features, params, siamese(key, theirs, change)))
        found = features(params, siamese(key, mine, change))
        found = found.mean(0) if weight is None else weight.astype(found.dtype) @ found
        return jnp.square(found - goal).sum()

    return each_class(of_class, (keys, images, real, weights)).sum()


def mean_features(
    features: Apply, params: Params, images: Float[Array, "batch height width channels"]
) -> Float[Array, " features"]:
    """The mean over the images."""
    return apply_in_chunks(features, params, images).mean(0)


def _words(options: DistributionMatchingOptions) -> tuple[str, ...]:
    return ("dm", *set_words(options))


_SMALL = {"num_inits": 1, "batch_size": 16}
SPEC = MethodSpec("distribution_matching", DistributionMatchingOptions, distribution_matching, _words, _SMALL)
