"""A folder that is written as a whole: beside its place first, and then put there in place of the one before."""

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dd_jax.errors import RunError
from dd_jax.storage.files import disk_errors, read_json, sync_directory, write_json

MANIFEST = "export.json"

_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # what file managers leave wherever they look
_IMMOVABLE = (errno.EBUSY, errno.EXDEV, errno.EINVAL)  # a mount point, or the working directory of some systems


@contextlib.contextmanager
def whole_folder(out: Path, about: Mapping[str, Any]) -> Iterator[Path]:
    """Yield a new folder to write in; when the block ends it takes the place of `out`, with a manifest of its files.

    `out` is there as it was, or new and whole, but for the moment between two renames. A block that fails leaves
    nothing; a kill may leave a folder beside `out` whose name starts with a dot and ends in .new or .old. Files are not
    forced to the disk one by one: an export can be made again.

    Args:
        about: goes into the manifest.

    Raises:
        RunError: if `out` holds anything that no export has left there, or if the disk refuses.
    """
    refuse_foreign(out)
    new = _beside(out, "new")
    missing = [folder for folder in out.parents if not folder.exists()]
    with disk_errors("export", out, resumes=False):
        try:
            new.mkdir(parents=True)
            yield new
            write_json(new / MANIFEST, {**about, "files": _digests(new)})
            refuse_foreign(out)  # as it is by now
            _put(new, out)
        except BaseException:
            shutil.rmtree(new, ignore_errors=True)
            for folder in missing:
                with contextlib.suppress(OSError):  # not empty: someone else's by now
                    folder.rmdir()
            raise


def refuse_foreign(out: Path) -> None:
    """Raise RunError if `out` is no folder, or holds files that are not as an export has left them."""
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir():
        raise RunError(f"Can't export to {out}: it is a file, but must be a folder. Choose another name.")
    with disk_errors("look into the folder for the export", out, resumes=False):
        found = _digests(out)
    if not found:
        return
    if MANIFEST not in found:
        raise RunError(
            f"{out} is not an export that could be replaced: it has no {MANIFEST}, but holds {_listed(found)}. "
            "Choose another folder."
        )
    known = read_json(out / MANIFEST)
    listed = known.get("files") if isinstance(known, dict) else None
    ours = listed if isinstance(listed, dict) else {}
    foreign = [name for name, digest in found.items() if name != MANIFEST and ours.get(name) != digest]
    if foreign:
        raise RunError(
            f"{out} holds an export with files that were added or changed since: {_listed(foreign)}. Move them "
            "away, or choose another folder."
        )


def _digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file, by its path within the folder, with slashes."""
    found = {}
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        for name in sorted((*files, *links)):
            path = Path(root) / name
            if name not in _LITTER:
                plain_file = path.is_file() and not path.is_symlink()
                digest = hashlib.sha256(path.read_bytes()).hexdigest() if plain_file else "not a file"
                found[path.relative_to(folder).as_posix()] = digest
    return found


def _put(new: Path, out: Path) -> None:
    if not out.exists():
        os.rename(new, out)
        sync_directory(out.parent)
        return
    old = _beside(out, "old")
    try:
        os.rename(out, old)
    except OSError as error:
        if error.errno not in _IMMOVABLE:
            raise
        raise RunError(f"Can't export to {out}: it can't be replaced as a whole. Choose a folder inside it.") from error
    try:
        os.rename(new, out)
    except BaseException:
        os.rename(old, out)
        raise
    sync_directory(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def _beside(out: Path, ending: str) -> Path:
    return out.parent / f".{out.name}.{secrets.token_hex(4)}.{ending}"


def _listed(names: Any) -> str:
    names = sorted(names)
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
