"""Checkpoints: save a pytree and get it back bit for bit, whatever moment the process was killed at.

`folder/step_00001234/` holds `arrays/` (written by Orbax) and `manifest.json`: the names, shapes and
dtypes of the leaves and the SHA-256 of every file. A checkpoint is written beside its final name and
renamed when it is whole and on the disk, so whatever bears the final name was complete once; the
manifest tells whether it still is.
"""

import contextlib
import hashlib
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import RunError
from dd_jax.storage.files import disk_errors, hash_json, read_json, sync_directory, write_json

FORMAT = 1  # of the layout in a checkpoint's directory

_UNFINISHED, _DISCARDED = ".saving-", ".removing-"  # prefixes of directories that are not checkpoints
_SHOWN = 5  # leaves that are named when a template does not match


class Restored(NamedTuple):
    """What was found. notes: one sentence for each damaged checkpoint that was passed over."""

    step: int
    tree: Any
    notes: tuple[str, ...] = ()


def save(folder: str | Path, step: int, tree: Any, keep: int = 3) -> None:
    """Save `tree` as the checkpoint of `step`; on return it is on the disk.

    The leaves are arrays of any dtype, typed PRNG keys included. They are copied to the host first, so
    the buffers may be donated afterwards. Of the checkpoints up to `step` the newest `keep` stay; later
    ones are there only if they were damaged and passed over, and go.

    Raises:
        RunError: if the disk refuses; earlier checkpoints are untouched.
    """
    folder, name = Path(folder), _name(step)
    unfinished, final = folder / f"{_UNFINISHED}{name}", folder / name
    with disk_errors(f"save the checkpoint of step {step}", folder):
        folder.mkdir(parents=True, exist_ok=True)
        _sweep(folder)
        try:
            unfinished.mkdir()
            leaves, keys = _write_arrays(unfinished / "arrays", tree)
            files = {_relative(file, unfinished): _sync_and_hash(file) for file in _files(unfinished)}
            content = {"format": FORMAT, "step": step, "leaves": leaves, "keys": keys, "files": files}
            write_json(unfinished / "manifest.json", {"sha256": hash_json(content), "content": content})
            for directory in [entry for entry in unfinished.rglob("*") if entry.is_dir()]:
                sync_directory(directory)
            _discard(final)
            os.replace(unfinished, final)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sync_directory(folder)
        _prune(folder, step, keep)


def drop_after(folder: str | Path, step: int) -> None:
    """Remove the checkpoints after `step`.

    Raises:
        RunError: if the disk refuses.
    """
    folder = Path(folder)
    with disk_errors(f"remove the checkpoints after step {step}", folder):
        for later in [other for other in (_steps(folder) if folder.is_dir() else []) if other > step]:
            _discard(folder / _name(later))


def restore_latest(folder: str | Path, template: Any, part: bool = False) -> Restored | None:
    """The newest intact checkpoint in `folder`, or None if there is none at all.

    Args:
        template: a pytree of the same structure, of arrays or `jax.ShapeDtypeStruct`s. The result has its structure,
            dtypes and, where the template's arrays are bound to devices, its placement.
        part: whether the checkpoint may hold more than the template, whose leaves are found by their names.

    Raises:
        RunError: if the template does not match, or if there are checkpoints and every one is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return None
    damages: list[tuple[int, str]] = []
    for step in sorted(_steps(folder), reverse=True):
        try:
            content = _verified(folder / _name(step), step)
        except _DamagedError as damage:
            damages.append((step, str(damage)))
            continue
        notes = tuple(f"checkpoint {_name(bad)} is damaged ({why}); fell back to {_name(step)}" for bad, why in damages)
        return Restored(step, _into(template, folder / _name(step), content, part), notes)
    if damages:
        listing = "; ".join(f"{_name(bad)}: {why}" for bad, why in damages)
        raise RunError(
            f"None of the checkpoints in {folder} is intact ({listing}). Delete {folder} to start again, or put "
            "back a copy of it."
        )
    return None


class _DamagedError(Exception):
    """Says what is wrong with a checkpoint."""


# Names and housekeeping.


def _name(step: int) -> str:
    return f"step_{step:08d}"


def _steps(folder: Path) -> list[int]:
    matches = [re.fullmatch(r"step_(\d{8,})", entry.name) for entry in folder.iterdir() if entry.is_dir()]
    return [int(match[1]) for match in matches if match]


def _discard(checkpoint: Path) -> None:
    """Remove a checkpoint. Renamed first, so that half a removal is never taken for a damaged one."""
    if checkpoint.exists():
        discarded = checkpoint.with_name(_DISCARDED + checkpoint.name)
        shutil.rmtree(discarded, ignore_errors=True)
        os.replace(checkpoint, discarded)
        shutil.rmtree(discarded, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for entry in folder.iterdir():
        if entry.name.startswith((_UNFINISHED, _DISCARDED)):
            shutil.rmtree(entry, ignore_errors=True)


def _prune(folder: Path, step: int, keep: int) -> None:
    steps = _steps(folder)
    kept = sorted(other for other in steps if other <= step)[-keep:]
    for other in set(steps) - set(kept):
        _discard(folder / _name(other))


# Hashes.


def _files(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.rglob("*") if entry.is_file())


def _relative(file: Path, folder: Path) -> str:
    return file.relative_to(folder).as_posix()


def _sync_and_hash(file: Path) -> str:
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _verified(checkpoint: Path, step: int) -> dict[str, Any]:
    """The content of the manifest, once every file has been found to be as it was written."""
    try:
        manifest = read_json(checkpoint / "manifest.json")
        content = manifest["content"]
        intact = manifest["sha256"] == hash_json(content)
    except (RunError, OSError, KeyError, TypeError) as error:
        raise _DamagedError("manifest.json is missing or garbled") from error
    if not intact or content["step"] != step:
        raise _DamagedError("manifest.json is garbled")
    if content["format"] != FORMAT:
        raise RunError(
            f"{checkpoint} has format {content['format']}, but this version of dd_jax reads format {FORMAT}. Use "
            "the version that wrote it."
        )
    for name, expected in content["files"].items():
        try:
            with open(checkpoint / name, "rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError as error:
            raise _DamagedError(f"{name} is missing") from error
        except OSError as error:
            raise _DamagedError(f"{name} can't be read: {error.strerror}") from error
        if found != expected:
            raise _DamagedError(f"{name} was changed after it was written")
    return content


# Leaves. Orbax stores a flat dict of host arrays. Keys go as their bits, dtypes that NumPy does not know by
# itself as bytes (its storage takes some of them only), and arrays without elements, which it refuses, not at
# all: the manifest knows their shape and dtype.


def _is_key(dtype: Any) -> bool:
    return jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key)


def _described(tree: Any) -> tuple[list[dict[str, Any]], list[Any]]:
    """Name, shape and dtype of every leaf, and the leaves; a key's dtype tells its kind, as "key<fry>"."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    names = [jax.tree_util.keystr(path) for path, _ in flat]
    leaves = [leaf if hasattr(leaf, "dtype") else np.asarray(leaf) for _, leaf in flat]
    descriptions = [
        {"name": name, "shape": list(leaf.shape), "dtype": str(leaf.dtype)}
        for name, leaf in zip(names, leaves, strict=True)
    ]
    return descriptions, leaves


def _write_arrays(target: Path, tree: Any) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Write the leaves under `target`; their descriptions, and the PRNG implementation of each key by slot."""
    descriptions, leaves = _described(tree)
    keys = {_slot(index): str(jax.random.key_impl(leaf)) for index, leaf in enumerate(leaves) if _is_key(leaf.dtype)}
    on_host = jax.device_get([jax.random.key_data(leaf) if _is_key(leaf.dtype) else leaf for leaf in leaves])
    arrays = {_slot(index): _storable(array) for index, array in enumerate(on_host) if array.size}
    if arrays:
        with _quiet(), _as_os_error(), _orbax() as orbax:
            orbax.save(target.absolute(), arrays)
    return descriptions, keys


def _read_arrays(target: Path) -> dict[str, np.ndarray]:
    if not target.exists():  # there was nothing to write
        return {}
    with _quiet(), _orbax() as orbax:
        return orbax.restore(target.absolute())


def _into(template: Any, checkpoint: Path, content: dict[str, Any], part: bool) -> Any:
    expected, slots = _described(template)
    asked = {leaf["name"] for leaf in expected}
    places = [place for place, leaf in enumerate(content["leaves"]) if not part or leaf["name"] in asked]
    saved = [content["leaves"][place] for place in places]
    if saved != expected:
        raise RunError(
            f"{checkpoint} does not fit this run: {_difference(saved, expected)}. It was saved with "
            "other options or by another version. Use the options that it was saved with, or another directory."
        )
    arrays, keys = _read_arrays(checkpoint / "arrays"), content["keys"]
    named = zip(map(_slot, places), slots, strict=True)
    restored = [_placed(arrays.get(name), slot, keys.get(name, "")) for name, slot in named]
    return jax.tree_util.tree_unflatten(jax.tree_util.tree_structure(template), restored)


def _placed(stored: np.ndarray | None, slot: Any, implementation: str) -> jax.Array:
    """The stored array with the dtype, the kind of key and the placement of its `slot` in the template."""
    bits = jax.eval_shape(jax.random.key_data, slot) if _is_key(slot.dtype) else slot
    stored = np.zeros(bits.shape, bits.dtype) if stored is None else stored.view(bits.dtype).reshape(bits.shape)
    array = jnp.asarray(stored)
    if _is_key(slot.dtype):
        array = jax.random.wrap_key_data(array, impl=implementation)
    # An array that isn't bound to a device must stay so, or it could not meet arrays on other ones.
    return jax.device_put(array, slot.sharding) if getattr(slot, "committed", False) else array


def _difference(saved: list[dict[str, Any]], expected: list[dict[str, Any]]) -> str:
    def shown(leaves: list[dict[str, Any]]) -> dict[str, str]:
        return {leaf["name"] or "the array": f"{leaf['dtype']}{leaf['shape']}" for leaf in leaves}

    there, asked = shown(saved), shown(expected)
    names = [name for name in {**there, **asked} if there.get(name) != asked.get(name)]
    listing = [f"{name} is {there.get(name, 'absent')} there, {asked.get(name, 'absent')} here" for name in names]
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return "; ".join(listing[:_SHOWN]) + more if names else "the leaves are in another order"


def _slot(index: int) -> str:
    return f"{index:05d}"


def _storable(array: np.ndarray) -> np.ndarray:
    """A copy (on a CPU `device_get` may hand out the device's own buffer) in a dtype that can be stored."""
    copied = np.array(array)
    return copied if copied.dtype.kind in "biufc" else copied.reshape(-1).view(np.uint8)


def _orbax() -> Any:
    import orbax.checkpoint as ocp

    # Of several processes only one ever comes here: nothing is to wait for the others.
    alone = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()})
    handler = ocp.PyTreeCheckpointHandler(use_ocdbt=True, multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what Orbax logs: what matters is raised as well."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _as_os_error() -> Iterator[None]:
    """Raise as an OSError what Orbax's storage reports as a ValueError with the error's number in the text."""
    try:
        yield
    except (ValueError, RuntimeError) as error:
        number = re.search(r"os_error_code='(\d+)'", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error
