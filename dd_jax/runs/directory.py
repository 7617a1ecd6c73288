"""The directory of a run: who may write in it, what it was started with, and its metrics.

config.json      the configuration, where the run came from (versions, device, source revision) and, of one that was
                 made in Python, how its dataset was read
metrics.jsonl    one JSON object a line
checkpoints/     distilled/     figures/     and, once it was measured on test: results.json     report.html
"""

import contextlib
import dataclasses
import errno
import itertools
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any

from dd_jax.errors import RunError
from dd_jax.renamed import with_new_names
from dd_jax.runs.places import followed
from dd_jax.runs.provenance import changes_since, provenance
from dd_jax.storage.files import (
    TEMPORARY,
    atomic_write,
    disk_errors,
    parse_json,
    plain,
    read_json,
    remove_temporary,
    write_bytes,
    write_json,
)

FOLDERS = ("checkpoints", "distilled", "figures")

_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)  # of some network file systems
_ABSENT = object()


@dataclasses.dataclass(frozen=True)
class RunDirectory:
    """A run directory that this process holds; `close` it, or use it as a context manager.

    Where the block of a new run ends with an error before anything was kept, what was made for it goes again.

    Attributes:
        resuming: the directory already held this configuration.
        notes: what the user should know, one sentence each.
        made: the directories that were made for it, the outermost last.
    """

    path: Path
    resuming: bool = False
    notes: tuple[str, ...] = ()
    made: tuple[Path, ...] = ()
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

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        if kind is not None and not self.resuming and self._lock is not None:
            _remove_start(self)
        close(self)


def open_run(out: str | Path, config: Mapping[str, Any], reading: Mapping[str, Any] | None = None) -> RunDirectory:
    """Take hold of the directory `out` for a run of `config`: a new one, or one to go on with.

    Args:
        config: what the result depends on; anything that `dd_jax.storage.files.plain` takes.
        reading: how its dataset is read again, where `config` doesn't say.

    Raises:
        RunError: if `out` can't be written, belongs to another process that is running, holds another
            configuration, or holds files that are not a run's. What is there is left as it is.
    """
    path = Path(out).expanduser().absolute()
    made = tuple(itertools.takewhile(lambda place: not place.exists(), (path, *path.parents)))
    with disk_errors("use the run directory", path):
        path.mkdir(parents=True, exist_ok=True)
        _refuse_foreign(path)
        lock, locked = _lock(path)
        there = (path / "config.json").exists()
        try:
            remove_temporary(path)
            resuming, notes = _claim(path, plain(config), plain(dict(reading or {})))
        except BaseException:
            RunDirectory(path, there, made=made, _lock=lock).__exit__(BaseException)
            raise
    if not locked:
        notes += (
            f"The file system of {path} has no locks, so a second process could write there too. Run only "
            "one at a time.",
        )
    return RunDirectory(path, resuming, notes, made, lock)


def close(run: RunDirectory) -> None:
    """Let go of the directory, so that another process may take it. Closing twice does no harm."""
    if run._lock is not None:
        run._lock.close()


def _remove_start(run: RunDirectory) -> None:
    """Remove what opening a new run made, if nothing else is there; what can't be removed stays."""
    folders = [run.path / name for name in FOLDERS]
    files = {run.path / "config.json", run.path / ".lock"}
    if not {*files, *folders}.issuperset(run.path.iterdir()) or any(
        f.is_file() for folder in folders for f in folder.rglob("*")
    ):
        return
    with contextlib.suppress(OSError):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
        for file in files:
            file.unlink(missing_ok=True)
        for place in run.made:
            place.rmdir()


def append_metrics(run: RunDirectory, rows: Iterable[Mapping[str, Any]]) -> None:
    """Append `rows` to the metrics, one JSON object a line; numbers that are not finite become null."""
    lines = "".join(json.dumps(plain(row, nonfinite=lambda _: None), allow_nan=False) + "\n" for row in rows)
    with disk_errors("append to the metrics", run.metrics_path), open(run.metrics_path, "ab+") as file:
        file.truncate(_end_of_last_line(file))
        file.write(lines.encode())
        file.flush()
        os.fsync(file.fileno())  # or a loss of power could take rows from before a checkpoint that is on the disk


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows of the metrics file at `path`; none if there is no file. A last line cut short is left out.

    Raises:
        RunError: if another line is garbled, or the file can't be read.
    """
    return [row for _, row in _lines(Path(path))]


def truncate_metrics(run: RunDirectory, step: int, rollbacks: int) -> None:
    """Drop the rows after `step`, and those of later rollbacks, from the metrics, as if the run had stopped there."""

    def earlier(row: Mapping[str, Any]) -> bool:
        return row.get("step", step) <= step and row.get("rollbacks", 0) <= rollbacks

    kept = [line for line, row in _lines(run.metrics_path) if earlier(row)]
    if run.metrics_path.exists():
        with disk_errors("shorten the metrics", run.metrics_path):
            write_bytes(run.metrics_path, b"".join(kept))


def _lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Every whole line of the metrics, as it stands and as a row."""
    try:
        lines = path.read_bytes().split(b"\n")[:-1]  # not splitlines, which takes a garbled byte for an end of line
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}.") from error
    return [(line + b"\n", _row(line, number, path)) for number, line in enumerate(lines, start=1)]


def _row(line: bytes, number: int, path: Path) -> dict[str, Any]:
    try:
        row = parse_json(line)
        if not isinstance(row, dict) or type(row.get("step", 0)) is not int:
            raise ValueError("it is not an object with a whole number as its step")
    except ValueError as error:
        raise RunError(f"Line {number} of {path} is damaged: {error}. Remove the line to go on.") from error
    return row


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
    ours = {".lock", *FOLDERS}
    names = sorted(entry.name for entry in path.iterdir() if not entry.name.endswith(TEMPORARY))
    if "config.json" not in names and not ours.issuperset(names):
        raise RunError(
            f"{path} is not a run directory: it has no config.json, but holds "
            f"{', '.join(names[:3])}{(', …' if len(names) > 3 else '')}. Choose another directory."
        )


def _lock(path: Path) -> tuple[IO[str], bool]:
    """Hold `.lock` until it is closed or the process dies; it contains the holder's process id. False: to no effect."""
    file = open(path / ".lock", "a+", errors="replace")  # noqa: SIM115 (held open for as long as the run)
    try:
        held = _flock(file)
        if held is False:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            who = "this process itself, which has not closed it" if holder == str(os.getpid()) else f"process {holder}"
            raise RunError(f"{path} is in use by {who}. Wait until it ends, stop it, or choose another directory.")
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    except BaseException:
        file.close()
        raise
    return file, held is not None


def _flock(file: IO[str]) -> bool | None:
    """Whether the lock is ours now; None where there are no locks."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return None
    return True


def _claim(path: Path, config: dict[str, Any], reading: dict[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Write config.json, or compare it with the one that is there; whether it was, and notes."""
    config_path = path / "config.json"
    if config_path.exists():
        saved = read_config(path)
        remedy = "Choose another directory, or delete this one to start again."
        there, moved = followed(saved["config"], config)
        refuse_difference(there, config, f"{path} holds a run with another configuration", remedy)
        atomic_write(path / ".probe", lambda file: file.write(b"writable"))  # or it would fail at the first checkpoint
        (path / ".probe").unlink()
        current = {**saved, "config": there, **({"reading": reading} if reading else {})}
        if current != saved:
            write_json(config_path, current)
        notes = (*moved, *changes_since(saved["provenance"], provenance()))
        resuming = True
    else:
        found = {"reading": reading} if reading else {}
        write_json(config_path, {"config": config, "provenance": provenance(), **found})
        resuming, notes = False, ()
    for name in FOLDERS:
        (path / name).mkdir(exist_ok=True)
    return resuming, notes


def read_config(path: Path) -> dict[str, Any]:
    """What config.json in the run directory `path` holds: "config", "provenance" and "reading", all dictionaries.

    Options are under the names that they have now, whatever they were called when the run was started.

    Raises:
        RunError: if it is missing or garbled, or wasn't written by dd_jax.
    """
    file = path / "config.json"
    try:
        saved = read_json(file)
    except RunError as error:
        raise RunError(f"{error} Put back a copy, or choose another directory.") from error
    if not isinstance(saved, dict) or "config" not in saved:
        raise RunError(f"{file} was not written by dd_jax. Choose another directory.")
    saved = {"provenance": {}, "reading": {}, **saved}
    if damaged := [name for name in ("config", "provenance", "reading") if not isinstance(saved[name], dict)]:
        raise RunError(
            f"{file} is damaged: {damaged[0]!r} should be an object. Put back a copy, or choose another directory."
        )
    return {**saved, "config": with_new_names(saved["config"])}


def refuse_difference(there: Any, asked: Any, holds: str, remedy: str) -> None:
    """Raise a RunError if the two configurations differ: what is there, line by line how it differs, what to do."""
    if different := _differences(there, asked):
        listing = "\n".join(f"  {line}" for line in different)
        raise RunError(f"{holds}:\n{listing}\n{remedy}")


def _differences(there: Any, asked: Any, prefix: str = "") -> list[str]:
    """One line for every key that differs, nested ones dotted: "method.num_batches: 10 there, 20 asked for"."""
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
