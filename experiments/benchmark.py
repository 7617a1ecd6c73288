"""How fast an outer step is here, what bounds it, how it grows, and how it compares with eager PyTorch.

Command:   python experiments/benchmark.py            everything; ten minutes on a GPU, longer on two cores
           python experiments/benchmark.py --smoke    a minute, to see it run
           python experiments/benchmark.py --published     a step of every method at its paper's network, in place of
                                                           the above; has options of its own, see its --help
Peer:      with torch installed (pip install ".[peer]") the same algorithm in plain PyTorch, checked to give the
           same loss and hypergradient, takes turns with ours
Leaves:    experiments/results/benchmark-DEVICE.json, and the table on the screen

Networks are random and images are noise: times do not depend on either.
"""

import dataclasses
import importlib.util
import json
import runpy
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import dd_jax as dd
from dd_jax.inner import device_mesh, on_each, replicate
from dd_jax.methods import Method
from dd_jax.methods.unrolled import outer_loss
from dd_jax.models import Shapes
from dd_jax.runs import arithmetic
from dd_jax.runs.dispatch import MAX_STEPS, run_steps, start_state
from dd_jax.runs.progress import note, table
from dd_jax.runs.provenance import provenance
from dd_jax.storage.files import write_json
from dd_jax.synthetic import StepBatches, step_batches

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)
NUM_REAL = 8192
AGREEMENT = 1e-9  # relative, in float64
BLOCK_SECONDS = 0.1  # of outer steps in one dispatch, as the library's own loop does it


@dataclasses.dataclass(frozen=True)
class Workload:
    """An outer step to be timed. peer: whether PyTorch's is timed beside it."""

    model: str
    image_shape: tuple[int, int, int]
    num_batches: int
    num_epochs: int
    num_inits: int
    init: str = "random"
    batch_size: int = 1024
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    peer: bool = True
    remat: str = "auto"

    @property
    def unrolled(self) -> int:
        """Inner steps."""
        return self.num_batches * self.num_epochs


WORKLOADS = {
    "MNIST LeNet fixed 1x3": Workload("lenet", MNIST, 1, 3, 1, init="fixed"),
    "MNIST LeNet random 10x3, 4 nets": Workload("lenet", MNIST, 10, 3, 4),
    "MNIST LeNet random 10x3, 64 nets": Workload("lenet", MNIST, 10, 3, 64),
    "CIFAR-10 AlexCifarNet random 10x3, 2 nets": Workload("alexcifarnet", CIFAR, 10, 3, 2),
    "CIFAR-10 ConvNet-3-128 random 1x3, 2 nets": Workload(
        "convnet", CIFAR, 1, 3, 2, batch_size=256, settings={"width": 128, "depth": 3}, peer=False
    ),
}
QUICK = Workload("mlp", (8, 8, 1), 10, 1, 1, batch_size=64, settings={"hidden": (16,)}, peer=False)
SMOKE = {"MNIST LeNet fixed 1x3": Workload("lenet", MNIST, 1, 3, 1, init="fixed", batch_size=64)}
LENGTHS = (10, 30, 100, 300, 1000)
INITS = (1, 4, 16, 64)


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, and for how long."""

    only: str = ""
    """Measure only workloads whose name contains this."""
    seconds: float = 20.0
    """Spent on timing each workload on each number of devices, about; a step is taken at least three times."""
    peer: bool = importlib.util.find_spec("torch") is not None
    """Take turns with PyTorch."""
    growth: bool = True
    """Also measure how time and memory grow with inner steps and with networks."""
    evaluation: bool = True
    """Also time the evaluation of 200 networks."""
    smoke: bool = False
    """One small workload only."""
    out: Path | None = None
    """Where the JSON goes; None: beside the other results, named after the device."""


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A compiled workload. run(n): seconds per outer step of n dispatches, each of enough steps to last a while."""

    run: Callable[[int], list[float]]
    compile_seconds: float
    program_memory: int
    argument_memory: int


class Peer:
    """The PyTorch process that runs a script beside this one."""

    def __init__(self, script: str = "benchmark_peer.py") -> None:
        path = Path(__file__).with_name(script)
        self.process = subprocess.Popen(
            [sys.executable, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Its answer to a command."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("The PyTorch process has died; its message is above.")
        return json.loads(line)

    def close(self) -> None:
        """End the process."""
        self.process.communicate()


def method_of(workload: Workload) -> Method:
    """The workload as a method of the library."""
    model = dd.models.make(workload.model, Shapes(workload.image_shape, 10), **workload.settings)
    return dd.methods.unrolled(
        model, num_batches=workload.num_batches, num_epochs=workload.num_epochs, num_inits=workload.num_inits,
        init=workload.init, batch_size=workload.batch_size, init_images="noise", init_step_size=0.02,
        init_step_decay=1.0, learning_rate=0.001, remat=workload.remat,
    )  # fmt: skip


def noise(image_shape: tuple[int, int, int], count: int = NUM_REAL) -> dd.Dataset:
    """A dataset of that shape."""
    generator = np.random.default_rng(0)
    images = generator.random((count, *image_shape), np.float32)
    return dd.dataset_from_arrays(images, np.arange(count) % 10)


def prepare(workload: Workload, devices: int) -> Prepared:
    """Compile the outer step of a workload on so many devices, and run it once."""
    method, data, mesh = method_of(workload), noise(workload.image_shape), device_mesh(devices)
    held = start_state(method, jax.random.key(0), data, 1000, mesh)
    key, real = replicate((jax.random.key(1), method.arrays(data)), mesh)
    first, one = replicate((jnp.int32(0), jnp.int32(1)), mesh)
    block = 1
    started = time.perf_counter()
    compiled = run_steps.lower(method.step, mesh, key, held, real, first, one).compile()
    compile_seconds = time.perf_counter() - started
    memory = compiled.memory_analysis()
    assert memory is not None
    states = [held]

    def run(count: int) -> list[float]:
        seconds, steps = [], replicate(jnp.int32(block), mesh)
        for _ in range(count):
            started = time.perf_counter()
            states[0], _ = jax.block_until_ready(compiled(key, states[0], real, first, steps))
            seconds.append((time.perf_counter() - started) / block)
        return seconds

    run(1)
    block = max(1, min(MAX_STEPS, int(BLOCK_SECONDS / run(1)[0])))
    return Prepared(run, compile_seconds, memory.temp_size_in_bytes, memory.argument_size_in_bytes)


def measure(name: str, workload: Workload, options: Options, ceilings: dict[str, float]) -> dict[str, Any]:
    """Time a workload on one device and on all, in turns with PyTorch."""
    counts = sorted({1, len(jax.devices())})
    prepared = {f"{n} device{'s'[: n > 1]}": prepare(workload, n) for n in counts}
    peer = Peer() if options.peer and workload.peer else None
    found: dict[str, Any] = {"workload": dataclasses.asdict(workload)}
    runs: dict[str, list[float]] = {key: [] for key in prepared}
    if peer is not None:
        found["agreement"] = agreement(workload, peer)
        found["peer_made_with"] = peer.ask(op="prepare", workload=peer_workload(workload))
        runs["peer"] = []
        peer.ask(op="time", steps=1)
    started = time.perf_counter()
    while len(runs["1 device"]) < 3 or time.perf_counter() - started < options.seconds * len(runs):
        for key, ready in prepared.items():
            runs[key] += ready.run(1)
        if peer is not None:
            runs["peer"] += peer.ask(op="time", steps=1)["seconds"]
    if peer is not None:
        peer.close()
    method, data = method_of(workload), noise(workload.image_shape)
    work = arithmetic.count(
        method.step, jax.random.key(0), method.init(jax.random.key(0), data, 1), method.arrays(data)
    )
    found["gflop"] = work.flops / 1e9
    for key, seconds in runs.items():
        median = statistics.median(seconds)
        row = {"median": median, "min": min(seconds), "max": max(seconds), "n": len(seconds)}
        if key in prepared:
            row |= {
                "compile": prepared[key].compile_seconds,
                "program_mib": prepared[key].program_memory / 2**20,
                "argument_mib": prepared[key].argument_memory / 2**20,
                "of_matmul_ceiling": work.flops / median / ceilings["flops"],
                "of_bandwidth_ceiling": work.traffic / median / ceilings["bytes"],
            }
        images = workload.num_inits * (workload.unrolled * 10 + workload.batch_size)
        row["images_per_second"] = images / median
        row["network_steps_per_second"] = workload.num_inits * workload.unrolled / median
        found[key] = row
    if peer is not None:
        # Paired: each round has one step of either, so that a noisy neighbour disturbs both.
        best = min(prepared, key=lambda key: found[key]["median"])
        ratios = [theirs / ours for theirs, ours in zip(runs["peer"], runs[best], strict=True)]
        found["speedup"] = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios), "on": best}
    note(f"  {name}: {summary(found)}")
    return found


def timed(found: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a workload that are timings of an outer step."""
    return [(key, row) for key, row in found.items() if isinstance(row, dict) and "network_steps_per_second" in row]


def summary(found: dict[str, Any]) -> str:
    """One line on a workload."""
    parts = [f"{key} {1000 * row['median']:.4g} ms" for key, row in timed(found)]
    if "speedup" in found:
        parts.append(f"{found['speedup']['median']:.2f} times the peer")
    return ", ".join(parts)


def peer_workload(workload: Workload) -> dict[str, Any]:
    """The workload as the PyTorch process knows it."""
    return {
        "network": workload.model, "size": workload.image_shape[0], "channels": workload.image_shape[2],
        "num_batches": workload.num_batches, "num_epochs": workload.num_epochs, "num_inits": workload.num_inits,
        "fixed": workload.init == "fixed", "batch_size": workload.batch_size,
    }  # fmt: skip


def agreement(workload: Workload, peer: Peer) -> dict[str, float]:
    """Relative differences of loss and hypergradient to PyTorch's in float64, for three inner steps of one network."""
    with jax.enable_x64(True), tempfile.TemporaryDirectory() as folder:
        model = dd.models.make(workload.model, Shapes(workload.image_shape, 10))
        keys = jax.random.split(jax.random.key(0), 4)
        as_double = lambda leaf: jnp.asarray(leaf, jnp.float64)  # noqa: E731
        params = jax.tree.map(as_double, model.init(keys[0]))
        images = jax.random.normal(keys[1], (3, 10, *workload.image_shape), jnp.float64)
        raw = jnp.full(3, -3.0, jnp.float64)
        real = dd.Batch(jax.random.normal(keys[2], (32, *workload.image_shape), jnp.float64),
                        jax.random.randint(keys[3], (32,), 0, 10))  # fmt: skip
        objective = outer_loss(model, lambda key, networks=None: params, step_batches(10, 3, 1))
        loss, gradient = jax.jit(jax.value_and_grad(objective))(StepBatches(images, raw), keys[0], real)
        path = f"{folder}/given.npz"
        given: dict[str, Any] = {
            "images": np.moveaxis(np.asarray(images), -1, 2),
            "raw": raw,
            "labels": np.arange(10),
            "real": np.moveaxis(np.asarray(real.images), -1, 1),
            "targets": real.labels,
        }
        np.savez(path, allow_pickle=False, **given, **peer_params(params))
        peer.ask(op="hypergradient", network=workload.model, path=path)
        theirs = np.load(path + ".peer.npz")
        found = {
            "loss": relative(theirs["loss"], loss),
            "images": relative(np.moveaxis(theirs["images"], 2, -1), gradient.images),
            "step_sizes": relative(theirs["raw"], gradient[1]),
        }
    return agreeing(found)


def agreeing(found: dict[str, float], tolerance: float = AGREEMENT) -> dict[str, float]:
    """Relative differences, if they are small; else RuntimeError."""
    if not max(found.values()) <= tolerance:
        raise RuntimeError(f"The peer computes something else, so that its time means nothing: {found}")
    return found


def relative(theirs: Any, ours: Any) -> float:
    """How far theirs is from ours, as a share of ours."""
    ours = np.asarray(ours)
    return float(np.linalg.norm(np.ravel(theirs - ours)) / np.linalg.norm(np.ravel(ours)))


def peer_params(params: Any) -> dict[str, Any]:
    """Parameters in PyTorch's shapes and order: convolutions (O, I, H, W), linear layers (O, I) on channels first."""
    layers = sorted(params, key=lambda name: (not name.startswith("Conv"), name))
    found, channels = [], 0
    for name in layers:
        kernel, bias = np.asarray(params[name]["kernel"]), np.asarray(params[name]["bias"])
        if name.startswith("Conv"):
            channels, kernel = kernel.shape[-1], np.transpose(kernel, (3, 2, 0, 1))
        elif name == "Dense_0":
            side = round((kernel.shape[0] / channels) ** 0.5)
            by_place = kernel.reshape(side, side, channels, -1)
            kernel = np.transpose(by_place, (3, 2, 0, 1)).reshape(kernel.shape[1], -1)
        else:
            kernel = kernel.T
        found += [kernel, bias]
    return {f"param{i}": leaf for i, leaf in enumerate(found)}


def measure_ceilings(smoke: bool = False) -> dict[str, float]:
    """What this machine gives at best: float32 matrix products (flop/s) and copies (byte/s), all devices together."""
    mesh = device_mesh()
    size, count = 2048 if jax.default_backend() == "cpu" else 8192, 2**26
    if smoke:
        size, count = 512, 2**22
    devices = len(jax.devices())

    def best(function: Callable[[jax.Array], jax.Array], shape: tuple[int, ...]) -> float:
        compiled = jax.jit(on_each(function, mesh), donate_argnums=0)
        argument, seconds = compiled(replicate(jnp.zeros(shape, jnp.float32), mesh)), []
        for _ in range(6):
            started = time.perf_counter()
            argument = jax.block_until_ready(compiled(argument))
            seconds.append(time.perf_counter() - started)
        return min(seconds)

    return {
        "flops": devices * 2 * size**3 / best(lambda a: a @ a, (size, size)),
        "bytes": devices * 2 * 4 * count / best(lambda a: a + 1.0, (count,)),
    }


def growth(options: Options) -> dict[str, list[dict[str, Any]]]:
    """Time and memory of an outer step against inner steps and against networks (LeNet, 256 real images)."""
    lengths, inits = (LENGTHS[:1], INITS[:1]) if options.smoke else (LENGTHS, INITS)
    one = QUICK if options.smoke else Workload("lenet", MNIST, 10, 3, 1, batch_size=256)
    longer = [
        dataclasses.replace(one, num_epochs=t // 10, remat=remat)
        for remat in ("none", "steps", "nested")
        for t in lengths
    ]
    wider = [dataclasses.replace(one, num_inits=n) for n in inits]
    return {"inner steps": [_grown(w) for w in longer], "networks": [_grown(w) for w in wider]}


def _grown(workload: Workload) -> dict[str, Any]:
    ready = prepare(workload, len(jax.devices()))
    seconds = ready.run(3)
    found = {"unrolled": workload.unrolled, "num_inits": workload.num_inits, "remat": workload.remat,
             "median": statistics.median(seconds), "program_mib": ready.program_memory / 2**20}  # fmt: skip
    note(f"  {found}")
    return found


def evaluation(workload: Workload, num_nets: int = 200, num_images: int = 10_000) -> dict[str, Any]:
    """Seconds that `evaluate` takes for 200 networks on 10,000 test images, its compilation included and not."""
    method = method_of(workload)
    data = noise(workload.image_shape)
    test = noise(workload.image_shape, num_images).train
    test = jax.tree.map(lambda leaf: jnp.resize(leaf, (num_images, *leaf.shape[1:])), test)
    data = dataclasses.replace(data, test=test)
    distilled = method.distilled(method.init(jax.random.key(0), data, 1))
    seconds = []
    for _ in range(2):
        started = time.perf_counter()
        dd.evaluate(distilled, method.model, data, num_nets=num_nets)
        seconds.append(time.perf_counter() - started)
    return {"nets": num_nets, "images": num_images, "first": seconds[0], "again": seconds[1]}


def main(options: Options) -> None:
    """Measure, show, write."""
    dd.use_cores()
    jax.config.update("jax_enable_compilation_cache", False)
    ceilings = measure_ceilings(options.smoke)
    note(f"Ceilings of all devices: {ceilings['flops'] / 1e9:.0f} GFLOP/s, {ceilings['bytes'] / 1e9:.0f} GB/s")
    chosen = SMOKE if options.smoke else {k: w for k, w in WORKLOADS.items() if options.only.lower() in k.lower()}
    found: dict[str, Any] = {"ceilings": ceilings, "workloads": {}, "made_with": provenance()}
    for name, workload in chosen.items():
        found["workloads"][name] = measure(name, workload, options, ceilings)
    if options.evaluation:
        lenets = WORKLOADS["MNIST LeNet random 10x3, 4 nets"]
        found["evaluation"] = evaluation(QUICK, 2, 100) if options.smoke else evaluation(lenets)
        note(f"  evaluation: {found['evaluation']}")
    if options.growth:
        found["growth"] = growth(options)
    show(found)
    out = options.out or _default_out()
    write_json(out, found)
    note(f"Written to {out}")


def show(found: dict[str, Any]) -> None:
    """The table."""
    rows = []
    for name, item in found["workloads"].items():
        for key, row in timed(item):
            ours = "program_mib" in row
            rows.append((
                name, key, f"{1000 * row['median']:.4g}", f"{1000 * row['min']:.4g}-{1000 * row['max']:.4g}",
                str(row["n"]), f"{row['network_steps_per_second']:.4g}", f"{row['images_per_second']:.4g}",
                f"{row['compile']:.1f}" if ours else "", f"{row['program_mib']:.0f}" if ours else "",
                f"{100 * row['of_matmul_ceiling']:.0f} %" if ours else "",
            ))  # fmt: skip
    head = ("workload", "on", "ms", "range", "n", "net steps/s", "images/s", "compile s", "MiB", "of matmul peak")
    table("One outer step (median)", head, rows)
    speedups = [(name, f"{w['speedup']['median']:.2f}", f"{w['speedup']['min']:.2f}-{w['speedup']['max']:.2f}")
                for name, w in found["workloads"].items() if "speedup" in w]  # fmt: skip
    if speedups:
        table("Times as fast as eager PyTorch, step by step in turns", ("workload", "median", "range"), speedups)


def _default_out() -> Path:
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    return Path(__file__).parent / "results" / f"benchmark-{kind}.json"


if __name__ == "__main__":
    if "--published" in sys.argv:
        sys.argv.remove("--published")
        runpy.run_path(str(Path(__file__).with_name("benchmark_published.py")), run_name="__main__")
    else:
        main(tyro.cli(Options, description=__doc__))
