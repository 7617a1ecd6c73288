"""Semantic versioning: the public names and their arguments are recorded, so that none goes or changes unnoticed.

After a change that is meant, `python tests/test_public_names.py` writes public_names.json anew. An addition is a minor
version; a name or an argument that goes needs an error that says the new one (dd_jax/renamed.py) and, from 1.0 on, a
major version.
"""

import inspect
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import dd_jax as dd

RECORD = Path(__file__).with_name("public_names.json")
MODULES = {"dd_jax": dd, "dd_jax.methods": dd.methods, "dd_jax.models": dd.models}


def arguments(thing: Any) -> list[str] | None:
    """The arguments of a function: "name" by place, "*name" by keyword, "=" if it may be left out; None for others."""
    if not inspect.isfunction(thing):
        return None
    kinds = inspect.Parameter
    found = []
    for one in inspect.signature(thing).parameters.values():
        star = {kinds.KEYWORD_ONLY: "*", kinds.VAR_KEYWORD: "**"}.get(one.kind, "")
        found.append(f"{star}{one.name}{'' if one.default is kinds.empty else '='}")
    return found


def names_of(module: Any) -> list[str]:
    listed = getattr(module, "__all__", None) or [name for name in vars(module) if not name.startswith("_")]
    return sorted(listed)


def found_now() -> dict[str, dict[str, list[str] | None]]:
    return {
        path: {name: arguments(getattr(module, name)) for name in names_of(module)} for path, module in MODULES.items()
    }


def breaks(old: list[str], new: list[str]) -> list[str]:
    """What calls that were right under `old` could miss under `new`."""
    plain = [one.strip("*=") for one in new]
    gone = [one for one in old if one.strip("*=") not in plain]
    by_place = [one.rstrip("=") for one in old if not one.startswith("*")]
    moved = (
        [] if [one.rstrip("=") for one in new][: len(by_place)] == by_place else ["the order of its first arguments"]
    )
    needed = [one for one in new if not one.startswith("**") and not one.endswith("=")]
    asked = [one for one in needed if one not in old]
    return [f"{one} is gone" for one in gone] + moved + [f"{one} is needed" for one in asked]


def test_public_names_are_those_of_the_record():
    recorded, now = json.loads(RECORD.read_text()), found_now()
    for path in MODULES:
        missing, new = set(recorded[path]) - set(now[path]), set(now[path]) - set(recorded[path])
        assert not missing, f"{path} lost {sorted(missing)}: keep them, or let them say their new names"
        assert not new, f"{path} has {sorted(new)} in addition: record them by python {Path(__file__).name}"


def test_calls_that_were_right_are_right():
    recorded, now = json.loads(RECORD.read_text()), found_now()
    for path in MODULES:
        for name, old in recorded[path].items():
            new = now[path].get(name)
            if old is not None and new is not None:
                assert not breaks(old, new), f"{path}.{name}: {breaks(old, new)}"


def test_what_breaks_a_call_is_found():
    assert breaks(["a", "b=", "*c="], ["a", "b=", "*c=", "*d="]) == []
    assert breaks(["a", "b="], ["a"]) == ["b= is gone", "the order of its first arguments"]
    assert breaks(["a", "b="], ["b=", "a"]) == ["the order of its first arguments"]
    assert breaks(["a"], ["a", "*b"]) == ["*b is needed"]


def test_the_version_is_the_same_everywhere():
    root = RECORD.parents[1]
    project = tomllib.loads((root / "pyproject.toml").read_text())
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "dd_jax.__version__"}
    (citation,) = re.findall(r"^version: (.*)$", (root / "CITATION.cff").read_text(), re.MULTILINE)
    (newest, *_) = re.findall(r"^## (\d+\.\d+\.\d+) \(", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert citation == newest == dd.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", dd.__version__)


if __name__ == "__main__":
    RECORD.write_text(json.dumps(found_now(), indent=1) + "\n")
