"""The page that every application writes: a headline, what was found in sentences, and cards."""

from collections.abc import Iterable, Sequence

from dd_jax.runs.report.markup import Markup, element, join
from dd_jax.runs.report.page import document


def page(kind: str, title: str, sentences: Iterable[str], cards: Sequence[Markup], command: str) -> str:
    """An HTML page, whole. kind: what was done, above the title; command: of dd-jax, that made it."""
    top = element(
        "header",
        element("p", kind, class_="kind"),
        element("h1", title),
        *(element("p", words, class_="lead" if i == 0 else None) for i, words in enumerate(sentences)),
    )
    foot = element("footer", f"Made by dd-jax {command}; the page needs no network.")
    return document(f"{title} – dd_jax", join([top, element("main", element("div", *cards, class_="cards")), foot]))
