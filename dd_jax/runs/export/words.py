"""Words for a dataset card: escaped for YAML, Markdown and Python."""

from typing import Any


def quoted(text: str) -> str:
    """A YAML string in double quotes, whatever it is made of."""

    def escaped(c: str) -> str:
        if c in '"\\':
            return "\\" + c
        if c.isprintable():
            return c
        return f"\\u{ord(c):04x}" if ord(c) < 0x10000 else f"\\U{ord(c):08x}"

    return '"' + "".join(map(escaped, text)) + '"'


def code(text: Any) -> str:
    """`text` as code in Markdown, in one line."""
    line = " ".join(str(text).replace("`", "'").split())
    return f"`{line}`"


def literal(text: str) -> str:
    """`text` as a string of Python."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def count(number: int, noun: str) -> str:
    """A number with its noun: "1 image", "2 images", "2 classes"."""
    plural = noun if number == 1 else f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {plural}"
