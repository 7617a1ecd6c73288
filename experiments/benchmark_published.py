"""How fast a step of every method is at its paper's network, beside a plain version of it.

Paper:     a ConvNet of three blocks of width 128 with instance norm (FRePo: widths 128, 256 and 512 without norm), or
           the infinitely wide network of one hidden layer (KIP)
Command:   python experiments/benchmark.py --published             a quarter of an hour on two cores
           python experiments/benchmark.py --published --smoke     to see it run
Peer:      with torch installed (pip install ".[peer]") the same algorithm in plain eager PyTorch, or for FRePo and
           KIP in plain JAX, checked to give the same loss and gradients in float64, takes turns with ours: on all
           cores, or with --one-core on one each
Leaves:    experiments/results/benchmark-published-DEVICE.json, and the table on the screen
"""

import dataclasses
import tempfile
import time
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from benchmark import AGREEMENT, MNIST, Peer, agreeing, noise, relative
from benchmark_matching import MATCHING
from benchmark_matching import WORKLOADS as MATCHES
from benchmark_matching import Workload as Match
from benchmark_trajectories import TRAJECTORIES
from benchmark_trajectories import WORKLOADS as TRAJECTORY_WORKLOADS
from benchmark_trajectories import Workload as Trajectory
from benchmark_turns import (
    CIFAR,
    Options,
    Ready,
    Subject,
    Times,
    about_program,
    outer_steps,
    run,
    with_norms,
)

import dd_jax as dd
from dd_jax.inner import centred, distance_named, ridge_loss, trainer
from dd_jax.inner.losses import batch_loss
from dd_jax.methods import BpttOptions, FrepoOptions, Method
from dd_jax.methods.bptt_loss import bptt_loss
from dd_jax.methods.bptt_options import images_of
from dd_jax.methods.distribution_matching import feature_distance
from dd_jax.methods.frepo import feature_loss
from dd_jax.methods.matched_gradients import class_wise
from dd_jax.models import Model, Shapes
from dd_jax.runs import arithmetic
from dd_jax.runs.counted import rate_of
from dd_jax.runs.experts import EXPERT_TRAINING
from dd_jax.synthetic import Bases
from dd_jax.synthetic.multi_formation import formed
from dd_jax.types import Batch


@dataclasses.dataclass(frozen=True)
class Workload:
    """A step to be timed, of a ConvNet."""

    kind: Literal["dm", "idc", "bases", "experts", "frepo"]
    image_shape: tuple[int, int, int]
    width: int = 128
    depth: int = 3
    images_per_class: int = 1
    batch_size: int = 256
    augment: Literal["none", "dsa", "dsa_no_flip"] = "none"
    growth: int = 1
    settings: dict[str, int] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A step of kernel inducing points to be timed."""

    image_shape: tuple[int, int, int] = MNIST
    images_per_class: int = 10
    batch_size: int = 5000


_IDC = {"factor": 2, "num_training_images": 500, "inner_batch_size": 64}
_BASES = {"num_bases": 16, "made_per_class": 4, "num_inner_steps": 10}
WORKLOADS: dict[str, Any] = {
    "DC, MNIST, 1 per class": MATCHES["MNIST ConvNet-3-128, 1 per class"],
    "DSA, CIFAR-10, 1 per class": dataclasses.replace(MATCHES["CIFAR-10 ConvNet-3-128, 1 per class"], augment="dsa"),
    "IDC, MNIST, 1 per class": Workload("idc", MNIST, batch_size=64, augment="dsa_no_flip", settings=_IDC),
    "DM, CIFAR-10, 10 per class": Workload("dm", CIFAR, images_per_class=10, augment="dsa"),
    "FRePo, MNIST, 1 per class": Workload("frepo", MNIST, batch_size=1024, growth=2, settings={"pool_size": 4}),
    "KIP, MNIST, 10 per class": Kernel(),
    "MTT, CIFAR-10, 1 per class, 20 steps": TRAJECTORY_WORKLOADS["CIFAR-10 ConvNet-3-128, 1 per class, 20 steps"],
    "Bases, CIFAR-10, 40 images, 10 steps": Workload("bases", CIFAR, settings=_BASES),
    "Expert, CIFAR-10, a minibatch": Workload("experts", CIFAR, augment="dsa"),
    # An epoch of a network that is trained from scratch on a distilled set of so many images, to evaluate it.
    "Evaluation, CIFAR-10, 10 images": Workload("experts", CIFAR, batch_size=10, augment="dsa"),
    "Evaluation, CIFAR-10, 100 images": Workload("experts", CIFAR, batch_size=100, augment="dsa"),
}
_TINY: dict[str, Any] = {"width": 4, "depth": 2, "batch_size": 16}
# Of each kind that benchmark_matching.py --smoke and benchmark_trajectories.py --smoke don't show.
SMOKE: dict[str, Any] = {
    "IDC": Workload("idc", MNIST, **_TINY, settings={**_IDC, "num_training_images": 32, "inner_batch_size": 16}),
    "DM": Workload("dm", MNIST, **_TINY, augment="dsa"),
    "FRePo": Workload("frepo", MNIST, **_TINY, growth=2, settings={"pool_size": 2}),
    "KIP": Kernel(batch_size=100, images_per_class=1),
    "Bases": Workload("bases", MNIST, **_TINY, settings={**_BASES, "num_inner_steps": 2}),
    "Expert": Workload("experts", MNIST, **_TINY, augment="dsa"),
}


def model_of(workload: Workload) -> Model:
    """The network of a workload."""
    settings: dict[str, Any] = {"norm": "none", "growth": workload.growth} if workload.kind == "frepo" else {}
    return dd.models.convnet(Shapes(workload.image_shape, 10), width=workload.width, depth=workload.depth, **settings)


def method_of(workload: Workload) -> Method:
    """The method of a workload."""
    model, change = model_of(workload), workload.augment
    shared: dict[str, Any] = {
        "images_per_class": workload.images_per_class, "init_images": "noise", "batch_size": workload.batch_size,
        **workload.settings,
    }  # fmt: skip
    match workload.kind:
        case "dm":
            return dd.methods.distribution_matching(model, augment=change, **shared)
        case "idc":
            return dd.methods.gradient_matching(
                model, distance="l1", layers="convolutions", image_steps="per_class", train_on="real", inner_epochs=1,
                inner_momentum=0.9, inner_weight_decay=5e-4, clamp=True, num_matches=100, augment=change, **shared,
            )  # fmt: skip
        case "bases":
            return dd.methods.bptt(model, images="bases", **shared)
        case _:
            return dd.methods.frepo(model, **shared)


def stepper(workload: Workload, devices: int) -> Ready:
    """One outer step, or the minibatch of an expert."""
    if workload.kind == "experts":
        return minibatches(workload)
    return outer_steps(method_of(workload), noise(workload.image_shape), devices)


def minibatches(workload: Workload) -> Ready:
    """A pass through four minibatches of an expert's training, of which a step is one. Devices train networks each."""
    model, data, passed = model_of(workload), noise(workload.image_shape, 4 * workload.batch_size), 4
    training = dataclasses.replace(EXPERT_TRAINING, batch_size=workload.batch_size, augment=workload.augment)
    begin, epoch = trainer(model.apply, training)
    key = jax.random.key(0)
    state = begin(model.init(key))
    started = time.perf_counter()
    compiled = jax.jit(epoch).lower(key, state, data.train).compile()
    seconds, memory = time.perf_counter() - started, compiled.memory_analysis()
    assert memory is not None
    states = [state]

    def step() -> Times:
        started, busy = time.perf_counter(), time.process_time()
        states[0] = jax.block_until_ready(compiled(key, states[0], data.train))
        return Times((time.perf_counter() - started) / passed, (time.process_time() - busy) / passed)

    step()
    flops = arithmetic.count(epoch, key, state, data.train).flops / passed
    return Ready(step, about_program(seconds, memory, flops, rate_of(model, data)[0]))


def of_peer(workload: Workload) -> dict[str, Any]:
    """The workload as the peer's process knows it."""
    size, _, channels = workload.image_shape
    found = {
        name: value for name, value in dataclasses.asdict(workload).items() if name not in ("image_shape", "settings")
    }
    return found | workload.settings | {"size": size, "channels": channels}


def agreement(workload: Workload, peer: Peer) -> dict[str, float]:
    """Relative differences of the loss and its gradients to the peer's in float64, with few images."""
    with jax.enable_x64(True):
        loss, learnt, held, given = _CASES[workload.kind](workload)
        return _agreement(loss, learnt, held, given, peer, of_peer(workload) | {"num_inner_steps": 3})


def _agreement(
    loss: Callable[[Any, Any], Any],
    learnt: Any,
    held: Any,
    given: dict[str, Any],
    peer: Peer,
    workload: dict[str, Any],
    tolerance: float = AGREEMENT,
) -> dict[str, float]:
    """As `agreement`, under x64.

    Args:
        loss: of what is learnt and what is not, which would be folded into the program if it weren't an argument.
        learnt: arrays by the peer's names, or the parameters of a network.
        given: what the peer needs besides.
    """
    network = "GroupNorm_0" in learnt
    known = with_norms if network else dict
    value, gradient = jax.jit(jax.value_and_grad(loss))(*jax.tree.map(jnp.asarray, (learnt, held)))
    found = known(gradient)
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/given.npz"
        np.savez(path, allow_pickle=False, **{n: np.asarray(leaf) for n, leaf in {**known(learnt), **given}.items()})
        peer.ask(op="match", path=path, workload=workload)
        theirs = np.load(path + ".peer.npz")
    if network:  # a bias before a norm has no gradient of which a difference could be a share
        ravel = lambda tree: np.concatenate([np.ravel(tree[name]) for name in found])  # noqa: E731
        of_all = {"gradient": relative(ravel(theirs), ravel(found))}
    else:
        of_all = {f"gradient of {name}": relative(theirs[name], found[name]) for name in found}
    return agreeing({"loss": relative(theirs["loss"], value), **of_all}, tolerance)


def _doubles(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def _first(images: np.ndarray) -> np.ndarray:
    """Channels before rows, as PyTorch has them."""
    return np.moveaxis(images, -1, -3)


def _last(images: Any) -> Any:
    return jnp.moveaxis(images, -3, -1)


def _network(workload: Workload) -> tuple[Model, Any]:
    model = model_of(workload)
    return model, _doubled(model.init(jax.random.key(0)))


def _doubled(params: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), params)


def _by_class(images: Any, count: int = 10) -> Batch:
    return Batch(images, jnp.broadcast_to(jnp.arange(count)[:, None], images.shape[:2]))


def _case_dm(workload: Workload):
    model, params = _network(workload)
    images, real = (_doubles(seed, 10, count, *workload.image_shape) for seed, count in ((1, 2), (2, 3)))

    def loss(learnt, held):
        keys = jax.random.split(jax.random.key(0), 10)
        params, real = held
        return feature_distance(model.features, params, _last(learnt["images"]), real, keys, "none")

    return loss, {"images": _first(images)}, (params, real), {"real": _first(real), **with_norms(params)}


def _case_idc(workload: Workload):
    model, params = _network(workload)
    images, real = (_doubles(seed, 10, count, *workload.image_shape) for seed, count in ((1, 1), (2, 3)))
    factor = workload.settings["factor"]
    distance = class_wise(model.apply, distance_named("l1"), layers="convolutions")

    def loss(learnt, held):
        params, real = held
        mine = formed(_last(learnt["images"][:, 0]), factor).reshape(10, factor**2, *workload.image_shape)
        return distance(params, _by_class(mine), _by_class(real), jax.random.split(jax.random.key(0), 10))

    return loss, {"images": _first(images)}, (params, real), {"real": _first(real), **with_norms(params)}


def _case_bases(workload: Workload):
    plain, key = model_of(workload), jax.random.key(0)
    model = plain._replace(init=lambda key: _doubled(plain.init(key)))
    settings: dict[str, Any] = {**workload.settings, "num_inner_steps": 3, "remat": "none", "init_images": "noise"}
    options = BpttOptions(images="bases", **settings)
    height, width, channels = workload.image_shape
    bases, coefficients = _doubles(1, 16, height // 2, width // 2, channels), _doubles(2, 40, 16)
    real, classes = _doubles(3, 10, *workload.image_shape), np.arange(10)
    whole = bptt_loss(model, images_of(model, options), options)

    def loss(learnt, held):
        learnable = Bases(_last(learnt["bases"]), learnt["coefficients"])
        return whole(learnable, key, Batch(held, jnp.asarray(classes)), jnp.arange(10), 3)

    params = model.init(jax.random.split(key, 3)[0])  # that the loss draws
    learnt = {"bases": _first(bases), "coefficients": coefficients}
    return loss, learnt, real, {"real": _first(real), "classes": classes, **with_norms(params)}


def _case_experts(workload: Workload):
    model, params = _network(workload)
    images, classes = _doubles(1, 10, *workload.image_shape), np.arange(10)
    of_network = batch_loss(model.apply)

    def loss(learnt, held):
        return of_network(learnt, Batch(held, jnp.asarray(classes)))

    return loss, params, images, {"images": _first(images), "classes": classes}


def _case_frepo(workload: Workload):
    model, params = _network(workload)
    images, labels = _doubles(1, 10, *workload.image_shape), np.eye(10) + 0.1 * _doubles(2, 10, 10)
    real, classes = _doubles(3, 20, *workload.image_shape), np.arange(20) % 10

    def loss(learnt, held):
        params, real = held
        mine, theirs = Batch(learnt["images"], learnt["labels"]), Batch(real, jnp.asarray(classes))
        return feature_loss(model, params, mine, theirs, FrepoOptions())

    layers = {f"{kind}{i}": layer[kind] for i, layer in enumerate(params.values()) for kind in ("kernel", "bias")}
    return loss, {"images": images, "labels": labels}, (params, real), {"real": real, "classes": classes, **layers}


_CASES: dict[str, Callable[[Workload], Any]] = {
    "dm": _case_dm, "idc": _case_idc, "bases": _case_bases, "experts": _case_experts, "frepo": _case_frepo
}  # fmt: skip


def kernel_stepper(workload: Kernel, devices: int) -> Ready:
    """One outer step of kernel inducing points."""
    model = dd.models.infinite_mlp(Shapes(workload.image_shape, 10))
    method = dd.methods.kernel_inducing_points(
        model, images_per_class=workload.images_per_class, batch_size=workload.batch_size, init_images="noise"
    )
    return outer_steps(method, noise(workload.image_shape), devices)


def kernel_of_peer(workload: Kernel) -> dict[str, Any]:
    """The workload as the peer's process knows it."""
    size, _, channels = workload.image_shape
    return {"kind": "kip", "size": size, "channels": channels, "images_per_class": workload.images_per_class,
            "batch_size": workload.batch_size}  # fmt: skip


_OF_ANGLES = 1e-7  # that of an image with itself is zero; the plain formula has the root of a rounding error there


def kernel_agreement(workload: Kernel, peer: Peer) -> dict[str, float]:
    """Relative differences of the loss and its gradients to the peer's in float64, with few images."""
    images, labels = _doubles(1, 10, *workload.image_shape), np.eye(10) + 0.1 * _doubles(2, 10, 10)
    real, classes = _doubles(3, 20, *workload.image_shape), np.arange(20) % 10
    kernel = dd.models.infinite_mlp(Shapes(workload.image_shape, 10)).kernel
    assert kernel is not None

    def loss(learnt, held):
        mine = learnt["images"]
        targets, wanted = (centred(part, 10) for part in (learnt["labels"], jnp.asarray(classes)))
        return ridge_loss(kernel(mine, mine), kernel(held, mine), targets, wanted, 1e-6)

    with jax.enable_x64(True):
        learnt, given = {"images": images, "labels": labels}, {"real": real, "classes": classes}
        return _agreement(loss, learnt, real, given, peer, kernel_of_peer(workload), _OF_ANGLES)


PLAIN = "plain JAX"
KINDS = {
    kind: Subject("benchmark_published_peer.py", stepper, agreement, of_peer)
    for kind in ("dm", "idc", "bases", "experts")
} | {"frepo": Subject("benchmark_plain_peer.py", stepper, agreement, of_peer, PLAIN)}
KERNELS = Subject("benchmark_plain_peer.py", kernel_stepper, kernel_agreement, kernel_of_peer, PLAIN)


def subject_of(workload: Any) -> Subject:
    """How a workload is measured."""
    if isinstance(workload, Workload):
        return KINDS[workload.kind]
    return {Match: MATCHING, Trajectory: TRAJECTORIES, Kernel: KERNELS}[type(workload)]


def main(options: Options) -> None:
    """Measure, show, write."""
    run(options, WORKLOADS, SMOKE, subject_of, "benchmark-published")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
