"""Factories of methods that tell `help`, notebooks and editors their options, out of a dataclass.

Names, defaults and descriptions stand in that dataclass alone. `described` puts them into the signature and the
docstring of the factory, and hands the parameters of the dataclass on to type checkers, by which editors complete them.
"""

import dataclasses
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, overload
from typing import Protocol as Interface

from dd_jax.methods.base import Method
from dd_jax.models import Model
from dd_jax.types import Experts, Pretrained

Fields = ParamSpec("Fields")

_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)
_FIELD = re.compile(r'^    (\w+): [^\n]*\n    """(.*?)"""', re.MULTILINE | re.DOTALL)  # and the description below it


class Factory(Interface[Fields]):
    """What makes a method: (model, options by name), or (model, a record of options, networks, more by name)."""

    @overload
    def __call__(self, model: Model, *args: Fields.args, **options: Fields.kwargs) -> Method: ...

    @overload
    def __call__(
        self,
        model: Model,
        options: Any = None,
        *,
        pretrained: Pretrained | None = None,
        experts: Experts | Pretrained | None = None,
        **overrides: Any,
    ) -> Method: ...


def described(options: Callable[Fields, Any]) -> Callable[[Callable[..., Method]], Factory[Fields]]:
    """A decorator of a method's factory: it gets the fields of `options`, a dataclass, as keywords that are told.

    The factory is the function that it was: what it takes, and refuses, is its own affair.
    """

    def decorate(factory: Any) -> Any:
        own = inspect.signature(factory)
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(options)  # type: ignore[arg-type]
        named = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        keywords = [
            inspect.Parameter(f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type)
            for f in fields
        ]
        factory.__signature__ = own.replace(parameters=[*named, *keywords])
        factory.__doc__ = f"{inspect.cleandoc(factory.__doc__)}\n\n{_told(options)}\n"
        return factory

    return decorate


def descriptions(kind: Any) -> dict[str, str]:
    """What stands below each field of a dataclass, those it inherits first; empty where its source isn't at hand."""
    parts = [_in_file(part.__module__).get(part.__qualname__, {}) for part in reversed(kind.__mro__[:-1])]
    return {name: text for part in parts for name, text in part.items()}


def _told(options: Any) -> str:
    """The section of a docstring on the fields of a dataclass."""
    known, lines = descriptions(options), ["Options:"]
    for field in dataclasses.fields(options):
        lines.append(f"    {field.name}: {inspect.formatannotation(field.type)} = {field.default!r}")
        lines += [f"        {line.strip()}" for line in known.get(field.name, "").splitlines()]
    return "\n".join(lines)


@functools.cache
def _in_file(module: str) -> Mapping[str, Mapping[str, str]]:
    """The descriptions in the source of a module, by the names of its classes and of their fields.

    By patterns, as this is done at each import, and parsing takes ten times as long.
    """
    try:
        _, *parts = _CLASS.split(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError, KeyError):  # no source at hand, as in a notebook or an archive
        return {}
    return {name: dict(_FIELD.findall(body)) for name, body in zip(parts[::2], parts[1::2], strict=True)}
