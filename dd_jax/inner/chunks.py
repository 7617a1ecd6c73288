"""Images in chunks that stay in a core's cache."""

import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import jax
from jax import lax
from jaxtyping import Array, Float

from dd_jax.types import Params

Apply: TypeAlias = Callable[[Params, jax.Array], jax.Array]
Shaped: TypeAlias = jax.Array | jax.ShapeDtypeStruct  # images of which only the shape is asked

_SMALL = 1024  # numbers in an image
_CACHED = 2**20  # numbers of its largest array that a chunk may have
_FEWEST = 8  # images whose products are still large enough


def is_batchwise(apply: Apply) -> bool:
    """Whether what the network says of an image depends on the others of its batch, as with batch normalisation."""
    return getattr(apply, "batchwise", False)


def chunk_size(apply: Apply, params: Params, images: Shaped) -> int:
    """Images per chunk: on a CPU a divisor of their number whose activations stay in a core's cache, else all of them.

    Of small images (MNIST) at most 32, of larger ones (CIFAR-10) 16: LeNet and AlexCifarNet are a tenth slower in
    chunks of 64. Of wide networks fewer, down to 8: a ConvNet of width 128 is up to 1.7 times as fast in them. Where no
    such number from 8 on divides theirs, the next larger one that does, up to four times as many.
    """
    num_images = images.shape[0]
    if jax.default_backend() != "cpu":
        return num_images
    most = 32 if math.prod(images.shape[1:]) <= _SMALL else 16
    if num_images > _FEWEST:
        most = in_cache(apply, params, images, most)
    below, above = range(min(most, num_images), _FEWEST - 1, -1), range(most + 1, 4 * most + 1)
    return next((size for size in (*below, *above) if num_images % size == 0), num_images)


def in_cache(apply: Apply, params: Params, images: Shaped, most: int) -> int:
    """How many images, at most `most`, have activations that stay in a core's cache."""
    return max(_FEWEST, min(most, _CACHED // largest_array(apply, params, images)))


def apply_in_chunks(apply: Apply, params: Params, images: Float[Array, "batch ..."]) -> Float[Array, "batch ..."]:
    """`apply(params, images)`, chunk by chunk; in one where the network normalises images together."""
    count = images.shape[0]
    size = count if is_batchwise(apply) else chunk_size(apply, params, images)
    if size == count:
        return apply(params, images)
    found = lax.map(lambda chunk: apply(params, chunk), images.reshape(-1, size, *images.shape[1:]))
    return found.reshape(count, *found.shape[2:])


def largest_array(apply: Apply, params: Params, images: Shaped) -> int:
    """How many numbers the largest array has that a network makes on the way from one of the images to its answer."""
    one = jax.ShapeDtypeStruct((1, *images.shape[1:]), images.dtype)
    return _largest(jax.make_jaxpr(apply)(params, one).jaxpr)


def is_wide(apply: Apply, params: Params, images: Shaped) -> bool:
    """Whether the activations of a few images fill a core's cache, as those of a ConvNet of width 128 do."""
    return 2 * _FEWEST * largest_array(apply, params, images) > _CACHED


def inner_programs(equation: Any) -> Iterator[Any]:
    """The programs that an operation of a traced one runs: bodies of loops, branches, called functions."""
    for name, value in equation.params.items():
        if "fwd" in name or "bwd" in name or "rule" in name:  # of custom derivatives, which have been taken already
            continue
        for item in value if isinstance(value, list | tuple) else [value]:
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr") and hasattr(item.jaxpr, "eqns"):
                yield item.jaxpr


def _largest(program: Any) -> int:
    inner = (_largest(part) for equation in program.eqns for part in inner_programs(equation))
    return max((*(out.aval.size for equation in program.eqns for out in equation.outvars), *inner, 1))
