"""The files that a study of privacy leaves: a page, the ROC curves as a table, and the numbers as JSON."""

from pathlib import Path
from typing import Any

from dd_jax.applications.membership import RATES
from dd_jax.applications.page import page
from dd_jax.applications.privacy_result import ALL, DISTILLED, HEAD, RANDOM, Privacy, lines_of
from dd_jax.applications.records import as_csv, write_results
from dd_jax.figures.charts import Series, lines_figure
from dd_jax.runs.report.charts import chart
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, table

CURVES = "roc.csv"

_PLACE = Place("privacy", 2, 1)


def write_privacy(folder: Path, found: Privacy) -> None:
    """Write results.json, roc.csv and report.html into `folder`; RunError if the disk refuses."""
    rows = [
        (way.name, adversary, f"{false:.6f}", f"{true:.6f}")
        for way in found.ways
        for adversary, one in way.leaks.items()
        for false, true in one.curve.T
    ]
    head = ("trained on", "adversary", "false positive rate", "true positive rate")
    write_results(folder, plain_privacy(found), (CURVES, as_csv(head, rows)), privacy_page(found))


def plain_privacy(found: Privacy) -> dict[str, Any]:
    """All numbers for JSON, rates as fractions."""
    return {
        "says": found.sentences(),
        "dataset": found.dataset,
        "model": found.model,
        "worlds": found.num_worlds,
        "candidates": found.num_candidates,
        "ways": {
            way.name: {
                "images": way.size,
                "training": way.training,
                "accuracies": way.accuracies,
                "leaks": {
                    name: {
                        "auc": one.auc._asdict(),
                        "non-members": one.num_others,
                        "rates": {
                            str(rate): tpr._asdict() if one.is_told(rate) else None
                            for rate, tpr in zip(RATES, one.rates, strict=True)
                        },
                    }
                    for name, one in way.leaks.items()
                },
            }
            for way in found.ways
        },
        "copies": {"inside": found.copies.inside._asdict(), "distances": found.copies.distances},
    }


def privacy_page(found: Privacy) -> str:
    """An HTML page on a study of privacy, whole."""
    title = f"What sets distilled from {found.dataset} tell of its images"
    cards = [_table(found), *(_curves(found, adversary) for adversary in found.ways[0].leaks), _copies(found)]
    return page("Privacy of distilled sets with dd_jax", title, found.sentences(), cards, "apply privacy")


def _table(found: Privacy) -> Markup:
    drawn = table(HEAD, lines_of(found), "Membership inference", "results")
    return card(_PLACE, "Who was a member?", drawn, note(found.explanation), class_="wide")


def _curves(found: Privacy, adversary: str) -> Markup:
    names = (DISTILLED, RANDOM, ALL)
    series = [
        Series(name, (100 * one.curve[0]).tolist(), one.curve[1].tolist())
        for name in names
        for one in [found.way(name).leaks[adversary]]
    ]
    series.append(Series("by chance", [0.0, 100.0], [0.0, 1.0]))
    drawn = lines_figure(series, "false positives (%)")
    number = list(found.ways[0].leaks).index(adversary)
    return card(_PLACE, f"True positives, {adversary}", chart(drawn, f"roc-{number}", "ROC curves; see the table."))


def _copies(found: Privacy) -> Markup:
    distances = found.copies.distances
    picked = [("the nearest", 0.0), ("a tenth of all are nearer", 0.1), ("the median", 0.5), ("the farthest", 1.0)]
    rows = [(name, f"{distances[round(share * (len(distances) - 1))]:.2f}") for name, share in picked]
    says = "Distance of a distilled image from the nearest candidate, over the median of that between candidates."
    return card(_PLACE, "Copies", table(("distilled image", "distance"), rows, "Copies", "results"), note(says))
