"""Distillation methods, one file each: factories that return a `Method` of pure functions."""

from dd_jax.methods.base import Method
from dd_jax.methods.outer import outer_adam
from dd_jax.methods.unrolled import UnrolledOptions, protocol_of, unrolled

__all__ = ["Method", "UnrolledOptions", "outer_adam", "protocol_of", "unrolled"]
