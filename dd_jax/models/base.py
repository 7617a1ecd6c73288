"""The contract of a network: pure functions over a plain pytree of parameters."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from dd_jax.errors import OptionError, unknown_name
from dd_jax.types import Nodes, Params, each_alone
from dd_jax.values import made

Images: TypeAlias = Float[Array, "batch height width channels"]
Inputs: TypeAlias = Images | Nodes
OtherImages: TypeAlias = Float[Array, "others height width channels"]

PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bf16": "bfloat16"}  # and JAX's names for products


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


@runtime_checkable
class InitFn(Protocol):
    """key -> params."""

    def __call__(self, key: jax.Array) -> Params: ...


@runtime_checkable
class ApplyFn(Protocol):
    """(params, images (N, H, W, C)) -> (N, K) logits, or (N, F) features; of a graph its nodes are the images."""

    def __call__(self, params: Params, images: Inputs) -> Float[Array, "batch out"]: ...


@runtime_checkable
class KernelFn(Protocol):
    """(images (N, H, W, C), others (M, H, W, C)) -> (N, M); differentiable in both."""

    def __call__(self, images: Images, others: OtherImages) -> Float[Array, "batch others"]: ...


class Model(NamedTuple):
    """A network as pure functions.

    init(key) -> params; apply(params, images) -> logits (N, K); features(params, images) -> (N, F), what the last
    linear layer sees. `settings` holds everything that tells this network from another.

    Attributes:
        kernel: of an infinitely wide network, which has it in place of weights; None of all others.
    """

    name: str
    init: InitFn
    apply: ApplyFn
    features: ApplyFn
    image_shape: tuple[int, int, int]
    num_classes: int
    settings: Mapping[str, Any]
    kernel: KernelFn | None = None


class SetWeights(NamedTuple):
    """What an infinitely wide network has learnt: images (n, H, W, C), and their weights (n, K).

    Its logits are sum_i k(x, images_i) weights_i; without images they are zero, their mean at random weights.
    """

    images: Float[Array, "set height width channels"]
    weights: Float[Array, "set classes"]


def from_kernel(name: str, kernel: KernelFn, spec: ImageSpec, settings: Mapping[str, Any]) -> Model:
    """An infinitely wide network: its params are `SetWeights`, its features the kernel with their images."""
    init = made(_no_images, spec.image_shape, spec.num_classes)
    outputs = made(_regressed, kernel)
    forwards = Forward(outputs, 0), Forward(outputs, 1)
    return Model(name, init, *forwards, spec.image_shape, spec.num_classes, dict(settings), kernel)


def _no_images(image_shape: tuple[int, int, int], num_classes: int) -> InitFn:
    def init(key: jax.Array) -> Params:
        del key
        return SetWeights(jnp.zeros((0, *image_shape)), jnp.zeros((0, num_classes)))

    return init


def _regressed(kernel: KernelFn) -> Callable[[SetWeights, Any], Any]:
    def outputs(params: SetWeights, images: Any) -> Any:
        features = kernel(images, params.images.astype(images.dtype))
        return features @ params.weights.astype(images.dtype), features

    return outputs


def from_linen(
    name: str, module: nn.Module, spec: ImageSpec, settings: Mapping[str, Any], batchwise: bool = False
) -> Model:
    """A Model from a Linen module that returns (logits, features) and keeps no mutable state.

    Args:
        batchwise: whether what it says of an image depends on the others of the batch, as with batch normalisation: a
            minibatch is then never gone through in parts, and a split in large ones.
    """
    init = made(_linen_init, module, spec.image_shape)
    outputs = made(_linen_outputs, module)
    forwards = Forward(outputs, 0, batchwise=batchwise), Forward(outputs, 1, batchwise=batchwise)
    return Model(name, init, *forwards, spec.image_shape, spec.num_classes, dict(settings))


def _linen_init(module: nn.Module, image_shape: tuple[int, int, int]) -> InitFn:
    def init(key: jax.Array) -> Params:
        return module.init(key, jnp.zeros((1, *image_shape)))["params"]

    return init


def _linen_outputs(module: nn.Module) -> Callable[[Params, Inputs], Any]:
    def outputs(params: Params, images: Inputs) -> Any:
        return module.apply({"params": params}, each_alone(images))

    return outputs


def with_precision(model: Model, precision: str) -> Model:
    """`model` computing its forward and backward passes in another precision.

    Args:
        precision: "float32" (in full, the default), "tf32" (products of float32 numbers rounded to ten bits, on GPUs
            that have it) or "bf16" (parameters and activations in bfloat16, products summed in float32). Parameters,
            logits, losses and updates stay float32 in all of them.

    Raises:
        OptionError: for an unknown precision.
    """
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if not isinstance(model.apply, Forward):
        raise OptionError(
            f"The precision of {model.name} can't be chosen, because this library didn't make it. "
            "Make a model of its init and apply with dd_jax.models.from_functions."
        )
    if model.kernel is not None and precision != "float32":
        raise OptionError(f"The kernel of {model.name} needs the precision float32, but found {precision!r}.")
    apply, features = (
        dataclasses.replace(f, precision=precision) if isinstance(f, Forward) else f
        for f in (model.apply, model.features)
    )
    settings = architecture(model)
    if precision != "float32":
        settings["precision"] = precision
    return model._replace(apply=apply, features=features, settings=settings)


@dataclasses.dataclass(frozen=True)
class Forward:
    """One output of a network, in a precision; equal to another one of equal outputs.

    Attributes:
        outputs: (params, images) -> logits and, where there are any, features.
        batchwise: whether what it says of an image depends on the others of the batch.
    """

    outputs: Callable[[Params, Inputs], Any]
    output: int
    precision: str = "float32"
    batchwise: bool = False

    def __call__(self, params: Params, images: Inputs) -> Float[Array, "batch out"]:
        given = images.dtype
        if self.precision == "bf16":
            params, images = jax.tree.map(_rough, (params, images))
        with jax.default_matmul_precision(PRECISIONS[self.precision]):
            out: Any = self.outputs(params, images)
        return out[self.output].astype(given) if self.precision == "bf16" else out[self.output]


def _rough(leaf: jax.Array) -> jax.Array:
    """Numbers in bfloat16; the node numbers of a graph as they are."""
    return leaf.astype(jnp.bfloat16) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def architecture(model: Model) -> dict[str, Any]:
    """The settings that say what the network is, and not how it is computed."""
    return {key: value for key, value in model.settings.items() if key != "precision"}


def same_shapes(model: Model, other: Model) -> bool:
    """Whether the two networks' parameters have the same names and shapes."""
    first, second = (jax.eval_shape(m.init, jax.random.key(0)) for m in (model, other))
    return jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, second)


def num_params(model: Model) -> int:
    """How many numbers the network has."""
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return sum(leaf.size for leaf in jax.tree.leaves(shapes))
