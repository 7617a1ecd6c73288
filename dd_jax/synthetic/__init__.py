"""What is learnt, and how it becomes batches: one file per parameterisation."""

from dd_jax.parameterisation import PLAIN, Kind
from dd_jax.synthetic.base import Synthetic
from dd_jax.synthetic.bases import BASES, Bases, GrownBases, bases, bases_within, coefficient_penalty, some_of
from dd_jax.synthetic.canvas import CANVAS, canvases_of, on_canvas
from dd_jax.synthetic.counts import Counts, class_counts, counts_word, is_equal, num_images, same_count, share_images
from dd_jax.synthetic.dealt import Dealt, dealt
from dd_jax.synthetic.generator import (
    FRESH,
    GENERATOR,
    Generated,
    Generator,
    Latents,
    draw_images,
    generate,
    generator,
)
from dd_jax.synthetic.graph import GRAPH, GraphSet, adjacency_of, graph_set
from dd_jax.synthetic.initial import (
    ImageInit,
    class_means,
    initial_images,
    kmeans_centres,
    sample_per_class,
    too_few_real,
)
from dd_jax.synthetic.labelled_pixels import LabelledPixels, labelled_pixels, pixels_of
from dd_jax.synthetic.multi_formation import MULTI_FORMATION, Formation, MultiFormation, multi_formation, num_formed
from dd_jax.synthetic.order import ORDERS, Order, batch_of_step
from dd_jax.synthetic.pixels import Pixels, pixels
from dd_jax.synthetic.plain import as_plain, distilled_from_arrays
from dd_jax.synthetic.select import cover, herd, nearest_to_centres
from dd_jax.synthetic.soft_labels import SoftLabelled, soft_labels
from dd_jax.synthetic.step_batches import StepBatches, step_batches
from dd_jax.synthetic.step_sized import StepSized, raw_rate, step_sized
from dd_jax.synthetic.stepped import Stepped, stepped

_KINDS = (PLAIN.kind, MULTI_FORMATION, CANVAS, BASES, GENERATOR, FRESH, GRAPH)
# Kinds of distilled sets that can be read from a disk; a new one adds its own.
PARAMETERISATIONS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

__all__ = [
    "ORDERS",
    "PARAMETERISATIONS",
    "Bases",
    "Counts",
    "Dealt",
    "Formation",
    "Generated",
    "Generator",
    "GraphSet",
    "GrownBases",
    "ImageInit",
    "LabelledPixels",
    "Latents",
    "MultiFormation",
    "Order",
    "Pixels",
    "SoftLabelled",
    "StepBatches",
    "StepSized",
    "Stepped",
    "Synthetic",
    "adjacency_of",
    "as_plain",
    "bases",
    "bases_within",
    "batch_of_step",
    "canvases_of",
    "class_counts",
    "class_means",
    "coefficient_penalty",
    "counts_word",
    "cover",
    "dealt",
    "distilled_from_arrays",
    "draw_images",
    "generate",
    "generator",
    "graph_set",
    "herd",
    "initial_images",
    "is_equal",
    "kmeans_centres",
    "labelled_pixels",
    "multi_formation",
    "nearest_to_centres",
    "num_formed",
    "num_images",
    "on_canvas",
    "pixels",
    "pixels_of",
    "raw_rate",
    "same_count",
    "sample_per_class",
    "share_images",
    "soft_labels",
    "some_of",
    "step_batches",
    "step_sized",
    "stepped",
    "too_few_real",
]
