"""The options of trajectory matching, and what they mean for experts, sets and protocols."""

import dataclasses
from typing import Literal

from dd_jax.errors import OptionError, check_at_least, check_choices
from dd_jax.inner import Remat, SmoothAugment
from dd_jax.methods.base import Advice
from dd_jax.methods.canvases import CanvasOptions, check_canvas_options
from dd_jax.methods.options import SetOptions
from dd_jax.methods.outer import OuterOptions, Schedule
from dd_jax.types import Protocol

_PROTOCOLS = {"dsa": "mtt", "dsa_no_flip": "mtt-digits"}


@dataclasses.dataclass(frozen=True)
class TrajectoryMatchingOptions(OuterOptions, CanvasOptions, SetOptions):
    """Hyper-parameters of `trajectory_matching`."""

    num_inner_steps: int = 20
    """N, gradient steps on the set in an outer step."""
    batch_size: int | None = None
    """Images of the set in an inner step, in passes through the shuffled set. None: all of them."""
    expert_epochs: int = 2
    """M, snapshots from the start of the inner steps to their goal. These are epochs on real data, unless the experts
    were kept more often."""
    min_start: int = 0
    """First snapshot of the experts that inner steps may start from."""
    max_start: int = 20
    """Snapshot before which inner steps start. Starts are drawn from min_start to max_start - 1."""
    first_max_start: int | None = None
    """max_start at the beginning of the run, if it grows (DATM). None: it doesn't grow."""
    growth_steps: int = 1000
    """Outer steps over which max_start grows from `first_max_start`."""
    distance: Literal["whole", "layers"] = "whole"
    """Distance to match: of all weights as one vector, or the mean over layers, each with a scale of its own."""
    gradient: Literal["exact", "first_order"] = "exact"
    """"exact": the gradient through all inner steps. "first_order" (TESLA): an approximation whose memory doesn't grow
    with the steps."""
    max_loss: float | None = None
    """Loss above which an outer step changes nothing (DATM: 1). None: every step counts."""
    augment: SmoothAugment = "dsa"
    """Random change to the images in every inner step. Take "dsa_no_flip" for digits."""
    learn_labels: bool = False
    """Learn how probable every class is for each image, in place of a hard label."""
    init_labels: Literal["certain", "expert"] = "certain"
    """Start of learnt labels: "certain", 90 % for the class of the image, or "expert", the mean answer of the experts
    that are right about it at their end (DATM)."""
    init_correct: bool = False
    """Start only from real images that an expert at its end classifies correctly (DATM)."""
    num_inits: int = 1
    """Starts in an outer step, each with its own expert and snapshot."""
    learning_rate: float = 1000.0
    """Outer learning rate of the images, in units of model space."""
    label_learning_rate: float = 5.0
    """Outer learning rate of the labels' logits, if labels are learnt."""
    step_size_learning_rate: float = 1e-5
    """Outer learning rate of the step size at its start. It grows and shrinks with the square of the step size, which
    so stays positive."""
    init_step_size: float = 0.01
    """Start of the step size."""
    momentum: float = 0.5
    """Momentum of the outer gradient descent of images and step size."""
    label_momentum: float = 0.9
    """Momentum of the labels, if they are learnt (DATM)."""
    clip_norm: float | None = None
    """Global norm to clip the hypergradient to. None: no clipping."""
    schedule: Schedule = "constant"
    """Schedule of the outer learning rates: "cosine" (to zero over the run), "step" (halved now and then) or
    "constant"."""
    remat: Literal["auto", Remat] = "auto"
    """Rematerialisation: "none" keeps all values and computes nothing again, "steps" keeps the parameters of each step,
    "nested" those of sqrt(N) steps only, and "auto" chooses by the device and its memory."""
    protocol: str | None = None
    """Training that the set is for, and is judged by: a name in `dd_jax.PROTOCOLS`. None: "mtt" if `augment` is "dsa",
    "mtt-digits" without mirrors, else "mtt-plain"."""
    over_inits: Literal["auto", "vmap", "map"] = "auto"
    """How to go through the starts: "vmap" (all at once), "map" (one by one) or "auto" (by device)."""


def protocol_for(options: TrajectoryMatchingOptions) -> Protocol:
    """How a set that is learnt with these options is to be used."""
    return Protocol(options.protocol or _PROTOCOLS.get(options.augment, "mtt-plain"), order="random")


def advice_of(options: TrajectoryMatchingOptions) -> Advice:
    """What to change where a run diverges, or a step doesn't fit into memory."""
    remat = () if options.remat == "nested" or options.gradient != "exact" else ('remat "nested"',)
    fewer = ("fewer num_inits",) if options.num_inits > 1 else ()
    first_order = () if options.gradient != "exact" else ("a first-order gradient",)
    return Advice(
        "a smaller learning_rate, step_size_learning_rate, init_step_size or max_loss",
        (*remat, *fewer, "a smaller batch_size", "a smaller num_inner_steps", *first_order),
    )


def check_options(options: TrajectoryMatchingOptions, num_images: int) -> None:
    """OptionError for options that are out of range or unknown, for a set of so many images."""
    check_at_least(1, options, "num_inner_steps", "expert_epochs", "num_inits", "growth_steps")
    check_at_least(0, options, "min_start")
    check_canvas_options(options)
    if options.batch_size is not None and not 1 <= options.batch_size <= num_images:
        raise OptionError(
            f"batch_size must be from 1 to the {num_images} images of the set, or None, but is {options.batch_size}."
        )
    first = options.max_start if options.first_max_start is None else options.first_max_start
    if not options.min_start < first <= options.max_start:
        between = "" if options.first_max_start is None else f" first_max_start ({first}), which is at most"
        raise OptionError(
            f"min_start ({options.min_start}) must be below{between} max_start "
            f"({options.max_start}). Starts are drawn from min_start to max_start - 1."
        )
    for name in ("label_learning_rate", "step_size_learning_rate", "max_loss"):
        value = getattr(options, name)
        if value is not None and not 0 < value < float("inf"):
            raise OptionError(f"{name} must be positive and finite, but is {value}.")
    check_choices(options)
    if options.init_labels == "expert" and not options.learn_labels:
        raise OptionError(
            'init_labels="expert" is for labels that are learnt. Set learn_labels, or leave out init_labels.'
        )
    if options.init_correct and options.init_images == "noise":
        raise OptionError(
            'init_correct chooses real images to start from, but init_images is "noise". Leave out '
            "init_correct, or start from real images."
        )


def last_start(options: TrajectoryMatchingOptions, step: int) -> int:
    """The snapshot before which outer step `step` starts.

    Source: Guo et al. 2024, *Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching* (DATM),
    section 3.3 and the released code (a linear rise).
    """
    if options.first_max_start is None:
        return options.max_start
    more = (options.max_start - options.first_max_start) * step // options.growth_steps
    return min(options.first_max_start + more, options.max_start)
