"""What a distilled set is worth: fresh networks trained on it, beside what real images of that number give."""

from dd_jax.evaluation.baselines import BASELINES, CORESETS, Baseline, baseline_names, baselines, iterate_baselines
from dd_jax.evaluation.evaluate import evaluate, evaluate_networks, train_on
from dd_jax.evaluation.protocols import AS_DISTILLED, PROTOCOLS, ProtocolWarning, training_of
from dd_jax.evaluation.result import Attacked, Evaluation, in_percent

__all__ = [
    "AS_DISTILLED",
    "BASELINES",
    "CORESETS",
    "PROTOCOLS",
    "Attacked",
    "Baseline",
    "Evaluation",
    "ProtocolWarning",
    "baseline_names",
    "baselines",
    "evaluate",
    "evaluate_networks",
    "in_percent",
    "iterate_baselines",
    "train_on",
    "training_of",
]
