"""What is learnt, and how it becomes batches: one file per parameterisation."""

from dd_jax.synthetic.base import Synthetic
from dd_jax.synthetic.graph import GraphSet, adjacency_of, as_graph, graph_set
from dd_jax.synthetic.initial import class_means, initial_images, kmeans_centres, sample_per_class
from dd_jax.synthetic.labelled_pixels import LabelledPixels, labelled_pixels, pixels_of
from dd_jax.synthetic.multi_formation import MultiFormation, multi_formation, num_formed
from dd_jax.synthetic.order import ORDERS, batches_of_steps
from dd_jax.synthetic.pixels import Pixels, pixels
from dd_jax.synthetic.select import cover, herd, nearest_to_centres
from dd_jax.synthetic.soft_labels import SoftLabelled, soft_labels
from dd_jax.synthetic.step_batches import StepBatches, step_batches

__all__ = [
    "ORDERS",
    "GraphSet",
    "LabelledPixels",
    "MultiFormation",
    "Pixels",
    "SoftLabelled",
    "StepBatches",
    "Synthetic",
    "adjacency_of",
    "as_graph",
    "batches_of_steps",
    "class_means",
    "cover",
    "graph_set",
    "herd",
    "initial_images",
    "kmeans_centres",
    "labelled_pixels",
    "multi_formation",
    "nearest_to_centres",
    "num_formed",
    "pixels",
    "pixels_of",
    "sample_per_class",
    "soft_labels",
    "step_batches",
]
