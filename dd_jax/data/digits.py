"""The digits that come with scikit-learn, there without any download: 1,797 grey images of 8x8, and a graph of them."""

from typing import Any

import numpy as np

from dd_jax.data.arrays import RawData

MAX_VALUE = 16  # the pixels count the set points of 4x4 blocks

# The graph, which is divided as the Planetoid sets are.
NUM_NEIGHBOURS = 5
PER_CLASS = 20  # training nodes
NUM_VALIDATION = 400


def read_digits() -> RawData:
    """The whole set as one pair; images (1797, 8, 8) float64 in [0, 1]. It has no published split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return RawData((bunch.images / MAX_VALUE, bunch.target), class_names=tuple(map(str, bunch.target_names)))


def read_digits_graph() -> dict[str, Any]:
    """What `graph_from_arrays` takes: 1,797 images of 8x8 pixels, each joined to the five most like it.

    Twenty training nodes of each class, 400 for validation and the others to test, drawn once and for all.
    """
    from sklearn.datasets import load_digits
    from sklearn.neighbors import NearestNeighbors

    images, labels = load_digits(return_X_y=True)
    found = NearestNeighbors(n_neighbors=NUM_NEIGHBOURS + 1, algorithm="brute").fit(images).kneighbors(images)[1]
    edges = np.stack([np.repeat(np.arange(len(labels)), found.shape[1]), found.ravel()])
    order = np.random.default_rng(0).permutation(len(labels))
    train = np.concatenate([order[labels[order] == c][:PER_CLASS] for c in range(10)])
    rest = order[~np.isin(order, train)]
    return {
        "features": images,
        "normalise_rows": True,
        "edges": np.concatenate([edges, edges[::-1]], axis=1),
        "labels": labels,
        "train": train,
        "validation": rest[:NUM_VALIDATION],
        "test": rest[NUM_VALIDATION:],
        "class_names": tuple(map(str, range(10))),
    }
