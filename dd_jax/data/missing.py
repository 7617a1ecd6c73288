"""What is said where something is missing: of a file, what is near it; of an extra, how to install it."""

import difflib
import importlib.metadata
import itertools
import json
import urllib.parse
from pathlib import Path

from dd_jax.data.telling import listed
from dd_jax.errors import DataError

_MOST = 10_000  # names of a folder that are looked through
_ALIKE = 0.6  # of the letters of two names


def not_there(kind: str, path: Path, expected: str) -> DataError:
    """An error for a `path` that doesn't exist, with the names in its folder that are most like it.

    Args:
        kind: "file" or "folder".
        path: what was asked for.
        expected: a sentence that says what can be given.
    """
    return DataError(f"There is no {kind} {path}{_nearby(path)} {expected}")


def install_command(extra: str) -> str:
    """The shell command that installs an extra of this library from where it was installed: a clone, or an index."""
    clone = Path(__file__).parents[2]
    if (clone / "pyproject.toml").is_file():
        return f'pip install -e "{clone}[{extra}]"'
    return f'pip install "{_installed_from() or "dd-jax"}[{extra}]"'


def _nearby(path: Path) -> str:
    folder = path.parent
    shown = "the current directory" if str(folder) == "." else str(folder)
    if not folder.is_dir():
        return f", nor a folder {folder}."
    try:
        names = sorted(entry.name for entry in itertools.islice(folder.iterdir(), _MOST))
    except OSError:
        return "."
    stems = {Path(name).stem: name for name in names if Path(name).suffix == path.suffix}
    near = difflib.get_close_matches(path.stem, stems, n=1, cutoff=_ALIKE)
    if near:
        return f". Did you mean {folder / stems[near[0]]}?"
    alike = [name for name in names if path.suffix and Path(name).suffix == path.suffix]
    if alike:
        return f". In {shown} there are: {listed(alike)}."
    return "." if path.is_absolute() else f" (seen from {Path.cwd()})."


def _installed_from() -> Path | None:
    """The folder that pip installed the library from; None for an index, or a folder that is gone."""
    try:
        found = importlib.metadata.distribution("dd-jax").read_text("direct_url.json")
    except importlib.metadata.PackageNotFoundError:
        return None
    parts = urllib.parse.urlsplit(json.loads(found or "{}").get("url", ""))
    folder = Path(urllib.parse.unquote(parts.path))
    return folder if parts.scheme == "file" and (folder / "pyproject.toml").is_file() else None
