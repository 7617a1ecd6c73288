"""Functions that are equal where they are made of equal values, so that a program compiled for one serves the other.

JAX keeps a compiled program for as long as the same function is handed to it. A closure is another function each time
it is made, so the same network built again would be compiled again. Functions of this library that are handed to
`jax.jit` are therefore `Made`: of a maker, which stands at the top of a file, and of values.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Options = TypeVar("Options", bound=Any)
Number: TypeAlias = int | float | jax.Array  # that may be traced

_PLAIN = (bool, int, str, bytes, complex, type(None), type, np.dtype)


@dataclasses.dataclass(frozen=True, eq=False)
class Made:
    """The function make(*values), made when it is first called.

    Equal to another one of the same maker whose values have the same `key_of`. The maker must be a function of its
    values alone: whatever else it read would not tell one program from another.
    """

    make: Callable[..., Callable[..., Any]]
    values: tuple[Any, ...]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)

    @functools.cached_property
    def function(self) -> Callable[..., Any]:
        return self.make(*self.values)

    @functools.cached_property
    def key(self) -> Hashable:
        return self.make, key_of(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Made) and (self is other or self.key == other.key)

    def __hash__(self) -> int:
        return hash(self.key)


def made(make: Callable[..., Callable[..., Any]], *values: Any) -> Made:
    """The function make(*values) as a value itself."""
    return Made(make, values)


class Same:
    """A value that is equal to itself alone."""

    def __init__(self, value: Any):
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


def key_of(value: Any) -> Hashable:
    """What tells a value from others: equal for equal values of the same types, and never for different ones.

    1, 1.0 and True are three values, and so are 0.0 and -0.0. Tuples, lists, mappings and frozen dataclasses (Flax
    modules are such) are what they hold. Everything else, a user's functions and arrays among them, is itself alone.
    """
    if isinstance(value, float):
        return type(value), value.hex()
    if isinstance(value, _PLAIN):
        return type(value), value
    if isinstance(value, Made):
        return value
    if isinstance(value, tuple | list):
        return type(value), *map(key_of, value)
    if isinstance(value, Mapping):
        return type(value), frozenset((key_of(key), key_of(item)) for key, item in value.items())
    if dataclasses.is_dataclass(value) and _is_hashable(value):
        fields = (field.name for field in dataclasses.fields(value))
        return type(value), *(key_of(getattr(value, name, None)) for name in fields)
    if isinstance(value, functools.partial):
        return functools.partial, key_of(value.func), key_of(value.args), key_of(value.keywords)
    return Same(value)


def _is_hashable(value: Any) -> bool:
    """Whether its class lets its instances be hashed, as it should only where they don't change."""
    return type(value).__hash__ not in (None, object.__hash__)


def without_numbers(options: Options, numbers: Mapping[str, Any]) -> tuple[Options, dict[str, jax.Array]]:
    """A frozen dataclass with the defaults of some of its numeric fields, and what these had, as arrays by name.

    Args:
        numbers: the fields, each with the value that switches something off, and so stays where it is; None for a field
            without such a value. A field that is None stays None.
    """
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    found: dict[str, jax.Array] = {}
    for name, off in numbers.items():
        value = getattr(options, name)
        if value is not None and value != off:
            found[name] = jnp.asarray(int(value) if isinstance(defaults[name], int) else float(value))
    return dataclasses.replace(options, **{name: defaults[name] for name in found}), found


def with_numbers(options: Options, numbers: Mapping[str, Any]) -> Options:
    """The dataclass with other values, which may be traced, in some of its fields."""
    changed = copy.copy(options)
    for name, value in numbers.items():
        object.__setattr__(changed, name, value)  # not by its constructor, which may look at what can't be seen here
    return changed


def is_traced(value: Any) -> bool:
    """Whether a number is, or may become, an argument of a program that is compiled, so that it can't be looked at."""
    return isinstance(value, jax.Array)


def is_zero(value: Any) -> bool:
    """Whether a number is known to be zero, so that what it would switch on can be left out."""
    return not is_traced(value) and value == 0


def quick_jit(function: Callable[..., Any], static_argnums: int | tuple[int, ...] = ()) -> Callable[..., Any]:
    """`jax.jit` for what is run seldom, as drawing networks is: on a CPU it compiles in a third of the time.

    LLVM's first level of optimisation does without vectorising loops; random numbers take as long to draw. (Measured on
    two cores: nine million weights in 0.15 s either way, compiled in 2.4 s and not in 7.7.)
    """
    usual = jax.jit(function, static_argnums=static_argnums)
    quick = jax.jit(function, static_argnums=static_argnums, compiler_options={"xla_backend_optimization_level": 1})

    @functools.wraps(function)
    def compiled(*args: Any) -> Any:
        return (quick if jax.default_backend() == "cpu" else usual)(*args)

    return compiled
