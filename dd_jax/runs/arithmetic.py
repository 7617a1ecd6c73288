"""How much a function computes: its matrix products and convolutions, loops counted as often as they run.

XLA's own cost analysis counts the body of a loop once, whatever its length; this walks the traced program instead.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from dd_jax.inner.chunks import inner_programs


class Arithmetic(NamedTuple):
    """What a program computes and moves.

    Attributes:
        flops: floating-point operations of all matrix products and convolutions, a multiply-add being two.
        traffic: bytes of their operands and results, what memory moves at least if nothing stays in a cache.
    """

    flops: float
    traffic: float


def count(function: Callable[..., Any], *arguments: Any, while_trips: int = 1) -> Arithmetic:
    """The arithmetic of `function(*arguments)`; arguments may be shapes. Of a conditional the larger branch counts.

    Args:
        while_trips: how often loops of a length unknown before they run are counted.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr, while_trips)


def _count(jaxpr: Any, trips: int) -> Arithmetic:
    flops = traffic = 0.0
    for equation in jaxpr.eqns:
        name, shapes = equation.primitive.name, [v.aval for v in (*equation.invars, *equation.outvars)]
        if name in ("dot_general", "conv_general_dilated"):
            flops += _product(equation) if name == "dot_general" else _convolution(equation)
            traffic += sum(shape.size * shape.dtype.itemsize for shape in shapes)
            continue
        parts = [_count(inner, trips) for inner in inner_programs(equation)]
        if not parts:
            continue
        if name == "cond":
            parts = [max(parts)]
        times = {"scan": equation.params.get("length", 1), "while": trips}.get(name, 1)
        flops += times * sum(part.flops for part in parts)
        traffic += times * sum(part.traffic for part in parts)
    return Arithmetic(flops, traffic)


def _product(equation: Any) -> float:
    (contracted, _), _ = equation.params["dimension_numbers"]
    depth = math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    return 2.0 * equation.outvars[0].aval.size * depth


def _convolution(equation: Any) -> float:
    kernel = equation.invars[1].aval.shape
    outputs = kernel[equation.params["dimension_numbers"].rhs_spec[0]]
    return 2.0 * equation.outvars[0].aval.size * math.prod(kernel) / outputs
