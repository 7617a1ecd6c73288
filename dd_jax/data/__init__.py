"""Real data as arrays: sources, splits and the invertible transform to model space."""

from dd_jax.data.arrays import dataset_from_arrays, describe
from dd_jax.data.graphs import graph_from_arrays
from dd_jax.data.load import load_dataset
from dd_jax.data.transforms import fit_standardise, fit_transform, to_model, to_pixels

__all__ = [
    "dataset_from_arrays",
    "describe",
    "fit_standardise",
    "fit_transform",
    "graph_from_arrays",
    "load_dataset",
    "to_model",
    "to_pixels",
]
