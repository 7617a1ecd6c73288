"""Processes that are started again and again, by one that has imported everything: a start costs milliseconds.

That one computes nothing, so that each of them begins as a new process does: it initialises JAX, compiles, opens files,
and can be killed.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

_SERVER = """
import json, os, sys
body, imports = sys.argv[1:]
exec(imports)
while line := sys.stdin.buffer.readline():
    order = json.loads(line)
    if isinstance(order, int):  # the end of this one is waited for
        answer = os.waitstatus_to_exitcode(os.waitpid(order, 0)[1])
    elif (answer := os.fork()) == 0:
        break
    print(answer, flush=True)
else:
    sys.exit()
arguments, said, errors = order
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
os.dup2(os.open(said, os.O_WRONLY), 1)
os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT), 2)
sys.argv = ["forked", *arguments]
exec(body, {"__name__": "__main__"})
"""


class Forks:
    """Starts processes that run `body`, after `imports`, which are made once, in an environment with these changes."""

    def __init__(self, body: str, imports: str, **environment: str):
        paths = os.pathsep.join(filter(None, sys.path))
        self._server = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", _SERVER, body, imports],
            env={**os.environ, "PYTHONPATH": paths, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._folder = tempfile.TemporaryDirectory()
        self._started: list[Fork] = []

    def start(self, *arguments: object) -> "Fork":
        folder = Path(self._folder.name, str(len(self._started)))
        folder.mkdir()
        os.mkfifo(folder / "said")
        pid = self.ask([[str(argument) for argument in arguments], str(folder / "said"), str(folder / "errors")])
        self._started.append(Fork(self, pid, folder))
        return self._started[-1]

    def ask(self, order: object) -> int:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(order).encode() + b"\n")
        self._server.stdin.flush()
        return int(self._server.stdout.readline())

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *_: object) -> None:
        for left in [fork for fork in self._started if fork.returncode is None]:
            left.kill()
            left.communicate()
        self._server.communicate()
        self._folder.cleanup()


class Fork:
    """One of these processes; as `subprocess.Popen` in what it has."""

    def __init__(self, forks: Forks, pid: int, folder: Path):
        self.pid, self.returncode = pid, None
        self._forks, self._errors = forks, folder / "errors"
        self.stdout = open(folder / "said", "rb")  # noqa: SIM115 (`communicate` closes it)

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float = 300.0) -> tuple[bytes, bytes]:
        """Wait for its end, and kill it after `timeout` seconds: what is left to read of what it said, its errors."""
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        said = self.stdout.read()
        self.stdout.close()
        self.returncode = self._forks.ask(self.pid)
        timer.cancel()
        return said, self._errors.read_bytes()
