"""Networks of one's own: a module of Flax, or a pair of functions, as a `Model`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import errors as flax_errors
from flax import linen as nn

from dd_jax.errors import DataError, OptionError
from dd_jax.models.base import Forward, Images, ImageSpec, InitFn, Model, num_params
from dd_jax.models.custom_nnx import makes_nnx, nnx_functions
from dd_jax.types import Params
from dd_jax.values import made

_IMAGES = 3  # that a network is tried on, abstractly: not one, as which is easily taken for no axis at all


def from_flax(
    module: Any,
    data: ImageSpec,
    *,
    arguments: Mapping[str, Any] | None = None,
    name: str | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """A Flax module of your own, of Linen or NNX, as a network for `data`.

        from_flax(Net(width=32), data)                           # Linen: an instance
        from_flax(lambda rngs: Net(width=32, rngs=rngs), data)   # NNX: a function, or class, that makes one

    Programs that were compiled for a network serve again where the same module is given again: of Linen one of equal
    fields, of NNX the same function, or a functools.partial of the same class and values.

    Args:
        module: as above. Called with images (N, H, W, C) in model space it gives logits (N, K), or a pair of logits
            and features (N, F), what its last layer sees. They depend on nothing but its parameters and each image: no
            BatchNorm, no dropout.
        arguments: what else it is called with, always the same: {"train": False}.
        name: of the network; None for that of the module's class.
        settings: what tells it from others of its name, besides the fields of a Linen module and the arguments of a
            functools.partial, for the record of a run. Code isn't compared: whoever changes a module between two parts
            of a run does well to change these too.

    Raises:
        OptionError: for a module that isn't such a function of images and parameters.
        DataError: for logits that aren't floating-point numbers of shape (N, K).
    """
    arguments = dict(arguments or {})
    recorded = {**_fields_of(module), **({"arguments": _plain(arguments)} if arguments else {}), **(settings or {})}
    if not isinstance(module, nn.Module):
        _check_maker(module)
        return _model(*nnx_functions(module, name, arguments), data, recorded)
    name = name or type(module).__name__
    _check_call(module, name, arguments)

    init_all = made(_init_all, module, data.image_shape, arguments)
    state = [collection for collection in jax.eval_shape(init_all, jax.random.key(0)) if collection != "params"]
    if state:
        raise OptionError(
            f"{name} keeps more than parameters: {', '.join(state)}. A network must be a function of its parameters "
            "and the images alone, as its training is differentiated through: use GroupNorm or LayerNorm in place of "
            "BatchNorm, and no other mutable variables."
        )
    return _model(name, made(_parameters, init_all), made(_applied, module, name, arguments), data, recorded)


def _check_maker(module: Any) -> None:
    if not makes_nnx(module):
        raise OptionError(
            "from_flax takes an instance of a Flax Linen module, such as Net() or "
            "nn.Sequential([...]), or a function that makes a Flax NNX module, such as lambda "
            f"rngs: Net(rngs=rngs), but found {_described(module)}. For any other network use "
            "from_functions(init, apply, data)."
        )


def _init_all(module: nn.Module, image_shape: tuple[int, int, int], arguments: Mapping[str, Any]) -> Callable[..., Any]:
    def init(key: jax.Array) -> Mapping[str, Any]:
        return module.init(key, jnp.zeros((1, *image_shape)), **arguments)

    return init


def _parameters(init_all: Callable[..., Any]) -> InitFn:
    def init(key: jax.Array) -> Params:
        return init_all(key).get("params", {})

    return init


def _applied(module: nn.Module, name: str, arguments: Mapping[str, Any]) -> Callable[[Params, Images], Any]:
    def apply(params: Params, images: Images) -> Any:
        try:
            return module.apply({"params": params}, images, **arguments)
        except flax_errors.InvalidRngError as error:
            raise OptionError(
                f"{name} draws random numbers when it is called: {str(error).partition(' (')[0]}. A network must be a "
                "function of its parameters and the images alone: switch that off, for instance with "
                'arguments={"train": False} or Dropout(deterministic=True), or leave it out.'
            ) from error

    return apply


def from_functions(
    init: Callable[[jax.Array], Params],
    apply: Callable[[Params, Images], Any],
    data: ImageSpec,
    *,
    name: str = "own",
    settings: Mapping[str, Any] | None = None,
) -> Model:
    """A pair of pure functions as a network for `data`.

    So networks of Equinox, Haiku or plain JAX are used: the guide on networks shows how. The same two functions again
    need no program compiled again; functions that are defined anew do.

    Args:
        init: key -> parameters, any pytree of floating-point arrays; another key gives another network.
        apply: (parameters, images (N, H, W, C) in model space) -> logits (N, K), or a pair of logits and features (N,
            F), what the last layer sees. JAX must be able to trace it and to differentiate it twice.
        name, settings: what tells the network from others, for the record of a run.

    Raises:
        OptionError: for functions of other arguments, or parameters that can't be trained.
        DataError: for logits that aren't floating-point numbers of shape (N, K).
    """
    _check_signature("init", init, "key")
    _check_signature("apply", apply, "params", "images")
    return _model(name, init, apply, data, dict(settings or {}))


def _model(
    name: str,
    init: Callable[[jax.Array], Params],
    apply: Callable[[Params, Any], Any],
    data: ImageSpec,
    settings: Mapping[str, Any],
) -> Model:
    outputs, init_arrays = made(_outputs, apply), made(_arrays, init)
    params = jax.eval_shape(init_arrays, jax.random.key(0))
    _check_params(name, params)
    has_features = _check_outputs(name, apply, params, data)
    forward = Forward(outputs, 0)
    features = Forward(outputs, 1) if has_features else made(_no_features, name)
    model = Model(name, init_arrays, forward, features, data.image_shape, data.num_classes, {})
    return model._replace(settings={**settings, "parameters": num_params(model)})


def _outputs(apply: Callable[[Params, Any], Any]) -> Callable[[Params, Any], tuple[jax.Array, ...]]:
    def outputs(params: Params, images: Any) -> tuple[jax.Array, ...]:
        out = apply(params, images)
        out = out if isinstance(out, tuple) else (out,)
        return tuple(value.astype(images.dtype) for value in out)

    return outputs


def _arrays(init: Callable[[jax.Array], Params]) -> InitFn:
    def init_arrays(key: jax.Array) -> Params:
        params = init(key)
        odd = [leaf for leaf in jax.tree.leaves(params) if not isinstance(leaf, int | float | np.ndarray | jax.Array)]
        if odd:
            raise OptionError(
                f"init must give parameters as a pytree of arrays, but found {_described(odd[0])} among them: keep "
                "what isn't trained elsewhere. With Equinox, eqx.filter(net, eqx.is_inexact_array) has only arrays."
            )
        return jax.tree.map(jnp.asarray, params)

    return init_arrays


def _no_features(name: str) -> Callable[[Params, Images], jax.Array]:
    def features(params: Params, images: Images) -> jax.Array:
        del params, images
        raise OptionError(
            f"This method needs features, but {name} returns logits only. Let it return (logits, features)."
        )

    return features


def _check_signature(what: str, function: Callable[..., Any], *given: str) -> None:
    """OptionError unless a function can be called with as many arguments as are named."""
    if not callable(function):
        raise OptionError(f"{what} should be a function of ({', '.join(given)}), but found {_described(function)}.")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some built-in ones have none
        return
    try:
        signature.bind(*given)
    except TypeError as error:
        raise OptionError(
            f"{what} is called as {what}({', '.join(given)}), but what was given takes {signature}: {error}. A network "
            "must be a function of its parameters and the images alone: bind all else before, and leave out what needs "
            "a key or keeps a state. With Haiku, hk.without_apply_rng(hk.transform(f)) does without a key."
        ) from error


def _check_call(module: nn.Module, name: str, arguments: Mapping[str, Any]) -> None:
    try:
        inspect.signature(module.__call__).bind(None, **arguments)
    except TypeError as error:
        given = "".join(f", {key}={value!r}" for key, value in arguments.items())
        raise OptionError(
            f"{name} can't be called as module(images{given}): {error}. Say what it takes besides images as "
            'arguments, for instance {"train": False}.'
        ) from error


def _check_params(name: str, params: Params) -> None:
    leaves = jax.tree.leaves(params)
    if not leaves:
        raise OptionError(f"{name} has no parameters, so there is nothing to train. Give a network with parameters.")
    odd = [leaf for leaf in leaves if not jnp.issubdtype(leaf.dtype, jnp.floating)]
    if odd:
        raise OptionError(
            f"{name} has parameters of type {odd[0].dtype} and shape {odd[0].shape}, which can't be trained by "
            "gradient descent: keep only floating-point arrays among them."
        )


def _check_outputs(name: str, apply: Callable[..., Any], params: Params, data: ImageSpec) -> bool:
    """Whether there are features; DataError unless the outputs are as they should be."""
    images = jnp.zeros((_IMAGES, *data.image_shape))
    out = jax.eval_shape(apply, params, images)
    logits, *features = out if isinstance(out, tuple) else (out,)
    expected = _IMAGES, data.num_classes
    if not _is_float(logits) or logits.shape != expected or len(features) > 1:
        raise DataError(
            f"{name} must give floating-point logits of shape {expected} for {_IMAGES} images {data.image_shape} in "
            f"{data.num_classes} classes, or a pair of such logits and features, but gives {_described(out)}. "
            "The last layer has one unit for each class, and the first axis is that of the images."
        )
    if features and not (_is_float(features[0]) and features[0].ndim == 2 and len(features[0]) == _IMAGES):
        raise DataError(
            f"{name} must give features of shape ({_IMAGES}, F) for {_IMAGES} images, but gives "
            f"{_described(features[0])}. Flatten what the last layer sees."
        )
    return bool(features)


def _is_float(value: Any) -> bool:
    return hasattr(value, "dtype") and jnp.issubdtype(value.dtype, jnp.floating)


def _fields(module: nn.Module) -> dict[str, Any]:
    """What a module was made with, as plain values; defaults that have no value to show are left out."""
    found = {}
    for field in dataclasses.fields(module):
        value = getattr(module, field.name)
        untold = value is None or (value is field.default and callable(value))
        if field.name not in ("parent", "name") and not untold:
            found[field.name] = _plain(value)
    return found


def _fields_of(module: Any) -> dict[str, Any]:
    """What a Linen module, or a functools.partial that makes an NNX one, was made with."""
    if isinstance(module, nn.Module):
        return _fields(module)
    if not isinstance(module, functools.partial):
        return {}
    first = {"args": _plain(module.args)} if module.args else {}
    return {**first, **{key: _plain(value) for key, value in module.keywords.items()}}


def _plain(value: Any) -> Any:
    """A value as numbers, strings, lists and dicts that are the same in every process: no addresses."""
    if isinstance(value, bool | int | float | str | None):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, nn.Module):
        return {"module": type(value).__name__, **_fields(value)}
    if isinstance(value, functools.partial):
        return [_plain(value.func), _plain(value.args), _plain(value.keywords)]
    return str(getattr(value, "__qualname__", None) or getattr(value, "__name__", None) or type(value).__name__)


def _described(value: Any) -> str:
    """Arrays by their types and shapes, anything else by its type."""
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_described, value))})"
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    return f"the class {value.__name__}" if isinstance(value, type) else f"a value of type {type(value).__name__}"
