"""The files that an audit leaves: a page, a table of all accuracies, and the numbers as JSON."""

from pathlib import Path
from typing import Any

from dd_jax.applications.audit_result import BYTES, NETWORKS, OWN, SCRATCH, Audit
from dd_jax.applications.audit_scores import SCORES_HEAD, SCORES_SAY, SCORES_TITLE, plain_score, scores_of
from dd_jax.applications.page import page
from dd_jax.applications.records import as_csv, write_results
from dd_jax.outcomes.spread import percent
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, table

ACCURACIES = "accuracies.csv"

HEAD = ("part", "trained on", "network", "training", "accuracy", "n", "images or nodes", "bytes")
SPREADS = "Mean ± standard deviation over n networks on test. Real images of a kind are spread over several sets."
_PLACE = Place("audit", 2, 1)
_TITLES = {
    OWN: "By its own protocol",
    SCRATCH: "From scratch",
    BYTES: "Real ones in the same bytes",
    NETWORKS: "On other networks",
}


def write_audit(folder: Path, found: Audit) -> None:
    """Write results.json, accuracies.csv and report.html into `folder`; RunError if the disk refuses."""
    rows = [
        (row.part, row.name, row.network, number, f"{accuracy:.6f}")
        for row in found.rows
        for number, accuracy in enumerate(row.accuracies, start=1)
    ]
    written = as_csv(("part", "trained on", "network", "number", "accuracy"), rows)
    write_results(folder, plain_audit(found), (ACCURACIES, written), audit_page(found))


def plain_audit(found: Audit) -> dict[str, Any]:
    """All numbers for JSON, accuracies as fractions."""
    return {
        "says": found.sentences(),
        "good_for": found.good_for,
        "no_better_for": found.no_better_for,
        "set": {"name": found.name, "size": found.size, "bytes": found.num_bytes, "protocol": found.protocol},
        "dataset": found.dataset,
        "model": found.model,
        "shortened": found.shortened,
        "rows": [{**row._asdict(), "length": row.length._asdict(), **row.spread._asdict()} for row in found.rows],
        "scores": {name: plain_score(score) for name, score in found.scores.items()},
        "notes": found.notes,
    }


def lines_of(found: Audit) -> list[tuple[str, ...]]:
    """The table of an audit, under `HEAD`."""
    return [
        (row.part, row.name, row.network, str(row.length), percent(row.spread), str(row.spread.n), f"{row.size:,}",
         f"{row.num_bytes:,}")
        for row in found.rows
    ]  # fmt: skip


def audit_page(found: Audit) -> str:
    """An HTML page on an audit, whole."""
    title = f"{found.name}: {found.size} of {found.dataset}"
    cards = [_part(found, part) for part in _TITLES if found.part(part)]
    if scores := scores_of(found.scores):
        drawn = table(SCORES_HEAD, scores, "Scores", "results")
        cards.append(card(_PLACE, SCORES_TITLE, drawn, note(SCORES_SAY), class_="wide"))
    if found.notes:
        cards.append(card(_PLACE, "What was left out", *(note(words) for words in found.notes)))
    return page("Audit of a distilled set with dd_jax", title, found.sentences(), cards, "audit")


def _part(found: Audit, part: str) -> Markup:
    rows = [line[1:] for line in lines_of(found) if line[0] == part]
    return card(_PLACE, _TITLES[part], table(HEAD[1:], rows, _TITLES[part], "results"), note(SPREADS), class_="wide")
