"""VGG11 for images of 28 or 32 pixels, without batch statistics."""

from typing import Any

import jax
from flax import linen as nn

from dd_jax.errors import DataError
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import BATCH, Conv, Dense, Norm, check_norm

_STAGES = ((1,), (2,), (4, 4), (8, 8), (8, 8))  # channels by the width; each stage ends with a halving
_SMALLEST = 2 ** len(_STAGES)


class _VGG(nn.Module):
    num_classes: int
    width: int
    norm: str
    initialiser: str
    layout: Layout

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = to_layout(images, self.layout)
        padding = 3 if images.shape[1] == 28 else 1  # 28 pixels become 32
        for stage in _STAGES:
            for share in stage:
                conv = Conv(share * self.width, 3, padding, 1, self.layout, self.initialiser, before_norm=self.norm)
                x = nn.relu(conv(x, Norm(self.norm, self.layout)))
                padding = 1
            x = max_pool(x, 2, 2)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        return Dense(self.num_classes, self.initialiser)(x), x


def vgg11(
    data: ImageSpec,
    *,
    width: int = 64,
    norm: str = "instance",
    initialiser: str = "default",
    layout: Layout | None = None,
) -> Model:
    """VGG11 with one linear layer (9,231,114 parameters on CIFAR-10, 9,229,962 on MNIST).

    3x3 convolutions of 64, 128, 256, 256, 512, 512, 512 and 512 channels, each with normalisation and ReLU, 2x2
    max-pooling after the first, second, fourth, sixth and eighth; 28 pixels are padded to 32.

        9*C*64 + 9*64*128 + 9*128*256 + 9*256*256 + 9*256*512 + 3 * 9*512*512  +  2752 biases  +  2 * 2752 of the norms
        +  512*K + K

    Args:
        norm: "instance", "group" (4 groups), "layer", "batch" (by the batch at hand, without running statistics) or
            "none".
        width: of the first convolution; the others are multiples of it.

    Raises:
        DataError: for images of less than 32 pixels other than 28.
        OptionError: for an unknown name or a width that the norm can't split.

    Source: Simonyan & Zisserman 2015, configuration A; the released code of Zhao et al. 2021, `networks.py`.
    """
    check_norm("vgg11", norm, width)
    kernel_initialiser(initialiser)
    if data.image_shape[0] != 28 and min(data.image_shape[:2]) < _SMALLEST:
        raise DataError(
            f"vgg11 halves images five times, but these are {data.image_shape[0]} x "
            f"{data.image_shape[1]}. Load the dataset with image_size=32, or use another model "
            "(mlp and convnet work with any size)."
        )
    settings: dict[str, Any] = {"width": width, "norm": norm, "initialiser": initialiser}
    module = _VGG(data.num_classes, layout=layout or layout_for(8 * width), **settings)
    return from_linen("vgg11", module, data, settings, batchwise=norm == BATCH)
