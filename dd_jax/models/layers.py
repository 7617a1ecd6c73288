"""The Linen layers that the networks are made of, over the formulations of convolution.py."""

import math

import jax
import jax.numpy as jnp
from flax import linen as nn

from dd_jax.models.convolution import Layout, channel_axis, convolve
from dd_jax.models.initialisers import bias_initialiser, kernel_initialiser


class Conv(nn.Module):
    """A convolution with bias; input and output in `layout`."""

    channels: int
    size: int
    padding: int = 0
    stride: int = 1
    layout: Layout = "NHWC"
    initialiser: str = "xavier"

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        axis = channel_axis(self.layout)
        shape = (self.size, self.size, images.shape[axis], self.channels)
        kernel = self.param("kernel", kernel_initialiser(self.initialiser), shape)
        bias = self.param("bias", bias_initialiser(self.initialiser, math.prod(shape[:3])), (self.channels,))
        out = convolve(images, kernel, self.padding, self.stride, self.layout)
        return out + jnp.expand_dims(bias, tuple(i for i in range(4) if i != axis))


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

    groups = 0 means one group per channel, which is instance normalisation.
    """

    groups: int = 0
    layout: Layout = "NHWC"
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        axis = channel_axis(self.layout)
        channels = images.shape[axis]
        groups = self.groups or channels
        split = (*images.shape[:axis], groups, channels // groups, *images.shape[axis + 1 :])
        grouped = images.reshape(split)
        spatial = (axis + 1, 1, 2) if self.layout == "NHWC" else (1, 2, 3)
        mean = grouped.mean(spatial, keepdims=True)
        centred = grouped - mean
        variance = jnp.square(centred).mean(spatial, keepdims=True)
        normalised = (centred * (variance + self.epsilon) ** -0.5).reshape(images.shape)
        others = tuple(i for i in range(4) if i != axis)
        scale = self.param("scale", nn.initializers.ones_init(), (channels,))
        bias = self.param("bias", nn.initializers.zeros_init(), (channels,))
        return normalised * jnp.expand_dims(scale, others) + jnp.expand_dims(bias, others)
