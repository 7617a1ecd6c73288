"""Kernel inducing points: images that infinitely wide networks learn from in closed form (Nguyen et al. 2021)."""

import dataclasses
import functools
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.errors import OptionError, check_at_least, check_choices
from dd_jax.inner import (
    ByClass,
    by_class,
    centred,
    check_regulariser,
    class_batches,
    enough,
    label_solve,
    mean_over,
    ridge_loss,
)
from dd_jax.methods.base import Advice, Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.options import RegressionOptions
from dd_jax.methods.outer import (
    OuterOptimiser,
    OuterOptions,
    OuterState,
    Schedule,
    outer_adam,
    scale_outer_learning_rate,
)
from dd_jax.models import KernelFn, Model
from dd_jax.synthetic import Synthetic, counts_word, num_images, pixels_of
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Protocol
from dd_jax.values import Number

DTYPES = {"float32": jnp.float32, "float64": jnp.float64}

_WORDS = {"images": "images", "labels": "labels", "both": "images and labels"}


class KernelInducingPointsState(NamedTuple):
    """The state of kernel inducing points, carried from one outer step to the next.

    Attributes:
        learnable: images, and labels where these are learnt.
        outer: the optimiser's state.
    """

    learnable: Learnable
    outer: OuterState


class KernelInducingPointsInfo(NamedTuple):
    """What an outer step of kernel inducing points reports.

    Attributes:
        loss: half the mean squared error of the regression on real images, over images and classes.
        hypergradient_norm: global norm of its gradient.
        regulariser: as it was, raised where rounding asked for it.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    regulariser: Float[Array, ""]


@dataclasses.dataclass(frozen=True)
class KernelInducingPointsOptions(OuterOptions, RegressionOptions):
    """Hyper-parameters of `kernel_inducing_points`."""

    learn: Literal["images", "labels", "both"] = "both"
    """What to learn: images, labels or both. Labels are numbers, one for each class and image. With "images" they stay
    hard."""
    init_labels: Literal["hard", "solve"] = "hard"
    """Start of learnt labels: "hard", the classes, or "solve", the best labels for the first images in closed form
    (Label Solve). Solving reads all training images once."""
    batch_size: int = 5000
    """Real images in an outer step, the same number of each class, drawn with replacement."""
    learning_rate: float = 0.04
    """Outer learning rate (Adam) of images and labels."""
    schedule: Schedule = "constant"
    """Schedule of the outer learning rate: "cosine" (to zero over the run), "step" (halved now and then) or
    "constant"."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the kernel and the regression. "float64" needs jax_enable_x64."""
    protocol: str = "kip"
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`."""


@described(KernelInducingPointsOptions)
def kernel_inducing_points(
    model: Model, options: KernelInducingPointsOptions | None = None, **overrides: Any
) -> Method:
    """Learn images and labels on which kernel ridge regression predicts real ones.

    min over (x_s, y_s) of E 1/2 mean (y_t - K_ts (K_ss + lambda tr(K_ss) / n I)^-1 y_s)^2

    over batches (x_t, y_t) of real images; labels are centred, y - 1/K, in both.

    Args:
        model: an infinitely wide network with the kernel K, `dd_jax.models.infinite_mlp` or `infinite_convnet`.
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. kernel_inducing_points(model, images_per_class=10).

    Raises:
        OptionError: for another model, options out of range or unknown names.

    Source: Nguyen et al. 2021, *Dataset Meta-Learning from Kernel Ridge-Regression*, algorithm 1 and equation 7;
    settings of the released notebook.
    """
    opts = with_overrides(options or KernelInducingPointsOptions(), overrides)
    _check(model, opts)
    synthetic, optimiser = _images(model, opts), _optimiser(opts)
    protocol = Protocol(opts.protocol, order="random")

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> KernelInducingPointsState:
        learnable = synthetic.init(key, dataset)
        if opts.init_labels == "solve":
            learnable = learnable._replace(labels=solve_labels(model, learnable.images, dataset.train, opts))
        return KernelInducingPointsState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: KernelInducingPointsState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def real(dataset: Dataset) -> ByClass:
        return by_class(dataset.train, model.num_classes)

    def useful_devices(available: int) -> int:
        # A CPU's cores share each product by themselves, and every device repeats the kernel of the set and its solve.
        return 1 if jax.default_backend() == "cpu" else available

    step, arrays = compiled_step(_step, model, opts, _ROLES, real)
    per_class = _per_class(model, opts)
    count = num_images(opts.images_per_class, model.num_classes)
    summary = f"{count} images, learning {_WORDS[opts.learn]}, {per_class * model.num_classes:,} real per outer step"
    return Method(
        "kernel_inducing_points",
        init,
        step,
        distilled,
        model,
        dataclasses.asdict(opts),
        useful_devices,
        arrays,
        scale_learning_rate=scale_outer_learning_rate,
        summary=summary,
        protocol=protocol,
        advice=Advice("a smaller learning_rate or a larger regulariser", ("a smaller batch_size",)),
    )


_ROLES = Roles(
    numbers={"learning_rate": None, "decay_every": None, "regulariser": None},
    outside=("init_images", "init_labels", "protocol"),
)


def _step(model: Model, opts: KernelInducingPointsOptions) -> StepFn:
    kernel, synthetic, optimiser = model.kernel, _images(model, opts), _optimiser(opts)
    dtype, per_class = DTYPES[opts.dtype], _per_class(model, opts)
    assert kernel is not None

    def step(
        key: jax.Array, state: KernelInducingPointsState, arrays: ByClass
    ) -> tuple[KernelInducingPointsState, KernelInducingPointsInfo]:
        def one(key: jax.Array, part: jax.Array | int, parts: int) -> tuple[Any, Learnable]:
            share = per_class // parts
            drawn = lax.dynamic_slice_in_dim(class_batches(key, arrays, per_class), part * share, share, 1)
            real = drawn.reshape(-1, *model.image_shape).astype(dtype)
            wanted = centred(jnp.repeat(jnp.arange(model.num_classes), share), model.num_classes).astype(dtype)

            def objective(learnable: Learnable) -> tuple[jax.Array, jax.Array]:
                images, labels = synthetic.batch(learnable, key, jnp.int32(0))
                images = lax.stop_gradient(images) if opts.learn == "labels" else images
                images, targets = images.astype(dtype), centred(labels, model.num_classes).astype(dtype)
                gram, cross = kernel(images, images), kernel(real, images)
                regulariser = enough(gram, opts.regulariser)
                return ridge_loss(gram, cross, targets, wanted, regulariser), regulariser

            return jax.value_and_grad(objective, has_aux=True)(state.learnable)

        (loss, regulariser), hypergradient = mean_over(one, key[None], per_class, None)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable)
        return KernelInducingPointsState(learnable, outer), KernelInducingPointsInfo(loss, norm, regulariser)

    return step


def _images(model: Model, opts: KernelInducingPointsOptions) -> Synthetic:
    return pixels_of(opts.learn, model.num_classes, opts.images_per_class, opts.init_images)


def _optimiser(opts: KernelInducingPointsOptions) -> OuterOptimiser:
    return outer_adam(opts.learning_rate, b1=0.9, schedule=opts.schedule, decay_every=opts.decay_every)


def _per_class(model: Model, opts: KernelInducingPointsOptions) -> int:
    """Real images of each class in an outer step."""
    return max(1, opts.batch_size // model.num_classes)


def solve_labels(
    model: Model,
    images: Float[Array, "set height width channels"],
    real: Batch,
    options: KernelInducingPointsOptions | None = None,
) -> Float[Array, "set classes"]:
    """Label Solve: the labels of `images` with which kernel ridge regression predicts `real` best, in closed form.

    Returns labels as in a `DistilledData`, not centred. Needs (N, n) numbers for N real images and n of the set.

    Args:
        model: an infinitely wide network.
        options: whose regulariser and dtype count.

    Source: Nguyen et al. 2021, section 3.2.
    """
    opts = options or KernelInducingPointsOptions()
    kernel = _check(model, opts)
    dtype = DTYPES[opts.dtype]

    wanted = centred(real.labels, model.num_classes).astype(dtype)
    found = _solve(kernel, images.astype(dtype), real.images.astype(dtype), wanted, opts.regulariser)
    return found.astype(jnp.float32) + 1.0 / model.num_classes


@functools.partial(jax.jit, static_argnums=0)
def _solve(kernel: KernelFn, mine: jax.Array, theirs: jax.Array, wanted: jax.Array, regulariser: Number) -> jax.Array:
    return label_solve(kernel(mine, mine), kernel(theirs, mine), wanted, regulariser)


def _check(model: Model, options: KernelInducingPointsOptions) -> KernelFn:
    if model.kernel is None:
        raise OptionError(
            "kernel_inducing_points learns with the kernel of an infinitely wide network, but "
            f"the {model.name} has weights. Use dd_jax.models.infinite_mlp or infinite_convnet."
        )
    check_choices(options)
    check_at_least(1, options, "batch_size")
    check_regulariser(options.regulariser)
    if options.init_labels == "solve" and options.learn == "images":
        raise OptionError(
            'init_labels "solve" needs labels that are learnt, but learn is "images". Use another '
            "init_labels, or learn labels too."
        )
    if options.dtype == "float64" and jnp.result_type(float) != jnp.float64:
        raise OptionError('dtype "float64" needs 64-bit numbers in JAX. Set JAX_ENABLE_X64=1, or use "float32".')
    return model.kernel


def _words(options: KernelInducingPointsOptions) -> tuple[str, ...]:
    name = {"images": "kip-images", "labels": "kip-labels", "both": "kip"}[options.learn]
    return name, counts_word(options.images_per_class)


_SMALL = {"batch_size": 100}
SPEC = MethodSpec("kernel_inducing_points", KernelInducingPointsOptions, kernel_inducing_points, _words, _SMALL)
