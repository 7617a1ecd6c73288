"""The errors of the library, and the one way to say that a name is unknown.

Every message says what was expected, what was found and what to do.
"""

import difflib
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dd_jax.values import is_traced

_ALIKE = 0.5  # of the letters of two names that are near each other
_MOST_LISTED = 45  # names
_MOST_NEAR = 4  # of more than those


class DDJaxError(Exception):
    """Base of the errors that the library raises on purpose."""


class DataError(DDJaxError, ValueError):
    """The data that was handed in can't be used as it is."""


class DataWarning(UserWarning):
    """What was left out, converted or guessed when data was read."""


class OptionError(DDJaxError, ValueError):
    """An option has a value that makes no sense."""


class RunError(DDJaxError, RuntimeError):
    """A run can't go on; what it had computed is kept."""


class DivergedError(RunError):
    """The outer loss stopped being finite.

    Attributes:
        step: the first outer step (counted from 1) whose loss was not finite.
        distilled: the best distilled set on validation before it, or None.
    """

    def __init__(self, message: str, step: int, distilled: Any = None):
        super().__init__(message)
        self.step = step
        self.distilled = distilled


def unknown_name(kind: str, name: str, known: Iterable[str], more: str = "") -> OptionError:
    """An error for a `name` that is none of the `known` ones of its `kind`, with the nearest one.

    Args:
        more: a sentence that follows the known names, such as what else can be given.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=_MOST_NEAR if len(names) > _MOST_LISTED else 1, cutoff=_ALIKE)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    listing = f"Known: {', '.join(names)}." if names else "There are none."
    if len(names) > _MOST_LISTED:  # nobody reads so many
        similar = f"Similar: {', '.join(near[1:])}. " if near[1:] else ""
        listing = f"{similar}There are {len(names)}."
    return OptionError(f"Unknown {kind} {name!r}.{hint} {listing}{' ' if more else ''}{more}")


def check_choices(options: Any) -> None:
    """OptionError for the first field of a dataclass that must be one of several, a `Literal`, and is another."""
    for name, kind in get_type_hints(type(options)).items():
        value = getattr(options, name)
        if get_origin(kind) is Literal and value not in get_args(kind):
            raise unknown_name(name, value, get_args(kind))


def check_at_least(least: int, options: Any, *names: str) -> None:
    """OptionError for the first of the named fields of `options` that is below `least`."""
    values_at_least(least, **{name: getattr(options, name) for name in names})


def values_at_least(least: int, **values: Any) -> None:
    """OptionError for the first of the named values that is below `least`; None and traced values always pass."""
    for name, value in values.items():
        if value is not None and not is_traced(value) and value < least:
            raise OptionError(f"{name} must be at least {least}, but is {value}.")
