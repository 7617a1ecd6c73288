"""What a run will need, before it is started: memory from the compiled program, time from a few of its steps."""

import dataclasses
import time
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from dd_jax.data.memory import free_host_memory, in_units, read_text
from dd_jax.errors import OptionError
from dd_jax.inner import replicate
from dd_jax.methods import Method
from dd_jax.models import num_params
from dd_jax.renamed import renamed
from dd_jax.runs.dispatch import mesh_for, run_steps, start_state
from dd_jax.runs.feeds import Arrays
from dd_jax.types import Dataset

_TIMED_SECONDS = 3.0  # spent on steps that are timed, at least


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a run takes. Memory in bytes on each device, times in seconds.

    Attributes:
        num_params: of the network.
        program_memory: what the compiled outer step needs besides its arguments.
        argument_memory: its arguments, real data among them.
        free_memory: what each device has left for the program.
    """

    num_params: int
    program_memory: int
    argument_memory: int
    free_memory: int
    compile_seconds: float
    seconds_per_step: float
    total_seconds: float

    def __str__(self) -> str:
        return (
            f"{self.num_params:,} parameters; {in_units(self.program_memory)} for an outer step and "
            f"{in_units(self.argument_memory)} for data and state on each device, {in_units(self.free_memory)} free; "
            f"compiled in {self.compile_seconds:.0f} s; {1000 * self.seconds_per_step:.3g} ms per outer step, "
            f"{duration(self.total_seconds)} in all"
        )


@renamed(num_steps="num_outer_steps", data="dataset")
def estimate(method: Method, dataset: Dataset, *, num_outer_steps: int, devices: int | None = None) -> Estimate:
    """Compile the outer step and run a few, on a state that is thrown away, to say what `num_outer_steps` will take.

    Validation, checkpoints and the final evaluation are not in it.

    Raises:
        OptionError: with advice, if the program cannot fit into the memory that is free.
    """
    mesh = mesh_for(method, devices)
    state = start_state(method, jax.random.key(0), dataset, num_outer_steps, mesh)
    key = replicate(jax.random.key(1), mesh)
    windows = Arrays(method, dataset, 0, 1, mesh)
    real = windows.at(0)

    def run(state: Any, count: int) -> Any:
        first, steps = replicate((jnp.int32(0), jnp.int32(count)), mesh)
        return jax.block_until_ready(run_steps(method.step, mesh, key, state, real, first, steps)[0])

    started = time.perf_counter()
    need = check_memory(method, mesh, key, state, real, windows.window_bytes)
    compile_seconds = time.perf_counter() - started
    state, timed, spent, count = run(state, 1), 0, 0.0, 1
    while spent < _TIMED_SECONDS and timed < num_outer_steps:
        started = time.perf_counter()
        state = run(state, count)
        spent, timed, count = spent + time.perf_counter() - started, timed + count, 2 * count
    seconds = spent / max(timed, 1)
    return Estimate(num_params(method.model), *need, compile_seconds, seconds, seconds * num_outer_steps)


def check_memory(
    method: Method, mesh: Mesh | None, key: jax.Array, state: Any, real: Any, ahead: int = 0
) -> tuple[int, int, int]:
    """(program, arguments, free): bytes of memory on each device that compiled outer steps need, and that is free.

    The compiled program is kept for the run.

    Args:
        ahead: bytes of the windows that are read ahead, which the program counts with.

    Raises:
        OptionError: with advice, if they cannot fit.
    """
    numbers = replicate((jnp.int32(0), jnp.int32(1)), mesh)
    found = run_steps.lower(method.step, mesh, key, state, real, *numbers).compile().memory_analysis()
    if found is None:  # a backend that doesn't tell
        return 0, 0, free_memory()
    program = int(found.temp_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes) + ahead
    free = free_memory()
    if program > free:
        raise OptionError(_advice(method, program, free))
    return program, int(found.argument_size_in_bytes), free


def free_memory() -> int:
    """Bytes of memory that a program on one device can still take."""
    free = []
    for device in jax.local_devices():
        stats = device.memory_stats() or {}
        if "bytes_limit" in stats:
            free.append(stats["bytes_limit"] - stats.get("bytes_in_use", 0))
    return min(free) if free else free_host_memory() // jax.local_device_count()


def peak_memory() -> int | None:
    """Bytes that this process has needed at most so far: on the accelerator if there is one; None if nothing tells."""
    peaks = [(device.memory_stats() or {}).get("peak_bytes_in_use", 0) for device in jax.local_devices()]
    if any(peaks):
        return max(peaks)
    line = next((line for line in read_text("/proc/self/status").splitlines() if line.startswith("VmHWM:")), None)
    return int(line.split()[1]) * 1024 if line else None


def duration(seconds: float) -> str:
    """A length of time as people say it: 50 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _advice(method: Method, program: int, free: int) -> str:
    advice = ", ".join(method.advice.memory) or "a smaller network"
    return (
        f"An outer step needs {in_units(program)} on each device, but only {in_units(free)} are free. "
        f"Try {advice}, or more devices."
    )
