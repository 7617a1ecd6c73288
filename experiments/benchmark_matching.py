"""How fast an outer step of gradient matching is here, beside eager PyTorch.

Paper:     Zhao et al. 2021, Algorithm 1: one match, class after class, 256 real images each, one step of the images
Command:   python experiments/benchmark_matching.py             a few minutes
           python experiments/benchmark_matching.py --smoke     to see it run
Peer:      with torch installed (pip install ".[peer]") the same algorithm in plain PyTorch, checked to give the
           same loss and gradient in float64, takes turns with ours: on all cores, or with --one-core on one each
Leaves:    experiments/results/benchmark-matching-DEVICE.json, and the table on the screen

Networks are random and images are noise: times do not depend on either.
"""

import dataclasses
import tempfile
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from benchmark import MNIST, Peer, agreeing, noise, relative
from benchmark_turns import CIFAR, Options, Ready, Subject, outer_steps, run, with_norms

import dd_jax as dd
from dd_jax.inner import distance_named
from dd_jax.methods.matched_gradients import class_wise
from dd_jax.models import Model, Shapes


@dataclasses.dataclass(frozen=True)
class Workload:
    """An outer step to be timed."""

    image_shape: tuple[int, int, int]
    width: int
    depth: int
    images_per_class: int
    batch_size: int = 256
    augment: Literal["none", "dsa", "dsa_no_flip"] = "none"


WORKLOADS = {
    "MNIST ConvNet-2-16, 1 per class": Workload(MNIST, 16, 2, 1),
    "MNIST ConvNet-2-16, 10 per class": Workload(MNIST, 16, 2, 10),
    "MNIST ConvNet-3-128, 1 per class": Workload(MNIST, 128, 3, 1),
    "CIFAR-10 ConvNet-3-128, 1 per class": Workload(CIFAR, 128, 3, 1),
    "CIFAR-10 ConvNet-3-128, 10 per class": Workload(CIFAR, 128, 3, 10),
}
SMOKE = {"MNIST ConvNet-2-4, 1 per class": Workload(MNIST, 4, 2, 1, 16)}


def model_of(workload: Workload) -> Model:
    """The network of a workload."""
    return dd.models.convnet(Shapes(workload.image_shape, 10), width=workload.width, depth=workload.depth)


def stepper(workload: Workload, devices: int) -> Ready:
    """One outer step."""
    method = dd.methods.gradient_matching(
        model_of(workload), images_per_class=workload.images_per_class, batch_size=workload.batch_size, num_matches=1,
        init_images="noise", augment=workload.augment,
    )  # fmt: skip
    return outer_steps(method, noise(workload.image_shape), devices)


def peer_workload(workload: Workload) -> dict[str, Any]:
    """The workload as the PyTorch process knows it."""
    size, _, channels = workload.image_shape
    return {
        "width": workload.width, "depth": workload.depth, "size": size, "channels": channels,
        "images_per_class": workload.images_per_class, "batch_size": workload.batch_size, "augment": workload.augment,
    }  # fmt: skip


def agreement(workload: Workload, peer: Peer) -> dict[str, float]:
    """Relative differences of the loss and its gradient to PyTorch's in float64, with few images."""
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        model, keys = model_of(workload), jax.random.split(jax.random.key(0), 3)
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model.init(keys[0]))
        images, real = (
            jax.random.normal(key, (10, count, *workload.image_shape), jnp.float64)
            for key, count in zip(keys[1:], (2, 3), strict=True)
        )
        loss_of = class_wise(model.apply, distance_named("unit_cosine"))

        def loss(images: jax.Array, params: Any, real: jax.Array) -> jax.Array:
            mine, theirs = (dd.Batch(x, jnp.broadcast_to(jnp.arange(10)[:, None], x.shape[:2])) for x in (images, real))
            return loss_of(params, mine, theirs, jax.random.split(keys[0], 10))

        value, gradient = jax.jit(jax.value_and_grad(loss))(images, params, real)
        path = f"{folder}/given.npz"
        given = {"images": np.moveaxis(np.asarray(images), -1, 2), "real": np.moveaxis(np.asarray(real), -1, 2)}
        np.savez(path, allow_pickle=False, **given, **with_norms(params))
        peer.ask(op="match", path=path)
        theirs = np.load(path + ".peer.npz")
    return agreeing(
        {"loss": relative(theirs["loss"], value), "gradient": relative(np.moveaxis(theirs["images"], 2, -1), gradient)}
    )


MATCHING = Subject("benchmark_matching_peer.py", stepper, agreement, peer_workload)

if __name__ == "__main__":
    options = tyro.cli(Options, description=__doc__)
    run(options, WORKLOADS, SMOKE, lambda _: MATCHING, "benchmark-matching")
