"""The files that an architecture search leaves: a page, a table of all candidates, and the numbers as JSON."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.applications.page import page
from dd_jax.applications.records import write_results
from dd_jax.applications.search_result import Ranking, Search
from dd_jax.figures.charts import scatter_figure
from dd_jax.outcomes.spread import percent
from dd_jax.runs.report.amounts import fraction, lasting
from dd_jax.runs.report.charts import chart
from dd_jax.runs.report.layout import Place, card, note
from dd_jax.runs.report.markup import Markup, element, table

CANDIDATES = "candidates.csv"

_PLACE = Place("search", 2, 1)
_SHOWN = 15  # candidates in the table of the page


def write_search(folder: Path, search: Search, dataset: str) -> None:
    """Write results.json, candidates.csv and report.html into `folder`.

    Raises:
        RunError: if the disk refuses.
    """
    write_results(folder, plain_search(search), (CANDIDATES, _csv(search)), search_page(search, dataset))


def plain_search(search: Search) -> dict[str, Any]:
    """All numbers for JSON, accuracies as fractions."""
    best, found = search.best
    return {
        "says": search.sentences(),
        "rankings": {
            ranking.name: {
                **{name: interval._asdict() for name, interval in ranking.coefficients.items()},
                "beyond random": None if ranking.beyond_random is None else ranking.beyond_random._asdict(),
                "best": search.names[ranking.best],
                "accuracy of the best after full training": ranking.found._asdict(),
                "seconds": ranking.seconds,
                "compiling": ranking.compiling,
                "bytes": ranking.num_bytes,
            }
            for ranking in search.rankings
        },
        "agreement of two full trainings": None if search.agreement is None else search.agreement._asdict(),
        "random search": [{**one._asdict(), "found": one.found._asdict()} for one in search.random_search],
        "best": {"candidate": search.names[best], "accuracy": found._asdict()},
        "full training": {
            "candidates": int(search.sampled.sum()),
            "seconds": float(np.nansum(search.full.seconds)),
            "compiling": float(search.full.compiling.sum()),
        },
    }


def lines_of(search: Search) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of rankings: its head, and a line for each."""
    names = ("trained on", "Spearman [95 %]", "Kendall [95 %]", "beyond random", "best", "its test accuracy", "time")
    lines: list[tuple[str, ...]] = [
        (
            ranking.name,
            str(ranking.coefficients["spearman"]),
            str(ranking.coefficients["kendall"]),
            "–" if ranking.beyond_random is None else str(ranking.beyond_random),
            _spaced(search.names[ranking.best]),
            percent(ranking.found),
            lasting(ranking.seconds),
        )
        for ranking in search.rankings
    ]
    best, found = search.best
    agreement = "–" if search.agreement is None else f"{search.agreement} (with itself)"
    seconds = lasting(float(np.nansum(search.full.seconds)))
    lines.append(("real data in full", agreement, "–", "–", _spaced(search.names[best]), percent(found), seconds))
    return names, lines


def random_lines(search: Search) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The table of random search: its head, and a line for each time that it had."""
    head = ("in the time of", "full trainings", "test accuracy")
    lines: list[tuple[str, ...]] = [
        (
            f"the search by {one.beside}" + (" and its distilling" if one.with_distilling else ""),
            str(one.num_trainings),
            percent(one.found),
        )
        for one in search.random_search
    ]
    return head, lines


def search_page(search: Search, dataset: str) -> str:
    """An HTML page on a search, whole."""
    title = f"{len(search.names)} architectures ranked on {dataset}"
    cards = [_table(search), *_scatters(search), _candidates(search)]
    return page("Architecture search of dd_jax", title, search.sentences(), cards, "apply nas")


def _table(search: Search) -> Markup:
    head, lines = lines_of(search)
    says = (
        "Candidates are ranked by their mean accuracy on validation; the coefficients hold that against accuracy on "
        "test after training on real data in full. Test accuracies: mean ± standard deviation over the networks of the "
        "candidate, of random search over draws. Time: training and measuring all candidates, without compiling."
    )
    random = table(*random_lines(search), "Random search")
    beside = element("h3", "Random search at equal time")
    return card(_PLACE, "Rankings", table(head, lines, "Rankings"), note(says), beside, random, class_="wide")


def _scatters(search: Search) -> Iterator[Markup]:
    truth, chosen = search.full.test.mean(1), search.sampled
    for number, ranking in enumerate(search.rankings):
        yield card(_PLACE, f"Trained on {ranking.name}", _scatter(ranking, truth, chosen, number))


def _scatter(ranking: Ranking, truth: np.ndarray, chosen: np.ndarray, number: int) -> Markup:
    drawn = scatter_figure(
        ranking.accuracies[chosen],
        truth[chosen],
        "on validation, after the short training",
        "on test, trained in full",
    )
    rho = ranking.coefficients["spearman"]
    words = f"Scatter plot: accuracy trained in full against accuracy trained on {ranking.name}; Spearman's rho {rho}."
    return chart(drawn, f"search-{number}", words)


def _candidates(search: Search) -> Markup:
    order = np.argsort(-np.nan_to_num(search.full.test.mean(1), nan=-1.0), kind="stable")[:_SHOWN]
    head = ("candidate", "parameters", "in full, test", *(ranking.name for ranking in search.rankings))
    lines = [
        (
            _spaced(search.names[i]),
            f"{search.num_params[i]:,}",
            fraction(float(search.full.test[i].mean())),
            *(fraction(float(ranking.accuracies[i])) for ranking in search.rankings),
        )
        for i in order.tolist()
    ]
    says = f"The {len(lines)} best after full training; all {len(search.names)} are in {CANDIDATES}."
    return card(_PLACE, "The best candidates", table(head, lines, "Candidates"), note(says), class_="wide")


def _spaced(name: str) -> str:
    """The name of a candidate with room for line breaks."""
    return name.replace(":", " ").replace(",", ", ")


def _csv(search: Search) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    ways = [ranking.name for ranking in search.rankings]
    writer.writerow(["candidate", "parameters", "full validation", "full test", *(f"{way} validation" for way in ways)])
    for i, name in enumerate(search.names):
        full = (search.full.validation[i].mean(), search.full.test[i].mean())
        numbers = [*full, *(ranking.accuracies[i] for ranking in search.rankings)]
        writer.writerow([name, search.num_params[i], *("" if np.isnan(x) else f"{x:.6f}" for x in numbers)])
    return text.getvalue()
