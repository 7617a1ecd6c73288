"""A method of the user's own, MODULE:FUNCTION, as the command line knows methods."""

import dataclasses
import functools
import inspect
from collections.abc import Mapping
from typing import Any, get_args, get_type_hints

from dd_jax.errors import OptionError
from dd_jax.methods.base import Method, MethodSpec
from dd_jax.models import Model
from dd_jax.own import load_own

_EXPECTED = "a function (model, ...) -> dd_jax.methods.Method"


@functools.cache
def own_method(name: str) -> MethodSpec:
    """The method of a function (model, options=None), options annotated with a dataclass, or (model, a=1, b=2).

    Its options are the fields of the dataclass, or the parameters that have defaults. A parameter `pretrained` or
    `experts` takes networks from elsewhere. A `MethodSpec` is taken as it is.

    Raises:
        OptionError: if there is none of that name, or it is something else.
    """
    found = load_own(name, _EXPECTED)
    if isinstance(found, MethodSpec):
        return found
    if not callable(found):
        raise OptionError(f"{name} should be {_EXPECTED}, but is {found!r:.80}.")
    parameters = list(inspect.signature(found).parameters.values())
    if not parameters:
        raise OptionError(f"{name} should be {_EXPECTED}, but takes no argument.")
    rest = {one.name: one for one in parameters[1:]}
    networks = next((role for role in ("pretrained", "experts") if role in rest), "")
    hints = get_type_hints(found)
    kind = _dataclass_in(hints.get("options"))
    options = _options_of(name, rest, hints, networks) if kind is None else _own_kind(kind)

    def make(model: Model, chosen: Any, **given: Any) -> Method:
        arguments = {"options": chosen} if kind is not None else vars(chosen)
        method = found(model, **arguments, **given)
        if not isinstance(method, Method):
            raise OptionError(f"{name} should give a dd_jax.methods.Method, but gave {method!r:.80}.")
        return method

    return MethodSpec(name, options, make, functools.partial(_words, name), {}, networks)


def _words(name: str, options: Any) -> tuple[str, ...]:
    return (name.rpartition(":")[2],)


def _dataclass_in(annotation: Any) -> type | None:
    """The dataclass that an annotation is, or is with None."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if dataclasses.is_dataclass(kind)]
    return kinds[0] if kinds and isinstance(kinds[0], type) else None


def _own_kind(kind: type) -> type:
    """A dataclass with the same fields that is of this method alone, as other methods may have the same options."""
    frozen = kind.__dataclass_params__.frozen  # type: ignore[attr-defined]
    return dataclasses.make_dataclass(kind.__name__, [], bases=(kind,), frozen=frozen)


def _options_of(
    name: str, parameters: Mapping[str, inspect.Parameter], hints: Mapping[str, Any], networks: str
) -> type:
    """A dataclass of the parameters, which must have defaults."""
    fields = []
    for one in parameters.values():
        if one.kind in (one.VAR_POSITIONAL, one.VAR_KEYWORD) or one.name == networks:
            continue
        if one.default is one.empty:
            raise OptionError(f"All parameters of {name} are options and need defaults, but {one.name!r} has none.")
        kind = hints.get(one.name, type(one.default))
        fields.append((one.name, kind, dataclasses.field(default=one.default)))
    return dataclasses.make_dataclass("Options", fields, frozen=True)
