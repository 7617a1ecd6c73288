"""How a peer's process answers the benchmarks: one JSON command a line from stdin, one line on stdout for each.

{"op": "match", "path": NPZ, "workload": {...}}    loss and gradients of what is in NPZ, written back beside it
{"op": "prepare", "threads": N, "workload": {...}}         make what a step needs
{"op": "time", "steps": N}                         seconds, and seconds of processor time, of each of N outer steps
"""

import json
import resource
import sys
import time
from typing import Any


def serve(prepare, check, wait=lambda: None):
    """Answer commands until there are no more.

    Args:
        prepare: (threads, workload) -> something with a `step()`, and what it was made with.
        check: (path, workload or None) -> None, of what is in a file.
        wait: until the device is done.
    """
    ready: Any = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["op"] == "match":
            check(command["path"], command.get("workload"))
            answer = {}
        elif command["op"] == "prepare":
            ready, answer = prepare(command["threads"], command["workload"])
        else:
            answer = timed(ready.step, command["steps"], wait)
        print(json.dumps(answer), flush=True)


def timed(step, steps, wait):
    """Seconds on the clock, and of processor time, of each of so many steps; MiB that the process had at most."""
    seconds, work = [], []
    for _ in range(steps):
        started, busy = time.perf_counter(), time.process_time()
        step()
        wait()
        seconds.append(time.perf_counter() - started)
        work.append(time.process_time() - busy)
    return {"seconds": seconds, "work": work, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
