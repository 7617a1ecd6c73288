"""What a distilled set is worth: fresh networks trained on it, beside what real images of that number give."""

from dd_jax.evaluation.baselines import BASELINES, Baseline, baseline_names, baselines, iterate_baselines
from dd_jax.evaluation.evaluate import Attacked, Evaluation, evaluate, evaluate_networks, in_percent, train_on

__all__ = [
    "BASELINES",
    "Attacked",
    "Baseline",
    "Evaluation",
    "baseline_names",
    "baselines",
    "evaluate",
    "evaluate_networks",
    "in_percent",
    "iterate_baselines",
    "train_on",
]
