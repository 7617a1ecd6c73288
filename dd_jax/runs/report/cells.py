"""Compact records as tables in Markdown: what was reached, beside baselines and papers, and how it was measured."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dd_jax.outcomes.nested import nested
from dd_jax.outcomes.spread import NO_BREAK, Spread, percent, read_spread, spread_of, spread_of_distinct
from dd_jax.runs.report.amounts import count, lasting, thinned
from dd_jax.runs.report.words import NEIGHBOURS

Record = Mapping[str, Any]  # as `compact_record` makes it

POINTS = 8  # of a curve that a table shows
ABSENT = "–"

HEAD = ("cell", "dd_jax", "n", "best baseline", "k-NN", "published", "outer steps", "distilling took")
HEAD_OF_SOURCES = ("cell", "command", "hardware, date, revision", "published in, how sure")
HEAD_OF_CURVES = ("cell", "share of the published steps", "validation accuracy after so many outer steps")


class Change(NamedTuple):
    """A change that moved numbers.

    Attributes:
        date: ISO 8601.
        what: sentence on what was measured before.
        methods, models, datasets: names that it concerns, none for all.
        width: of the narrowest network that it concerns.
        baselines: whether it moved those, too.
        mark: of what it moved, in tables.
    """

    date: str
    what: str
    methods: Sequence[str] = ()
    models: Sequence[str] = ()
    datasets: Sequence[str] = ()
    width: int = 0
    baselines: bool = True
    mark: str = "†"


def cells_table(records: Sequence[Record], changes: Sequence[Change] = ()) -> str:
    """A line for each record; ± is over distillations where there are several, else over networks."""
    lines = [_line(record, changes) for record in records]
    moved = [change for change in changes if any(outdated(record, [change]) for record in records)]
    return f"{table(HEAD, lines)}\n\n{footnotes(moved)}".rstrip()


def sources_table(records: Sequence[Record]) -> str:
    """Where the values of each record come from."""
    return table(HEAD_OF_SOURCES, [_source(record) for record in records])


def curves_table(records: Sequence[Record]) -> str:
    """The course of the records that had fewer outer steps than the paper; "" where none had."""
    lines = [
        (record["title"], _share(record), curve) for record in records if _partial(record) and (curve := _curve(record))
    ]
    return table(HEAD_OF_CURVES, lines) if lines else ""


def baselines_table(records: Sequence[Record]) -> str:
    """Every baseline, a line each, of the records that have the same ones; "" where there is none."""
    chosen = [record for record in records if record["baselines"]]
    if not chosen:
        return ""
    names = [name for name in chosen[0]["baselines"] if all(name in record["baselines"] for record in chosen)]
    lines = [("distilled", *(f"**{in_points(ours(record))}**" for record in chosen))]
    for name in names:
        rows = [spread_of(record["baselines"][name]["accuracies"]) for record in chosen]
        lines.append((name, *(f"{in_points(row)} (n = {row.n})" for row in rows)))
    return table(("training set", *(record["title"] for record in chosen)), lines)


def transfer_table(records: Sequence[Record]) -> str:
    """Sets on other networks than their own, beside random real images: a line for each record that has such results.

    Each value is the mean over the networks, ± over distillations or, of a single one, over its networks. Networks that
    only some records have are left out.
    """
    found = {record["title"]: _transfers(record) for record in records if _transfers(record)}
    if not found:
        return ""
    names = [name for name in next(iter(found.values()))[0] if all(name in t for ts in found.values() for t in ts)]
    lines = []
    for title, transfers in found.items():
        for kind in ("distilled", "random real"):
            values = [in_points(_over_distillations([one[name][kind] for one in transfers])) for name in names]
            lines.append((title if kind == "distilled" else "the same, random real", str(len(transfers)), *values))
    return table(("trained on", "distillations", *names), lines)


def outdated(record: Record, changes: Sequence[Change]) -> list[Change]:
    """The changes that moved such numbers after they were measured."""
    date, config = _started(record), record["config"]
    names = {kind: config.get(kind, {}).get("name") for kind in ("method", "model", "dataset")}
    return [
        change
        for change in changes
        if date < change.date
        and (not change.methods or names["method"] in change.methods)
        and (not change.models or names["model"] in change.models)
        and (not change.datasets or names["dataset"] in change.datasets)
        and config.get("model", {}).get("width", change.width) >= change.width
    ]


def footnotes(changes: Sequence[Change]) -> str:
    """What the mark stands for, a line for each change."""
    return "\n\n".join(f"{change.mark} {change.what}" for change in changes)


def accuracies(record: Record) -> list[list[float]]:
    """Of the networks of each distillation that was measured on test."""
    return [one["accuracies"] for one in record["distillations"] if one.get("accuracies")]


def ours(record: Record) -> Spread:
    """Over distillations or, of a single one, over its networks."""
    values = accuracies(record)
    return spread_of(values[0]) if len(values) == 1 else nested(values).result


def in_points(spread: Spread) -> str:
    """As `percent`, without the sign: "93.8 ± 0.4"."""
    return percent(spread).removesuffix(f"{NO_BREAK}%").replace(NO_BREAK, " ")


def best_baseline(record: Record) -> tuple[str, Spread] | None:
    """The best of as many real images and steps."""
    return _best({name: row for name, row in record["baselines"].items() if row["rival"]})


def neighbours(record: Record) -> tuple[str, Spread] | None:
    """The best of nearest neighbours, which train no network."""
    return _best({name: row for name, row in record["baselines"].items() if name.startswith(NEIGHBOURS)})


def _best(rows: Mapping[str, Any]) -> tuple[str, Spread] | None:
    found = {name: spread_of(row["accuracies"]) for name, row in rows.items()}
    return max(found.items(), key=lambda item: item[1].mean, default=None)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    rows = [head, ["---"] * len(head), *([cell.replace("|", r"\|") for cell in line] for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows).replace(NO_BREAK, " ")


def _line(record: Record, changes: Sequence[Change]) -> tuple[str, ...]:
    values, rival, near = accuracies(record), _rival(record), neighbours(record)
    better = bool(values) and rival is not None and 100 * ours(record).mean >= float(rival.split()[0])
    worse = bool(values) and rival is not None and not better
    result = in_points(ours(record)) if values else _on_validation(record)
    seconds = [one["seconds"] for one in record["distillations"] if one.get("seconds") is not None]
    each = " each" if len(record["distillations"]) > 1 else ""
    return (
        " ".join([record["title"], *(change.mark for change in outdated(record, changes))]),
        f"**{result}**" if better else result,
        _sample(values),
        ABSENT if rival is None else f"**{rival}**" if worse else rival,
        ABSENT if near is None else f"{in_points(near[1])} {near[0].removeprefix(f'{NEIGHBOURS} ')}",
        record.get("published") or ABSENT,
        f"{_steps(record):,}" + (f" of {record['published_steps']:,}" if record.get("published_steps") else ""),
        lasting(float(np.median(seconds))) + each if seconds else ABSENT,
    )


def _rival(record: Record) -> str | None:
    """The best baseline in words: of the record, or else one that was measured elsewhere."""
    found = best_baseline(record)
    return record.get("baseline") if found is None else f"{in_points(found[1])} {found[0]}"


def _sample(values: Sequence[Sequence[float]]) -> str:
    """How many distillations and networks."""
    if not values:
        return ABSENT
    networks = count(min(map(len, values)), "network")
    return networks if len(values) == 1 else f"{len(values)} distillations of {networks}"


def _on_validation(record: Record) -> str:
    """What there is before a set is measured on test."""
    best = [max(point[1] for point in one["curve"]) for one in record["distillations"] if one["curve"]]
    return f"{in_points(spread_of(best))} on validation" if best else ABSENT


def _source(record: Record) -> tuple[str, ...]:
    made = record["made_with"]
    when = f"{_started(record)[:10]}, {made['revision'][:7] if made.get('revision') else 'no revision'}"
    published = f"{record['source']}; {record['sure']}" if record.get("published") else ABSENT
    note = f" {record['note']}" if record.get("note") else ""
    return (
        record["title"],
        f"`{record['command']}`{note}",
        f"{record['hardware']}, jax {made.get('jax')}, {when}",
        published,
    )


def _curve(record: Record) -> str:
    """Means over the distillations at the steps that all of them have, a few of them."""
    curves = [dict(map(tuple, one["curve"])) for one in record["distillations"] if one["curve"]]
    steps = sorted(set.intersection(*map(set, curves))) if curves else []
    points = (f"{step:,}: {100 * np.mean([curve[step] for curve in curves]):.1f}" for step in thinned(steps, POINTS))
    return " · ".join(points)


def _partial(record: Record) -> bool:
    return bool(record.get("published_steps")) and _steps(record) < record["published_steps"]


def _share(record: Record) -> str:
    return f"{100 * _steps(record) / record['published_steps']:.2g} %"


def _steps(record: Record) -> int:
    """Outer steps that every distillation had."""
    return min(one["steps"] for one in record["distillations"])


def _over_distillations(measured: Sequence[Mapping[str, Any]]) -> Spread:
    """Of the means of several distillations; of a single one, or of the same real images, what the networks reach."""
    return spread_of_distinct([read_spread(one) for one in measured])


def _transfers(record: Record) -> list[Mapping[str, Any]]:
    """Results by network, of each distillation that has some."""
    return [one["transfer"]["by network"] for one in record["distillations"] if one.get("transfer")]


def _started(record: Record) -> str:
    """When the first distillation began."""
    return min(str(one.get("started") or record["made_with"]["started"]) for one in record["distillations"])
