"""Networks of one's own in Flax NNX: what makes a module, as pure functions of its parameters."""

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any

import jax

from dd_jax.errors import OptionError
from dd_jax.models.base import Images, InitFn
from dd_jax.types import Params
from dd_jax.values import made

_FUNCTIONS = (types.FunctionType, types.MethodType, functools.partial)
_LISTED = 3  # variables that an error names


def makes_nnx(maker: Any) -> bool:
    """Whether this is a class of NNX modules, or a function that may make one."""
    from flax import nnx

    return issubclass(maker, nnx.Module) if isinstance(maker, type) else isinstance(maker, _FUNCTIONS)


def nnx_functions(
    maker: Callable[..., Any], name: str | None, arguments: Mapping[str, Any]
) -> tuple[str, InitFn, Callable[[Params, Images], Any]]:
    """(name, init, apply) of the NNX modules that `maker` makes when it is called with rngs.

    Raises:
        OptionError: where it doesn't make one, or one that keeps more than parameters.
    """
    module, _, rest = _parts(maker)
    name = name or module
    _check_rest(name, rest)
    return name, made(_init, maker), made(_apply, maker, name, arguments)


def _init(maker: Callable[..., Any]) -> InitFn:
    def init(key: jax.Array) -> Params:
        from flax import nnx

        return nnx.to_pure_dict(nnx.state(_make(maker, key), nnx.Param))

    return init


def _apply(maker: Callable[..., Any], name: str, arguments: Mapping[str, Any]) -> Callable[[Params, Images], Any]:
    from flax import nnx

    _, graph, rest = _parts(maker)  # the streams of random numbers in it are shapes alone, which nothing can draw from

    def apply(params: Params, images: Images) -> Any:
        try:
            return nnx.merge(graph, nnx.State(params), rest)(images, **arguments)
        except TypeError as error:
            if not nnx.to_flat_state(rest):
                raise
            raise OptionError(
                f"{name} draws random numbers when it is called, as dropout does, or fails with {error}. A network "
                "must be a function of its parameters and the images alone: call eval() on the module where it is "
                "made, say deterministic=True, or leave that out."
            ) from error

    return apply


def _parts(maker: Callable[..., Any]) -> tuple[str, Any, Any]:
    """Of a module: the name of its class, its structure, and the shapes of what it has besides parameters."""
    from flax import nnx

    try:
        module = nnx.eval_shape(lambda: _make(maker, jax.random.key(0)))
    except TypeError as error:
        raise OptionError(
            f"No NNX module can be made by {_called(maker)}(rngs=rngs): {error}. Give what needs nothing else, such as "
            "lambda rngs: Net(width=32, rngs=rngs)."
        ) from error
    parts: Any = nnx.split(module, nnx.Param, ...)
    graph, _, rest = parts
    return type(module).__name__, graph, rest


def _make(maker: Callable[..., Any], key: jax.Array) -> Any:
    from flax import nnx

    rngs = nnx.Rngs(key)
    module = maker(rngs=rngs) if _takes_rngs(maker) else maker(rngs)
    if not isinstance(module, nnx.Module):
        raise OptionError(
            f"{_called(maker)}(rngs=rngs) should make a Flax NNX module, but makes a {type(module).__name__}. For "
            "other networks there is from_functions(init, apply, data)."
        )
    return module


def _takes_rngs(maker: Callable[..., Any]) -> bool:
    """Whether it is called as maker(rngs=rngs), as modules usually are, and not as maker(rngs)."""
    try:
        inspect.signature(maker).bind(rngs=None)
    except TypeError:
        return False
    return True


def _check_rest(name: str, rest: Any) -> None:
    from flax import nnx

    flat: Any = nnx.to_flat_state(rest)
    kept = {
        ".".join(map(str, path)): type(variable).__name__ if isinstance(variable, nnx.Variable) else "array"
        for path, variable in flat
        if not isinstance(variable, nnx.RngState)
    }
    if kept:
        listed = ", ".join(f"{path} ({kind})" for path, kind in list(kept.items())[:_LISTED])
        raise OptionError(
            f"{name} keeps more than parameters: {listed}{', ...' if len(kept) > _LISTED else ''}. A network must be a "
            "function of its parameters and the images alone, as its training is differentiated through: use GroupNorm "
            "or LayerNorm in place of BatchNorm, NumPy arrays for constants, and no other variables than nnx.Param."
        )


def _called(maker: Callable[..., Any]) -> str:
    name = getattr(getattr(maker, "func", maker), "__name__", "it")
    return "the function" if name == "<lambda>" else name
