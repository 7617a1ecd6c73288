"""Several processes, on one machine or many, as one run: the first one writes and decides, the others follow.

Every process runs the same program on the same arguments; the devices of all of them share each outer step.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import jax
import numpy as np

from dd_jax.errors import OptionError, RunError
from dd_jax.runs import progress

Result = TypeVar("Result")

_HEARTBEAT_SECONDS = 30  # after which a silent process is given up


def join_processes(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Make this process one of several that run together; call it before anything is computed.

    Args:
        coordinator: HOST:PORT of the first process, reachable from all.
        num_processes, process_id: how many there are and which this is, from 0. All None: whatever launcher started the
            processes says (SLURM, Open MPI, Cloud TPU).

    Raises:
        OptionError: if they can't be found.
        RunError: if the processes don't meet.
    """
    given = [value is not None for value in (coordinator, num_processes, process_id)]
    if any(given) and not all(given):
        raise OptionError("coordinator, num_processes and process_id belong together. Give all three, or none.")
    if num_processes is not None and process_id is not None and not 0 <= process_id < num_processes:
        raise OptionError(f"process_id must be from 0 to {num_processes - 1}, but is {process_id}.")
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except (ValueError, KeyError) as error:
        raise OptionError(
            f"The number of processes is unknown, because no launcher gives it ({error}). Give coordinator, "
            "num_processes and process_id."
        ) from error
    except RuntimeError as error:
        raise RunError(
            f"The processes did not find each other: {str(error).splitlines()[0]}. Check coordinator and the "
            "network, and start all of them."
        ) from error
    if not is_first():
        progress.mute()


def is_first() -> bool:
    """Whether this is the process that writes."""
    return jax.process_index() == 0


def agree(*numbers: int) -> list[int]:
    """The first process's `numbers`, everywhere."""
    if jax.process_count() == 1:
        return list(numbers)
    from jax.experimental import multihost_utils

    return [int(n) for n in multihost_utils.broadcast_one_to_all(np.asarray(numbers, np.int32))]


def on_first(action: Callable[[], Result]) -> Result | None:
    """What `action` gives on the first process, None on the others, which wait until it is done.

    An error on the first process ends all of them: it is raised there, and a RunError that points to it elsewhere.
    """
    if jax.process_count() == 1:
        return action()
    result, failure = None, None
    if is_first():
        try:
            result = action()
        except Exception as error:
            failure = error
    (failed,) = agree(failure is not None)
    if failure is not None:
        raise failure
    if failed:
        raise RunError("The first process could not go on. Its output says why.")
    return result


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """Raise as a RunError what a collective operation reports when another process is gone."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1:
            raise
        raise RunError(
            f"Another process has ended or can't be reached: {str(error).splitlines()[0][:200]}. The "
            "checkpoints are intact. Start all processes again with the same commands to go on."
        ) from error
