"""Names for files and folders out of class names, whatever these are made of."""

import unicodedata
from collections.abc import Sequence

_MAX_BYTES = 60  # of a name; file systems allow 255, and whole paths not much more on some
_RESERVED = frozenset(
    {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
)  # Windows


def safe_name(name: str) -> str:
    """`name` with letters and digits of any script, "-" and "_" as they are, "_" for the rest; never empty."""
    normal = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isalnum() or c == "-" or unicodedata.category(c) in ("Mn", "Mc") else "_" for c in normal)
    words = "_".join(filter(None, kept.split("_"))).strip("-") or "class"
    short = words.encode("utf-8", "ignore")[:_MAX_BYTES].decode("utf-8", "ignore")
    return f"{short}_" if short.casefold() in _RESERVED else short


def safe_names(names: Sequence[str]) -> list[str]:
    """Safe names that differ, also where capitals don't count; the second "a" is "a_2"."""
    chosen: list[str] = []
    taken = {safe_name(name).casefold() for name in names}
    used: set[str] = set()
    for name in map(safe_name, names):
        candidate, number = name, 1
        while candidate.casefold() in used or (number > 1 and candidate.casefold() in taken):
            number += 1
            candidate = f"{name}_{number}"
        used.add(candidate.casefold())
        chosen.append(candidate)
    return chosen


def folder_names(names: Sequence[str]) -> list[str]:
    """Safe names that sort in the order of the classes: with the class's number first where they wouldn't otherwise.

    Who reads class folders numbers the classes in the sorted order of their folders.
    """
    safe = safe_names(names)
    if sorted(safe) == safe:
        return safe
    width = len(str(len(names) - 1))
    numbered = [f"{number:0{width}d}" for number in range(len(names))]
    if safe == [str(number) for number in range(len(names))]:
        return numbered
    return [f"{number}-{name}" for number, name in zip(numbered, safe, strict=True)]
