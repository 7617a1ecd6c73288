"""What is compiled, and how long that takes: distillation, evaluation and baselines, in a first and a second round.

Command:   python experiments/compile_times.py            some minutes on two cores
           python experiments/compile_times.py --smoke    only a small one, to see it run
Leaves:    experiments/results/compile-times-DEVICE.json, and the table on the screen

Nothing is kept on the disk. Both rounds are in one process, the second one with a network and a method built anew,
another seed and another learning rate. Outer steps are few: their time is not what is measured.
"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import dd_jax as dd
from dd_jax.cli import run_function
from dd_jax.methods import Method
from dd_jax.presets import PRESETS
from dd_jax.runs.progress import note, table
from dd_jax.runs.provenance import provenance
from dd_jax.storage.files import write_json

PREFIX = "/jax/core/compile/"
EVENTS = {
    "jaxpr_trace_duration": "trace",
    "jaxpr_to_mlir_module_duration": "lower",
    "backend_compile_duration": "compile",
}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    only: str = ""
    """Only workloads whose name contains this."""
    smoke: bool = False
    """Only the digits, and no baselines."""
    out: Path | None = None
    """Where the JSON goes; None: beside the other results, named after the device."""


@dataclasses.dataclass
class Clock:
    """Seconds spent on tracing, lowering and compiling since it was last read, and how many programs were compiled."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    programs: int = 0

    def listen(self, event: str, duration_secs: float, **_: Any) -> None:
        """What JAX calls."""
        kind = EVENTS.get(event.removeprefix(PREFIX))
        if kind is not None:
            self.seconds[kind] = self.seconds.get(kind, 0.0) + duration_secs
            self.programs += kind == "compile"

    def read(self, started: float) -> dict[str, float]:
        """The numbers since the last time."""
        found = {kind: round(self.seconds.get(kind, 0.0), 2) for kind in EVENTS.values()}
        found |= {"programs": self.programs, "wall": round(time.perf_counter() - started, 2)}
        self.seconds, self.programs = {}, 0
        return found


def noise(count: int = 600) -> dd.Dataset:
    """Images of MNIST's size."""
    images = np.random.default_rng(0).random((count, 28, 28, 1), np.float32)
    return dd.dataset_from_arrays(images, np.arange(count) % 10, name="noise")


def digits_demo(data: dd.Dataset, rate: float) -> Method:
    """The method of `make demo`."""
    options = dataclasses.replace(PRESETS["digits"].method, learning_rate=rate)
    return dd.methods.make_method(dd.models.mlp(data, hidden=(64,)), options)


def lenet(data: dd.Dataset, rate: float) -> Method:
    """LeNet, ten steps, three epochs."""
    return dd.methods.unrolled(dd.models.lenet(data), learning_rate=rate, batch_size=64)


def matching(data: dd.Dataset, rate: float) -> Method:
    """DC with a ConvNet of width 16."""
    return dd.methods.gradient_matching(dd.models.convnet(data, width=16, depth=2), learning_rate=rate, batch_size=64)


def frepo(data: dd.Dataset, rate: float) -> Method:
    """FRePo with a ConvNet of width 16."""
    return dd.methods.frepo(dd.models.convnet(data, width=16, depth=2), learning_rate=rate, batch_size=64, pool_size=2)


WORKLOADS: dict[str, tuple[Callable[[], dd.Dataset], Callable[[dd.Dataset, float], Method]]] = {
    "demo: digits, MLP 64": (lambda: dd.load_dataset("digits"), digits_demo),
    "unrolled: LeNet 10x3": (noise, lenet),
    "DC: ConvNet-2-16": (noise, matching),
    "FRePo: ConvNet-2-16": (noise, frepo),
}


def measure(clock: Clock, data: dd.Dataset, build: Callable[[dd.Dataset, float], Method], baselines: bool) -> list[Any]:
    """The phases of two rounds."""
    rounds = []
    for seed in range(2):
        found = {}
        method = build(data, 0.01 * (1 + seed))
        clock.read(0.0)
        started = time.perf_counter()
        run = dd.distill(method, data, num_outer_steps=2, seed=seed, eval_every=1, num_eval_nets=2, show_progress=False)
        found["distil"] = clock.read(started)
        scratch = dd.Training(epochs=2, optimiser="sgd", drop_last=False)
        given: dict[str, Any] = {"protocol": scratch if run.distilled.protocol.from_scratch else None, "num_nets": 4}
        started = time.perf_counter()
        dd.evaluate(run.distilled, method.model, data, **given)
        found["evaluate"] = clock.read(started)
        if baselines:
            started = time.perf_counter()
            dd.baselines(run.distilled, method.model, data, num_sets=2, num_candidates=2, **given)
            found["baselines"] = clock.read(started)
        rounds.append(found)
    return rounds


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure, show, write."""
    dd.use_cores()
    jax.config.update("jax_enable_compilation_cache", False)
    clock = Clock()
    jax.monitoring.register_event_duration_secs_listener(clock.listen)
    found: dict[str, Any] = {"workloads": {}, "made_with": provenance()}
    rows = []
    for name in list(WORKLOADS)[:1] if options.smoke else [n for n in WORKLOADS if options.only.lower() in n.lower()]:
        load, build = WORKLOADS[name]
        note(name)
        rounds = found["workloads"][name] = measure(clock, load(), build, not options.smoke)
        for number, phases in enumerate(rounds, 1):
            for phase, row in phases.items():
                rows.append((name, str(number), phase, str(row["programs"]), *(f"{row[k]:.1f}" for k in
                             ("trace", "lower", "compile", "wall"))))  # fmt: skip
    table("Seconds", ("workload", "round", "phase", "programs", "trace", "lower", "compile", "wall"), rows)
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    out = options.out or Path(__file__).parent / "results" / f"compile-times-{kind}.json"
    write_json(out, found)
    note(f"Written to {out}")


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
