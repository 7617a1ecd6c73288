"""Dataset distillation by differentiating through the unrolled inner loop (Wang et al. 2018, Algorithm 1)."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from dd_jax.errors import OptionError, check_at_least, unknown_name
from dd_jax.inner import (
    REMATS,
    InitDistribution,
    Remat,
    choose_remat,
    chunked_loss,
    gradient_descent,
    init_distribution,
    mean_over,
    network_range,
    networks_of,
    unroll,
)
from dd_jax.methods.base import Method, MethodSpec, Roles, StepFn, compiled_step, with_overrides
from dd_jax.methods.outer import OuterOptimiser, OuterState, outer_adam, scale_outer_learning_rate, smooth
from dd_jax.methods.sampling import check_sampling, minibatch, runs_mapped
from dd_jax.models import Model, check_attack, check_pretrained
from dd_jax.renamed import renamed
from dd_jax.seeds import check_seed
from dd_jax.synthetic import StepBatches, Synthetic, step_batches
from dd_jax.types import AS_DISTILLED, Batch, Dataset, DistilledData, Learnable, Networks, Pretrained, Protocol
from dd_jax.values import Number

AUTO_REMATS = ("auto", *REMATS)
ATTACK_LABELS = ("target", "own")


class UnrolledState(NamedTuple):
    """learnable: images and raw step sizes; outer: the optimiser's state."""

    learnable: Learnable
    outer: OuterState


class RealAndNetworks(NamedTuple):
    """What a step reads where networks are pretrained: real images, and the networks (leading axis N) to draw from."""

    real: Batch
    networks: Networks


class UnrolledInfo(NamedTuple):
    """loss: outer loss, the mean cross-entropy on real images after the inner steps, in nats.

    hypergradient_norm: global norm of the hypergradient before smoothing and clipping.
    step_size: mean of the inner step sizes.
    """

    loss: Float[Array, ""]
    hypergradient_norm: Float[Array, ""]
    step_size: Float[Array, ""]


@renamed(num_steps="num_batches")
@dataclasses.dataclass(frozen=True)
class UnrolledOptions:
    """Hyper-parameters of `unrolled`."""

    num_batches: int = 10
    """S, distinct batches: as many as there are inner steps in an epoch, each with its own."""
    num_epochs: int = 3
    """E, times that the batches are gone through; S * E step sizes are learnt."""
    images_per_class: int = 1
    """Images of each class in each batch."""
    order: Literal["fixed", "random"] = "fixed"
    """Of the images: "fixed" (each step has its batch) or "random" (every epoch deals all the images out to its steps
    anew, so that the set also serves for shuffled minibatches)."""
    init: Literal["random", "fixed"] = "random"
    """Where inner training starts: "random" (another network every time) or "fixed" (always the same one)."""
    init_seed: int = 0
    """Seed of the one network of a fixed init, or its number among pretrained networks."""
    num_inits: int = 4
    """Initialisations per outer step, each with real images of its own; 1 when the init is fixed."""
    batch_size: int = 256
    """Real images per initialisation, drawn with replacement."""
    augment: Literal["none", "crop_flip", "resized_crop_flip"] = "none"
    """Random changes to the real images."""
    attack_class: int | None = None
    """Class that networks are to take for `target_class` after training on the set; None to teach what is true."""
    target_class: int | None = None
    """What the attacked class is to be taken for."""
    attack_labels: Literal["target", "own"] = "target"
    """Under an attack, the label of the set's images of the attacked class: its target, as real images are relabelled,
    or its own (Wang et al. 2018)."""
    attack_weight: int = 1
    """How often each real image of the attacked class counts in the outer loss: more for more success, at the price of
    the other classes."""
    init_images: Literal["noise", "real", "mean", "kmeans", "herding"] = "kmeans"
    """What the images start as: noise, real training images, the class mean plus noise, or k-means centres."""
    init_step_size: float = 0.15
    """What the first inner step size starts as."""
    init_step_decay: float = 0.1
    """What the last inner step size starts as, as a share of the first; geometric in between."""
    learning_rate: float = 0.02
    """Outer learning rate (Adam) of the images."""
    step_size_rate: float = 0.3
    """Outer learning rate of the raw step sizes, as a share of that of the images."""
    b1: float = 0.9
    """Adam's decay of the first moment."""
    b2: float = 0.999
    """Adam's decay of the second moment."""
    clip_norm: float | None = 0.5
    """Global norm that the hypergradient is clipped to, or None."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Of the outer learning rate: "cosine" (to zero over the run), "step" (halved now and then) or "constant"."""
    decay_every: int = 2400
    """Outer steps between two halvings of the schedule "step"."""
    discount: float = 1.0
    """Factor on the adjoint at each inner step: 1 is the exact hypergradient, less a biased, calmer one."""
    smoothing: float = 0.0
    """Width in pixels of the Gaussian that the images' hypergradient is smoothed with; 0 for none."""
    step_smoothing: float = 0.0
    """Width, in inner steps, of the Gaussian that it is smoothed with from batch to batch; 0 for none."""
    remat: Literal["auto", "none", "steps", "nested"] = "auto"
    """What the reverse pass keeps: "none" (nothing is computed again), "steps" (each step's parameters), "nested" (of
    sqrt(T) steps only) or "auto" (by the device and its memory)."""
    over_inits: Literal["auto", "vmap", "map"] = "auto"
    """How initialisations are gone through: "vmap" (at once), "map" (one by one) or "auto" (by device)."""


def unrolled(
    model: Model, options: UnrolledOptions | None = None, *, pretrained: Pretrained | None = None, **overrides: Any
) -> Method:
    """Learn images and step sizes so that a few inner gradient steps on them minimise the loss on real data.

    min over (x, eta) of E_{theta_0 ~ p} L(theta_T), theta_{t+1} = theta_t - eta_t grad l(theta_t; x_{t mod S}, y)

    options: hyper-parameters; overrides: single ones by name, e.g. unrolled(model, num_batches=1, init="fixed").
    pretrained: networks to start from in place of random weights: the images adapt them to other data, or attack them.
    With attack_class K and target_class T the real images of class K count as T in L, and nothing else is changed.
    The hypergradient is exact, by reverse-mode differentiation through the scan, unless `discount` is below 1.
    Raises OptionError for options out of range or unknown names, DataError if `pretrained` is of another architecture.
    Source: Wang et al. 2018, Algorithm 1; section 3.5 (initialisations), 3.6 (attack).
    """
    opts = with_overrides(options or UnrolledOptions(), overrides)
    protocol = protocol_of(opts, pretrained)
    check_attack(protocol.attack, model.num_classes)
    if pretrained is not None:
        check_pretrained(pretrained, model)
    synthetic = _images(model, opts)
    optimiser = _optimiser(opts)
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
        unrolled_images = opts.num_batches * opts.num_epochs * opts.images_per_class * model.num_classes
        shared = 3 * opts.batch_size >= 10 * unrolled_images
        return available if jax.default_backend() != "cpu" or shared else min(available, num_inits)

    def real(dataset: Dataset) -> Batch | RealAndNetworks:
        train = (
            dataset.train
            if protocol.attack is None
            else repeated(dataset.train, protocol.attack[0], opts.attack_weight)
        )
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
    )


_ROLES = Roles(
    numbers={
        "learning_rate": None,
        "step_size_rate": None,
        "b1": None,
        "b2": None,
        "clip_norm": None,
        "decay_every": None,
        "discount": 1.0,
        "smoothing": 0.0,
        "step_smoothing": 0.0,
    },
    outside=("init_images", "init_step_size", "init_step_decay", "attack_weight"),
)


def _step(model: Model, opts: UnrolledOptions, from_networks: bool) -> StepFn:
    networks = "given" if from_networks else ""
    start = init_distribution(model, Protocol(init=opts.init, init_seed=opts.init_seed, pretrained=networks))
    synthetic, optimiser, to_learn = _images(model, opts), _optimiser(opts), relabelling(_attack(opts))
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
            return jax.value_and_grad(objective)(state.learnable, init_key, to_learn(batch), networks)

        keys = jax.random.split(key, num_inits)
        loss, hypergradient = mean_over(one, keys, opts.batch_size, at_once)
        norm = optax.global_norm(hypergradient)
        images = smooth(hypergradient.images, (opts.step_smoothing, 0.0, opts.smoothing, opts.smoothing, 0.0))
        hypergradient = hypergradient._replace(images=images)
        shares = StepBatches(jnp.float32(1.0), jnp.float32(opts.step_size_rate))
        learnable, outer = optimiser.update(hypergradient, state.outer, state.learnable, shares)
        learnable = synthetic.project(learnable)
        step_size = synthetic.decode(learnable).step_sizes.mean()
        return UnrolledState(learnable, outer), UnrolledInfo(loss, norm, step_size)

    return step


def _images(model: Model, opts: UnrolledOptions) -> Synthetic:
    return step_batches(
        model.num_classes,
        opts.num_batches,
        opts.num_epochs,
        opts.images_per_class,
        opts.init_images,
        opts.init_step_size,
        opts.init_step_decay,
        opts.order,
        _attack(opts) if opts.attack_labels == "target" else None,
    )


def _optimiser(opts: UnrolledOptions) -> OuterOptimiser:
    return outer_adam(
        opts.learning_rate,
        b1=opts.b1,
        b2=opts.b2,
        clip_norm=opts.clip_norm,
        schedule=opts.schedule,
        decay_every=opts.decay_every,
    )


def _attack(options: UnrolledOptions) -> tuple[int, int] | None:
    if options.attack_class is None or options.target_class is None:
        return None
    return options.attack_class, options.target_class


def protocol_of(options: UnrolledOptions, pretrained: Pretrained | None = None) -> Protocol:
    """How a set that is learnt with these options is to be used; OptionError for options out of range."""
    _check(options)
    fingerprint = pretrained.fingerprint if pretrained else ""
    return Protocol(AS_DISTILLED, options.init, options.init_seed, fingerprint, _attack(options), options.order)


def relabelling(attack: tuple[int, int] | None) -> Callable[[Batch], Batch]:
    """Real images with the labels that networks are to learn: class K's become T under the attack (K, T)."""
    if attack is None:
        return lambda batch: batch

    def relabel(batch: Batch) -> Batch:
        return batch._replace(labels=jnp.where(batch.labels == attack[0], attack[1], batch.labels))

    return relabel


def repeated(batch: Batch, label: int, times: int) -> Batch:
    """The images, those of one class so many times."""
    if times == 1:
        return batch
    again = np.tile(np.flatnonzero(np.asarray(batch.labels) == label), times - 1)
    rows = jnp.asarray(np.concatenate([np.arange(len(batch.labels)), again]))
    return jax.tree.map(lambda leaf: leaf[rows], batch)


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


def inner_remat(model: Model, options: UnrolledOptions, nets: int) -> Remat:
    """The way of `choose_remat` for the unroll that these options ask for, `nets` at once."""
    params = jax.eval_shape(model.init, jax.random.key(0))
    size = model.num_classes * options.images_per_class
    batch = jax.eval_shape(lambda: Batch(jnp.zeros((size, *model.image_shape)), jnp.zeros(size, jnp.int32)))
    return choose_remat(model.apply, params, batch, options.num_batches * options.num_epochs, nets)


def _summary(options: UnrolledOptions, model: Model, protocol: Protocol, pretrained: Pretrained | None) -> str:
    images = options.num_batches * options.images_per_class * model.num_classes
    start = f"{options.init} init"
    if pretrained is not None:
        first, last = network_range(pretrained, protocol, "train")
        start = f"{last - first} of {len(pretrained.accuracies['train'])} networks {pretrained.name}"
    if protocol.attack is not None:
        start += f", attack on class {protocol.attack[0]} (to be taken for {protocol.attack[1]})"
    return f"{images} images, {options.num_batches * options.num_epochs} inner steps, {start}"


def _check(options: UnrolledOptions) -> None:
    check_sampling(options)
    check_seed(options.init_seed, "init_seed")
    if not 0.0 < options.discount <= 1.0:
        raise OptionError(f"discount must be above 0 and at most 1, but is {options.discount}.")
    for name in ("smoothing", "step_smoothing"):
        if not 0.0 <= getattr(options, name) < float("inf"):
            raise OptionError(f"{name} must be at least 0 and finite, but is {getattr(options, name)}.")
    if not 0.0 <= options.step_size_rate < float("inf"):
        raise OptionError(f"step_size_rate must be at least 0 and finite, but is {options.step_size_rate}.")
    for name in ("b1", "b2"):
        if not 0.0 <= getattr(options, name) < 1.0:
            raise OptionError(f"{name} must be at least 0 and below 1, but is {getattr(options, name)}.")
    if options.remat not in AUTO_REMATS:
        raise unknown_name("remat", options.remat, AUTO_REMATS)
    check_at_least(1, options, "attack_weight")
    if options.attack_labels not in ATTACK_LABELS:
        raise unknown_name("attack_labels", options.attack_labels, ATTACK_LABELS)
    if (options.attack_class is None) != (options.target_class is None):
        raise OptionError("attack_class and target_class belong together: give both, or neither.")


def _words(options: UnrolledOptions) -> tuple[str, ...]:
    attack = () if options.attack_class is None else (f"attack-{options.attack_class}-{options.target_class}",)
    return (options.init, *attack)


SPEC = MethodSpec("unrolled", UnrolledOptions, unrolled, _words, {"num_inits": 1, "batch_size": 64}, "pretrained")
