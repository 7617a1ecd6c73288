"""Formulas become MathML, which browsers draw themselves; drawings become part of the page, and take its colours."""

import html
import re
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1]

_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.DOTALL)
_DRAWING = re.compile(r'<img alt="(?P<alt>[^"]*)" src="(?:\.\./)*assets/(?P<name>[\w-]+)\.svg"[^>]*>')


def on_page_content(content: str, **_: Any) -> str:
    """Replace the formulas and the drawings of a page, and keep a number and its deviation on one line."""
    content = re.sub(r"(?<=\d) (?=± \d|%)|(?<=±) (?=\d)", "\u00a0", content)
    return _DRAWING.sub(drawing, _FORMULA.sub(formula, content))


def formula(found: re.Match[str]) -> str:
    """The MathML of a formula in LaTeX."""
    from latex2mathml.converter import convert

    display = "block" if found[1] == "div" else "inline"
    math = convert(html.unescape(found[2]).strip(), display=display)
    return f'<div class="formula">{math}</div>' if display == "block" else math


def drawing(found: re.Match[str]) -> str:
    """The SVG itself, in a box that scrolls where the page is narrow."""
    svg = (DOCS / "assets" / f"{found['name']}.svg").read_text()
    svg = re.sub(r"<\?xml.*?\?>|<!--.*?-->", "", svg, flags=re.DOTALL).strip()
    return f'<span class="drawing" role="img" aria-label="{found["alt"]}">{svg}</span>'
