"""What is kept on disk: distilled sets, checkpoints of runs, networks and experts, and weights from elsewhere."""

from dd_jax.storage.artefact import load_distilled, load_provenance, save_distilled
from dd_jax.storage.expert_files import load_experts
from dd_jax.storage.imports import import_distilled
from dd_jax.storage.pretrained import load_pretrained, save_pretrained

__all__ = [
    "import_distilled",
    "load_distilled",
    "load_experts",
    "load_pretrained",
    "load_provenance",
    "save_distilled",
    "save_pretrained",
]
