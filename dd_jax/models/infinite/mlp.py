"""The multi-layer perceptron of infinite width."""

import math
from typing import Any

from dd_jax.errors import OptionError, unknown_name
from dd_jax.models.base import ImageSpec, Model, from_kernel
from dd_jax.models.infinite.kernels import KINDS, WideKernel


def infinite_mlp(
    data: ImageSpec, *, depth: int = 1, kernel: str = "ntk", weight_std: float = math.sqrt(2), bias_std: float = 0.1
) -> Model:
    """`depth` hidden layers of infinitely many ReLU units and a linear one, trained in closed form by protocol "kip".

    Args:
        kernel: "ntk" (all layers are trained) or "nngp" (the last one is).
        weight_std, bias_std: weights are N(0, weight_std^2 / fan-in), biases N(0, bias_std^2), at random.

    Raises:
        OptionError: for values out of range or an unknown kernel.

    Source: Jacot et al. 2018, theorem 1; Lee et al. 2018 (NNGP); settings of Nguyen et al. 2021, *Dataset Meta-Learning
    from Kernel Ridge-Regression*.
    """
    check_infinite(depth, kernel, weight_std, bias_std)
    settings: dict[str, Any] = {"depth": depth, "kernel": kernel, "weight_std": weight_std, "bias_std": bias_std}
    wide = WideKernel(depth, "none", kernel, weight_std, bias_std)  # type: ignore[arg-type]
    return from_kernel("infinite_mlp", wide, data, settings)


def check_infinite(depth: int, kernel: str, weight_std: float, bias_std: float) -> None:
    """OptionError for what there is no such network of."""
    if depth < 1:
        raise OptionError(f"depth must be at least 1, but is {depth}.")
    if kernel not in KINDS:
        raise unknown_name("kernel", kernel, KINDS)
    if not (0 < weight_std < math.inf and 0 <= bias_std < math.inf):
        raise OptionError(
            f"weight_std must be positive and bias_std at least 0, both finite; found {weight_std} and {bias_std}."
        )
