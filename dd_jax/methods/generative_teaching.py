"""Generative teaching networks: a generator whose images networks learn from in a few steps (Such et al. 2020)."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.errors import OptionError
from dd_jax.inner import (
    IntermediateLoss,
    Remat,
    chunked_loss,
    mean_over,
    rule_named,
    unroll_with_losses,
)
from dd_jax.methods.base import Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.described import described
from dd_jax.methods.generative_teaching_options import (
    GenerativeTeachingOptions,
    advice_of,
    inner_remat,
    optimiser_of,
    protocol_of,
    set_of,
    shares_of,
    words_of,
)
from dd_jax.methods.outer import OuterState, scale_outer_learning_rate
from dd_jax.methods.sampling import minibatch, runs_mapped
from dd_jax.models import Model, variants
from dd_jax.synthetic import Stepped, Synthetic
from dd_jax.types import Batch, Dataset, DistilledData


class GenerativeTeachingState(NamedTuple):
    """The state of generative_teaching, carried from one outer step to the next.

    Attributes:
        learnable: what makes the images, and the raw numbers of the steps.
        outer: the optimiser's state.
    """

    learnable: Stepped
    outer: OuterState


class GenerativeTeachingInfo(NamedTuple):
    """What an outer step of generative_teaching reports.

    Attributes:
        loss: outer loss, the mean cross-entropy on real images at the moments that count, in nats.
        last_loss: that after the last inner step.
        hypergradient_norm: global norm of the hypergradient before clipping.
        step_size, momentum: means over the inner steps; of a rule without momenta zero.
    """

    loss: Float[Array, ""]
    last_loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]
    momentum: Float[Array, ""]


@described(GenerativeTeachingOptions)
def generative_teaching(
    model: Model,
    options: GenerativeTeachingOptions | None = None,
    *,
    learners: Sequence[Model] | None = None,
    **overrides: Any,
) -> Method:
    """Learn a generator, with latents and steps, whose images teach new networks in a few steps (GTN).

    min over (G, z, eta, mu) of E_{architecture, theta_0} mean over k of L(theta_k)
    v_{t+1} = mu_t v_t + grad l(theta_t; G(z_t, y_t), y_t), theta_{t+1} = theta_t - eta_t v_{t+1}

    L is the loss on real images after the last step or, with `loss_every`, after every so many. An architecture is
    drawn in every outer step, and weights for each of its networks; all architectures are compiled into one program.

    Args:
        model: the network that the set is for, and that chooses and judges it.
        options: hyper-parameters.
        learners: the architectures to draw from, each with the same probability. None: `model` in the `widths` and
            `depths` of the options.
        overrides: single options by name, e.g. generative_teaching(model, num_inner_steps=32).

    Raises:
        OptionError: for options out of range, unknown names, or learners for other images.

    Source: Such et al. 2020, *Generative Teaching Networks*, section 3 and appendix A.
    """
    opts = with_overrides(options or GenerativeTeachingOptions(), overrides)
    protocol = protocol_of(opts)
    taught = _learners(model, opts, learners)
    synthetic, optimiser = set_of(model, opts), optimiser_of(opts)
    remat = inner_remat(taught, opts, _at_once(opts) or 1) if opts.remat == "auto" else opts.remat

    def init_state(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> GenerativeTeachingState:
        learnable = synthetic.init(key, dataset)
        return GenerativeTeachingState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: GenerativeTeachingState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def useful_devices(available: int) -> int:
        return available if jax.default_backend() != "cpu" else min(available, opts.num_inits)

    hyperparameters: dict[str, Any] = dataclasses.asdict(opts)
    hyperparameters |= {name: list(hyperparameters[name]) for name in ("widths", "depths")}
    if learners is not None:
        hyperparameters["learners"] = [{"name": one.name, "settings": dict(one.settings)} for one in taught]
    static = dataclasses.replace(opts, remat=remat)
    step, arrays = compiled_step(_step, model, static, _ROLES, rest=(taught,))
    return Method(
        "generative_teaching",
        init_state,
        step,
        distilled,
        model,
        hyperparameters,
        useful_devices,
        arrays,
        scale_learning_rate=scale_outer_learning_rate,
        summary=_summary(opts, taught),
        protocol=protocol,
        shown=("loss", "step_size", "momentum"),
        advice=advice_of(opts),
        inner_images=opts.images_per_step,
    )


_ROLES = Roles(
    numbers={"learning_rate": None, "steps_rate": None, "clip_norm": None, "decay_every": None},
    outside=("init_step_size", "init_momentum"),
)


def _step(model: Model, opts: GenerativeTeachingOptions, learners: tuple[Model, ...]) -> StepFn:
    synthetic, optimiser, shares = set_of(model, opts), optimiser_of(opts), shares_of(opts)
    assert opts.remat != "auto"
    objectives = [outer_losses(one, synthetic, opts, opts.remat) for one in learners]

    def step(key: jax.Array, state: GenerativeTeachingState, arrays: Batch) -> tuple[Any, GenerativeTeachingInfo]:
        which_key, key = jax.random.split(key)

        def taught(objective: Callable[..., Any]) -> Callable[[jax.Array], Any]:
            def one(key: jax.Array, part: jax.Array | int, parts: int) -> Any:
                init_key, data_key = jax.random.split(key)
                real = minibatch(data_key, arrays, opts.batch_size, part, parts, opts.augment)
                return jax.value_and_grad(objective, has_aux=True)(state.learnable, init_key, real)

            return lambda keys: mean_over(one, keys, opts.batch_size, _at_once(opts))

        keys, branches = jax.random.split(key, opts.num_inits), [taught(objective) for objective in objectives]
        # Drawn once for all networks of the step: under vmap every branch would be computed for each of them.
        which = jax.random.randint(which_key, (), 0, len(branches))
        (loss, last), hypergradient = lax.switch(which, branches, keys)
        norm = optax.global_norm(hypergradient)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable, shares)
        momenta = learnable.momenta
        momentum = jnp.zeros(()) if momenta is None else momenta.mean()
        info = GenerativeTeachingInfo(loss, last, norm, learnable.step_sizes.mean(), momentum)
        return GenerativeTeachingState(learnable, outer), info

    return step


def outer_losses(
    model: Model, synthetic: Synthetic, options: GenerativeTeachingOptions, remat: Remat = "steps"
) -> Callable[[Stepped, jax.Array, Batch], tuple[jax.Array, jax.Array]]:
    """The function (learnable, key, real batch) -> (mean of L(theta_k) over the moments that count, the last of them).

    Of one network, whose weights and order of images the key draws.
    """
    real_loss = chunked_loss(model.apply)
    every = options.loss_every or options.num_inner_steps

    def objective(learnable: Stepped, key: jax.Array, real: Batch) -> tuple[jax.Array, jax.Array]:
        init_key, batch_key = jax.random.split(key)
        rule = rule_named(options.rule, learnable.step_sizes, learnable.momenta)

        def batch_of(t: jax.Array) -> Batch:
            return synthetic.batch(learnable, batch_key, t)

        along = IntermediateLoss(lambda params: real_loss(params, real), every)
        steps = jnp.arange(synthetic.num_inner_steps)
        _, losses = unroll_with_losses(
            model.apply, model.init(init_key), steps, rule, along, batch_of=batch_of, remat=remat
        )
        return losses.mean(), losses[-1]

    return objective


def _at_once(options: GenerativeTeachingOptions) -> int | None:
    """Networks under one vmap; None where they are gone through one by one."""
    return None if runs_mapped(options.over_inits) else options.num_inits


def _learners(model: Model, options: GenerativeTeachingOptions, learners: Sequence[Model] | None) -> tuple[Model, ...]:
    """The architectures that are drawn from."""
    if learners is None:
        return variants(model, options.widths, options.depths)
    if options.widths or options.depths:
        raise OptionError(
            "learners gives the architectures, so widths and depths can't. Leave out widths and depths, or learners."
        )
    shape = (model.image_shape, model.num_classes)
    for one in learners:
        if (one.image_shape, one.num_classes) != shape:
            raise OptionError(
                f"Learners should be for images {shape[0]} in {shape[1]} classes, like the model, "
                f"but the {one.name} is for {one.image_shape} in {one.num_classes}."
            )
    if not learners:
        raise OptionError("learners is empty. Give at least one network, or leave it out to use the model itself.")
    return tuple(learners)


def _summary(options: GenerativeTeachingOptions, learners: tuple[Model, ...]) -> str:
    made: Mapping[str, str] = {"pixels": "learnt", "real": "real"}
    total = options.num_inner_steps * options.images_per_step
    many = f", {len(learners)} architectures" if len(learners) > 1 else ""
    images = f"{total} {made.get(options.teacher, 'generated')} images"
    return f"{images} ({options.teacher}), {options.num_inner_steps} inner steps{many}"


SPEC = MethodSpec(
    "generative_teaching",
    GenerativeTeachingOptions,
    generative_teaching,
    words_of,
    {"num_inner_steps": 4, "images_per_step": 10, "latent_size": 8, "hidden": 16, "filters": 4, "batch_size": 64},
)
