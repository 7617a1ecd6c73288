"""Runs: the host loop, what it leaves on disk, and how it is shown."""

from dd_jax.runs.artefact import load_distilled, load_provenance, save_distilled
from dd_jax.runs.estimates import Estimate, estimate
from dd_jax.runs.expert_files import load_experts
from dd_jax.runs.experts import EXPERT_TRAINING, pretrain_experts
from dd_jax.runs.export import Exported, export
from dd_jax.runs.loop import Run, RunInterrupted, distill
from dd_jax.runs.pretrain import pretrain
from dd_jax.runs.pretrained import load_pretrained, save_pretrained
from dd_jax.runs.report import write_report
from dd_jax.runs.runtime import use_cores
from dd_jax.runs.tiles import save_tiles

__all__ = [
    "EXPERT_TRAINING",
    "Estimate",
    "Exported",
    "Run",
    "RunInterrupted",
    "distill",
    "estimate",
    "export",
    "load_distilled",
    "load_experts",
    "load_pretrained",
    "load_provenance",
    "pretrain",
    "pretrain_experts",
    "save_distilled",
    "save_pretrained",
    "save_tiles",
    "use_cores",
    "write_report",
]
