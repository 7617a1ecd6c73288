"""FRePo: sets that ridge regression on the features of networks in training learns from (Zhou et al. 2022)."""

import dataclasses
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError, check_at_least, check_choices
from dd_jax.inner import (
    FitState,
    SmoothAugment,
    Training,
    centred,
    check_regulariser,
    draw_networks,
    enough,
    mean_over,
    ridge_loss,
    trainer,
)
from dd_jax.inner.chunks import apply_in_chunks
from dd_jax.methods.base import Advice, Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.options import RegressionOptions
from dd_jax.methods.outer import OuterOptimiser, OuterOptions, OuterState, outer_lamb, scale_outer_learning_rate
from dd_jax.methods.sampling import minibatch
from dd_jax.models import Model
from dd_jax.synthetic import Synthetic, counts_word, num_images, pixels_of
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Params, Protocol
from dd_jax.values import with_numbers


class FrepoState(NamedTuple):
    """The state of frepo, carried from one outer step to the next.

    Attributes:
        learnable: images, and labels where these are learnt.
        outer: the optimiser's state.
        pool: networks in training, with a leading axis P.
        ages: (P,) steps that each was trained for.
    """

    learnable: Learnable
    outer: OuterState
    pool: FitState
    ages: Int[Array, " pool"]


class FrepoInfo(NamedTuple):
    """What an outer step of frepo reports.

    Attributes:
        loss: half the mean squared error of the regression, plus what is asked of labels.
        hypergradient_norm: global norm of its gradient.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class FrepoOptions(OuterOptions, RegressionOptions):
    """Hyper-parameters of `frepo`."""

    learn: Literal["images", "both"] = "both"
    """"images": learn images alone, with hard labels. "both": learn labels too, as numbers, one for each class and
    image."""
    pool_size: int = 10
    """Networks in training. Each outer step takes one of them at random."""
    max_updates: int = 100
    """Steps to train a network for before a new one takes its place."""
    inner_learning_rate: float = 3e-4
    """Learning rate of the networks' Adam."""
    batch_size: int = 1024
    """Real images in an outer step, drawn with replacement."""
    augment: SmoothAugment = "none"
    """Random changes to the real images, and to the images that networks are trained on."""
    margin: bool = True
    """Keep the two largest labels of an image apart by up to 1/K, if labels are learnt."""
    learning_rate: float = 3e-4
    """Outer learning rate (LAMB) of images and labels."""
    protocol: str = "frepo"
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`."""


@described(FrepoOptions)
def frepo(model: Model, options: FrepoOptions | None = None, **overrides: Any) -> Method:
    """Learn images and labels on which ridge regression with the features of networks in training predicts real ones.

    min over (x_s, y_s) of E_theta 1/2 mean (y_t - K_ts (K_ss + lambda tr(K_ss) / n I)^-1 y_s)^2 - margin(y_s)

    K(x, x') = phi(x; theta) . phi(x'; theta), phi: `model.features`. An outer step takes one network of the pool; then
    that network takes one step of Adam on the squared error on the set as it was, or is drawn anew after `max_updates`
    steps. Networks begin at different ages, so that they aren't all replaced at once.
    The margin is the mean of min(y_1 - y_2, 1/K), y_1 and y_2 being the two largest labels of an image.

    Args:
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. frepo(model, images_per_class=10).

    Raises:
        OptionError: for an infinitely wide network, options out of range or unknown names.

    Source: Zhou et al. 2022, *Dataset Distillation using Neural Feature Regression*, algorithm 1; margin, optimisers
    and ages are those of the released code.
    """
    opts = with_overrides(options or FrepoOptions(), overrides)
    _check(model, opts)
    synthetic, optimiser = _images(model, opts), _optimiser(opts)
    total = num_images(opts.images_per_class, model.num_classes)
    protocol = Protocol(opts.protocol, order="random")

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> FrepoState:
        image_key, pool_key = jax.random.split(key)
        learnable = synthetic.init(image_key, dataset)
        begin = trainer(model.apply, _training(opts, total)).init
        pool = jax.vmap(begin)(draw_networks(model, jax.random.split(pool_key, opts.pool_size)))
        ages = jnp.arange(opts.pool_size, dtype=jnp.int32) * (opts.max_updates // opts.pool_size)
        return FrepoState(learnable, optimiser.init(learnable, num_outer_steps), pool, ages)

    def distilled(state: FrepoState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    step, arrays = compiled_step(_step, model, opts, _ROLES)
    return Method(
        "frepo",
        init,
        step,
        distilled,
        model,
        dataclasses.asdict(opts),
        arrays=arrays,
        scale_learning_rate=scale_outer_learning_rate,
        summary=f"{total} images, a pool of {opts.pool_size} networks of up to {opts.max_updates} steps",
        protocol=protocol,
        advice=_ADVICE,
        forward_only=True,
    )


_ADVICE = Advice("a smaller learning_rate or a larger regulariser", ("a smaller batch_size", "a smaller pool_size"))
_ROLES = Roles(
    numbers={"learning_rate": None, "decay_every": None, "regulariser": None, "inner_learning_rate": None},
    outside=("init_images", "protocol"),
)


def _step(model: Model, opts: FrepoOptions) -> StepFn:
    synthetic, optimiser = _images(model, opts), _optimiser(opts)
    begin, train = trainer(model.apply, _training(opts, num_images(opts.images_per_class, model.num_classes)))

    def draw(key: jax.Array) -> FitState:
        return begin(model.init(key))

    def set_of(learnable: Learnable) -> Batch:
        return synthetic.batch(learnable, jax.random.key(0), jnp.int32(0))

    def step(key: jax.Array, state: FrepoState, arrays: Batch) -> tuple[FrepoState, FrepoInfo]:
        choice_key, data_key, new_key = jax.random.split(key, 3)
        chosen = jax.random.randint(choice_key, (), 0, opts.pool_size)
        network = jax.tree.map(lambda leaf: leaf[chosen], state.pool)

        def one(key: jax.Array, part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            real = minibatch(key, arrays, opts.batch_size, part, parts, opts.augment)

            def objective(learnable: Learnable) -> jax.Array:
                return feature_loss(model, network.params, set_of(learnable), real, opts)

            return jax.value_and_grad(objective)(state.learnable)

        loss, hypergradient = mean_over(one, data_key[None], opts.batch_size, None)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable)
        age = state.ages[chosen] + 1
        old = age >= opts.max_updates
        network = lax.cond(old, lambda: draw(new_key), lambda: train(new_key, network, set_of(state.learnable)))
        pool = jax.tree.map(lambda all_, mine: all_.at[chosen].set(mine), state.pool, network)
        ages = state.ages.at[chosen].set(jnp.where(old, 0, age))
        return FrepoState(learnable, outer, pool, ages), FrepoInfo(loss, norm)

    return step


def _images(model: Model, opts: FrepoOptions) -> Synthetic:
    return pixels_of(opts.learn, model.num_classes, opts.images_per_class, opts.init_images)


def _optimiser(opts: FrepoOptions) -> OuterOptimiser:
    return outer_lamb(opts.learning_rate, schedule=opts.schedule, decay_every=opts.decay_every)


def feature_loss(model: Model, params: Params, images: Batch, real: Batch, options: FrepoOptions) -> Float[Array, ""]:
    """The loss of a set `images` with one network: that of the regression, less the margin of its labels.

    Differentiable in the set; real images and the network aren't learnt.
    """
    mine = model.features(params, images.images)
    theirs = lax.stop_gradient(apply_in_chunks(model.features, params, real.images))
    gram, cross = (jnp.matmul(a, mine.T, precision=lax.Precision.HIGHEST) for a in (mine, theirs))
    targets, wanted = (centred(batch.labels, model.num_classes) for batch in (images, real))
    loss = ridge_loss(gram, cross, targets, wanted, enough(gram, options.regulariser))
    if not options.margin or options.learn == "images":
        return loss
    return loss - label_margin(targets)


def label_margin(labels: Float[Array, "set classes"]) -> Float[Array, ""]:
    """Mean over images of the distance of their two largest labels, of which no more than 1/K counts."""
    first, second = lax.top_k(labels, 2)[0].T
    return jnp.minimum(first - second, 1.0 / labels.shape[-1]).mean()


def _training(options: FrepoOptions, total: int) -> Training:
    """One step on the whole set: an epoch of a single minibatch."""
    training = Training(
        epochs=options.max_updates, batch_size=total, schedule="constant", augment=options.augment, loss="squared"
    )
    return with_numbers(training, {"learning_rate": options.inner_learning_rate})


def _check(model: Model, options: FrepoOptions) -> None:
    if model.kernel is not None:
        raise OptionError(
            f"frepo learns with the features of networks in training, but the {model.name} has no "
            "weights to train. Use kernel_inducing_points, or a network with weights."
        )
    check_at_least(1, options, "pool_size", "max_updates", "batch_size")
    check_regulariser(options.regulariser)
    check_choices(options)


def _words(options: FrepoOptions) -> tuple[str, ...]:
    return "frepo", counts_word(options.images_per_class)


SPEC = MethodSpec("frepo", FrepoOptions, frepo, _words, {"batch_size": 64, "pool_size": 2, "max_updates": 10})
