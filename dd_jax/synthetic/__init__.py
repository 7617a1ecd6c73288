"""What is learnt, and how it becomes batches: one file per parameterisation."""

from dd_jax.synthetic.base import Synthetic
from dd_jax.synthetic.order import ORDERS, batches_of_steps
from dd_jax.synthetic.step_batches import StepBatches, class_means, kmeans_centres, sample_per_class, step_batches

__all__ = [
    "ORDERS",
    "StepBatches",
    "Synthetic",
    "batches_of_steps",
    "class_means",
    "kmeans_centres",
    "sample_per_class",
    "step_batches",
]
