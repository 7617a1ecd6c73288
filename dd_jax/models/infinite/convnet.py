"""The convolutional network of infinite width."""

import math
from typing import Any

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models.base import ImageSpec, Model, from_kernel
from dd_jax.models.infinite.kernels import WideKernel
from dd_jax.models.infinite.mlp import check_infinite

POOLINGS = {"none": "same", "global": "pairs"}

_TILE = 256  # MiB


def infinite_convnet(
    data: ImageSpec,
    *,
    depth: int = 3,
    pooling: str = "none",
    kernel: str = "ntk",
    weight_std: float = math.sqrt(2),
    bias_std: float = 0.1,
    tile_mib: int = _TILE,
) -> Model:
    """`depth` 3x3 convolutions (zero padding) of infinitely many channels, each with ReLU, and a linear layer.

    Args:
        pooling: before the last layer, "none" (it has weights for each position) or "global" (for the mean over all of
            them). With H * W pixels a pair of images costs H * W numbers a layer without pooling, (H * W)^2 with it.
        kernel, weight_std, bias_std: as for `infinite_mlp`, which also says how it is trained.
        tile_mib: memory, in MiB, that is computed in at a time. The result doesn't depend on it, nor do the settings.

    Raises:
        OptionError: for values out of range or unknown names.

    Source: Arora et al. 2019, section 4 (CNTK, with and without global average pooling); settings of Nguyen et al.
    2021, the released notebook (three layers without pooling).
    """
    check_infinite(depth, kernel, weight_std, bias_std)
    if pooling not in POOLINGS:
        raise unknown_name("pooling", pooling, POOLINGS)
    if tile_mib < 1:
        raise OptionError(f"tile_mib must be at least 1, but is {tile_mib}.")
    settings: dict[str, Any] = {"depth": depth, "pooling": pooling, "kernel": kernel}
    settings |= {"weight_std": weight_std, "bias_std": bias_std}
    wide = WideKernel(depth, POOLINGS[pooling], kernel, weight_std, bias_std, tile_mib * 2**20)  # type: ignore[arg-type]
    return from_kernel("infinite_convnet", wide, data, settings)
