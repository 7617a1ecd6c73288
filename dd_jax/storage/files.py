"""Writing files so that a kill, a crash or a full disk never leaves half of one behind."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from dd_jax.errors import OptionError, RunError

TEMPORARY = ".tmp"  # what the names of unfinished files end in; they start with a dot

_RESUME = "and run the same command again{resumes}"
_RESUMES = ": it resumes from the last checkpoint"
_ELSEWHERE = f"Make it writable {_RESUME}, or choose another directory"
_IN_THE_WAY = f"Move what is in the way {_RESUME}, or choose another directory"
_DISK_ERRORS = {
    errno.ENOSPC: ("there is no space left on the disk", f"Free some space {_RESUME}"),
    errno.EDQUOT: ("the disk quota is used up", f"Free some space {_RESUME}"),
    errno.EFBIG: ("the file is larger than is allowed here", f"Raise the limit on the size of files {_RESUME}"),
    errno.EROFS: ("the file system is read-only", _ELSEWHERE),
    errno.EACCES: ("permission is denied", _ELSEWHERE),
    errno.EPERM: ("permission is denied", _ELSEWHERE),
    errno.ENOTDIR: ("there is a file where a directory is expected", _IN_THE_WAY),
    errno.EEXIST: ("there is a file where a directory is expected", _IN_THE_WAY),
    errno.EISDIR: ("there is a directory where a file is expected", _IN_THE_WAY),
    errno.ENOENT: ("the directory is gone", "Put it back, or run the same command again to start anew"),
    errno.EIO: ("the disk reports an input/output error", f"Check the disk {_RESUME}"),
}


@contextlib.contextmanager
def disk_errors(action: str, out: str | Path, resumes: bool = True) -> Iterator[None]:
    """Turn what the disk refuses within the block into a RunError that says what to do.

    Args:
        action: what was being done, after "Can't", e.g. "save the checkpoint of step 40".
        out: the file or directory that was being written.
        resumes: whether the same command would go on from a checkpoint, rather than start anew.

    Raises:
        RunError: for a full disk, a quota, missing permission and the like. Other OSErrors pass.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_ERRORS:
            raise
        reason, remedy = _DISK_ERRORS[error.errno]
        where = f" ({error.filename})" if error.filename and str(error.filename) != str(out) else ""
        remedy = remedy.format(resumes=_RESUMES if resumes else "")
        raise RunError(f"Can't {action} in {out}: {reason}{where}. {remedy}.") from error


def atomic_write(path: str | Path, writer: Callable[[IO[bytes]], Any]) -> None:
    """Let `writer` fill a temporary file, then put it at `path` in one go; parent directories are made.

    At every moment `path` is absent, or the old file, or the new one, whole. The new one is on the disk
    when this returns. A failure leaves the old file as it was and no temporary one; a kill may leave a
    temporary one, see `remove_temporary`.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{secrets.token_hex(4)}{TEMPORARY}"
    try:
        with open(temporary, "xb") as file:
            writer(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path` atomically."""
    atomic_write(path, lambda file: file.write(data))


def write_json(path: str | Path, obj: Any) -> None:
    """Write `obj` to `path` as indented JSON, atomically; what `plain` takes is taken."""
    write_bytes(path, (json.dumps(plain(obj), indent=2, allow_nan=False) + "\n").encode())


def hash_json(content: Any) -> str:
    """The SHA-256 of what JSON knows, whatever the order of the names."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def hash_arrays(arrays: Mapping[str, Any]) -> str:
    """The SHA-256 of arrays by name: of their names, types, shapes and numbers."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        found.update(f"{name} {array.dtype} {array.shape};".encode())
        found.update(array.tobytes())
    return found.hexdigest()


def read_json(path: str | Path) -> Any:
    """Read JSON from `path`.

    Raises:
        RunError: if the file is missing, can't be read, or is garbled.
    """
    try:
        return parse_json(Path(path).read_bytes())
    except FileNotFoundError:
        raise RunError(f"{path} is missing.") from None
    except OSError as error:
        raise RunError(f"{path} can't be read: {error.strerror or error}.") from error
    except ValueError as error:
        raise RunError(f"{path} is damaged: it is not JSON ({error}).") from error


def parse_json(text: str | bytes) -> Any:
    """What JSON says; ValueError for all that is none: garbled, not in UTF-8, or nested too deeply for any of ours."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("brackets nested too deeply") from error


def remove_temporary(folder: Path) -> None:
    """Remove what killed writers left in `folder`; only for whoever alone may write there."""
    for leftover in folder.glob(f".*{TEMPORARY}"):
        leftover.unlink(missing_ok=True)


def sync_directory(folder: str | Path) -> None:
    """Put the names in `folder` on the disk, so that a rename survives a loss of power."""
    with contextlib.suppress(OSError):  # some systems and network disks can't; the rename itself is done
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def plain(value: Any, nonfinite: Callable[[float], Any] = str) -> Any:
    """`value` as JSON knows it: dicts with string keys, lists, strings, numbers, booleans and None.

    Takes dataclasses, mappings, sequences, paths, and NumPy or JAX arrays and scalars besides.

    Args:
        nonfinite: what an infinite number or NaN becomes, as JSON has neither: "inf" and "nan" by default.

    Raises:
        OptionError: for anything else.
    """
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else nonfinite(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name), nonfinite) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item, nonfinite) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = value if isinstance(value, list | tuple) else sorted(value)
        return [plain(item, nonfinite) for item in items]
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        return plain(np.asarray(value).tolist(), nonfinite)
    raise OptionError(f"Can't write {value!r} of type {type(value).__name__} as JSON: use numbers, strings or lists.")
