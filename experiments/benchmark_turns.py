"""An outer step of ours and of a peer's in turns, as `benchmark_matching.py` and its like measure it.

Networks are random and images are noise: times do not depend on either. Processor time is told beside that on the
clock: other jobs on the machine disturb it less.
"""

import dataclasses
import importlib.util
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from benchmark import Peer, measure_ceilings, peer_params

import dd_jax as dd
from dd_jax.inner.parallel import device_mesh, replicate
from dd_jax.methods import Method
from dd_jax.runs.counted import rate_of_step
from dd_jax.runs.dispatch import MAX_STEPS, Pace, run_steps, start_state
from dd_jax.runs.progress import note, table
from dd_jax.runs.provenance import provenance
from dd_jax.storage.files import write_json

CIFAR = (32, 32, 3)
_SETTLE = 2  # dispatches before the first that counts: the pace is found, and the first step of a network may differ


class Times(NamedTuple):
    """Seconds on the clock, and of processor time in all threads."""

    seconds: float
    work: float


class Ready(NamedTuple):
    """A step that is compiled and was taken once.

    Attributes:
        step: takes one and tells its `Times`.
        about: seconds of compilation, MiB of memory, and what is computed.
    """

    step: Callable[[], Times]
    about: dict[str, float]


class Subject(NamedTuple):
    """What is measured: how a workload is done here, and by the script beside.

    Attributes:
        script: of the peer.
        stepper: (workload, devices) -> a step.
        agreement: (workload, peer) -> relative differences between the two, or RuntimeError where they are large.
        of_peer: the workload as the peer knows it.
        peer: what the peer is.
    """

    script: str
    stepper: Callable[[Any, int], Ready]
    agreement: Callable[[Any, Peer], dict[str, float]]
    of_peer: Callable[[Any], dict[str, Any]]
    peer: str = "PyTorch"


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured, and for how long."""

    only: str = ""
    """Measure only workloads whose name contains this."""
    rounds: int = 5
    """Steps of either, in turns."""
    one_core: bool = False
    """Give either side one core and not all of them: this process is held to one."""
    peer: bool = importlib.util.find_spec("torch") is not None
    """Take turns with the peer."""
    smoke: bool = False
    """Small workloads only."""
    out: Path | None = None
    """Where the JSON goes; None: beside the other results, named after the device."""


def outer_steps(method: Method, data: dd.Dataset, devices: int, arrays: Any = None) -> Ready:
    """The outer step of a method on as many of the devices as it has work for; as many at once as a run takes.

    Args:
        arrays: what the step reads, in place of all the real data.
    """
    mesh = device_mesh(method.useful_devices(devices))
    given = method.arrays(data) if arrays is None else arrays
    held = start_state(method, jax.random.key(0), data, 1000, mesh)
    key, real, first = replicate((jax.random.key(1), given, jnp.int32(0)), mesh)
    started = time.perf_counter()
    compiled = run_steps.lower(method.step, mesh, key, held, real, first, first).compile()
    seconds, memory = time.perf_counter() - started, compiled.memory_analysis()
    assert memory is not None
    state = method.init(jax.random.key(0), data, 1)
    flops, rate, _ = rate_of_step(method, data, state, given, mesh)
    shared = 1 if mesh is None else mesh.size
    about = about_program(seconds, memory, flops, rate * shared)
    states, done, pace = [held], [0], Pace()

    def step() -> Times:
        count = pace.start(MAX_STEPS)
        begin, steps = replicate((jnp.int32(done[0]), jnp.int32(count)), mesh)
        started, busy = time.perf_counter(), time.process_time()
        states[0], _ = jax.block_until_ready(compiled(key, states[0], real, begin, steps))
        times = Times((time.perf_counter() - started) / count, (time.process_time() - busy) / count)
        pace.done(count)
        done[0] += count
        return times

    for _ in range(_SETTLE):
        step()
    return Ready(step, about)


def about_program(seconds: float, memory: Any, flops: float, rate: float) -> dict[str, float]:
    """What is recorded of a compiled step: what it took to make, its memory, its work, and what `estimate` says of it.

    Args:
        rate: floating-point operations a second, as `dd-jax estimate` takes them to be.
    """
    return {
        "compile": seconds,
        "program_mib": memory.temp_size_in_bytes / 2**20,
        "argument_mib": memory.argument_size_in_bytes / 2**20,
        "gflop": flops / 1e9,
        "estimated": flops / rate,
    }


def measure(workload: Any, options: Options, subject: Subject, flops: float) -> dict[str, Any]:
    """Seconds of an outer step on all devices, in turns with the peer on all of its threads.

    Args:
        flops: a second, of matrix products on all devices.
    """
    found: dict[str, Any] = {"workload": dataclasses.asdict(workload), "peer": subject.peer}
    devices = len(jax.devices())
    threads = 1 if options.one_core else max(devices, os.cpu_count() or 1)
    ours, theirs = _several(devices, "device"), f"{subject.peer}, {_several(threads, 'thread')}"
    ready, peer = subject.stepper(workload, devices), Peer(subject.script) if options.peer else None
    runs: dict[str, list[Times]] = {ours: [], theirs: []}
    if peer is not None:
        found["peer_made_with"] = peer.ask(op="prepare", threads=threads, workload=subject.of_peer(workload))
        peer.ask(op="time", steps=1)
        found["agreement"] = subject.agreement(workload, peer)
    for _ in range(options.rounds):
        runs[ours].append(ready.step())
        if peer is not None:
            told = peer.ask(op="time", steps=1)
            runs[theirs].append(Times(told["seconds"][0], told["work"][0]))
            found["peer_mib"] = {theirs: told["peak_mib"]}
    for name, times in runs.items():
        if times:
            span = spread([t.seconds for t in times])
            found[name] = {**span, "work": spread([t.work for t in times]), "n": len(times)}
    rate = 1e9 * ready.about["gflop"] / found[ours]["median"]
    found[ours] |= {**ready.about, "of_matmul_ceiling": rate / flops}
    if peer is not None:
        peer.close()
        # Paired: each round has one step of either, so that a noisy neighbour disturbs both.
        pairs = list(zip(runs[ours], runs[theirs], strict=True))
        speedup = spread([b.seconds / a.seconds for a, b in pairs])
        found[f"speedup on {ours}"] = {**speedup, "work": spread([b.work / a.work for a, b in pairs])}
    return found


def _several(count: int, name: str) -> str:
    return f"{count} {name}{'s'[: count > 1]}"


def spread(values: list[float]) -> dict[str, Any]:
    """Median and range."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


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


def run(
    options: Options,
    workloads: Mapping[str, Any],
    smoke: Mapping[str, Any],
    subject_of: Callable[[Any], Subject],
    name: str,
) -> None:
    """Measure, show, write.

    Args:
        subject_of: how a workload is measured.
        name: of the file of results.
    """
    if options.one_core:
        if not hasattr(os, "sched_setaffinity"):
            raise SystemExit("--one-core holds the process to a core, which works on Linux alone. Leave it out.")
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    dd.use_cores()
    jax.config.update("jax_enable_compilation_cache", False)
    chosen = smoke if options.smoke else {k: w for k, w in workloads.items() if options.only.lower() in k.lower()}
    ceilings = measure_ceilings(options.smoke)
    found: dict[str, Any] = {"ceilings": ceilings, "workloads": {}, "made_with": provenance()}
    kind = jax.devices()[0].device_kind.lower().replace(" ", "-")
    name += "-one-core" if options.one_core else ""
    out = options.out or Path(__file__).parent / "results" / f"{name}-{kind}.json"
    rows = []
    for label, workload in chosen.items():
        item = found["workloads"][label] = measure(workload, options, subject_of(workload), ceilings["flops"])
        write_json(out, found)
        for key, row in item.items():
            if isinstance(row, dict) and "n" in row:
                span = f"{1000 * row['min']:.4g}-{1000 * row['max']:.4g}"
                work = f"{1000 * row['work']['median']:.4g}"
                made = (f"{row['compile']:.1f}", f"{row['program_mib'] + row['argument_mib']:.0f}",
                        f"{100 * row['of_matmul_ceiling']:.0f} %",
                        f"{row['estimated'] / row['median']:.2f} x") if "compile" in row else ("",) * 4  # fmt: skip
                rows.append((label, key, f"{1000 * row['median']:.4g}", span, work, str(row["n"]), *made))
            elif key.startswith("speedup"):
                work = f"{row['work']['median']:.2f} x"
                ratio = f"{row['median']:.2f} x"
                rows.append((label, key, ratio, f"{row['min']:.2f}-{row['max']:.2f}", work, *("",) * 5))
        note(f"  {label}: done")
    head = ("workload", "on", "ms", "range", "of processors", "n", "compile s", "MiB", "of matmul peak", "estimated")
    table("One outer step (median, ms)", head, rows)
    note(f"Written to {out}")
