"""Where the data and the code of a run lie: paths are recorded whole, and what moved is followed by its fingerprint."""

import copy
import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

KINDS = ("folder", "graph", "npz", "planetoid", "usps")  # of datasets that are named by a path, KIND:PATH
NETWORKS = ("pretrained", "experts")


def whole(dataset: str) -> str:
    """The name of a dataset, its path from the root; the name itself where it has no path."""
    kind, _, path = dataset.partition(":")
    return f"{kind}:{Path(path).expanduser().absolute()}" if kind in KINDS and path else dataset


def whole_reading(reading: Mapping[str, Any]) -> dict[str, Any]:
    """How a dataset is read, its path from the root."""
    named = {"name": whole(reading["name"])} if "name" in reading else {}
    return {**reading, **named}


def whole_file(path: str | None) -> str | None:
    """The path of a file or folder from the root; what is neither, such as the name of a preset, as it is."""
    if path is None or not Path(path).expanduser().exists():
        return path
    return str(Path(path).expanduser().absolute())


def resolved(place: str) -> str:
    """A dataset or a file with the path that links lead to; other names as they are."""
    kind, _, path = place.partition(":")
    if kind in KINDS and path:
        return f"{kind}:{os.path.realpath(Path(path).expanduser())}"
    return os.path.realpath(place) if os.path.isabs(place) else place


def is_missing(dataset: str) -> bool:
    """Whether a dataset, or a file, is named by a path that isn't there."""
    if os.path.isabs(dataset):
        return not os.path.exists(dataset)
    kind, _, path = dataset.partition(":")
    place = Path(path.removesuffix("/inductive")).expanduser()
    return kind in KINDS and bool(path) and not (place.parent if kind == "planetoid" else place).exists()


def followed(there: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A configuration with the places that another one says, as far as their fingerprints tell that they hold the same.

    Returns it with a sentence for each dataset that moved, and each source that changed.

    Args:
        there: the recorded configuration.
        asked: the one that is asked for. Both have a "dataset" of a name and a fingerprint, and may have a "source"
            that says where dataset and networks are read from; either may be in it one level below. And they may have
            "code", the sources of methods and networks of one's own by name, which is followed though it has changed.
    """
    found: dict[str, Any] = copy.deepcopy(dict(there))
    notes: list[str] = []
    for name, part in found.items():
        other = asked.get(name)
        if isinstance(part, Mapping) and isinstance(other, Mapping) and "dataset" in part:
            found[name], more = followed(part, other)
            notes += more
    mine, theirs = (_fingerprinted(config, "dataset") for config in (found, asked))
    if mine is not None and theirs is not None and mine["fingerprint"] == theirs["fingerprint"]:
        if whole(str(mine["name"])) != whole(str(theirs["name"])):
            notes.append(f"The dataset was {mine['name']} and is now {theirs['name']}, with the same fingerprint.")
        mine["name"] = theirs["name"]
        _take(found, asked, "dataset")
    for name in NETWORKS:
        learnt_from = [config.get("method", {}) for config in (found, asked)]
        prints = [method.get(name) if isinstance(method, Mapping) else None for method in learnt_from]
        if prints[0] is not None and prints[0] == prints[1]:
            _take(found, asked, name)
    code, now = found.get("code", {}), asked.get("code", {})
    if isinstance(code, Mapping) and isinstance(now, Mapping) and (not code or code.keys() == now.keys()) and now:
        notes += (told for name in code if (told := changed_source(name, code[name], now[name])))
        found["code"] = copy.deepcopy(dict(now))
    return found, tuple(notes)


def source_of(name: str) -> dict[str, str]:
    """Where the code of MODULE:FUNCTION lies: its "file", from the root, and the "sha256" of what stands in it.

    Empty of a module without a file. Modules that it imports are not in the hash.

    Args:
        name: of something that `load_own` has loaded.
    """
    file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    if file is None or not Path(file).is_file():
        return {}
    return {"file": str(Path(file).absolute()), "sha256": hashlib.sha256(Path(file).read_bytes()).hexdigest()}


def changed_source(name: str, then: Any, now: Mapping[str, str]) -> str:
    """A sentence on code that is no longer what it was, or no longer where; empty where it is.

    Args:
        name: MODULE:FUNCTION; then, now: its "file" and "sha256".
    """
    before = then if isinstance(then, Mapping) else {}
    if before.get("sha256") != now.get("sha256"):
        return (
            f"The source of {name} ({now.get('file', 'without a file')}) has changed since the run was started: what "
            "follows may differ from what it would have given."
        )
    if before.get("file") != now.get("file"):
        return f"The source of {name} was {before.get('file')} and is now {now.get('file')}, with the same content."
    return ""


def _fingerprinted(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    part = config.get(name)
    return part if isinstance(part, dict) and {"name", "fingerprint"} <= part.keys() else None


def _take(found: Mapping[str, Any], asked: Mapping[str, Any], name: str) -> None:
    """Let the source of one be that of the other."""
    mine, theirs = found.get("source"), asked.get("source")
    if isinstance(mine, dict) and isinstance(theirs, Mapping) and name in mine and name in theirs:
        mine[name] = theirs[name]
