"""Runs: the host loop, the training of networks beforehand, reports and exports."""

from dd_jax.runs.comparing import compare
from dd_jax.runs.estimates import Estimate, estimate
from dd_jax.runs.experts import EXPERT_TRAINING, pretrain_experts
from dd_jax.runs.export import Exported, export
from dd_jax.runs.loop import Run, RunInterrupted, Validated, distill
from dd_jax.runs.pretrain import pretrain
from dd_jax.runs.report import write_report
from dd_jax.runs.runtime import use_cores
from dd_jax.runs.several import distill_many
from dd_jax.runs.tiles import save_tiles

__all__ = [
    "EXPERT_TRAINING",
    "Estimate",
    "Exported",
    "Run",
    "RunInterrupted",
    "Validated",
    "compare",
    "distill",
    "distill_many",
    "estimate",
    "export",
    "pretrain",
    "pretrain_experts",
    "save_tiles",
    "use_cores",
    "write_report",
]
