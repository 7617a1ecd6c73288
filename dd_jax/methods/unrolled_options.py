"""The options of `unrolled`, and the images, the outer optimiser and the protocol that they mean."""

import dataclasses
from typing import Literal

from dd_jax.errors import OptionError
from dd_jax.inner import Init, Remat, SmoothAugment, remat_for
from dd_jax.methods.attack_options import AttackOptions, attack_of, check_attack, outcome_meant, relabelled
from dd_jax.methods.base import Advice
from dd_jax.methods.canvases import CanvasOptions, as_asked, check_canvas_options
from dd_jax.methods.outer import OuterOptimiser, OuterOptions, outer_adam
from dd_jax.methods.sampling import SamplingOptions, check_sampling, less_sampling
from dd_jax.models import Model
from dd_jax.renamed import renamed
from dd_jax.seeds import check_seed
from dd_jax.synthetic import Counts, ImageInit, Order, Synthetic, num_images, step_batches
from dd_jax.types import AS_DISTILLED, Pretrained, Protocol


@dataclasses.dataclass(frozen=True)
class _LoopOptions:
    """The inner loop, and where it starts."""

    num_batches: int = 10
    """S, distinct batches. An epoch has one inner step for each batch."""
    num_epochs: int = 3
    """E, passes through the batches. S * E step sizes are learnt."""
    images_per_class: Counts = 1
    """Images of each class in each batch: one number, or one for each class."""
    order: Order = "fixed"
    """Order of the images: "fixed" (each step has its batch) or "random" (every epoch deals all images out to its steps
    anew, so that the set also serves for shuffled minibatches)."""
    init: Init = "random"
    """Start of inner training: "random" (another network every time) or "fixed" (always the same network)."""
    init_seed: int = 0
    """Seed of the one network of a fixed init, or its number among pretrained networks."""


@dataclasses.dataclass(frozen=True)
class _StartOptions:
    """What is learnt, as it starts."""

    init_images: ImageInit = "kmeans"
    """Start of the images: noise, real training images, the class mean plus noise, or k-means centres."""
    init_step_size: float = 0.15
    """Start of the first inner step size."""
    init_step_decay: float = 0.1
    """Start of the last inner step size, as a share of the first. The steps between are geometric."""
    learn_labels: bool = False
    """Learn how probable every class is for each image, in place of a hard label."""


@renamed(num_steps="num_batches")
@dataclasses.dataclass(frozen=True)
class UnrolledOptions(OuterOptions, _StartOptions, CanvasOptions, AttackOptions, SamplingOptions, _LoopOptions):
    """Hyper-parameters of `unrolled`."""

    num_inits: int = 4
    """Initialisations in an outer step, each with its own real images. 1 if the init is fixed."""
    batch_size: int = 256
    """Real images for each initialisation, drawn with replacement."""
    augment: SmoothAugment = "none"
    """Random changes to the real images."""
    learning_rate: float = 0.02
    """Outer learning rate (Adam) of the images."""
    step_size_rate: float = 0.3
    """Outer learning rate of the raw step sizes, as a share of `learning_rate`."""
    label_rate: float = 1.0
    """Outer learning rate of the labels' logits, if labels are learnt, as a share of `learning_rate`."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    b2: float = 0.999
    """Adam's decay of the second moment."""
    clip_norm: float | None = 0.5
    """Global norm to clip the hypergradient to. None: no clipping."""
    discount: float = 1.0
    """Factor on the adjoint at each inner step. 1 gives the exact hypergradient, less gives a biased, calmer one."""
    smoothing: float = 0.0
    """Width in pixels of the Gaussian that smooths the images' hypergradient. 0: no smoothing."""
    step_smoothing: float = 0.0
    """Width in inner steps of the Gaussian that smooths the hypergradient from batch to batch. 0: no smoothing."""
    remat: Literal["auto", Remat] = "auto"
    """Rematerialisation: "none" keeps all values and computes nothing again, "steps" keeps the parameters of each step,
    "nested" those of sqrt(T) steps only, and "auto" chooses by the device and its memory."""


def images_of(model: Model, opts: UnrolledOptions) -> Synthetic:
    """What is learnt: a batch for each inner step of an epoch, and the sizes of all steps."""
    plain = step_batches(
        model.num_classes,
        opts.num_batches,
        opts.num_epochs,
        opts.images_per_class,
        opts.init_images,
        opts.init_step_size,
        opts.init_step_decay,
        opts.order,
        relabelled(opts),
        opts.learn_labels,
    )
    return as_asked(plain, model, opts)


def optimiser_of(opts: UnrolledOptions) -> OuterOptimiser:
    """The outer optimiser."""
    return outer_adam(
        opts.learning_rate,
        b1=opts.b1,
        b2=opts.b2,
        clip_norm=opts.clip_norm,
        schedule=opts.schedule,
        decay_every=opts.decay_every,
    )


def protocol_of(options: UnrolledOptions, pretrained: Pretrained | None = None) -> Protocol:
    """How a set that is learnt with these options is to be used; OptionError for options out of range."""
    _check(options)
    fingerprint = pretrained.fingerprint if pretrained else ""
    return Protocol(AS_DISTILLED, options.init, options.init_seed, fingerprint, attack_of(options), options.order)


def inner_remat(model: Model, options: UnrolledOptions, nets: int) -> Remat:
    """The way of `choose_remat` for the unroll that these options ask for, `nets` at once."""
    return remat_for(model, inner_size(model, options), options.num_batches * options.num_epochs, nets)


def inner_size(model: Model, options: UnrolledOptions) -> int:
    """Images of an inner step."""
    return num_images(options.images_per_class, model.num_classes) * options.canvas_samples


def advice_of(options: UnrolledOptions) -> Advice:
    """What to change where a run diverges, or a step doesn't fit into memory."""
    remat = () if options.remat == "nested" else ('remat "nested"',)
    loop = ("a smaller num_batches", "a smaller num_epochs")
    return Advice("a smaller learning_rate, init_step_size or clip_norm", (*remat, *less_sampling(options), *loop))


def words_of(options: UnrolledOptions) -> tuple[str, ...]:
    """What tells runs apart."""
    return (options.init, *outcome_meant(options).words)


def _check(options: UnrolledOptions) -> None:
    check_sampling(options)
    check_canvas_options(options)
    check_seed(options.init_seed, "init_seed")
    if not 0.0 < options.discount <= 1.0:
        raise OptionError(f"discount must be above 0 and at most 1, but is {options.discount}.")
    for name in ("smoothing", "step_smoothing", "step_size_rate", "label_rate"):
        if not 0.0 <= getattr(options, name) < float("inf"):
            raise OptionError(f"{name} must be at least 0 and finite, but is {getattr(options, name)}.")
    for name in ("b1", "b2"):
        if not 0.0 <= getattr(options, name) < 1.0:
            raise OptionError(f"{name} must be at least 0 and below 1, but is {getattr(options, name)}.")
    check_attack(options)
