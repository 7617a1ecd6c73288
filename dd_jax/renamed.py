"""Names that have changed: whoever types an old one is told the new one, and what was recorded under it stays readable.

What a function, a class or a module called differently is said where it is defined; the options of methods, which
configurations on disk hold too, are listed here.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeVar

from dd_jax.errors import OptionError

METHOD_OPTIONS: Mapping[str, Mapping[str, str]] = {"unrolled": {"num_steps": "num_batches"}}  # by method: old to new

Target = TypeVar("Target", bound=Callable[..., Any])


def renamed(**names: str) -> Callable[[Target], Target]:
    """A decorator of a function, dataclass or NamedTuple: arguments by an old name raise OptionError with the new name.

    Args:
        names: the new name by the old one, e.g. @renamed(data="dataset"). Signature and documentation stay as they are.
    """

    def decorate(target: Target) -> Target:
        if not isinstance(target, type):
            return _refusing(target, target.__name__, names)
        if issubclass(target, tuple):
            target.__new__ = staticmethod(_refusing(target.__new__, target.__name__, names))  # type: ignore[method-assign]
        else:
            target.__init__ = _refusing(target.__init__, target.__name__, names)  # type: ignore[method-assign]
        return target

    return decorate


def renamed_attribute(new: str) -> property:
    """What stands in a class under the old name of an attribute: AttributeError with the new name."""

    def refuse(self: Any) -> NoReturn:
        raise AttributeError(f"This attribute of {type(self).__name__} is now called {new!r}.")

    return property(refuse)


def renamed_in(module: str, **names: str) -> Callable[[str], Any]:
    """The `__getattr__` of a module whose names have changed: ImportError with the new name for the old ones."""

    def missing(name: str) -> NoReturn:
        if name in names:  # an AttributeError would lose its message on the way through `from module import name`
            raise ImportError(f"{module}.{name} is now called {module}.{names[name]}.")
        raise AttributeError(f"module {module!r} has no attribute {name!r}")

    return missing


def refuse_old_option(name: str, known: Iterable[str], prefix: str = "") -> None:
    """OptionError if a method's option `name` is an old name of one of the `known` options.

    Args:
        prefix: what comes before a name where it is typed, such as "--", and dashes between its words then.
    """
    known = set(known)
    for names in METHOD_OPTIONS.values():
        if name not in known and names.get(name) in known:
            old, new = (prefix + (word.replace("_", "-") if prefix else word) for word in (name, names[name]))
            raise OptionError(f"There is no option {old} any more. It is now called {new}.")


def with_new_names(config: Mapping[str, Any]) -> dict[str, Any]:
    """A recorded configuration with the options of its method, if it has one, under the names that they have now."""
    method = config.get("method")
    if not isinstance(method, Mapping) or not isinstance(method.get("name"), str):
        return dict(config)
    names = METHOD_OPTIONS.get(method["name"], {})
    return {**config, "method": {names.get(name, name): value for name, value in method.items()}}


def _refusing(function: Any, name: str, names: Mapping[str, str]) -> Any:
    """`function`, called `name`, refusing arguments by their old names."""

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for old in kwargs.keys() & names.keys():
            raise OptionError(f"{name} has no argument {old!r} any more. It is now called {names[old]!r}.")
        return function(*args, **kwargs)

    return checked
