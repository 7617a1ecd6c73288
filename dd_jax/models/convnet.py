"""The field's standard ConvNet: blocks of convolution, normalisation, activation and pooling."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.models.base import ImageSpec, Model, from_linen
from dd_jax.models.convolution import Layout, avg_pool, from_layout, layout_for, max_pool, to_layout
from dd_jax.models.initialisers import kernel_initialiser
from dd_jax.models.layers import BATCH, NORMS, Conv, Dense, GroupNorm

ACTIVATIONS: Mapping[str, Callable[[jax.Array], jax.Array]] = {
    "relu": nn.relu,
    "leaky_relu": nn.leaky_relu,
    "sigmoid": nn.sigmoid,
    "swish": nn.swish,
    "softplus": nn.softplus,
}
POOLINGS = ("avg", "max", "none")


class _ConvNet(nn.Module):
    num_classes: int
    width: int
    depth: int
    norm: str
    activation: str
    pooling: str
    initialiser: str
    layout: Layout
    growth: int = 1

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = to_layout(images, self.layout)
        for block in range(self.depth):
            padding = 3 if block == 0 and x.shape[1] == 28 else 1  # 28 pixels become 32, which halve evenly
            groups = NORMS[self.norm]
            norm = None if groups is None else GroupNorm(groups, self.layout, over_batch=self.norm == BATCH)
            x = Conv(
                self.width * self.growth**block, 3, padding, 1, self.layout, self.initialiser, before_norm=self.norm
            )(x, norm)
            x = ACTIVATIONS[self.activation](x)
            if self.pooling != "none":
                x = max_pool(x, 2, 2) if self.pooling == "max" else avg_pool(x, 2, 2)
        x = from_layout(x, self.layout).reshape(images.shape[0], -1)
        return Dense(self.num_classes, self.initialiser)(x), x


def convnet(
    data: ImageSpec,
    *,
    width: int = 128,
    depth: int = 3,
    norm: str = "instance",
    activation: str = "relu",
    pooling: str = "avg",
    initialiser: str = "default",
    layout: Layout | None = None,
    growth: int = 1,
) -> Model:
    """`depth` blocks of 3x3 convolution with `width` channels, norm, activation and 2x2 pooling, then one linear layer.

    Args:
        norm: "instance", "group" (4 groups), "layer", "batch" or "none". "batch" normalises by the batch at hand, in
            training and after it, and keeps no running statistics: what the network says of an image depends on those
            that it is shown with.
        pooling: "avg", "max" or "none".
        growth: each block is so many times as wide as the one before it. With 2 it is FRePo's network: 128, 256, 512.

    Raises:
        OptionError: for an unknown name or a width that the norm can't split.
        DataError: for images too small to be halved `depth` times.

    Source: Gidaris & Komodakis 2018; Zhao et al. 2021, section 4.1 (width 128, depth 3, instance norm, mean pooling).
    """
    for kind, name, known in (
        ("norm", norm, tuple(NORMS)),
        ("activation", activation, tuple(ACTIVATIONS)),
        ("pooling", pooling, POOLINGS),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    kernel_initialiser(initialiser)
    if width < 1 or depth < 1 or growth < 1 or width % (NORMS[norm] or 1):
        raise OptionError(
            "convnet needs width, depth and growth of at least 1, and width a multiple of 4 with norm='group'; "
            f"found width={width}, depth={depth}, growth={growth}, norm={norm!r}."
        )
    smallest = min(data.image_shape[:2]) + (4 if data.image_shape[0] == 28 else 0)  # padded, see above
    if pooling != "none" and smallest >> depth < 1:
        least = smallest.bit_length() - 1
        remedy = f"use depth={least} or less" if least else "use a network for a graph, such as gcn, or an mlp"
        raise DataError(
            f"Images of {smallest} pixel{'s' if smallest > 1 else ''} can't be halved {depth} times; {remedy}."
        )
    settings: dict[str, Any] = {
        "width": width,
        "depth": depth,
        "norm": norm,
        "activation": activation,
        "pooling": pooling,
    }
    settings["initialiser"] = initialiser
    if growth > 1:  # records of networks as they were have no such setting
        settings["growth"] = growth
    module = _ConvNet(data.num_classes, layout=layout or layout_for(width * growth ** (depth - 1)), **settings)
    return from_linen("convnet", module, data, settings, batchwise=norm == BATCH)
