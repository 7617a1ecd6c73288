"""Many ConvNets as one: those of a width and a depth whose norms, activations and poolings are told by numbers.

They have weights of the same shapes, so that one compiled program, and one vmap, serves all of them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convnet import ACTIVATIONS, POOLINGS, convnet
from dd_jax.models.convolution import Layout, avg_pool, channel_axis, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.layers import BATCH, NORMS, Conv, Dense

_ALONE = tuple(name for name in NORMS if name != BATCH)  # norms of each image by itself
_CHOICES = {"norm": _ALONE, "activation": tuple(ACTIVATIONS), "pooling": POOLINGS[:2]}
_EPSILON = 1e-5


def convnet_family(
    data: ImageSpec,
    *,
    width: int,
    depth: int,
    pooled: bool,
    over_batch: bool = False,
    initialiser: str = "default",
    layout: Layout | None = None,
) -> Model:
    """All the `convnet`s of a width and a depth, with pooling or without, as one network.

    Args:
        over_batch: those with batch normalisation, which are a family of their own, as no other norm needs the images
            of a batch together.

    `family_member` says which of them its parameters are, under "choice". That is read by its largest entries and has
    no gradient, so that training leaves it as it is: momentum and Adam don't move it, and weight decay can't change
    which entry is the largest.

    Raises:
        OptionError, DataError: as `convnet` does.
    """
    pooling = "avg" if pooled else "none"
    convnet(data, width=width, depth=depth, norm="none", pooling=pooling, initialiser=initialiser)
    settings: dict[str, Any] = {"width": width, "depth": depth, "pooled": pooled, "initialiser": initialiser}
    settings["over_batch"] = over_batch
    module = _Family(data.num_classes, layout=layout or layout_for(width), **settings)
    return from_linen("convnet-family", module, data, settings, batchwise=over_batch)


def family_member(norm: str, activation: str, pooling: str) -> dict[str, Float[np.ndarray, " options"]]:
    """What stands under "choice" in the parameters of a member; without pooling the last makes no difference.

    Nor does the norm in a family with batch normalisation, where nothing is chosen.
    """
    chosen = {"norm": norm, "activation": activation, "pooling": pooling}
    return {
        name: np.asarray([known == chosen[name] for known in options], np.float32) for name, options in _CHOICES.items()
    }


class _Family(nn.Module):
    num_classes: int
    width: int
    depth: int
    pooled: bool
    over_batch: bool
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        norm, activation, pooling = _Choice(name="choice")()
        x = to_layout(images, self.layout)
        for block in range(self.depth):
            padding = 3 if block == 0 and x.shape[1] == 28 else 1  # as in `convnet`
            x = Conv(self.width, 3, padding, 1, self.layout, self.initialiser)(x)
            x = _AnyNorm(self.layout, self.over_batch)(x, norm)
            x = lax.switch(activation, list(ACTIVATIONS.values()), x)
            if self.pooled:
                x = lax.cond(pooling == 1, lambda x: max_pool(x, 2, 2), lambda x: avg_pool(x, 2, 2), x)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        return Dense(self.num_classes, self.initialiser)(x), x


class _Choice(nn.Module):
    """The indices of what is chosen, in the order of `_CHOICES`."""

    @nn.compact
    def __call__(self) -> list[jax.Array]:
        found = [self.param(name, nn.initializers.zeros_init(), (len(options),)) for name, options in _CHOICES.items()]
        return [jnp.argmax(lax.stop_gradient(entries)) for entries in found]


class _AnyNorm(nn.Module):
    """`GroupNorm` with a number of groups that is told by the index of a name in `_ALONE`; "none" changes nothing.

    The mean over a group of channels is the mean of their means, so it is a product with a matrix. With `over_batch`
    it is batch normalisation whatever the index.
    """

    layout: Layout
    over_batch: bool

    @nn.compact
    def __call__(self, images: jax.Array, norm: jax.Array) -> jax.Array:
        axis = channel_axis(self.layout)
        channels = images.shape[axis]
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        mixing = jnp.asarray(np.stack([_mixing(channels, NORMS[name]) for name in _ALONE]))[norm]
        off = norm == _ALONE.index("none")

        def mixed(values: jax.Array) -> Float[Array, "..."]:
            """The means over groups, for each image and channel."""
            means = values.mean((1, 2))
            if self.over_batch:
                means = means.mean(0 if self.layout == "NHWC" else 1, keepdims=True)
            else:
                means = means @ mixing if self.layout == "NHWC" else mixing @ means
            return jnp.expand_dims(means, (1, 2))

        spread = tuple(i for i in range(4) if i != axis)
        scale, bias = (jnp.expand_dims(leaf, spread) for leaf in (scale, bias))
        centred = images - mixed(images)
        factor = scale * lax.rsqrt(mixed(jnp.square(centred)) + _EPSILON)
        if self.over_batch:
            return centred * factor + bias
        return centred * jnp.where(off, 1.0, factor) + jnp.where(off, 0.0, bias)


def _mixing(channels: int, groups: int | None) -> Float[np.ndarray, "channels channels"]:
    """The symmetric matrix that takes means over groups of channels; groups as in `NORMS`."""
    if groups is None or (groups and channels % groups):  # no norm, or one that no network of this width can have
        return np.zeros((channels, channels), np.float32)
    groups = groups or channels
    size = channels // groups
    return np.kron(np.eye(groups), np.full((size, size), 1 / size)).astype(np.float32)
