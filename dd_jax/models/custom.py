"""Networks of one's own: a Flax Linen module, or a pair of functions, as a `Model`."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors as flax_errors
from flax import linen as nn

from dd_jax.errors import DataError, OptionError
from dd_jax.models.base import Forward, Images, ImageSpec, InitFn, Model, num_params
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
    """A Flax Linen module of one's own, such as Net(width=32), as a network for `data`.

    Args:
        module: an instance. Called with images (N, H, W, C) in model space it gives logits (N, K), or a pair of logits
            and features (N, F), what its last layer sees. They depend on nothing but its parameters and each image: no
            BatchNorm, no dropout.
        arguments: what else it is called with, always the same: {"train": False}.
        name: of the network; None for that of the module's class.
        settings: what tells it from others of its name, besides the module's fields, for the record of a run. Code
            isn't compared: whoever changes a module between two parts of a run does well to change these too.

    Raises:
        OptionError: for a module that isn't such a function of images and parameters.
        DataError: for logits that aren't floating-point numbers of shape (N, K).
    """
    if not isinstance(module, nn.Module):
        raise OptionError(
            f"from_flax takes an instance of a Flax Linen module, such as Net() or nn.Sequential([...]), but found "
            f"{_described(module)}. For anything else, Flax NNX included, there is from_functions(init, apply, data)."
        )
    name, arguments = name or type(module).__name__, dict(arguments or {})
    _check_call(module, name, arguments)

    init_all = made(_init_all, module, data.image_shape, arguments)
    state = [collection for collection in jax.eval_shape(init_all, jax.random.key(0)) if collection != "params"]
    if state:
        raise OptionError(
            f"{name} keeps more than parameters: {', '.join(state)}. A network must be a function of its parameters "
            "and the images alone, as its training is differentiated through: use GroupNorm or LayerNorm in place of "
            "BatchNorm, and no other mutable variables."
        )
    fields = {**_fields(module), **({"arguments": _plain(arguments)} if arguments else {})}
    init, apply = made(_parameters, init_all), made(_applied, module, name, arguments)
    return _model(name, init, apply, data, {**fields, **(settings or {})})


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

    A Flax NNX module without state, for instance:

        graph = nnx.graphdef(Net(nnx.Rngs(0)))
        init = lambda key: nnx.to_pure_dict(nnx.state(Net(nnx.Rngs(key)), nnx.Param))
        apply = lambda params, images: nnx.merge(graph, nnx.State(params))(images)

    Args:
        init: key -> parameters, any pytree of floating-point arrays; another key gives another network.
        apply: (parameters, images (N, H, W, C) in model space) -> logits (N, K), or a pair of logits and features (N,
            F), what the last layer sees. JAX must be able to trace it and to differentiate it twice.
        name, settings: what tells the network from others, for the record of a run.

    Raises:
        OptionError: for parameters that can't be trained.
        DataError: for logits that aren't floating-point numbers of shape (N, K).
    """
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
        return jax.tree.map(jnp.asarray, init(key))

    return init_arrays


def _no_features(name: str) -> Callable[[Params, Images], jax.Array]:
    def features(params: Params, images: Images) -> jax.Array:
        del params, images
        raise OptionError(f"{name} gives logits alone, and its features are needed: let it return (logits, features).")

    return features


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
        raise OptionError(f"{name} has no parameters, so there is nothing to train.")
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
    return f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
