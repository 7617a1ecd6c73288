"""Runs: the host loop, what it leaves on disk, and how it is shown."""

from dd_jax.runs.artefact import load_distilled, load_provenance, save_distilled
from dd_jax.runs.estimates import Estimate, estimate
from dd_jax.runs.loop import Run, RunInterrupted, distill
from dd_jax.runs.runtime import use_cores

__all__ = [
    "Estimate",
    "Run",
    "RunInterrupted",
    "distill",
    "estimate",
    "load_distilled",
    "load_provenance",
    "save_distilled",
    "use_cores",
]
