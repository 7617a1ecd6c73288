"""How fast an outer step of gradient matching is here, beside eager PyTorch.

Paper:     Zhao et al. 2021, Algorithm 1: one match, class after class, 256 real images each, one step of the images
Command:   python experiments/benchmark_matching.py             a few minutes
           python experiments/benchmark_matching.py --smoke     to see it run
Peer:      with torch installed (pip install ".[peer]") the same algorithm in plain PyTorch, checked to give the
           same loss and gradient in float64, takes turns with ours: on one core each, and on all
Leaves:    experiments/results/benchmark-matching-DEVICE.json, and the table on the screen

Networks are random and images are noise: times do not depend on either. Processor time is told beside that on the
clock: other jobs on the machine disturb it less.
"""

import dataclasses
import importlib.util
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from benchmark import MNIST, Peer, noise, peer_params

import dd_jax as dd
from dd_jax.inner import distance_named
from dd_jax.inner.parallel import device_mesh, replicate
from dd_jax.methods.matched_gradients import class_wise
from dd_jax.models import Model, Shapes
from dd_jax.runs.dispatch import run_steps, start_state
from dd_jax.runs.progress import note, table
from dd_jax.runs.provenance import provenance
from dd_jax.storage.files import write_json

CIFAR = (32, 32, 3)
AGREEMENT = 1e-9  # relative, in float64


@dataclasses.dataclass(frozen=True)
class Workload:
    """An outer step to be timed."""

    image_shape: tuple[int, int, int]
    width: int
    depth: int
    images_per_class: int
    batch_size: int = 256


WORKLOADS = {
    "MNIST ConvNet-2-16, 1 per class": Workload(MNIST, 16, 2, 1),
    "MNIST ConvNet-2-16, 10 per class": Workload(MNIST, 16, 2, 10),
    "MNIST ConvNet-3-128, 1 per class": Workload(MNIST, 128, 3, 1),
    "CIFAR-10 ConvNet-3-128, 1 per class": Workload(CIFAR, 128, 3, 1),
    "CIFAR-10 ConvNet-3-128, 10 per class": Workload(CIFAR, 128, 3, 10),
}
SMOKE = {"MNIST ConvNet-2-4, 1 per class": Workload(MNIST, 4, 2, 1, 16)}


class Times(NamedTuple):
    """Seconds on the clock, and of processor time in all threads."""

    seconds: float
    work: float


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, and for how long."""

    only: str = ""
    """Measure only workloads whose name contains this."""
    rounds: int = 5
    """Steps of either, in turns."""
    all_cores: bool = True
    """Also measure on all cores, and not on one alone: PyTorch's threads wait busily where others use the cores."""
    peer: bool = importlib.util.find_spec("torch") is not None
    """Take turns with PyTorch."""
    smoke: bool = False
    """One small workload only."""
    out: Path | None = None
    """Where the JSON goes; None: beside the other results, named after the device."""


def model_of(workload: Workload) -> Model:
    """The network of a workload."""
    return dd.models.convnet(Shapes(workload.image_shape, 10), width=workload.width, depth=workload.depth)


def stepper(workload: Workload, devices: int) -> Any:
    """A function that takes one outer step on so many devices and says how long: on the clock, and of processors."""
    method = dd.methods.gradient_matching(
        model_of(workload), images_per_class=workload.images_per_class, batch_size=workload.batch_size, num_matches=1,
        init_images="noise",
    )  # fmt: skip
    data, mesh = noise(workload.image_shape), device_mesh(devices)
    states = [start_state(method, jax.random.key(0), data, 1000, mesh)]
    key, real, first, one = replicate((jax.random.key(1), method.arrays(data), jnp.int32(0), jnp.int32(1)), mesh)

    def step() -> Times:
        started, busy = time.perf_counter(), time.process_time()
        states[0], _ = jax.block_until_ready(run_steps(method.step, mesh, key, states[0], real, first, one))
        return Times(time.perf_counter() - started, time.process_time() - busy)

    step()
    return step


class Subject(NamedTuple):
    """What is measured: how a workload is done here, and by the PyTorch script beside.

    Attributes:
        script: of the peer.
        stepper: (workload, devices) -> a function that takes a step and tells its `Times`.
        agreement: (workload, peer) -> relative differences between the two, or RuntimeError where they are large.
        of_peer: the workload as the peer knows it.
    """

    script: str
    stepper: Callable[[Any, int], Callable[[], Times]]
    agreement: Callable[[Any, Peer], dict[str, float]]
    of_peer: Callable[[Any], dict[str, Any]]


def measure(workload: Any, options: Options, subject: Subject) -> dict[str, Any]:
    """Seconds of an outer step on one device and on all, in turns with PyTorch on one thread and on all."""
    found: dict[str, Any] = {"workload": dataclasses.asdict(workload)}
    runs: dict[str, list[Times]] = {}
    cores = max(len(jax.devices()), os.cpu_count() or 1) if options.all_cores else 1
    counts = sorted({1, len(jax.devices())}) if options.all_cores else [1]
    steps = {f"{n} device{'s'[: n > 1]}": subject.stepper(workload, n) for n in counts}
    peers = {}
    if options.peer:
        for threads in sorted({1, cores}):
            peer = peers[f"PyTorch, {threads} thread{'s'[: threads > 1]}"] = Peer(subject.script)
            found["agreement"] = subject.agreement(workload, peer)
            found["peer_made_with"] = peer.ask(op="prepare", threads=threads, workload=subject.of_peer(workload))
            peer.ask(op="time", steps=1)
    for _ in range(options.rounds):
        for name, step in steps.items():
            runs.setdefault(name, []).append(step())
        for name, peer in peers.items():
            told = peer.ask(op="time", steps=1)
            runs.setdefault(name, []).append(Times(told["seconds"][0], told["work"][0]))
    for peer in peers.values():
        peer.close()
    for name, times in runs.items():
        found[name] = {**spread([t.seconds for t in times]), "work": spread([t.work for t in times]), "n": len(times)}
    # Paired: each round has one step of either, so that a noisy neighbour disturbs both.
    for ours, theirs in zip(steps, peers, strict=False):
        pairs = list(zip(runs[ours], runs[theirs], strict=True))
        found[f"speedup on {ours}"] = spread([b.seconds / a.seconds for a, b in pairs])
        found[f"speedup on {ours}"]["work"] = spread([b.work / a.work for a, b in pairs])
    return found


def spread(values: list[float]) -> dict[str, Any]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def peer_workload(workload: Workload) -> dict[str, Any]:
    """The workload as the PyTorch process knows it."""
    size, _, channels = workload.image_shape
    return {
        "width": workload.width, "depth": workload.depth, "size": size, "channels": channels,
        "images_per_class": workload.images_per_class, "batch_size": workload.batch_size,
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

        def loss(images: jax.Array) -> jax.Array:
            mine, theirs = (dd.Batch(x, jnp.broadcast_to(jnp.arange(10)[:, None], x.shape[:2])) for x in (images, real))
            return loss_of(params, mine, theirs, jax.random.split(keys[0], 10))

        value, gradient = jax.jit(jax.value_and_grad(loss))(images)
        path = f"{folder}/given.npz"
        given = {"images": np.moveaxis(np.asarray(images), -1, 2), "real": np.moveaxis(np.asarray(real), -1, 2)}
        np.savez(path, allow_pickle=False, **given, **with_norms(params))
        peer.ask(op="match", path=path)
        theirs = np.load(path + ".peer.npz")
        difference = np.moveaxis(theirs["images"], 2, -1) - np.asarray(gradient)
        found = {
            "loss": float(abs(theirs["loss"] - value) / value),
            "gradient": float(np.linalg.norm(difference) / np.linalg.norm(np.asarray(gradient))),
        }
    return agreeing(found)


def agreeing(found: dict[str, float]) -> dict[str, float]:
    """Relative differences, if they are small; else RuntimeError."""
    if not max(found.values()) <= AGREEMENT:
        raise RuntimeError(f"The peer computes something else, so that its time means nothing: {found}")
    return found


def with_norms(params: Any) -> dict[str, Any]:
    """Parameters in PyTorch's shapes and order: of each block kernel, bias, scale and shift; then the linear layer."""
    plain = list(
        peer_params({name: leaf for name, leaf in params.items() if not name.startswith("GroupNorm")}).values()
    )
    found = []
    for block in range(len(plain) // 2 - 1):
        norm = params[f"GroupNorm_{block}"]
        found += [*plain[2 * block : 2 * block + 2], np.asarray(norm["scale"]), np.asarray(norm["bias"])]
    return {f"param{i}": leaf for i, leaf in enumerate([*found, *plain[-2:]])}


def run(options: Options, workloads: Mapping[str, Any], smoke: Mapping[str, Any], subject: Subject, name: str) -> None:
    """Measure, show, write. name: of the file of results."""
    dd.use_cores()
    jax.config.update("jax_enable_compilation_cache", False)
    chosen = smoke if options.smoke else {k: w for k, w in workloads.items() if options.only.lower() in k.lower()}
    found: dict[str, Any] = {"workloads": {}, "made_with": provenance()}
    rows = []
    for label, workload in chosen.items():
        item = found["workloads"][label] = measure(workload, options, subject)
        for key, row in item.items():
            if isinstance(row, dict) and "n" in row:
                span = f"{1000 * row['min']:.4g}-{1000 * row['max']:.4g}"
                work = f"{1000 * row['work']['median']:.4g}"
                rows.append((label, key, f"{1000 * row['median']:.4g}", span, work, str(row["n"])))
            elif key.startswith("speedup"):
                work = f"{row['work']['median']:.2f} x"
                rows.append((label, key, f"{row['median']:.2f} x", f"{row['min']:.2f}-{row['max']:.2f}", work, ""))
        note(f"  {label}: done")
    table("One outer step (median, ms)", ("workload", "on", "ms", "range", "of processors", "n"), rows)
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    out = options.out or Path(__file__).parent / "results" / f"{name}-{kind}.json"
    write_json(out, found)
    note(f"Written to {out}")


MATCHING = Subject("benchmark_matching_peer.py", stepper, agreement, peer_workload)

if __name__ == "__main__":
    run(tyro.cli(Options, description=__doc__), WORKLOADS, SMOKE, MATCHING, "benchmark-matching")
