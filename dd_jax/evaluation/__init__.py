"""What a distilled set is worth: fresh networks trained on it, beside what real images of that number give."""

from dd_jax.evaluation.baselines import BASELINES, Baseline, baselines, iterate_baselines
from dd_jax.evaluation.evaluate import Evaluation, evaluate, train_on

__all__ = ["BASELINES", "Baseline", "Evaluation", "baselines", "evaluate", "iterate_baselines", "train_on"]
