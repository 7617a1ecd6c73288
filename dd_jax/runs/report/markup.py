"""HTML out of elements; whatever isn't markup already is escaped."""

import html
import re
from collections.abc import Iterable
from typing import Any

_VOID = ("img", "input", "meta")  # elements without an end tag
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # would break or reorder a line


class Markup(str):
    """Text that is HTML."""

    __slots__ = ()


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """<tag attributes>children</tag>, with children and attributes escaped unless they are Markup.

    Args:
        children: None ones are left out.
        attributes: None and False ones are left out, True stands for a bare name; a trailing underscore is dropped and
            others become hyphens: class_="card", aria_label="...".
    """
    written = "".join(
        f" {_hyphenated(name)}" + ("" if value is True else f'="{text(value)}"')
        for name, value in attributes.items()
        if value is not None and value is not False
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(parts: Iterable[Any]) -> Markup:
    """Parts one after another, those that are None left out."""
    return Markup("".join(text(part) for part in parts if part is not None))


def text(value: Any) -> str:
    """A value as HTML text, which may also stand in an attribute."""
    if isinstance(value, Markup):
        return str(value)
    return html.escape(printable(str(value)))


def printable(words: str) -> str:
    """Text without characters that no page may contain or that change the order of others."""
    return _CONTROL.sub("\ufffd", words)


def table(head: Iterable[Any], rows: Iterable[Iterable[Any]], label: str, class_: str | None = None) -> Markup:
    """A table with headers above and, its first column, beside; in a box of its own that scrolls when it is wide."""
    above = element("tr", *(element("th", cell, scope="col") for cell in head))
    lines = [
        element("tr", element("th", first, scope="row"), *(element("td", cell) for cell in rest))
        for first, *rest in rows
    ]
    inner = element("table", element("thead", above), element("tbody", *lines), class_=class_)
    return scroll(inner, label)


def scroll(inner: Markup, label: str) -> Markup:
    """A box that scrolls sideways, by keyboard too, when `inner` is wider than the page."""
    return element("div", inner, class_="scroll", tabindex="0", role="region", aria_label=label)


def _hyphenated(name: str) -> str:
    return name.removesuffix("_").replace("_", "-")
