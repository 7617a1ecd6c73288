"""The options of `bptt`, and the set, the windows, the outer optimiser and the protocol that they mean."""

import dataclasses
from typing import Any, Literal

import jax
import jax.numpy as jnp

from dd_jax.errors import OptionError, check_at_least
from dd_jax.inner import Remat, Rule, adam, momentum, remat_for
from dd_jax.methods.base import Advice
from dd_jax.methods.canvases import check_canvas_options
from dd_jax.methods.matching import StoredOptions, stored_images
from dd_jax.methods.outer import OuterOptimiser, OuterOptions, Schedule, outer_adam, outer_sgd
from dd_jax.methods.sampling import SamplingOptions, check_sampling, less_sampling, runs_mapped
from dd_jax.models import Model
from dd_jax.synthetic import (
    ImageInit,
    SoftLabelled,
    Synthetic,
    bases,
    bases_within,
    counts_word,
    num_formed,
    same_count,
    soft_labels,
)
from dd_jax.types import Protocol


@dataclasses.dataclass(frozen=True)
class _BasesOptions(StoredOptions):
    """What is learnt."""

    init_images: ImageInit = "kmeans"
    """Start of the images: noise, real training images, the class mean plus noise, k-means centres, or herded training
    images. Bases start as close to these as they can."""
    images: Literal["stored", "bases"] = "stored"
    """"stored": images, canvases, or several images out of each stored one (`factor`). "bases": mixtures of a few small
    images that all classes share (Deng & Russakovsky 2022), as many as fit into `images_per_class` images of each
    class."""
    made_per_class: int = 4
    """Images of each class to mix from bases, each with coefficients of its own."""
    downscale: int = 2
    """Factor by which bases are smaller than images, on each side."""
    num_bases: int | None = None
    """Number of bases. None: as many as `images_per_class` has room for."""
    coefficient_l1: float = 0.0
    """Penalty on the sum of absolute coefficients."""
    coefficient_l2: float = 0.0
    """Penalty on the sum of squared coefficients."""
    learn_labels: bool = False
    """Learn how probable every class is for each image, in place of a hard label."""


@dataclasses.dataclass(frozen=True)
class _TrainingOptions:
    """The inner training, and what of it is differentiated."""

    num_inner_steps: int = 50
    """T, gradient steps on the set in one training."""
    inner_optimiser: Literal["momentum", "adam"] = "momentum"
    """Optimiser of the parameters: gradient descent with momentum, or Adam."""
    inner_learning_rate: float = 0.01
    """Learning rate of the inner steps, which is not learnt. For Adam 0.001."""
    inner_momentum: float = 0.9
    """Momentum of the inner gradient descent."""
    inner_per_class: int | None = None
    """Images of each class in an inner step, in passes through the shuffled set. None: all of them."""
    classes_per_step: int | None = None
    """Classes in an outer step, drawn at random for the set and the real images. None: all of them."""
    window: int | None = None
    """Inner steps to differentiate: the last ones of a training that ends at a random step up to `num_inner_steps`
    (RaT-BPTT). None: all of them."""
    first_window: int | None = None
    """Window at the beginning of the run, if it grows; it doubles until it is `window`. None: it doesn't grow."""
    first_horizon: int | None = None
    """Last step at which trainings end at the beginning of the run, if this grows to `num_inner_steps`."""
    growth_steps: int = 1000
    """Outer steps over which window and horizon grow."""


@dataclasses.dataclass(frozen=True)
class BpttOptions(OuterOptions, SamplingOptions, _BasesOptions, _TrainingOptions):
    """Hyper-parameters of `bptt`."""

    num_inits: int = 1
    """Trainings in an outer step, each of a network of its own."""
    batch_size: int = 256
    """Real images for each training, as many of each class, drawn with replacement."""
    outer_optimiser: Literal["adam", "sgd"] = "adam"
    """Optimiser of the set: Adam, or gradient descent with momentum."""
    learning_rate: float = 0.02
    """Outer learning rate of images, bases and coefficients."""
    label_learning_rate: float = 0.1
    """Outer learning rate of the labels' logits, if labels are learnt."""
    momentum: float = 0.5
    """Momentum of the outer gradient descent."""
    clip_norm: float | None = 2.0
    """Global norm to clip the hypergradient to. None: no clipping."""
    clip_factor: float | None = None
    """Multiple of the running mean of its norms to clip the hypergradient to (RaT-BPTT: 2). None: no such clipping."""
    schedule: Schedule = "cosine"
    """Schedule of the outer learning rates: "cosine" (to zero over the run), "step" (halved now and then) or
    "constant"."""
    remat: Literal["auto", Remat] = "auto"
    """Rematerialisation: "none" keeps all values and computes nothing again, "steps" keeps the parameters of each step,
    "nested" those of sqrt(T) steps only, and "auto" chooses by the device and its memory."""
    protocol: str | None = None
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`. None: "rtp", or "rat-bptt" if the
    inner optimiser is Adam, without augmentation ("-plain") unless `augment` is "flip_rotate"."""


def images_of(model: Model, options: BpttOptions, shared: jax.Array | None = None) -> Synthetic:
    """The set that is learnt, with learnt labels if these are asked for, and perhaps over bases of an earlier one."""
    if shared is not None and options.images != "bases":
        raise OptionError(f'Shared bases need images="bases", but images is {options.images!r}.')
    if options.images == "bases":
        synthetic = bases(
            model.num_classes,
            model.image_shape,
            same_count(options.images_per_class),
            options.made_per_class,
            options.downscale,
            options.num_bases,
            options.init_images,
            shared=shared,
        )
    else:
        synthetic = stored_images(model, options)
    return soft_labels(synthetic, model.num_classes) if options.learn_labels else synthetic


def rule_of(options: BpttOptions) -> Rule:
    """How inner steps follow their gradients."""
    sizes = jnp.full(options.num_inner_steps, options.inner_learning_rate)
    return momentum(sizes, options.inner_momentum) if options.inner_optimiser == "momentum" else adam(sizes)


def optimiser_of(options: BpttOptions) -> OuterOptimiser:
    """The outer optimiser."""
    kept: Any = {
        "clip_norm": options.clip_norm,
        "clip_factor": options.clip_factor,
        "schedule": options.schedule,
        "decay_every": options.decay_every,
    }
    if options.outer_optimiser == "adam":
        return outer_adam(options.learning_rate, b1=0.9, **kept)
    return outer_sgd(options.learning_rate, momentum=options.momentum, **kept)


def shares_of(options: BpttOptions) -> Any:
    """The learning rate of labels as a share of that of images."""
    if not options.learn_labels:
        return 1.0
    return SoftLabelled(1.0, jnp.float32(options.label_learning_rate / options.learning_rate))


def window_lengths(options: BpttOptions) -> tuple[int | None, ...]:
    """How long windows are, from the beginning of a run on, each so long for an equal part of the growth."""
    if options.window is None or options.first_window is None:
        return (options.window,)
    lengths = [options.first_window]
    while 2 * lengths[-1] < options.window:
        lengths.append(2 * lengths[-1])
    return tuple(lengths) if lengths[-1] == options.window else (*lengths, options.window)


def inner_remat(model: Model, options: BpttOptions) -> Remat:
    """What the reverse pass keeps, in place of "auto"."""
    if options.remat != "auto":
        return options.remat
    nets = 1 if runs_mapped(options.over_inits) else options.num_inits
    return remat_for(model, inner_size(model, options), options.window or options.num_inner_steps, nets)


def inner_size(model: Model, options: BpttOptions) -> int:
    """Images of an inner step."""
    per_class = options.inner_per_class or images_made(options)
    return (options.classes_per_step or model.num_classes) * per_class


def images_made(options: BpttOptions) -> int:
    """Images of each class that networks see."""
    if options.images == "bases":
        return options.made_per_class
    return same_count(options.images_per_class) * num_formed(options.factor, options.formation) * options.canvas_samples


def protocol_of(options: BpttOptions) -> Protocol:
    """How a set that is learnt with these options is to be used."""
    name = "rtp" if options.inner_optimiser == "momentum" else "rat-bptt"
    plain = "" if options.augment == "flip_rotate" else "-plain"
    return Protocol(options.protocol or name + plain, order="random")


def advice_of(options: BpttOptions) -> Advice:
    """What to change where a run diverges, or a step doesn't fit into memory."""
    remat = () if options.remat == "nested" else ('remat "nested"',)
    window = ("a smaller window",) if options.window else ("a window",)
    return Advice(
        "a smaller learning_rate, inner_learning_rate or clip_norm, or a shorter window",
        (*remat, *less_sampling(options), *window, "a smaller inner_per_class"),
    )


def words_of(options: BpttOptions) -> tuple[str, ...]:
    """What tells runs apart."""
    name = "bptt" if options.window is None else "rat-bptt"
    form = ("bases",) if options.images == "bases" else (f"factor{options.factor}",) * (options.factor > 1)
    canvas = () if options.canvas_size == 1 else (f"canvas{options.canvas_size}",)
    return (name, counts_word(options.images_per_class), *form, *canvas)


def check_options(model: Model, options: BpttOptions) -> None:
    """OptionError for options that are out of range, or don't go together."""
    check_sampling(options)
    check_canvas_options(options)
    check_at_least(1, options, "num_inner_steps", "growth_steps")
    _check_numbers(options)
    _check_windows(options)
    classes = options.classes_per_step
    if classes is not None and not 1 <= classes <= model.num_classes:
        raise OptionError(f"classes_per_step must be from 1 to {model.num_classes}, but is {classes}.")
    if options.batch_size < (classes or model.num_classes):
        raise OptionError(
            f"An outer step draws real images of each of {classes or model.num_classes} classes, "
            f"so batch_size must be at least that, but is {options.batch_size}."
        )
    made = images_made(options)
    if options.inner_per_class is not None and not 1 <= options.inner_per_class <= made:
        raise OptionError(
            f"inner_per_class must be from 1 to {made}, the number of images of each class, but "
            f"is {options.inner_per_class}."
        )
    if options.images == "bases":
        if options.factor != 1 or options.canvas_size != 1 or options.clamp:
            raise OptionError("Bases are not tiled, cropped or clamped. Leave out factor, canvas and clamp.")
    else:
        names = ("made_per_class", "downscale", "num_bases", "coefficient_l1", "coefficient_l2")
        given = [name for name in names if getattr(options, name) != getattr(BpttOptions, name)]
        if given:
            found = ", ".join(f"{name}={getattr(options, name)}" for name in given)
            defaults = ", ".join(f"{name}={getattr(BpttOptions, name)}" for name in given)
            raise OptionError(
                f'{found}: options that need images="bases", but images is {options.images!r}. Set images="bases", or '
                f"leave them out. If a preset sets them, give their defaults: {defaults}."
            )


def _check_numbers(options: BpttOptions) -> None:
    for name in ("inner_learning_rate", "label_learning_rate"):
        if not 0 < getattr(options, name) < float("inf"):
            raise OptionError(f"{name} must be positive and finite, but is {getattr(options, name)}.")
    if not 0 <= options.inner_momentum < 1:
        raise OptionError(f"inner_momentum must be at least 0 and below 1, but is {options.inner_momentum}.")
    for name in ("coefficient_l1", "coefficient_l2"):
        if not 0 <= getattr(options, name) < float("inf"):
            raise OptionError(f"{name} must be at least 0 and finite, but is {getattr(options, name)}.")


def _check_windows(options: BpttOptions) -> None:
    total, window = options.num_inner_steps, options.window
    if window is not None and not 1 <= window <= total:
        raise OptionError(f"window must be from 1 to the {total} inner steps, but is {window}.")
    for name in ("first_window", "first_horizon"):
        if getattr(options, name) is not None and window is None:
            raise OptionError(f"{name} makes a window grow, but there is no window. Set window too.")
    if options.first_window is not None and not 1 <= options.first_window <= (window or 0):
        raise OptionError(f"first_window must be from 1 to the window, {window}, but is {options.first_window}.")
    if options.first_horizon is not None and not (window or 0) <= options.first_horizon <= total:
        raise OptionError(
            f"first_horizon must be from the window, {window}, to the {total} inner steps, but is "
            f"{options.first_horizon}."
        )


def set_words(model: Model, options: BpttOptions, num_shared: int = 0) -> str:
    """What is learnt, in words."""
    if options.images != "bases":
        stored = same_count(options.images_per_class) * model.num_classes
        made = model.num_classes * images_made(options)
        return f"{stored} images" if made == stored else f"{stored} stored images that become {made}"
    count = options.num_bases or bases_within(
        model.num_classes,
        model.image_shape,
        same_count(options.images_per_class),
        options.made_per_class,
        options.downscale,
        num_shared,
    )
    more = f" and {num_shared} of an earlier set" if num_shared else ""
    return f"{model.num_classes * options.made_per_class} images made of {count} bases{more}"
