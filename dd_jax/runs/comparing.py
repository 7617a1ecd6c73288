"""Methods beside each other: over several distillations of each, and the networks of these."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation import Evaluation
from dd_jax.outcomes.nested import CONFIDENCE, Comparison, Nested, compare_values, nested
from dd_jax.outcomes.spread import percent
from dd_jax.runs.alike import check_datasets, same_networks, unlike
from dd_jax.runs.listing import differences, no_runs, runs_in
from dd_jax.runs.report import words
from dd_jax.runs.report.read import read_run
from dd_jax.runs.report.record import RunRecord

# A method: run directories, or folders with such in them; evaluations; or accuracies of networks, one sequence for each
# distillation.
Compared: TypeAlias = str | Path | Sequence[str | Path] | Sequence[Evaluation] | Sequence[Sequence[float]]


class Group(NamedTuple):
    """Runs that differ in their seed alone.

    Attributes:
        seeds: of the distillations, in order.
        values: accuracies of the networks of each.
        record, path: of the first one.
        members: path and record of all.
    """

    name: str
    seeds: tuple[int, ...]
    values: tuple[tuple[float, ...], ...]
    record: RunRecord
    path: Path
    members: tuple[tuple[Path, RunRecord], ...] = ()

    @property
    def nested(self) -> Nested:
        """Over its distillations and networks."""
        return nested(self.values)


def compare(ours: Compared, theirs: Compared, *, confidence: float = CONFIDENCE, seed: int = 0) -> Comparison:
    """Whether two methods differ, over their distillations and the networks that were trained on each set.

    Runs are paired by their seeds where both have the same ones, and their networks where both have the same network
    and protocol; evaluations and accuracies by their order where there are as many of both.

    Args:
        ours, theirs: run directories of one method, or folders with such in them; evaluations of its sets; or
            accuracies of networks, as fractions, one sequence for each distillation.
        confidence: of the interval.
        seed: of the bootstrap.

    Raises:
        DataError: for what is no run, or was not measured on test.
        OptionError: for runs of a method that differ in more than their seeds, methods on different datasets, and what
            `compare_values` raises.
    """
    first, second = _method(ours), _method(theirs)
    if isinstance(first, Group) and isinstance(second, Group):
        return compare_groups(first, second, confidence, seed)
    values = [found.values if isinstance(found, Group) else found for found in (first, second)]
    return compare_values(values[0], values[1], confidence=confidence, seed=seed)


def compare_groups(ours: Group, theirs: Group, confidence: float = CONFIDENCE, seed: int = 0) -> Comparison:
    """The same of runs, which are paired where their seeds are the same; it tells what they should have in common."""
    records = (ours.record, theirs.record)
    check_datasets(records, (ours.name, theirs.name))
    paired = sorted(ours.seeds) == sorted(theirs.seeds)
    sides = [[group.values[i] for i in sorted(range(len(group.seeds)), key=group.seeds.__getitem__)]
             for group in (ours, theirs)]  # fmt: skip
    networks = same_networks(*records)
    found = compare_values(*sides, paired=paired, same_networks=networks, confidence=confidence, seed=seed)
    return found._replace(by="by seed" if found.paired else "", differ=unlike(*records))


def groups_of(paths: Sequence[str | Path]) -> list[Group]:
    """Runs, and those within folders, by their configuration without the seed; DataError where none was measured."""
    by_config: dict[str, list[tuple[Path, RunRecord]]] = {}
    for path, record in runs_of(paths):
        if words.own(record) is None:
            raise DataError(f"{path} has no test accuracy yet. Finish it with its `dd-jax distill` command.")
        by_config.setdefault(json.dumps(configuration(record), sort_keys=True), []).append((path, record))
    return _named([_group(members) for members in by_config.values()])


def runs_of(paths: Sequence[str | Path]) -> list[tuple[Path, RunRecord]]:
    """Runs, and those within folders, each once; DataError where there is none."""
    runs: list[Path] = []
    for path in map(Path, paths):
        found = runs_in(path)
        if not found:
            raise no_runs([path])
        runs += found
    return [(path, read_run(path)) for path in dict.fromkeys(runs)]


def configuration(record: RunRecord) -> dict[str, Any]:
    """What runs of one method share: all settings but the seed and where the data came from."""
    return {name: value for name, value in record.config.items() if name not in ("seed", "source")}


def _group(members: Sequence[tuple[Path, RunRecord]]) -> Group:
    seeds = tuple(int(record.setting("seed", default=0)) for _, record in members)
    if len(set(seeds)) < len(seeds):
        raise OptionError(
            f"Two runs have the same seed and configuration: {', '.join((str(path) for path, _ in members))}. "
            "Name only one of them."
        )
    rows = [words.own(record) for _, record in members]
    values = tuple(tuple(map(float, row.values)) for row in rows if row is not None)
    path, record = members[0]
    path = path.absolute()
    name = re.sub(rf"-?seed-?{seeds[0]}$", "", path.name) or path.parent.name
    return Group(name, seeds, values, record, path, tuple(members))


def _named(groups: list[Group]) -> list[Group]:
    """Names that differ: by the settings that differ, where the directories have the same names."""
    if len({group.name for group in groups}) == len(groups):
        return groups
    unlike = {
        name: values
        for name, values in differences([group.record for group in groups]).items()
        if name != "seed" and not name.startswith("source")
    }
    told = [", ".join(f"{name.split('.')[-1]} {values[i]}" for name, values in unlike.items())
            for i in range(len(groups))]  # fmt: skip
    return [group._replace(name=f"{group.name} ({more})") for group, more in zip(groups, told, strict=True)]


def _method(given: Compared) -> Group | list[Any]:
    """The runs of a method, or its accuracies."""
    if isinstance(given, str | Path):
        given = [given]
    parts = list(given)
    if parts and all(isinstance(part, str | Path) for part in parts):
        groups = groups_of(parts)  # type: ignore[arg-type]
        if len(groups) > 1:
            names = ", ".join(group.name for group in groups)
            raise OptionError(f"The runs of a method may differ in their seed only, but these differ in more: {names}.")
        return groups[0]
    return [part.accuracies if isinstance(part, Evaluation) else part for part in parts]


def lines_of(groups: Sequence[Group]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of several methods: its head and its lines."""
    head = ("method", "distillations", "result", "± over networks", "± of distillations alone", "networks of each")
    lines: list[tuple[str, ...]] = []
    for group in groups:
        found = group.nested
        alone = "–" if found.between is None else f"{100 * found.between:.1f}"
        spread = (percent(found.result), f"{100 * found.networks:.1f}", alone)
        lines.append((group.name, str(found.result.n), *spread, str(found.num_nets)))
    return head, lines
