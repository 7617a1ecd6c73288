"""What all sections of a report are made with."""

from typing import Any, NamedTuple

from dd_jax.runs.report.markup import Markup, element


class Place(NamedTuple):
    """Where sections stand. prefix: of ids; level: of their headings; runs: how many runs the page has."""

    prefix: str
    level: int
    runs: int


def card(place: Place, title: str, *children: Any, class_: str = "") -> Markup:
    """A section with a heading."""
    return element("section", element(f"h{place.level}", title), *children, class_=f"card {class_}".strip())


def note(words: str) -> Markup:
    """A small explanation."""
    return element("p", words, class_="note")
