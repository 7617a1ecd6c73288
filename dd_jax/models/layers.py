"""The Linen layers that the networks are made of, over the formulations of convolution.py."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models.convolution import (
    Deferred,
    Layout,
    channel_axis,
    convolve,
    deferred,
    defers,
    normalised_products,
)
from dd_jax.models.initialisers import bias_initialiser, kernel_initialiser

BATCH = "batch"
# Groups of channels; 0: one per channel.
NORMS: Mapping[str, int | None] = {"instance": 0, "group": 4, "layer": 1, BATCH: 0, "none": None}


class Conv(nn.Module):
    """A convolution, with bias unless `bias` is False; input and output in `layout`.

    Attributes:
        before_norm: the name in `NORMS` of what comes next. Instance and batch normalisation take a bias away again, so
            that it is kept among the parameters but not added: a tenth of a ConvNet's time.
    """

    channels: int
    size: int
    padding: int = 0
    stride: int = 1
    layout: Layout = "NHWC"
    initialiser: str = "xavier"
    bias: bool = True
    before_norm: str = "none"

    @nn.compact
    def __call__(self, images: jax.Array, then: Callable[[Any], jax.Array] | None = None) -> jax.Array:
        """What the convolution gives, or `then` of it: of a `Deferred` where `before_norm` can be done with it."""
        axis = channel_axis(self.layout)
        shape = (self.size, self.size, images.shape[axis], self.channels)
        kernel = self.param("kernel", kernel_initialiser(self.initialiser), shape)
        if self.bias:
            bias = self.param("bias", bias_initialiser(self.initialiser, math.prod(shape[:3])), (self.channels,))
        if then is not None and self.before_norm == "instance" and defers(kernel, self.stride, self.layout):
            return then(deferred(images, kernel, self.padding))
        out = convolve(images, kernel, self.padding, self.stride, self.layout)
        if self.bias and NORMS[self.before_norm] != 0:
            out = out + jnp.expand_dims(bias, tuple(i for i in range(4) if i != axis))
        return out if then is None else then(out)


class Dense(nn.Module):
    """y = x W + b with W (in, out)."""

    units: int
    initialiser: str = "xavier"

    @nn.compact
    def __call__(self, inputs: jax.Array) -> jax.Array:
        fan_in = inputs.shape[-1]
        kernel = self.param("kernel", kernel_initialiser(self.initialiser), (fan_in, self.units))
        bias = self.param("bias", bias_initialiser(self.initialiser, fan_in), (self.units,))
        return inputs @ kernel + jnp.expand_dims(bias, tuple(range(inputs.ndim - 1)))


class GroupNorm(nn.Module):
    """Normalise each image over groups of channels (Wu & He 2018, eq. 1), then scale and shift per channel.

    Attributes:
        groups: 0 means one group per channel, which is instance normalisation.
        over_batch: normalise all images together; with one group per channel that is batch normalisation (Ioffe &
            Szegedy 2015, algorithm 1). There are no running statistics: the batch at hand is what is normalised by,
            after training too.
    """

    groups: int = 0
    layout: Layout = "NHWC"
    epsilon: float = 1e-5
    over_batch: bool = False

    @nn.compact
    def __call__(self, images: jax.Array | Deferred) -> jax.Array:
        axis = channel_axis(self.layout)
        channels = images.weights.shape[1] if isinstance(images, Deferred) else images.shape[axis]
        groups = self.groups or channels
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        if isinstance(images, Deferred):
            return normalised_products(images, scale, bias, self.epsilon)
        # Of one channel a group, without the axis of its channels: sums are not vectorised over an axis of length one.
        within = () if groups == channels else (channels // groups,)
        grouped = images.reshape(*images.shape[:axis], groups, *within, *images.shape[axis + 1 :])
        own = tuple(range(axis, axis + 1 + len(within)))  # axes of the group, and of the channel in it
        others = tuple(i for i in range(grouped.ndim) if i not in own)
        batch = 0 if self.layout == "NHWC" else grouped.ndim - 1
        over = (*own[1:], *(i for i in others if i != batch or self.over_batch))
        scale, bias = (jnp.expand_dims(leaf.reshape(groups, *within), others) for leaf in (scale, bias))
        centred = grouped - grouped.mean(over, keepdims=True)
        variance = jnp.square(centred).mean(over, keepdims=True)
        # Scale times deviation first: the product is small, and images are gone through once less.
        return (centred * (scale * lax.rsqrt(variance + self.epsilon)) + bias).reshape(images.shape)


class Norm(nn.Module):
    """The normalisation called `norm` in `NORMS`; "none" leaves images as they are."""

    norm: str
    layout: Layout = "NHWC"

    @nn.compact
    def __call__(self, images: jax.Array | Deferred) -> jax.Array:
        groups = NORMS[self.norm]
        if groups is None:
            assert not isinstance(images, Deferred)
            return images
        return GroupNorm(groups, self.layout, over_batch=self.norm == BATCH, name="GroupNorm")(images)


def check_norm(network: str, norm: str, width: int) -> None:
    """OptionError for an unknown norm, or a number of channels below one or that the norm can't split."""
    if norm not in NORMS:
        raise unknown_name("norm", norm, NORMS)
    if width < 1 or width % (NORMS[norm] or 1):
        raise OptionError(
            f"{network} needs a width of at least 1, and a multiple of 4 with norm='group'; found width={width}, "
            f"norm={norm!r}."
        )
