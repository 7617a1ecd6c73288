"""Backpropagation through trainings from scratch, or windows of them, on any set: RememberThePast and RaT-BPTT."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.inner import by_class, mean_over
from dd_jax.methods.base import Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.bptt_loss import bptt_loss, class_minibatch
from dd_jax.methods.bptt_options import (
    BpttOptions,
    advice_of,
    check_options,
    images_of,
    inner_remat,
    inner_size,
    optimiser_of,
    protocol_of,
    set_words,
    shares_of,
    window_lengths,
    words_of,
)
from dd_jax.methods.described import described
from dd_jax.methods.matching import MatchingArrays
from dd_jax.methods.outer import OuterState, scale_outer_learning_rate
from dd_jax.methods.sampling import runs_mapped
from dd_jax.models import Model
from dd_jax.types import Dataset, DistilledData, Learnable


class BpttState(NamedTuple):
    """The state of bptt, carried from one outer step to the next.

    Attributes:
        learnable: images, or what they are made of, and labels if they are learnt.
        outer: the optimiser's state.
    """

    learnable: Learnable
    outer: OuterState


class BpttInfo(NamedTuple):
    """What an outer step of bptt reports.

    Attributes:
        loss: mean cross-entropy on real images at the end of the trainings, in nats, with the penalty if there is one.
        hypergradient_norm: global norm of the hypergradient before clipping.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]


@described(BpttOptions)
def bptt(
    model: Model,
    options: BpttOptions | None = None,
    *,
    shared: Float[Array, "shared height width channels"] | None = None,
    **overrides: Any,
) -> Method:
    """Learn a set that leads ordinary training to a small loss on real data.

    min over s of E_{theta_0 ~ p} L(theta_T), theta_{t+1} = rule(theta_t, grad l(theta_t; A(x_t), y_t))

    s: images, bases with coefficients, or several images out of each stored one, and labels; x_t: a minibatch made of
    them; A: `augment`, of set and real images. Unlike `unrolled` it learns no order and no step sizes: the rule is
    gradient descent with momentum or Adam at a fixed rate, and the set is for training from scratch. The
    hypergradient is exact, by reverse-mode differentiation through all T steps. With a `window` each training ends at a
    random step, and only so many steps before are differentiated.

    Args:
        options: hyper-parameters.
        shared: bases of an earlier set, its learnt["bases"]. They stay as they are, and these images mix them too, so
            that several sets are one memory that grows.
        overrides: single options by name, as listed below, e.g. bptt(model, images="bases", made_per_class=8).

    Raises:
        OptionError: for options out of range, that don't go together, or unknown names.

    Source: Deng & Russakovsky 2022, *Remember the Past*, algorithm 1 (momentum, bases); Feng et al. 2024,
    *Embarrassingly Simple Dataset Distillation* (RaT-BPTT: Adam, random windows, clipping by a running mean).
    """
    opts = with_overrides(options or BpttOptions(), overrides)
    check_options(model, opts)
    synthetic, optimiser, protocol = images_of(model, opts, shared), optimiser_of(opts), protocol_of(opts)

    def init(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> BpttState:
        learnable = synthetic.init(key, dataset)
        return BpttState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: BpttState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def real(dataset: Dataset) -> MatchingArrays:
        return MatchingArrays(by_class(dataset.train, model.num_classes), dataset.transform)

    static = dataclasses.replace(opts, remat=inner_remat(model, opts))
    step, arrays = compiled_step(_step, model, static, _ROLES, real)
    window = "" if opts.window is None else f", windows of {opts.window}"
    num_shared = 0 if shared is None else len(shared)
    hyperparameters = dataclasses.asdict(opts) | ({"shared_bases": num_shared} if num_shared else {})
    words = set_words(model, opts, num_shared)
    return Method(
        "bptt",
        init,
        step,
        distilled,
        model,
        hyperparameters,
        arrays=arrays,
        scale_learning_rate=scale_outer_learning_rate,
        summary=f"{words}, {opts.num_inner_steps} inner steps of {opts.inner_optimiser}{window}",
        protocol=protocol,
        advice=advice_of(opts),
        inner_images=inner_size(model, opts),
    )


_ROLES = Roles(
    numbers={
        "learning_rate": None,
        "label_learning_rate": None,
        "momentum": None,
        "clip_norm": None,
        "clip_factor": None,
        "decay_every": None,
        "inner_learning_rate": None,
        "inner_momentum": None,
        "coefficient_l1": 0.0,
        "coefficient_l2": 0.0,
    },
    outside=("init_images", "canvas_start", "protocol"),
)


def _step(model: Model, opts: BpttOptions) -> StepFn:
    synthetic, optimiser, shares = images_of(model, opts), optimiser_of(opts), shares_of(opts)
    at_once = None if runs_mapped(opts.over_inits) else opts.num_inits
    count = opts.classes_per_step or model.num_classes
    per_class = opts.batch_size // count
    lengths = window_lengths(opts)
    gradients = [jax.value_and_grad(bptt_loss(model, synthetic, opts, length)) for length in lengths]

    def step(key: jax.Array, state: BpttState, arrays: MatchingArrays) -> tuple[BpttState, BpttInfo]:
        grown = jnp.minimum(state.outer.step / opts.growth_steps, 1.0)
        which = jnp.minimum((grown * len(lengths)).astype(jnp.int32), len(lengths) - 1)
        horizon = jnp.int32(opts.num_inner_steps)
        if opts.first_horizon is not None:
            horizon = opts.first_horizon + (grown * (horizon - opts.first_horizon)).astype(jnp.int32)

        def one(key: jax.Array, part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            train_key, real_key, class_key = jax.random.split(key, 3)
            classes = jnp.arange(model.num_classes)
            if count < model.num_classes:
                classes = jax.random.permutation(class_key, model.num_classes)[:count]
            batch = class_minibatch(real_key, arrays.real, per_class, classes, opts.augment, part, parts)
            return lax.switch(which, gradients, state.learnable, train_key, batch, classes, horizon)

        keys = jax.random.split(key, opts.num_inits)
        loss, hypergradient = mean_over(one, keys, per_class * count, at_once)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable, shares)
        return BpttState(synthetic.project(learnable, arrays.transform), outer), BpttInfo(loss, norm)

    return step


_SMALL = {"num_inner_steps": 2, "batch_size": 200, "window": None, "first_window": None, "first_horizon": None}
SPEC = MethodSpec("bptt", BpttOptions, bptt, words_of, _SMALL)
