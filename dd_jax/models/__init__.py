"""Networks as pure (init, apply) pairs over plain pytrees; Flax stays behind this door."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models.alexcifarnet import alexcifarnet
from dd_jax.models.base import (
    PRECISIONS,
    ImageSpec,
    Model,
    Shapes,
    check_fits,
    from_linen,
    num_params,
    with_precision,
)
from dd_jax.models.convnet import convnet
from dd_jax.models.lenet import lenet
from dd_jax.models.mlp import mlp

MODELS: Mapping[str, Callable[..., Model]] = {
    "alexcifarnet": alexcifarnet,
    "convnet": convnet,
    "lenet": lenet,
    "mlp": mlp,
}


def make(name: str, data: ImageSpec, **settings: Any) -> Model:
    """The network called `name` for `data`; OptionError for an unknown name or setting."""
    if name not in MODELS:
        raise unknown_name("model", name, MODELS)
    known = set(inspect.signature(MODELS[name]).parameters) - {"data", "layout"}
    for setting in settings:
        if setting not in known:
            raise unknown_name(f"setting of {name}", setting, known)
    try:
        return MODELS[name](data, **settings)
    except TypeError as error:
        raise OptionError(f"A setting of {name} has a value of the wrong type: {settings} ({error}).") from error


__all__ = [
    "MODELS",
    "PRECISIONS",
    "ImageSpec",
    "Model",
    "Shapes",
    "alexcifarnet",
    "check_fits",
    "convnet",
    "from_linen",
    "lenet",
    "make",
    "mlp",
    "num_params",
    "with_precision",
]
