"""The contract of a network: pure functions over a plain pytree of parameters."""

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dd_jax.errors import DataError
from dd_jax.types import Batch, Params

Images: TypeAlias = Float[Array, "batch height width channels"]


@runtime_checkable
class ImageSpec(Protocol):
    """What a network must know of the data: a `Dataset`, or anything else with these two."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""

    @property
    def num_classes(self) -> int:
        """K."""


class Shapes(NamedTuple):
    """An `ImageSpec` without data: lenet(Shapes((28, 28, 1), 10))."""

    image_shape: tuple[int, int, int]
    num_classes: int


class InitFn(Protocol):
    """key -> params."""

    def __call__(self, key: jax.Array) -> Params: ...


class ApplyFn(Protocol):
    """(params, images (N, H, W, C)) -> (N, K) logits, or (N, F) features."""

    def __call__(self, params: Params, images: Images) -> Float[Array, "batch out"]: ...


class Model(NamedTuple):
    """A network as pure functions.

    init(key) -> params; apply(params, images) -> logits (N, K); features(params, images) -> (N, F), what the last
    linear layer sees. `settings` holds everything that tells this network from another.
    """

    name: str
    init: InitFn
    apply: ApplyFn
    features: ApplyFn
    image_shape: tuple[int, int, int]
    num_classes: int
    settings: Mapping[str, Any]


def from_linen(name: str, module: nn.Module, spec: ImageSpec, settings: Mapping[str, Any]) -> Model:
    """A Model from a Linen module that returns (logits, features) and keeps no mutable state."""
    image_shape, num_classes = spec.image_shape, spec.num_classes

    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros((1, *image_shape)))["params"]

    def both(params: Params, images: Images) -> Any:
        return module.apply({"params": params}, images)

    def apply(params: Params, images: Images) -> jax.Array:
        return both(params, images)[0]

    def features(params: Params, images: Images) -> jax.Array:
        return both(params, images)[1]

    return Model(name, init, apply, features, image_shape, num_classes, dict(settings))


def num_params(model: Model) -> int:
    """How many numbers the network has."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))


def check_fits(model: Model, images: Batch | jax.Array, num_classes: int, what: str = "dataset") -> None:
    """Raise DataError unless `model` was built for images and classes like these."""
    array = images.images if isinstance(images, Batch) else images
    shape = tuple(array.shape[-3:])
    if shape != tuple(model.image_shape) or num_classes != model.num_classes:
        raise DataError(
            f"The {model.name} was built for images {model.image_shape} in {model.num_classes} classes, but the {what} "
            f"has images {shape} in {num_classes} classes. Build the model from the same data: "
            f"dd_jax.models.{model.name}(data)."
        )
