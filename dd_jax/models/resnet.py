"""ResNet18 with the first layer for small images, without batch statistics."""

from typing import Any

import jax
from flax import linen as nn

from dd_jax.errors import DataError, unknown_name
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, avg_pool, from_layout, layout_for, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import BATCH, Conv, Dense, Norm, check_norm

DOWNSAMPLINGS = ("stride", "avg")

_STAGES = (1, 2, 4, 8)  # channels by the width; all but the first begin with a halving
_BLOCKS = 2  # of two convolutions each
_SMALLEST = {"instance": 16}  # pixels: one place alone has no spread to be normalised by; else 8, halved three times


class _Block(nn.Module):
    channels: int
    halves: bool
    norm: str
    downsampling: str
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        by_stride = 2 if self.halves and self.downsampling == "stride" else 1

        def conv(x: jax.Array, size: int, stride: int = 1) -> jax.Array:
            return Conv(self.channels, size, size // 2, stride, self.layout, self.initialiser, bias=False)(x)

        def halved(x: jax.Array) -> jax.Array:
            return avg_pool(x, 2, 2) if self.halves and self.downsampling == "avg" else x

        def norm(x: jax.Array) -> jax.Array:
            return Norm(self.norm, self.layout)(x)

        out = halved(nn.relu(norm(conv(x, 3, by_stride))))
        out = norm(conv(out, 3))
        if self.halves:
            x = norm(halved(conv(x, 1, by_stride)))
        return nn.relu(out + x)


class _ResNet(nn.Module):
    num_classes: int
    width: int
    norm: str
    downsampling: str
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = to_layout(images, self.layout)
        x = Conv(self.width, 3, 1, 1, self.layout, self.initialiser, bias=False)(x)
        x = nn.relu(Norm(self.norm, self.layout)(x))
        for stage, share in enumerate(_STAGES):
            for block in range(_BLOCKS):
                halves = stage > 0 and block == 0
                channels = share * self.width
                x = _Block(channels, halves, self.norm, self.downsampling, self.initialiser, self.layout)(x)
        x = from_layout(x, self.layout)
        x = x.mean((1, 2)) if self.downsampling == "stride" else x.reshape(images.shape[0], -1)
        return Dense(self.num_classes, self.initialiser)(x), x


def resnet18(
    data: ImageSpec,
    *,
    width: int = 64,
    norm: str = "instance",
    downsampling: str = "stride",
    initialiser: str = "default",
    layout: Layout | None = None,
) -> Model:
    """ResNet18 for small images (11,173,962 parameters on CIFAR-10, 11,172,810 on MNIST).

    A 3x3 convolution of stride 1 and no pooling first; four stages of 64, 128, 256 and 512 channels with two blocks
    each; the mean over places, one linear layer.

        9*C*64  +  4 * 9*64*64  +  (9*64*128 + 3 * 9*128*128 + 64*128)  +  the same from 128 to 256 and from 256 to 512
        +  2 * (5*64 + 5*128 + 5*256 + 5*512) of the norms  +  512*K + K

    Args:
        norm: "instance", "group" (4 groups), "layer", "batch" (by the batch at hand, without running statistics) or
            "none".
        downsampling: "stride" of a convolution, or "avg": 2x2 mean pooling after it, and all places to the linear layer
            (11,250,762 parameters on CIFAR-10): what others call ResNet18_AP.
        width: of the first stage.

    Raises:
        DataError: for images of less than 16 pixels, or 8 without instance normalisation.
        OptionError: for an unknown name or a width that the norm can't split.

    Source: He et al. 2016, section 4.2; the released code of Zhao et al. 2021, `networks.py` (ResNet18, ResNet18_AP).
    """
    check_norm("resnet18", norm, width)
    kernel_initialiser(initialiser)
    if downsampling not in DOWNSAMPLINGS:
        raise unknown_name("downsampling", downsampling, DOWNSAMPLINGS)
    smallest = _SMALLEST.get(norm, 8)
    if min(data.image_shape[:2]) < smallest:
        raise DataError(
            f"resnet18 with norm={norm!r} needs images of at least {smallest} x {smallest} "
            f"pixels, but these are {data.image_shape[0]} x {data.image_shape[1]}. Load the "
            "dataset with image_size=32, or use another model (mlp and convnet work with any "
            "size)."
        )
    settings: dict[str, Any] = {
        "width": width,
        "norm": norm,
        "downsampling": downsampling,
        "initialiser": initialiser,
    }
    module = _ResNet(data.num_classes, layout=layout or layout_for(8 * width), **settings)
    return from_linen("resnet18", module, data, settings, batchwise=norm == BATCH)
