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
    """S, distinct batches: as many as there are inner steps in an epoch, each with its own."""
    num_epochs: int = 3
    """E, times that the batches are gone through; S * E step sizes are learnt."""
    images_per_class: Counts = 1
    """Images of each class in each batch: one number, or one for each class."""
    order: Order = "fixed"
    """Of the images: "fixed" (each step has its batch) or "random" (every epoch deals all the images out to its steps
    anew, so that the set also serves for shuffled minibatches)."""
    init: Init = "random"
    """Where inner training starts: "random" (another network every time) or "fixed" (always the same one)."""
    init_seed: int = 0
    """Seed of the one network of a fixed init, or its number among pretrained networks."""


@dataclasses.dataclass(frozen=True)
class _StartOptions:
    """What is learnt, as it starts."""

    init_images: ImageInit = "kmeans"
    """What the images start as: noise, real training images, the class mean plus noise, or k-means centres."""
    init_step_size: float = 0.15
    """What the first inner step size starts as."""
    init_step_decay: float = 0.1
    """What the last inner step size starts as, as a share of the first; geometric in between."""
    learn_labels: bool = False
    """Learn with each image how probable every class is, in place of a hard label."""


@renamed(num_steps="num_batches")
@dataclasses.dataclass(frozen=True)
class UnrolledOptions(OuterOptions, _StartOptions, CanvasOptions, AttackOptions, SamplingOptions, _LoopOptions):
    """Hyper-parameters of `unrolled`."""

    num_inits: int = 4
    """Initialisations per outer step, each with real images of its own; 1 when the init is fixed."""
    batch_size: int = 256
    """Real images per initialisation, drawn with replacement."""
    augment: SmoothAugment = "none"
    """Random changes to the real images."""
    learning_rate: float = 0.02
    """Outer learning rate (Adam) of the images."""
    step_size_rate: float = 0.3
    """Outer learning rate of the raw step sizes, as a share of that of the images."""
    label_rate: float = 1.0
    """Outer learning rate of the labels' logits, if they are learnt, as a share of that of the images."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    b2: float = 0.999
    """Adam's decay of the second moment."""
    clip_norm: float | None = 0.5
    """Global norm that the hypergradient is clipped to, or None."""
    discount: float = 1.0
    """Factor on the adjoint at each inner step: 1 is the exact hypergradient, less a biased, calmer one."""
    smoothing: float = 0.0
    """Width in pixels of the Gaussian that the images' hypergradient is smoothed with; 0 for none."""
    step_smoothing: float = 0.0
    """Width, in inner steps, of the Gaussian that it is smoothed with from batch to batch; 0 for none."""
    remat: Literal["auto", Remat] = "auto"
    """What the reverse pass keeps: "none" (nothing is computed again), "steps" (each step's parameters), "nested" (of
    sqrt(T) steps only) or "auto" (by the device and its memory)."""


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
    size = num_images(options.images_per_class, model.num_classes) * options.canvas_samples
    return remat_for(model, size, options.num_batches * options.num_epochs, nets)


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
