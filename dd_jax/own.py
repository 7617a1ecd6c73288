"""Code of the user's own by its name: MODULE:FUNCTION, from the current directory or wherever Python finds modules."""

import importlib
import importlib.util
import os
import re
import sys
from pathlib import Path
from typing import Any

from dd_jax.errors import OptionError, unknown_name

_NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_own(name: str) -> bool:
    """Whether a name is of the form MODULE:FUNCTION."""
    return _NAME.fullmatch(name) is not None


def load_own(name: str, expected: str) -> Any:
    """What is called FUNCTION in MODULE.

    Args:
        name: MODULE:FUNCTION, as `is_own` takes it. The module is looked for in the current directory first.
        expected: what it should be, for messages.

    Raises:
        OptionError: if there is no such module or nothing of that name in it. What the module raises is passed on.
    """
    module_name, _, attribute = name.partition(":")
    here = _look_here()
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise
        hint = f" Did you mean {module_name[:-3]}:{attribute}?" if module_name.endswith(".py") else ""
        raise OptionError(
            f"{name} should be {expected}, but there is no module {error.name!r} in {here} or on "
            f"Python's path. Go to the directory that holds it, or add that to PYTHONPATH.{hint}"
        ) from error
    if not hasattr(module, attribute):
        own = {key: value for key, value in vars(module).items() if getattr(value, "__module__", "") == module_name}
        mine = [key for key, value in own.items() if callable(value) and not key.startswith("_")]
        raise unknown_name(f"function of {module_name}", attribute, mine)
    return getattr(module, attribute)


def look_in(name: str, file: str) -> bool:
    """Let the module of MODULE:FUNCTION be found where `file` is, if it is nowhere else; whether it can be found.

    Args:
        file: that it was in, perhaps on another machine or long ago.
    """
    module = name.partition(":")[0]
    if _is_found(module):
        return True
    place = Path(file)
    levels = module.count(".") + (place.stem == "__init__")
    if not place.is_file() or levels >= len(place.parents):
        return False
    sys.path.append(str(place.parents[levels]))  # the last one: what is found without it comes first
    importlib.invalidate_caches()
    return _is_found(module)


def _is_found(module: str) -> bool:
    """Whether there is such a module, in the current directory or wherever Python looks."""
    _look_here()
    try:
        return module in sys.modules or importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # the package that it would be in
        return False


def _look_here() -> str:
    """Let modules be found in the current directory, which is returned, before they are found elsewhere."""
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    return here
