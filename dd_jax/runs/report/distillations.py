"""Runs that differ in nothing but their seed: what distilling gives on the whole, and how much it is chance."""

import json
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dd_jax.evaluation.result import MEAN_OF_CLASSES
from dd_jax.outcomes import results_are
from dd_jax.outcomes.nested import spread_between
from dd_jax.outcomes.spread import Spread, percent, sample, spread_of, spread_of_distinct
from dd_jax.runs.report import words
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, table
from dd_jax.runs.report.record import RunRecord

HEAD = (
    "distillations",
    "result over distillations",
    "± over networks",
    "± of distillations alone",
    "on validation",
    "best baseline",
    "k-NN",
)
OF_BASELINES = (
    "± of a baseline is over its n networks or sets where all runs measured the same, or else over the n measurements "
    "that differ."
)


class Distillations(NamedTuple):
    """Runs of one configuration with several seeds.

    Attributes:
        members: their numbers among the runs.
        seeds: of those that were measured, and so count below.
        result: on test, over the distillations: of the mean over the networks of each.
        networks: standard deviation over the networks of a distillation, the mean of all distillations.
        between: standard deviation of distillations alone, without what so few networks give by chance, see `Nested`.
        balanced: the mean of the classes over the distillations, where that is to stand beside accuracy.
        validation: over the distillations, where it is known of all of them.
        rival: the name of the baseline with the best result, and this over its networks, where all runs measured the
            same, or else over the measurements that differ.
        neighbours: the same of nearest neighbours, which are no network and so no rival.
    """

    members: tuple[int, ...]
    seeds: tuple[int, ...]
    result: Spread
    networks: float
    between: float | None
    balanced: Spread | None
    validation: Spread | None
    rival: tuple[str, Spread] | None
    neighbours: tuple[str, Spread] | None


def distillations(records: Sequence[RunRecord]) -> list[Distillations]:
    """The runs by their configuration without the seed, in order; without those that were not measured on test."""
    groups: dict[str, list[int]] = {}
    for number, record in enumerate(records):
        if words.own(record) is not None:
            shared = {name: value for name, value in record.config.items() if name != "seed"}
            groups.setdefault(json.dumps(shared, sort_keys=True), []).append(number)
    return [_together(records, members) for members in groups.values()]


def cells(found: Distillations) -> tuple[str, ...]:
    """What `HEAD` asks for."""
    rival, near = (
        "–" if best is None else f"{percent(best[1])}, {best[0]} ({sample(best[1])})"
        for best in (found.rival, found.neighbours)
    )
    validation = "–" if found.validation is None else percent(found.validation)
    balanced = "" if found.balanced is None else f" ({MEAN_OF_CLASSES} {percent(found.balanced)})"
    between = "–" if found.between is None else f"{100 * found.between:.1f}"
    spreads = (percent(found.result) + balanced, f"{100 * found.networks:.1f}", between)
    return str(found.result.n), *spreads, validation, rival, near


def section(records: Sequence[RunRecord], names: Sequence[str], place: Place) -> Markup | None:
    """A card of them, where there are several distillations of one configuration."""
    found = distillations(records)
    if all(len(group.members) < 2 for group in found):
        return None
    rows = [(", ".join(names[number] for number in group.members), *cells(group)) for group in found]
    says = (
        f"Runs that differ in their seed alone. Result: {results_are()}; mean ± standard deviation over distillations "
        "of the mean over networks. Over networks: standard deviation within a distillation, the mean of them. Of "
        "distillations alone: what is left of the first without what so few networks give by chance. "
        f"{words.BOTH_BASELINES} {OF_BASELINES}"
    )
    drawn = table(("runs", *HEAD), rows, "Results over distillations", "results")
    return card(place, "Over distillations", drawn, note(says), class_="wide")


def _together(records: Sequence[RunRecord], members: Sequence[int]) -> Distillations:
    chosen = [records[number] for number in members]
    results = [words.result(record, row) for record in chosen if (row := words.own(record)) is not None]
    means = [words.balanced(record, row) for record in chosen if (row := words.own(record)) is not None]
    balanced = [mean for mean in means if mean is not None]
    best = [record.best["validation"] for record in chosen if record.best is not None]
    return Distillations(
        tuple(members),
        tuple(int(record.setting("seed", default=0)) for record in chosen),
        spread_of([result.mean for result in results]),
        spread_of([result.std for result in results]).mean,
        spread_between([words.values(record, row) for record in chosen if (row := words.own(record)) is not None]),
        spread_of(balanced) if len(balanced) == len(chosen) else None,
        spread_of(best) if len(best) == len(chosen) else None,
        _best(chosen, words.is_rival),
        _best(chosen, lambda name: name.startswith(words.NEIGHBOURS)),
    )


def _best(records: Sequence[RunRecord], counts: Callable[[str], bool]) -> tuple[str, Spread] | None:
    """The baseline with the best result over the distillations, among those that count and that all of them have."""
    names = set.intersection(*({name for name in record.rows if counts(name)} for record in records))
    found = {
        name: spread_of_distinct([words.result(record, record.rows[name]) for record in records])
        for name in sorted(names)
    }
    return max(found.items(), key=lambda item: item[1].mean, default=None)
