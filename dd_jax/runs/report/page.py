"""The page of a report: one run, or several side by side."""

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeAlias

from dd_jax.runs.report import compare, course, results, words
from dd_jax.runs.report.advice import advised, chance
from dd_jax.runs.report.layout import Place
from dd_jax.runs.report.markup import Markup, element, join
from dd_jax.runs.report.record import RunRecord
from dd_jax.runs.report.style import SCRIPT, STYLE

Section: TypeAlias = Callable[[RunRecord, Place], Markup | None]

SECTIONS: tuple[Section, ...] = (
    results.images,
    results.evolution,
    results.baselines,
    course.learning,
    course.loss,
    course.inner,
    course.step_sizes,
    results.classes,
    results.confusion,
    course.cost,
    course.events,
    course.origin,
)


def page(records: Sequence[RunRecord]) -> str:
    """An HTML page on runs, whole: it asks for nothing outside of itself."""
    if len(records) == 1:
        (record,) = records
        title = words.headline(record)
        head = [element("h1", title), *opening(record)]
        body = [cards(record, Place("run", 2, 1))]
    else:
        names = distinct_names(records)
        title = f"{len(records)} runs side by side"
        head = [element("h1", title), *compare.opening(records, names), _contents(names)]
        body = [compare.cards(records, names)]
        for number, (record, name) in enumerate(zip(records, names, strict=True), start=1):
            place = Place(f"run-{number}", 3, len(records))
            heading = element("h2", f"{name}: {words.headline(record)}")
            inside = [heading, *opening(record), cards(record, place)]
            body.append(element("section", *inside, class_="run", id=place.prefix))
    kind = "Report on a run of dd_jax" if len(records) == 1 else "Report on runs of dd_jax"
    name = f" · {records[0].name}" if len(records) == 1 else ""
    top = element("header", element("p", kind + name, class_="kind"), *head)
    foot = element("footer", "Made by dd-jax report from what the runs left on the disk; the page needs no network.")
    return document(f"{title} – dd_jax", join([top, element("main", *body), foot]))


def opening(record: RunRecord) -> list[Markup | None]:
    """What a run means, in sentences and in key numbers."""
    said = [*words.remarks(record), *filter(None, [chance(record)])]
    remarks = element("ul", *(element("li", remark) for remark in said), class_="remarks") if said else None
    advice = advised(record)
    tips = None
    if advice:
        listed = element("ul", *(element("li", tip) for tip in advice), class_="remarks")
        tips = element("div", element("p", "What to try next"), listed, class_="next")
    return [element("p", " ".join(words.meaning(record)), class_="lead"), remarks, tips, results.tiles(record)]


def cards(record: RunRecord, place: Place) -> Markup:
    """Every section that the run has something for."""
    return element("div", *(section(record, place) for section in SECTIONS), class_="cards")


def distinct_names(records: Sequence[RunRecord]) -> list[str]:
    """The names of the runs, numbered where several have the same."""
    several, seen = Counter(record.name for record in records), Counter[str]()
    names = []
    for record in records:
        seen[record.name] += 1
        names.append(record.name + (f" ({seen[record.name]})" if several[record.name] > 1 else ""))
    return names


def _contents(names: Sequence[str]) -> Markup:
    links = [element("li", element("a", name, href=f"#run-{number}")) for number, name in enumerate(names, start=1)]
    return element("nav", element("ul", *links), aria_label="Runs")


def document(title: str, body: Markup, script: str = SCRIPT, style: str = "") -> str:
    """A page with the style of reports: whole, and allowed to ask for nothing outside of itself.

    Args:
        script: that it has, in place of the player's.
        style: besides that of reports.
    """
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE + style)),
    )
    whole = element("html", head, element("body", body, element("script", Markup(script))), lang="en")
    return f"<!DOCTYPE html>\n{whole}\n"
