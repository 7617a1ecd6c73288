"""Runs as one small record that can be kept in a repository: accuracies, the course of training, where it came from."""

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from dd_jax.errors import DataError, OptionError
from dd_jax.runs.comparing import configuration, runs_of
from dd_jax.runs.report import words
from dd_jax.runs.report.amounts import thinned
from dd_jax.runs.report.record import Measured, RunRecord
from dd_jax.storage.files import read_json

RESULTS = "results.json"
POINTS = 40  # of a validation curve, at most
_DIGITS = 5  # of an accuracy that is kept
_OF_THE_PLACE = ("--out", "--seed", "--seeds", "--devices")  # options that no number depends on, or that are said apart


@dataclasses.dataclass(frozen=True)
class About:
    """What a record says that run directories don't.

    Attributes:
        title: the cell, e.g. "MNIST, 10 images, ConvNet of width 16: DC".
        hardware: e.g. "one core of an AMD EPYC".
        published: accuracy in per cent, and its deviation where the paper has one, e.g. "79.8 ± 1.3"; None: nothing.
        source: of the published value; sure: how sure it is, in a few words.
        published_steps: outer steps of the paper, in those of the runs.
        note: what else should be known.
        baseline: the best baseline, where no run measured some and another page did, e.g. "86.3 ± 0.9 k-means".
    """

    title: str
    hardware: str
    published: str | None = None
    source: str | None = None
    sure: str | None = None
    published_steps: int | None = None
    note: str | None = None
    baseline: str | None = None


class _Member(NamedTuple):
    """A run, and where it lies."""

    path: Path
    record: RunRecord


def compact_record(paths: Sequence[str | Path], about: About, baselines_of: str | Path | None = None) -> dict[str, Any]:
    """The record of runs that differ in their seed alone, finished or not, for a json.

    Accuracies of networks and sets are kept with five digits, and of a validation curve `POINTS` points. The baselines
    are those of the first run that measured some. A `transfer.json` beside a set is kept, too.

    Args:
        paths: run directories, or folders with such in them.
        baselines_of: run that measured the baselines, of a set of the same shape, for the same network and protocol;
            None where one of the others did.

    Raises:
        DataError: where there is no run, a file of one is damaged, or one has neither been validated nor measured.
        OptionError: for runs that differ in more than their seed, twice the same seed, or a published value without
            its source and how sure it is.
    """
    if about.published is not None and not (about.source and about.sure):
        raise OptionError(f"The published value {about.published} needs its source, and how sure it is.")
    members = [_Member(path, record) for path, record in runs_of(paths)]
    members.sort(key=lambda member: int(member.record.setting("seed", default=0)))
    _check(members)
    first = members[0].record
    given = {name: value for name, value in dataclasses.asdict(about).items() if value is not None}
    return _without_places(
        {
            **given,
            "command": command(
                first.provenance.get("argv", []), [m.record.setting("seed", default=0) for m in members]
            ),
            "config": {name: value for name, value in first.config.items() if name != "seed"},
            "distillations": [_distillation(member) for member in members],
            "baselines": _baselines(
                members if baselines_of is None else [_Member(*found) for found in runs_of([baselines_of])]
            ),
            "made_with": {name: value for name, value in _made_with(first).items() if name != "argv"},
        }
    )


def compact_results(path: str | Path, about: About) -> dict[str, Any]:
    """The record of an application's results, such as an audit's or a study of privacy, for a json.

    Numbers are kept with five digits.

    Args:
        path: directory with a results.json that says in sentences what it found.

    Raises:
        DataError: if it has none, or a damaged one.
    """
    if not is_application(path):
        raise DataError(f"{path} has no results of an application: its results.json should have sentences, 'says'.")
    found = read_json(Path(path) / RESULTS)
    given = {name: value for name, value in dataclasses.asdict(about).items() if value is not None}
    return _without_places({**given, **_rounded(found)})


def is_application(path: str | Path) -> bool:
    """Whether a directory has the results of an application."""
    file = Path(path) / RESULTS
    return file.is_file() and isinstance(found := read_json(file), dict) and isinstance(found.get("says"), list)


def _rounded(found: Any) -> Any:
    if isinstance(found, Mapping):
        return {name: _rounded(value) for name, value in found.items()}
    if isinstance(found, list):
        return [_rounded(value) for value in found]
    return round(found, _DIGITS) if isinstance(found, float) else found


def _made_with(record: RunRecord) -> Mapping[str, Any]:
    return record.made_with or record.provenance


def _check(members: Sequence[_Member]) -> None:
    configurations = [configuration(member.record) for member in members]
    for member, found in zip(members, configurations, strict=True):
        if found != configurations[0]:
            raise OptionError(
                f"A record is of runs that differ in their seed alone, but {member.path} differs from "
                f"{members[0].path} in more (`dd-jax runs` shows in what)."
            )
        if words.own(member.record) is None and not member.record.validation:
            raise DataError(f"{member.path} has neither been validated nor measured: let it go on.")
    seeds = [member.record.setting("seed", default=0) for member in members]
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"Two runs have the same seed, of {', '.join(str(member.path) for member in members)}.")


def _distillation(member: _Member) -> dict[str, Any]:
    path, record = member
    found, started = words.own(record), record.provenance
    transfer = path / "transfer.json"
    return {
        "seed": record.setting("seed", default=0),
        "steps": record.steps_done,
        "seconds": None if record.seconds is None else round(record.seconds, 1),
        "memory": record.memory,
        "started": started.get("started"),
        "measured": record.made_with.get("started"),
        "revision": started.get("revision"),
        "curve": thinned([[row["step"], round(row["validation"], _DIGITS)] for row in record.validation], POINTS),
        **({} if found is None else _row(found)),
        **({"transfer": read_json(transfer)} if transfer.is_file() else {}),
    }


def _row(found: Measured) -> dict[str, Any]:
    more = {"chosen": found.chosen} if found.chosen else {}
    balanced = {} if found.balanced is None else {"mean_of_classes": round(found.balanced, _DIGITS)}
    return {"accuracies": [round(value, _DIGITS) for value in found.values], **balanced, **more}


def _baselines(members: Sequence[_Member]) -> dict[str, Any]:
    """Of the first run that has some; rivals have as many images and steps."""
    for _, record in members:
        rows = {name: row for name, row in record.rows.items() if not name.startswith("distilled")}
        if rows:
            return {name: {**_row(row), "rival": words.is_rival(name)} for name, row in rows.items()}
    return {}


def command(argv: Sequence[str], seeds: Sequence[int]) -> str:
    """The command of runs with these seeds, without what belongs to a machine; argv: as Python saw it in the first."""
    if not argv:
        return ""
    program, rest = PurePath(argv[0]), iter(argv[1:])
    called = f"python {program.parent.name}/{program.name}" if program.parent.name == "experiments" else "dd-jax"
    kept = []
    for word in rest:
        option, equals, _ = word.partition("=")
        if option not in _OF_THE_PLACE:
            kept.append(word)
        elif not equals:
            next(rest, None)
    if list(seeds) != [0]:
        kept += ["--seeds", _told(seeds)]
    return f"{called} {shlex.join(map(_short, kept))}".replace("'", '"')


def _told(seeds: Sequence[int]) -> str:
    """As `--seeds` takes them: "0:5" or "0,3,7"."""
    if len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]}:{seeds[-1] + 1}"
    return ",".join(map(str, seeds))


def _without_places(found: Any) -> Any:
    """A json in which absolute paths are names."""
    if isinstance(found, Mapping):
        return {name: _without_places(value) for name, value in found.items()}
    if isinstance(found, list | tuple):
        return [_without_places(value) for value in found]
    return _short(found) if isinstance(found, str) else found


def _short(text: str) -> str:
    return re.sub(r"(?<![\w.~/])~?(?:/[\w.+-]+)+/(?=[\w.+-])", "", text)
