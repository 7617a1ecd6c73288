"""A little graph in three blocks, for tests."""

import numpy as np

import dd_jax as dd


def blocks(**options) -> dd.Dataset:
    """60 nodes with 6 features, most of whose edges join nodes of one class."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    alike = labels[:, None] == labels[None]
    edges = np.stack(np.nonzero(generator.uniform(size=(60, 60)) < np.where(alike, 0.15, 0.01)))
    edges = np.concatenate([edges, edges[::-1]], axis=1)
    features = generator.uniform(size=(60, 6)) + 0.6 * np.eye(6)[labels]
    parts = {"train": np.arange(18), "validation": np.arange(18, 33), "test": np.arange(33, 60)}
    return dd.graph_from_arrays(features, edges, labels, **parts, **{"normalise_rows": True, **options})
