"""What a distilled set is worth: fresh networks trained on it, beside what real images of that number give."""

from dd_jax.evaluation.baselines import BASELINES, CORESETS, Baseline, baseline_names, baselines, iterate_baselines
from dd_jax.evaluation.evaluate import evaluate, evaluate_networks, train_on
from dd_jax.evaluation.protocols import PROTOCOLS, ProtocolWarning, training_of
from dd_jax.evaluation.result import Evaluation, in_percent
from dd_jax.evaluation.scores import DDRanking, augmentation_robust_score, dd_ranking, label_robust_score
from dd_jax.evaluation.transfer import DCBench, Transfer, cross_architecture, dc_bench, storage_bytes
from dd_jax.types import AS_DISTILLED

__all__ = [
    "AS_DISTILLED",
    "BASELINES",
    "CORESETS",
    "PROTOCOLS",
    "Baseline",
    "DCBench",
    "DDRanking",
    "Evaluation",
    "ProtocolWarning",
    "Transfer",
    "augmentation_robust_score",
    "baseline_names",
    "baselines",
    "cross_architecture",
    "dc_bench",
    "dd_ranking",
    "evaluate",
    "evaluate_networks",
    "in_percent",
    "iterate_baselines",
    "label_robust_score",
    "storage_bytes",
    "train_on",
    "training_of",
]
