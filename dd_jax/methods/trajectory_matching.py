"""Trajectory matching: images on which training goes where it went on real data (Cazenavette et al. 2022)."""

import dataclasses
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dd_jax.inner import mean_over, remat_for
from dd_jax.inner.chunks import is_wide
from dd_jax.methods.base import Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.canvases import as_asked, canvas_words
from dd_jax.methods.described import described
from dd_jax.methods.expert_answers import expert_logits, known_images
from dd_jax.methods.expert_windows import ExpertWindows, check_dataset, check_experts, expert_feed
from dd_jax.methods.matching import useful_devices
from dd_jax.methods.outer import OuterOptimiser, OuterState, outer_sgd, scale_outer_learning_rate
from dd_jax.methods.sampling import runs_mapped
from dd_jax.methods.trajectory_loss import trajectory_gradient
from dd_jax.methods.trajectory_options import TrajectoryMatchingOptions, advice_of, check_options, protocol_for
from dd_jax.models import Model
from dd_jax.synthetic import (
    SoftLabelled,
    StepSized,
    Synthetic,
    counts_word,
    num_images,
    pixels,
    raw_rate,
    soft_labels,
    step_sized,
)
from dd_jax.types import Dataset, DistilledData, Experts, Learnable, Pretrained


class TrajectoryMatchingState(NamedTuple):
    """The state of trajectory matching, carried from one outer step to the next.

    Attributes:
        learnable: images, labels if they are learnt, the raw step size.
        outer: the optimiser's state.
    """

    learnable: StepSized
    outer: OuterState


class TrajectoryMatchingInfo(NamedTuple):
    """What an outer step of trajectory matching reports.

    Attributes:
        loss: normalised distance from the experts' weights, 1 where the inner steps lead nowhere; mean over the starts.
        hypergradient_norm: global norm of its gradient.
        step_size: of the inner steps, after this outer step.
        start: mean number of the snapshots started from.
        updated: 1, or 0 where the loss was above `max_loss`.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]
    start: Float[Array, ""]
    updated: Float[Array, ""]


class TrajectoryArrays(NamedTuple):
    """What a step reads. experts: starts and targets of the outer steps of a window, which the method's feed reads."""

    experts: ExpertWindows | None = None


@described(TrajectoryMatchingOptions)
def trajectory_matching(
    model: Model,
    options: TrajectoryMatchingOptions | None = None,
    *,
    experts: Experts | Pretrained | None = None,
    **overrides: Any,
) -> Method:
    """Learn images and a step size whose N steps of training lead where M epochs on real data led experts.

    min over (x, eta) of E_s |theta_N - theta*_{s+M}|^2 / |theta*_s - theta*_{s+M}|^2,
    theta_0 = theta*_s, theta_{i+1} = theta_i - eta grad l(theta_i; A(x_i), y_i)

    theta*: an expert's snapshots; x_i: a minibatch of the shuffled set; A: `augment`, drawn in every inner step. The
    gradient is exact, by reverse-mode differentiation through all N steps, or with gradient="first_order" the
    approximation of TESLA, see `dd_jax.inner.first_order`.

    Args:
        experts: as `dd_jax.load_experts` reads them, of the same architecture, trained on the dataset that is
            distilled.
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. trajectory_matching(model, experts=e, max_start=5).

    Raises:
        OptionError: for options out of range, unknown names, missing experts or too few of their snapshots.
        DataError: for experts of another architecture and, at the start of a run, for such as were trained on another
            dataset.

    Source: Cazenavette et al. 2022, *Dataset Distillation by Matching Training Trajectories*, algorithm 1; Cui et al.
    2023 (first_order); Guo et al. 2024 (first_max_start, max_loss, learn_labels with init_labels="expert",
    init_correct).
    """
    opts = with_overrides(options or TrajectoryMatchingOptions(), overrides)
    total = num_images(opts.images_per_class, model.num_classes)
    check_options(opts, total * opts.canvas_samples)
    check_experts(experts, model, opts)
    assert isinstance(experts, Experts)
    synthetic, optimiser, protocol = images_of(model, opts), _optimiser(opts), protocol_for(opts)

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> TrajectoryMatchingState:
        if opts.init_correct:
            dataset = known_images(model, experts, dataset, opts.images_per_class)
        learnable = synthetic.init(key, dataset)
        if opts.init_labels == "expert":
            start = synthetic.decode(learnable)
            logits = expert_logits(model, experts, start.images[0], start.labels[0].argmax(-1))
            learnable = learnable._replace(learnable=learnable.learnable._replace(label_logits=logits))
        return TrajectoryMatchingState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: TrajectoryMatchingState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def arrays(dataset: Dataset) -> TrajectoryArrays:
        check_dataset(experts, dataset)
        return TrajectoryArrays()

    static = dataclasses.replace(opts, remat=_remat(model, opts))
    step, given = compiled_step(_step, model, static, _ROLES, arrays)
    # A wide network that is the only one has its inner steps divided; of two passes by hand nothing is.
    alone = opts.num_inits == 1 and opts.gradient == "exact"
    size = _inner_size(model, opts)
    images = jax.ShapeDtypeStruct((size, *model.image_shape), jnp.float32)
    shared = alone and is_wide(model.apply, jax.eval_shape(model.init, jax.random.key(0)), images)
    parts = size if shared else 1
    return Method(
        "trajectory_matching",
        init,
        step,
        distilled,
        model,
        {**dataclasses.asdict(opts), "experts": experts.fingerprint},
        lambda available: useful_devices(available, opts.num_inits, parts),
        given,
        feed=expert_feed(experts, model, opts),
        scale_learning_rate=scale_outer_learning_rate,
        summary=f"{total} {canvas_words(model, opts)}, {opts.num_inner_steps} inner steps to where "
        f"{len(experts.accuracies)} experts {experts.name} were {opts.expert_epochs} snapshots later",
        protocol=protocol,
        shown=("loss", "step_size"),
        advice=advice_of(opts),
        inner_images=size,
    )


_ROLES = Roles(
    numbers={
        "learning_rate": None,
        "label_learning_rate": None,
        "step_size_learning_rate": None,
        "init_step_size": None,
        "momentum": None,
        "label_momentum": None,
        "clip_norm": None,
        "decay_every": None,
        "max_loss": None,
    },
    outside=(
        "init_images", "canvas_start", "init_labels", "init_correct", "expert_epochs", "min_start", "max_start",
        "first_max_start", "growth_steps", "protocol",
    ),
)  # fmt: skip


def _step(model: Model, opts: TrajectoryMatchingOptions) -> StepFn:
    synthetic, optimiser = images_of(model, opts), _optimiser(opts)
    at_once = None if runs_mapped(opts.over_inits) else opts.num_inits
    gradient_of = trajectory_gradient(model, synthetic, opts)
    shares = _shares(opts)

    def step(
        key: jax.Array, state: TrajectoryMatchingState, arrays: TrajectoryArrays
    ) -> tuple[TrajectoryMatchingState, TrajectoryMatchingInfo]:
        assert arrays.experts is not None
        mine = jax.tree.map(lambda leaf: leaf[state.outer.step % leaf.shape[0]], arrays.experts)

        def one(item: Any, part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            return gradient_of(state.learnable, *item)

        keys = jax.random.split(key, opts.num_inits)
        loss, hypergradient = mean_over(one, (keys, mine.start, mine.target), 1, at_once)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable, shares)
        updated = jnp.bool(True) if opts.max_loss is None else ~(loss > opts.max_loss)
        if opts.max_loss is not None:
            before = state.learnable, state.outer._replace(step=outer.step)
            learnable, outer = jax.tree.map(lambda a, b: jnp.where(updated, a, b), (learnable, outer), before)
        learnable = synthetic.project(learnable)
        number = mine.number.mean(dtype=jnp.float32)
        info = TrajectoryMatchingInfo(loss, norm, learnable.step_size, number, updated.astype(jnp.float32))
        return TrajectoryMatchingState(learnable, outer), info

    return step


def images_of(model: Model, options: TrajectoryMatchingOptions) -> Synthetic:
    """The set that is learnt: images, with learnt labels if these are asked for, and a step size."""
    synthetic = as_asked(pixels(model.num_classes, options.images_per_class, options.init_images), model, options)
    if options.learn_labels:
        synthetic = soft_labels(synthetic, model.num_classes)
    return step_sized(synthetic, options.init_step_size)


def _optimiser(options: TrajectoryMatchingOptions) -> OuterOptimiser:
    momenta = {name: getattr(options, name) for name in ("momentum", "label_momentum")}
    own, shared = cast(Any, "label_momentum"), cast(Any, "momentum")
    return outer_sgd(
        options.learning_rate,
        momentum=momenta if options.learn_labels else options.momentum,
        parts=StepSized(SoftLabelled(shared, own), shared) if options.learn_labels else None,
        clip_norm=options.clip_norm,
        schedule=options.schedule,
        decay_every=options.decay_every,
    )


def _shares(options: TrajectoryMatchingOptions) -> StepSized:
    """The learning rates of labels and raw step size, as shares of that of the images."""
    images: Any = jnp.float32(1.0)
    if options.learn_labels:
        images = SoftLabelled(images, jnp.float32(options.label_learning_rate / options.learning_rate))
    of_step = raw_rate(options.step_size_learning_rate, options.init_step_size) / options.learning_rate
    return StepSized(images, jnp.asarray(of_step, jnp.float32))


def _remat(model: Model, options: TrajectoryMatchingOptions) -> Any:
    """What the reverse pass keeps, in place of "auto"."""
    if options.remat != "auto":
        return options.remat
    size = _inner_size(model, options)
    nets = 1 if runs_mapped(options.over_inits) else options.num_inits
    return remat_for(model, size, options.num_inner_steps, nets)


def _inner_size(model: Model, options: TrajectoryMatchingOptions) -> int:
    """Images of an inner step."""
    return options.batch_size or num_images(options.images_per_class, model.num_classes) * options.canvas_samples


def _words(options: TrajectoryMatchingOptions) -> tuple[str, ...]:
    name = "mtt" if options.gradient == "exact" else "tesla"
    canvas = () if options.canvas_size == 1 else (f"canvas{options.canvas_size}",)
    return (name, counts_word(options.images_per_class), *canvas)


_SMALL = {"num_inner_steps": 2, "expert_epochs": 1, "max_start": 1, "first_max_start": None}
SPEC = MethodSpec("trajectory_matching", TrajectoryMatchingOptions, trajectory_matching, _words, _SMALL, "experts")
