"""The options of `generative_teaching`, and the set, the outer optimiser and the protocol that they mean."""

import dataclasses
from typing import Any, Literal, TypeAlias, get_args

from dd_jax.errors import OptionError, check_at_least
from dd_jax.inner import Remat, RuleName, remat_for
from dd_jax.methods.base import Advice
from dd_jax.methods.outer import OuterOptimiser, OuterOptions, outer_adam
from dd_jax.methods.sampling import SamplingOptions, check_sampling, less_sampling
from dd_jax.models import Model, num_params
from dd_jax.synthetic import Generator, Stepped, Synthetic, dealt, generator, stepped
from dd_jax.types import AS_DISTILLED, Protocol

Teacher: TypeAlias = Literal["curriculum", "shuffled", "noise", "pixels", "real"]
TEACHERS: tuple[str, ...] = get_args(Teacher)


@dataclasses.dataclass(frozen=True)
class _TeacherOptions:
    """What networks are taught with."""

    teacher: Teacher = "curriculum"
    """Source of the images of each step: "curriculum" (a generator, with learnt latents for every step), "shuffled"
    (the same latents as one pool, dealt out at random), "noise" (new latents in every step), "pixels" (learnt images,
    without a generator) or "real" (random real images that stay as they are, under learnt steps)."""
    images_per_step: int = 32
    """Images in each inner step. Their classes come in turn."""
    learn_labels: bool = False
    """Learn labels too, in place of the classes that the generator is told."""
    latent_size: int = 64
    """Length of a latent vector."""
    hidden: int = 256
    """Units of the generator's first layer."""
    filters: int = 32
    """Channels of the generator's smallest images."""


@dataclasses.dataclass(frozen=True)
class _StepsOptions:
    """The inner steps, and the networks that take them."""

    num_inner_steps: int = 16
    """Training steps of a network."""
    rule: RuleName = "momentum"
    """Optimiser of the networks: "sgd", "momentum" (a learnt momentum for each step), "adam" or "rmsprop". Step sizes
    are always learnt."""
    init_step_size: float = 0.02
    """Start of the step sizes."""
    init_momentum: float = 0.5
    """Start of the momenta."""
    loss_every: int = 0
    """Inner steps between two losses on real images, a divisor of the number of inner steps. The losses are averaged.
    0: only the loss after the last step."""
    widths: tuple[int, ...] = ()
    """Widths of networks; each outer step draws one. None given: the width of the network."""
    depths: tuple[int, ...] = ()
    """Depths of networks; each outer step draws one. None given: the depth of the network."""


@dataclasses.dataclass(frozen=True)
class GenerativeTeachingOptions(OuterOptions, _TeacherOptions, _StepsOptions, SamplingOptions):
    """Hyper-parameters of `generative_teaching`."""

    learning_rate: float = 0.003
    """Outer learning rate (Adam) of the generator and its latents, or of images."""
    steps_rate: float = 1.0
    """Outer learning rate of the raw step sizes and momenta, as a share of `learning_rate`."""
    clip_norm: float | None = 1.0
    """Global norm to clip the hypergradient to. None: no clipping."""
    remat: Literal["auto", Remat] = "auto"
    """Rematerialisation: "none" keeps all values and computes nothing again, "steps" keeps the parameters of each step,
    "nested" those of sqrt(T) steps only, and "auto" chooses by the device and its memory."""


def set_of(model: Model, opts: GenerativeTeachingOptions) -> Synthetic:
    """What is learnt: images of each step, or what makes them, with the steps."""
    counts = (model.num_classes, opts.num_inner_steps, opts.images_per_step)
    if opts.teacher == "pixels" or opts.teacher == "real":
        images = dealt(*counts, learnt=opts.teacher == "pixels")
    else:
        form = Generator(model.image_shape, *counts, opts.latent_size, opts.hidden, opts.filters, opts.teacher)
        images = generator(form, opts.learn_labels)
    return stepped(images, opts.rule, opts.init_step_size, opts.init_momentum)


def shares_of(opts: GenerativeTeachingOptions) -> Stepped:
    """Of the learning rate, by what is learnt."""
    momenta: Any = opts.steps_rate if opts.rule == "momentum" else ()
    return Stepped(1.0, opts.steps_rate, momenta)  # type: ignore[arg-type]


def optimiser_of(opts: GenerativeTeachingOptions) -> OuterOptimiser:
    """The outer optimiser."""
    return outer_adam(
        opts.learning_rate,
        b1=0.9,
        clip_norm=opts.clip_norm,
        schedule=opts.schedule,
        decay_every=opts.decay_every,
    )


def protocol_of(opts: GenerativeTeachingOptions) -> Protocol:
    """How a set that is learnt with these options is to be used; OptionError for options out of range."""
    check_sampling(opts)
    check_at_least(1, opts, "num_inner_steps", "images_per_step")
    check_at_least(0, opts, "loss_every")
    if not 0.0 <= opts.steps_rate < float("inf"):
        raise OptionError(f"steps_rate must be at least 0 and finite, but is {opts.steps_rate}.")
    if opts.loss_every and opts.num_inner_steps % opts.loss_every:
        raise OptionError(
            f"loss_every must divide the {opts.num_inner_steps} inner steps, or be 0, but is {opts.loss_every}."
        )
    if opts.learn_labels and opts.teacher not in ("curriculum", "shuffled"):
        raise OptionError(
            "learn_labels needs generated images that keep their latents, but the teacher is "
            f'{opts.teacher!r}. Use the teacher "curriculum" or "shuffled", or leave out '
            "learn_labels."
        )
    order = "random" if opts.teacher == "shuffled" else "fixed"
    return Protocol(AS_DISTILLED, order=order, rule=opts.rule)


def inner_remat(learners: tuple[Model, ...], opts: GenerativeTeachingOptions, nets: int) -> Remat:
    """The way of `choose_remat` for the unroll of the largest of the networks, `nets` at once."""
    largest = max(learners, key=num_params)
    return remat_for(largest, opts.images_per_step, opts.num_inner_steps, nets)


def advice_of(opts: GenerativeTeachingOptions) -> Advice:
    """What to change where a run diverges, or a step doesn't fit into memory."""
    remat = () if opts.remat == "nested" else ('remat "nested"',)
    fewer = ("a smaller images_per_step", "a smaller num_inner_steps")
    return Advice("a smaller learning_rate, init_step_size or clip_norm", (*remat, *less_sampling(opts), *fewer))


def words_of(opts: GenerativeTeachingOptions) -> tuple[str, ...]:
    """What tells runs apart."""
    return "gtn", opts.teacher
