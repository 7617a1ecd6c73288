"""Distillation methods, one file each: factories that return a `Method` of pure functions."""

from dd_jax.methods.base import Method, MethodSpec
from dd_jax.methods.bptt import BpttOptions, bptt
from dd_jax.methods.distribution_matching import DistributionMatchingOptions, distribution_matching
from dd_jax.methods.frepo import FrepoOptions, frepo
from dd_jax.methods.generative_teaching import GenerativeTeachingOptions, generative_teaching
from dd_jax.methods.gradient_matching import GradientMatchingOptions, gradient_matching
from dd_jax.methods.graph_condensation import GraphCondensationOptions, graph_condensation
from dd_jax.methods.kernel_inducing_points import (
    KernelInducingPointsOptions,
    kernel_inducing_points,
    solve_labels,
)
from dd_jax.methods.outer import outer_adam, outer_lamb, outer_sgd
from dd_jax.methods.registry import METHODS, MethodOptions, check_networks, make_method, method_named, name_of, spec_of
from dd_jax.methods.trajectory_matching import TrajectoryMatchingOptions, trajectory_matching
from dd_jax.methods.unrolled import UnrolledOptions, protocol_of, unrolled

__all__ = [
    "METHODS",
    "BpttOptions",
    "DistributionMatchingOptions",
    "FrepoOptions",
    "GenerativeTeachingOptions",
    "GradientMatchingOptions",
    "GraphCondensationOptions",
    "KernelInducingPointsOptions",
    "Method",
    "MethodOptions",
    "MethodSpec",
    "TrajectoryMatchingOptions",
    "UnrolledOptions",
    "bptt",
    "check_networks",
    "distribution_matching",
    "frepo",
    "generative_teaching",
    "gradient_matching",
    "graph_condensation",
    "kernel_inducing_points",
    "make_method",
    "method_named",
    "name_of",
    "outer_adam",
    "outer_lamb",
    "outer_sgd",
    "protocol_of",
    "solve_labels",
    "spec_of",
    "trajectory_matching",
    "unrolled",
]
