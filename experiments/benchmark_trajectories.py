"""How fast an outer step of trajectory matching is here, beside eager PyTorch.

Paper:     Cazenavette et al. 2022, algorithm 1: N inner steps from an expert's snapshot, the distance from a later one,
           its gradient through all of them, one step of images and step size
Command:   python experiments/benchmark_trajectories.py             a few minutes
           python experiments/benchmark_trajectories.py --smoke     to see it run
Peer:      with torch installed (pip install ".[peer]") the same algorithm in plain PyTorch, checked to give the
           same loss and gradients in float64, takes turns with ours: on all cores, or with --one-core on one
           each
Leaves:    experiments/results/benchmark-trajectories-DEVICE.json, and the table on the screen

Snapshots and images are random, and there is no augmentation: times do not depend on the former, and the peer's is
not the one of the released code.
"""

import dataclasses
import tempfile
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from benchmark import MNIST, Peer, agreeing, noise, relative
from benchmark_turns import CIFAR, Options, Ready, Subject, outer_steps, run, with_norms

import dd_jax as dd
from dd_jax import models
from dd_jax.methods import TrajectoryMatchingOptions
from dd_jax.methods.trajectory_loss import trajectory_loss
from dd_jax.methods.trajectory_matching import images_of
from dd_jax.models import Model, Shapes
from dd_jax.synthetic import Pixels, StepSized


@dataclasses.dataclass(frozen=True)
class Workload:
    """An outer step to be timed."""

    image_shape: tuple[int, int, int]
    model: str
    images_per_class: int
    num_inner_steps: int


WORKLOADS = {
    "MNIST MLP 64-64, 10 per class, 20 steps": Workload(MNIST, "mlp:hidden=(64,64)", 10, 20),
    "MNIST ConvNet-2-16, 1 per class, 20 steps": Workload(MNIST, "convnet:width=16,depth=2", 1, 20),
    "CIFAR-10 ConvNet-3-32, 1 per class, 20 steps": Workload(CIFAR, "convnet:width=32,depth=3", 1, 20),
    "CIFAR-10 ConvNet-3-128, 1 per class, 20 steps": Workload(CIFAR, "convnet:width=128,depth=3", 1, 20),
    "CIFAR-10 ConvNet-3-128, 1 per class, 50 steps": Workload(CIFAR, "convnet:width=128,depth=3", 1, 50),
}
SMOKE = {"MNIST ConvNet-2-4, 1 per class, 3 steps": Workload(MNIST, "convnet:width=4,depth=2", 1, 3)}
STEP_SIZE = 0.01


def model_of(workload: Workload) -> Model:
    """The network of a workload."""
    name, settings = models.parse_model(workload.model)
    return models.make(name, Shapes(workload.image_shape, 10), **settings)


def random_experts(model: Model, dataset: dd.Dataset) -> dd.Experts:
    """One network at two moments that have nothing to do with each other."""
    pair = jax.tree.map(np.asarray, jax.jit(jax.vmap(model.init))(jax.random.split(jax.random.key(2))))

    def read(number: int, chosen: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[list(chosen)], pair)

    return dd.Experts(
        "noise", model.name, models.architecture(model), model.image_shape, model.num_classes, dataset.fingerprint,
        np.zeros((1, 2), np.float32), "validation", np.arange(2, dtype=np.float32), read, 0, {}, "noise",
    )  # fmt: skip


def stepper(workload: Workload, devices: int) -> Ready:
    """One outer step, on as many of the devices as the method has work for: one start is the work of one."""
    model, data = model_of(workload), noise(workload.image_shape)
    method = dd.methods.trajectory_matching(
        model, experts=random_experts(model, data), expert_epochs=1, max_start=1, init_images="noise", augment="none",
        images_per_class=workload.images_per_class, num_inner_steps=workload.num_inner_steps, learning_rate=1.0,
        init_step_size=STEP_SIZE, step_size_learning_rate=1e-7,
    )  # fmt: skip
    assert method.feed is not None
    given = method.feed.join(method.arrays(data), method.feed.read(0, 0))
    return outer_steps(method, data, devices, given)


def of_peer(workload: Workload) -> dict[str, Any]:
    """The workload as the PyTorch process knows it."""
    name, settings = models.parse_model(workload.model)
    size, _, channels = workload.image_shape
    return {
        "kind": name, "settings": settings, "size": size, "channels": channels,
        "images_per_class": workload.images_per_class, "num_inner_steps": workload.num_inner_steps,
        "step_size": STEP_SIZE,
    }  # fmt: skip


def agreement(workload: Workload, peer: Peer) -> dict[str, float]:
    """Relative differences of the loss and its gradients to PyTorch's in float64, with three inner steps."""
    options = TrajectoryMatchingOptions(
        images_per_class=1, num_inner_steps=3, augment="none", init_step_size=STEP_SIZE, remat="steps"
    )
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        model, keys = model_of(workload), jax.random.split(jax.random.key(0), 3)
        start, target = (jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), model.init(key)) for key in keys[:2])
        images = jax.random.normal(keys[2], (10, *workload.image_shape), jnp.float64)
        loss = trajectory_loss(model, images_of(model, options), options)
        raw = jnp.log(jnp.expm1(jnp.float64(0.1)))  # the step size is its softplus

        def of_size(images: jax.Array, raw: jax.Array) -> jax.Array:
            return loss(StepSized(Pixels(images), raw), keys[0], start, target)

        value, (of_images, of_raw) = jax.jit(jax.value_and_grad(of_size, (0, 1)))(images, raw)
        to_peer = with_norms if workload.model.startswith("convnet") else without_norms
        given = {f"start_{k}": v for k, v in to_peer(start).items()} | {
            f"target_{k}": v for k, v in to_peer(target).items()
        }
        path = f"{folder}/given.npz"
        np.savez(path, allow_pickle=False, images=np.moveaxis(np.asarray(images), -1, 1), step_size=0.1, **given)
        peer.ask(op="match", path=path, workload=of_peer(workload) | {"num_inner_steps": 3})
        theirs = np.load(path + ".peer.npz")
        of_step = float(of_raw) / -np.expm1(-0.1)
        return agreeing(
            {
                "loss": relative(theirs["loss"], value),
                "gradient of images": relative(np.moveaxis(theirs["images"], 1, -1), of_images),
                "gradient of step size": relative(theirs["step_size"], of_step),
            }
        )


def without_norms(params: Any) -> dict[str, Any]:
    """Parameters of an MLP in PyTorch's shapes and order."""
    return {f"param{i}": leaf for i, leaf in enumerate(flat_layers(params))}


def flat_layers(params: Any) -> list[Any]:
    """Kernel and bias of each layer, kernels (O, I)."""
    return [leaf for layer in params.values() for leaf in (np.asarray(layer["kernel"]).T, np.asarray(layer["bias"]))]


TRAJECTORIES = Subject("benchmark_trajectories_peer.py", stepper, agreement, of_peer)

if __name__ == "__main__":
    options = tyro.cli(Options, description=__doc__)
    run(options, WORKLOADS, SMOKE, lambda _: TRAJECTORIES, "benchmark-trajectories")
