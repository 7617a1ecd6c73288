"""The directory of a run: who may write in it, what it was started with, and its metrics.

config.json      the configuration and where the run came from (versions, device, source revision)
metrics.jsonl    one JSON object a line
checkpoints/     distilled/     figures/     and, once it was measured on test: results.json     report.html
"""

import contextlib
import dataclasses
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import IO, Any

from dd_jax.errors import RunError
from dd_jax.runs.files import (
    TEMPORARY,
    atomic_write,
    disk_errors,
    plain,
    read_json,
    remove_temporary,
    write_bytes,
    write_json,
)

_PACKAGES = {"dd_jax": "dd-jax", "jax": "jax", "jaxlib": "jaxlib", "flax": "flax", "optax": "optax", "numpy": "numpy"}
_BIT_RELEVANT = (*_PACKAGES, "python", "device", "num_devices", "revision")  # may change the last bits of a result
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory that this process holds; `close` it, or use it as a context manager.

    resuming: the directory already held this configuration.
    notes: what the user should know, one sentence each.
    """

    path: Path
    resuming: bool = False
    notes: tuple[str, ...] = ()
    _lock: IO[str] | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def config_path(self) -> Path:
        return self.path / "config.json"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def distilled(self) -> Path:
        return self.path / "distilled"

    @property
    def figures(self) -> Path:
        return self.path / "figures"

    def __enter__(self) -> "RunDirectory":
        return self

    def __exit__(self, *_: object) -> None:
        close(self)


def open_run(out: str | Path, config: Mapping[str, Any]) -> RunDirectory:
    """Take hold of the directory `out` for a run of `config`: a new one, or one to go on with.

    config: what the result depends on; anything that `dd_jax.runs.files.plain` takes.

    Raises:
        RunError: if `out` can't be written, belongs to another process that is running, holds another
            configuration, or holds files that are not a run's. What is there is left as it is.
    """
    path = Path(out).expanduser().absolute()
    with disk_errors("use the run directory", path):
        path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path)
        lock = _lock(path)
        try:
            remove_temporary(path)
            resuming, notes = _claim(path, plain(config))
        except BaseException:
            lock.close()
            raise
    return RunDirectory(path, resuming, notes, lock)


def close(run: RunDirectory) -> None:
    """Let go of the directory, so that another process may take it. Closing twice does no harm."""
    if run._lock is not None:
        run._lock.close()


def append_metrics(run: RunDirectory, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append `rows` to the metrics, one JSON object a line; numbers that are not finite become null."""
    lines = "".join(json.dumps(plain(row, nonfinite=lambda _: None), allow_nan=False) + "\n" for row in rows)
    with disk_errors("append to the metrics", run.metrics_path), open(run.metrics_path, "ab+") as file:
        file.truncate(_end_of_last_line(file))
        file.write(lines.encode())


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of the metrics file at `path`; none if there is no file. A last line cut short is left out.

    Raises:
        RunError: if another line is garbled.
    """
    return [row for _, row in _lines(Path(path))]


def truncate_metrics(run: RunDirectory, step: int) -> None:
    """Drop the rows after `step` from the metrics, as if the run had stopped there."""
    kept = [line for line, row in _lines(run.metrics_path) if row.get("step", step) <= step]
    if run.metrics_path.exists():
        with disk_errors("shorten the metrics", run.metrics_path):
            write_bytes(run.metrics_path, b"".join(kept))


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Every whole line of the metrics, as it stands and as a row."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_bytes().splitlines(keepends=True), start=1):
        if not line.endswith(b"\n"):
            break
        try:
            row = json.loads(line)
        except ValueError as error:
            raise RunError(f"Line {number} of {path} is damaged: {error}. Remove the line to go on.") from error
        rows.append((line, row))
    return rows


def _end_of_last_line(file: IO[bytes]) -> int:
    """Where the last whole line ends: what a killed process left after it must not garble the next one."""
    end = file.seek(0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            return start + newline + 1
        end = start
    return 0


# Taking the directory.


def _refuse_foreign(path: Path) -> None:
    """A directory with files but no config.json is someone else's, unless opening it was cut short."""
    ours = {".lock", "checkpoints", "distilled", "figures"}
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.endswith(TEMPORARY))
    if "config.json" not in names and not ours.issuperset(names):
        raise RunError(
            f"{path} is not empty (it holds {', '.join(names[:3])}{', …' if len(names) > 3 else ''}) and has no "
            "config.json, so it is no run directory. Choose another one."
        )


def _lock(path: Path) -> IO[str]:
    """Hold `.lock` until it is closed or the process dies; it contains the holder's process id."""
    file = open(path / ".lock", "a+")  # noqa: SIM115 (held open for as long as the run)
    try:
        if not _flock(file):
            file.seek(0)
            holder = file.read().strip() or "unknown"
            who = "this very process, which has not closed it" if holder == str(os.getpid()) else f"process {holder}"
            raise RunError(f"{path} is in use by {who}. Wait until it ends, stop it, or choose another directory.")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file


def _flock(file: IO[str]) -> bool:
    """Whether the lock is ours now."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _claim(path: Path, config: dict[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Write config.json, or compare it with the one that is there; whether it was, and notes."""
    config_path = path / "config.json"
    if config_path.exists():
        saved = read_json(config_path)
        if not isinstance(saved, dict) or "config" not in saved:
            raise RunError(f"{config_path} was not written by dd_jax. Choose another directory.")
        remedy = "Choose another directory, or delete this one to start anew."
        refuse_difference(saved["config"], config, f"{path} holds a run with another configuration", remedy)
        atomic_write(path / ".probe", lambda file: file.write(b"writable"))  # or it would fail at the first checkpoint
        (path / ".probe").unlink()
        notes = _version_notes(saved.get("provenance", {}), provenance())
        resuming = True
    else:
        write_json(config_path, {"config": config, "provenance": provenance()})
        resuming, notes = False, ()
    for name in ("checkpoints", "distilled", "figures"):
        (path / name).mkdir(exist_ok=True)
    return resuming, notes


def refuse_difference(there: Any, asked: Any, holds: str, remedy: str) -> None:
    """Raise a RunError if the two configurations differ: what is there, line by line how it differs, what to do."""
    if different := _differences(there, asked):
        listing = "\n".join(f"  {line}" for line in different)
        raise RunError(f"{holds}:\n{listing}\n{remedy}")


def _differences(there: Any, asked: Any, prefix: str = "") -> list[str]:
    """One line for every key that differs, nested ones dotted: "method.num_steps: 10 there, 20 asked for"."""
    if isinstance(there, dict) and isinstance(asked, dict):
        keys = {**there, **asked}
        pairs = [
            (f"{prefix}.{key}" if prefix else key, there.get(key, _ABSENT), asked.get(key, _ABSENT)) for key in keys
        ]
        return [line for name, left, right in pairs for line in _differences(left, right, name)]
    if there == asked:  # 1 and 1.0 are the same
        return []
    shown = ["absent" if value is _ABSENT else json.dumps(value) for value in (there, asked)]
    return [f"{prefix}: {shown[0]} there, {shown[1]} asked for"]


# Where a run came from.


def provenance() -> dict[str, Any]:
    """Versions, device, source revision, command and time of this process."""
    import jax

    devices = jax.devices()
    return {
        **{name: _version(package) for name, package in _PACKAGES.items()},
        "python": platform.python_version(),
        "device": devices[0].device_kind,
        "num_devices": len(devices),
        "revision": _revision(),
        "argv": sys.argv,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:  # a checkout that was put on the path
        return getattr(sys.modules.get(package.replace("-", "_")), "__version__", None)


def _revision() -> str | None:
    """The git revision of the source, "+dirty" if tracked files were changed; None if it is no checkout."""
    source = Path(__file__).parent

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()

    with contextlib.suppress(OSError, subprocess.SubprocessError):
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails if installed inside another project's checkout
        dirty = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+dirty" if dirty else "")
    return None


def _version_notes(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    changed = [
        f"{name} {then[name]} then, {now[name]} now" for name in _BIT_RELEVANT if then.get(name, now[name]) != now[name]
    ]
    if not changed:
        return ()
    return (f"This run was started with other versions ({'; '.join(changed)}): results may differ in the last bits.",)
