"""Several runs side by side."""

from collections.abc import Sequence

from dd_jax.outcomes import results_are
from dd_jax.outcomes.spread import Spread, difference, percent
from dd_jax.runs.report import charts, distillations, pictures, words
from dd_jax.runs.report.amounts import fraction, lasting
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, element, table
from dd_jax.runs.report.record import RunRecord

MAX_LINES = 8  # in one chart

_PLACE = Place("compare", 2, 1)


def opening(records: Sequence[RunRecord], names: Sequence[str]) -> list[Markup]:
    """What the comparison says, and what it can't."""
    return [element("p", " ".join(sentences(records, names)), class_="lead")]


def sentences(records: Sequence[RunRecord], names: Sequence[str]) -> list[str]:
    """Which run is best, if that can be said; and what makes the runs differ in kind."""
    said = []
    unlike = _unlike(records)
    if unlike:
        said.append(f"These runs differ in {_listed(unlike)}, so their accuracies are no contest between methods.")
    if contests := dict.fromkeys(record.outcome.contest for record in records if record.outcome.contest):
        return [*said, *contests]
    found = [(name, row.accuracy) for name, r in zip(names, records, strict=True) if (row := words.own(r)) is not None]
    if "dataset" not in unlike and len(found) > 1:
        said.append(_winner(sorted(found, key=lambda item: item[1].mean, reverse=True)))
    if missing := [name for name, record in zip(names, records, strict=True) if words.own(record) is None]:
        said.append(f"Not measured on test: {_listed(missing)}.")
    return said


def _winner(found: Sequence[tuple[str, Spread]]) -> str:
    (first, best), (second, next_best) = found[:2]
    gap = difference(best, next_best)
    both = f"{first} ({percent(best)}) and {second} ({percent(next_best)})"
    if not gap.real:
        return f"The two highest are {both}: {gap.points:.1f} points apart, within the noise of ± {gap.noise:.1f}."
    chance = "; with one measurement of each nobody knows how much of it is chance" if gap.noise is None else ""
    return f"The highest accuracy is that of {first}, {percent(best)}: {gap.points:.1f} points above {second}{chance}."


def _unlike(records: Sequence[RunRecord]) -> list[str]:
    """What the runs don't have in common."""
    facts: dict[str, set[object]] = {
        "dataset": {(words.dataset(r), r.setting("dataset", "fingerprint")) for r in records},
        "network": {str(r.setting("model")) for r in records},
        "the networks they start from": {(r.fixed, words.pretrained(r)) for r in records},
        "the number of images": {r.num_images for r in records},
        "the number of gradient steps": {r.num_inner_steps for r in records},
    }
    return [name for name, values in facts.items() if len(values) > 1]


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def cards(records: Sequence[RunRecord], names: Sequence[str]) -> Markup:
    """Key numbers, curves over each other, images next to each other."""
    over_seeds = distillations.section(records, names, _PLACE)
    return element(
        "div", _numbers(records, names), over_seeds, *_curves(records, names), _images(records, names), class_="cards"
    )


def _numbers(records: Sequence[RunRecord], names: Sequence[str]) -> Markup:
    head = (
        "run",
        "result",
        "n",
        "best baseline",
        "k-NN",
        "on validation",
        "dataset",
        "network",
        "start",
        "images",
        "steps",
        "took",
    )
    rows = [
        (element("a", name, href=f"#run-{number}"), *_row(record))
        for number, (record, name) in enumerate(zip(records, names, strict=True), start=1)
    ]
    says = f"Result: {results_are()}; mean ± standard deviation over n networks. {words.BOTH_BASELINES}"
    return card(
        _PLACE, "Key numbers", table(head, rows, "Key numbers of the runs", "results"), note(says), class_="wide"
    )


def _row(record: RunRecord) -> tuple[str, ...]:
    found, best = words.own(record), words.rivals(record)[:1]
    result, n, rival = "not measured", "–", "not measured"
    if found is not None:
        result = words.result_in_words(record, found)
        n = f"{found.accuracy.n:,}"
    for row in best:
        rival = f"{words.result_in_words(record, row)}, {row.name}"
    near, start = words.neighbours(record), words.pretrained(record) or "random"
    return (
        result,
        n,
        rival,
        "not measured" if near is None else f"{percent(near.accuracy)}, {near.name}",
        fraction(record.best["validation"]) if record.best is not None else "–",
        words.dataset(record),
        words.model(record),
        f"{start}, one known" if record.fixed else start,
        "–" if record.num_images is None else f"{record.num_images:,}",
        "–" if record.num_inner_steps is None else f"{record.num_inner_steps:,}",
        lasting(record.seconds),
    )


def _curves(records: Sequence[RunRecord], names: Sequence[str]) -> list[Markup]:
    found = []
    validated = [(r, n) for r, n in zip(records, names, strict=True) if r.validation]
    with_loss = [(r, n) for r, n in zip(records, names, strict=True) if r.losses]
    measured = [(r, n) for r, n in zip(records, names, strict=True) if words.own(r) is not None]
    for title, draw, runs in (
        ("Results", charts.runs, measured),
        ("Validation while learning", charts.validation, validated),
        ("Outer loss", charts.loss, with_loss),
    ):
        if runs:
            shown = runs[:MAX_LINES]
            drawn = draw([r for r, _ in shown], [n for _, n in shown], f"compare-{title.split()[0].lower()}")
            more = note(f"The first {len(shown)} of {len(runs)} runs.") if len(shown) < len(runs) else None
            found.append(card(_PLACE, title, drawn, more))
    return found


def _images(records: Sequence[RunRecord], names: Sequence[str]) -> Markup | None:
    sets = [
        element("div", element("h3", name), pictures.glimpse(record.distilled, 1 / len(records)))
        for record, name in zip(records, names, strict=True)
        if record.distilled is not None
    ]
    return card(_PLACE, "Distilled images", element("div", *sets, class_="pair"), class_="wide") if sets else None
