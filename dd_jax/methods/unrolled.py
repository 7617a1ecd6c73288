"""Dataset distillation by differentiating through the unrolled inner loop (Wang et al. 2018, Algorithm 1)."""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from dd_jax.inner import (
    InitDistribution,
    Remat,
    chunked_loss,
    gradient_descent,
    init_distribution,
    mean_over,
    network_range,
    networks_of,
    unroll,
)
from dd_jax.methods.attack_options import ATTACK_OUTSIDE, outcome_meant, weighted
from dd_jax.methods.base import Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.canvases import canvas_words
from dd_jax.methods.described import described
from dd_jax.methods.outer import OuterState, scale_outer_learning_rate, smooth
from dd_jax.methods.sampling import minibatch, runs_mapped
from dd_jax.methods.unrolled_options import (
    UnrolledOptions,
    advice_of,
    images_of,
    inner_remat,
    inner_size,
    optimiser_of,
    protocol_of,
    words_of,
)
from dd_jax.models import Model, check_pretrained
from dd_jax.outcomes import outcome_of
from dd_jax.synthetic import StepBatches, Synthetic, num_images
from dd_jax.types import Batch, Dataset, DistilledData, Learnable, Networks, Pretrained, Protocol
from dd_jax.values import Number


class UnrolledState(NamedTuple):
    """The state of unrolled, carried from one outer step to the next.

    Attributes:
        learnable: images and raw step sizes, and labels if they are learnt.
        outer: the optimiser's state.
    """

    learnable: Learnable
    outer: OuterState


class RealAndNetworks(NamedTuple):
    """What a step reads where networks are pretrained: real images, and the networks (leading axis N) to draw from."""

    real: Batch
    networks: Networks


class UnrolledInfo(NamedTuple):
    """What an outer step of unrolled reports.

    Attributes:
        loss: outer loss, the mean cross-entropy on real images after the inner steps, in nats.
        hypergradient_norm: global norm of the hypergradient before smoothing and clipping.
        step_size: mean of the inner step sizes.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]


@described(UnrolledOptions)
def unrolled(
    model: Model, options: UnrolledOptions | None = None, *, pretrained: Pretrained | None = None, **overrides: Any
) -> Method:
    """Learn images and step sizes so that a few inner gradient steps on them minimise the loss on real data.

    min over (x, eta) of E_{theta_0 ~ p} L(theta_T), theta_{t+1} = theta_t - eta_t grad l(theta_t; x_{t mod S}, y)

    With `learn_labels` y is learnt too. Real images have in L the labels of the outcome that the options ask for. The
    hypergradient is exact, by reverse-mode differentiation through the scan, unless `discount` is below 1.

    Args:
        options: hyper-parameters.
        overrides: single options by name, as listed below, e.g. unrolled(model, num_batches=1, init="fixed").
        pretrained: networks to start from in place of random weights. The images adapt them to other data, or harm
            them.

    Raises:
        OptionError: for options out of range or unknown names.
        DataError: if `pretrained` is of another architecture.

    Source: Wang et al. 2018, Algorithm 1; section 3.5 (initialisations), 3.6 (harm).
    """
    opts = with_overrides(options or UnrolledOptions(), overrides)
    protocol = protocol_of(opts, pretrained)
    outcome_of(protocol).check(model.num_classes)
    if pretrained is not None:
        check_pretrained(pretrained, model)
    synthetic, optimiser = images_of(model, opts), optimiser_of(opts)
    num_inits = 1 if opts.init == "fixed" else opts.num_inits
    nets = 1 if runs_mapped(opts.over_inits) else num_inits
    remat = inner_remat(model, opts, nets) if opts.remat == "auto" else opts.remat

    def init_state(key: jax.Array, dataset: Dataset, num_outer_steps: int) -> UnrolledState:
        learnable = synthetic.init(key, dataset)
        return UnrolledState(learnable, optimiser.init(learnable, num_outer_steps))

    def distilled(state: UnrolledState) -> DistilledData:
        return dataclasses.replace(synthetic.decode(state.learnable), protocol=protocol)

    def useful_devices(available: int) -> int:
        # CPU cores that have no network of their own share the real images and repeat the unroll. That pays where the
        # real images are most of the work: three passes through the network each, ten for each distilled one.
        unrolled_images = opts.num_batches * opts.num_epochs * num_images(opts.images_per_class, model.num_classes)
        shared = 3 * opts.batch_size >= 10 * unrolled_images
        return available if jax.default_backend() != "cpu" or shared else min(available, num_inits)

    def real(dataset: Dataset) -> Batch | RealAndNetworks:
        train = weighted(dataset.train, opts)
        if pretrained is None:
            return train
        return RealAndNetworks(train, jax.tree.map(jnp.asarray, networks_of(pretrained, protocol, "train")))

    hyperparameters = dataclasses.asdict(opts)
    static = dataclasses.replace(opts, remat=remat)
    if pretrained is not None:
        hyperparameters["pretrained"] = pretrained.fingerprint
        static = dataclasses.replace(static, init_seed=0)  # which network that is, is for `real` to know
    step, arrays = compiled_step(_step, model, static, _ROLES, real, (pretrained is not None,))
    return Method(
        "unrolled",
        init_state,
        step,
        distilled,
        model,
        hyperparameters,
        useful_devices,
        arrays,
        pretrained,
        scale_outer_learning_rate,
        _summary(opts, model, protocol, pretrained),
        protocol,
        shown=("loss", "step_size"),
        advice=advice_of(opts),
        inner_images=inner_size(model, opts),
    )


_ROLES = Roles(
    numbers={
        "learning_rate": None,
        "step_size_rate": None,
        "label_rate": None,
        "b1": None,
        "b2": None,
        "clip_norm": None,
        "decay_every": None,
        "discount": 1.0,
        "smoothing": 0.0,
        "step_smoothing": 0.0,
    },
    outside=("init_images", "canvas_start", "init_step_size", "init_step_decay", *ATTACK_OUTSIDE),
)


def _step(model: Model, opts: UnrolledOptions, from_networks: bool) -> StepFn:
    networks = "given" if from_networks else ""
    start = init_distribution(model, Protocol(init=opts.init, init_seed=opts.init_seed, pretrained=networks))
    synthetic, optimiser, relabel = images_of(model, opts), optimiser_of(opts), outcome_meant(opts).relabel
    num_inits = 1 if opts.init == "fixed" else opts.num_inits
    at_once = None if runs_mapped(opts.over_inits) else num_inits
    assert opts.remat != "auto"
    objective = outer_loss(model, start, synthetic, opts.remat, opts.discount)

    def step(
        key: jax.Array, state: UnrolledState, arrays: Batch | RealAndNetworks
    ) -> tuple[UnrolledState, UnrolledInfo]:
        real, networks = arrays if isinstance(arrays, RealAndNetworks) else (arrays, None)

        def one(key: jax.Array, part: jax.Array | int, parts: int) -> tuple[jax.Array, Learnable]:
            init_key, data_key = jax.random.split(key)
            batch = minibatch(data_key, real, opts.batch_size, part, parts, opts.augment)
            batch = batch._replace(labels=relabel(batch.labels))
            return jax.value_and_grad(objective)(state.learnable, init_key, batch, networks)

        keys = jax.random.split(key, num_inits)
        loss, hypergradient = mean_over(one, keys, opts.batch_size, at_once)
        norm = optax.global_norm(hypergradient)
        images = smooth(hypergradient.images, (opts.step_smoothing, 0.0, opts.smoothing, opts.smoothing, 0.0))
        hypergradient = hypergradient._replace(images=images)
        labels = jnp.float32(opts.label_rate) if opts.learn_labels else None
        shares = StepBatches(jnp.float32(1.0), jnp.float32(opts.step_size_rate), labels)
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable, shares)
        learnable = synthetic.project(learnable)
        step_size = synthetic.decode(learnable).step_sizes.mean()
        return UnrolledState(learnable, outer), UnrolledInfo(loss, norm, step_size)

    return step


def outer_loss(
    model: Model, start: InitDistribution, synthetic: Synthetic, remat: Remat = "steps", discount: Number = 1.0
) -> Callable[..., jax.Array]:
    """The function (learnable, key, real batch, networks=None) -> L(theta_T) of one sampled initialisation.

    Source: Wang et al. 2018, equation 5 (equation 3 for one step).
    """
    real_loss = chunked_loss(model.apply)

    def objective(learnable: Learnable, key: jax.Array, real: Batch, networks: Networks | None = None) -> jax.Array:
        init_key, batch_key = jax.random.split(key)
        steps, rule = jnp.arange(synthetic.num_inner_steps), gradient_descent(synthetic.decode(learnable).step_sizes)

        def batch_of(t: jax.Array) -> Batch:
            return synthetic.batch(learnable, batch_key, t)

        params = start(init_key) if networks is None else start(init_key, networks)
        after = unroll(model.apply, params, steps, rule, batch_of=batch_of, remat=remat, discount=discount)
        return real_loss(after, real)

    return objective


def _summary(options: UnrolledOptions, model: Model, protocol: Protocol, pretrained: Pretrained | None) -> str:
    images = options.num_batches * num_images(options.images_per_class, model.num_classes)
    start = f"{options.init} init"
    if pretrained is not None:
        first, last = network_range(pretrained, protocol, "train")
        start = f"{last - first} of {len(pretrained.accuracies['train'])} networks {pretrained.name}"
    steps = options.num_batches * options.num_epochs
    return f"{images} {canvas_words(model, options)}, {steps} inner steps, {start}{outcome_of(protocol).summary}"


SPEC = MethodSpec("unrolled", UnrolledOptions, unrolled, words_of, {"num_inits": 1, "batch_size": 64}, "pretrained")
