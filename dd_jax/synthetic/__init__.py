"""What is learnt, and how it becomes batches: one file per parameterisation."""

from dd_jax.synthetic.base import Synthetic
from dd_jax.synthetic.initial import class_means, initial_images, kmeans_centres, sample_per_class
from dd_jax.synthetic.labelled_pixels import LabelledPixels, labelled_pixels
from dd_jax.synthetic.multi_formation import MultiFormation, multi_formation
from dd_jax.synthetic.order import ORDERS, batches_of_steps
from dd_jax.synthetic.pixels import Pixels, pixels
from dd_jax.synthetic.step_batches import StepBatches, step_batches

__all__ = [
    "ORDERS",
    "LabelledPixels",
    "MultiFormation",
    "Pixels",
    "StepBatches",
    "Synthetic",
    "batches_of_steps",
    "class_means",
    "initial_images",
    "kmeans_centres",
    "labelled_pixels",
    "multi_formation",
    "pixels",
    "sample_per_class",
    "step_batches",
]
