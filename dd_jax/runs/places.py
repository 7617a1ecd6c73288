"""Where the data of a run lie: paths are recorded whole, and data that moved are followed by their fingerprint."""

import copy
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


def is_missing(dataset: str) -> bool:
    """Whether a dataset is named by a path that isn't there."""
    kind, _, path = dataset.partition(":")
    place = Path(path.removesuffix("/inductive")).expanduser()
    return kind in KINDS and bool(path) and not (place.parent if kind == "planetoid" else place).exists()


def followed(there: Mapping[str, Any], asked: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """A configuration with the places that another one says, as far as their fingerprints tell that they hold the same.

    Returns it with a sentence for each dataset that moved.

    Args:
        there: the recorded configuration.
        asked: the one that is asked for. Both have a "dataset" of a name and a fingerprint, and may have a "source"
            that says where dataset and networks are read from; either may be in it one level below.
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
    return found, tuple(notes)


def _fingerprinted(config: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    part = config.get(name)
    return part if isinstance(part, dict) and {"name", "fingerprint"} <= part.keys() else None


def _take(found: Mapping[str, Any], asked: Mapping[str, Any], name: str) -> None:
    """Let the source of one be that of the other."""
    mine, theirs = found.get("source"), asked.get("source")
    if isinstance(mine, dict) and isinstance(theirs, Mapping) and name in mine and name in theirs:
        mine[name] = theirs[name]
