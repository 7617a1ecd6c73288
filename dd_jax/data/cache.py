"""Decoded datasets kept on disk as one npz each, so that images are decoded once."""

import functools
import hashlib
import math
import os
import shutil
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from dd_jax.data.arrays import RawData
from dd_jax.data.memory import in_units
from dd_jax.data.npz import read_arrays
from dd_jax.data.stack import Room
from dd_jax.data.telling import tell
from dd_jax.errors import DataError

FORMAT = 3  # part of every key; raise it when what is written changes
PARTS = ("train", "test", "validation")

_IMAGES, _REST = "train_x.npy", "rest.npz"


def cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    """Where decoded datasets are kept: `cache_dir`, or dd_jax/datasets under the user's cache folder."""
    if cache_dir is not None:
        return Path(cache_dir).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dd_jax" / "datasets"


def source_key(files: Iterable[Path], *facts: object) -> str:
    """A hash that changes when a source file or one of the facts does (names, sizes and times are looked at)."""
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in sorted(files)]
    return hashlib.sha256(repr((FORMAT, stats, facts)).encode()).hexdigest()[:16]


def cached(path: Path, build: Callable[[], RawData]) -> RawData:
    """What `path` holds; when there is nothing readable, what `build()` returns, which is then kept there.

    Warns:
        DataWarning: the result could not be kept.
    """
    found = _read(path)
    if found is not None:
        return found
    raw = build()
    try:
        _write(path, raw)
    except OSError as error:
        tell(f"Can't keep the decoded dataset at {path}: {error}. It is decoded again next time.")
    return raw


def mapped(folder: Path, build: Callable[[Room], RawData]) -> RawData:
    """What `folder` holds, its training images memory-mapped; when there is nothing, what `build` makes is kept there.

    Args:
        build: makes its training images in the room that it is given, which is on disk; the other parts in memory.

    Raises:
        DataError: the disk has no room for the images.
    """
    if not (folder / _REST).is_file():
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}.partial")
        partial.mkdir()
        try:
            raw = build(functools.partial(_on_disk, partial / _IMAGES))
            _write(partial / _REST, raw._replace(train=(np.zeros((0, 1, 1, 1), np.uint8), raw.train[1])))
            del raw
            shutil.rmtree(folder, ignore_errors=True)
            os.replace(partial, folder)
        except OSError as error:
            raise DataError(f"Can't keep the decoded images in {folder}: {error}. Give another cache_dir.") from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    rest = _read(folder / _REST)
    if rest is None:
        raise DataError(f"{folder} is damaged. Delete it: the next run makes it again.")
    labels = rest.train[1]
    return rest._replace(train=(np.load(folder / _IMAGES, mmap_mode="r")[: len(labels)], labels))  # some may be broken


def _on_disk(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    needed, free = math.prod(shape), shutil.disk_usage(path.parent).free
    if needed > free:
        raise DataError(
            f"{shape[0]} decoded images of {shape[1]}x{shape[2]} take {in_units(needed)}, but only {in_units(free)} "
            f"are free on the disk of {path.parent.parent}. Give a smaller image_size, or another cache_dir."
        )
    return np.lib.format.open_memmap(path, "w+", np.uint8, shape)


def _read(path: Path) -> RawData | None:
    try:
        arrays = read_arrays(path)
    except DataError:
        return None
    pairs = {part: (arrays[f"{part}_x"], arrays[f"{part}_y"]) for part in PARTS if f"{part}_x" in arrays}
    if "train" not in pairs or "class_names" not in arrays:
        return None
    notes = tuple(arrays["notes"].tolist()) if "notes" in arrays else ()
    return RawData(**pairs, class_names=tuple(arrays["class_names"].tolist()), notes=notes)


def _write(path: Path, raw: RawData) -> None:
    arrays = {"class_names": np.asarray(raw.class_names or ()), "notes": np.asarray(raw.notes, str)}
    for part in PARTS:
        pair = getattr(raw, part)
        if pair is not None:
            arrays[f"{part}_x"], arrays[f"{part}_y"] = pair
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
