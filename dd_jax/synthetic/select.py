"""Which of many vectors stand for all of them: herding, k-center, and what is nearest to centres."""

import numpy as np
from jaxtyping import Float, Int

from dd_jax.seeds import word_of_seed


def herd(vectors: Float[np.ndarray, "n values"], count: int) -> Int[np.ndarray, " count"]:
    """Indices, one after another, such that the mean of those taken so far stays as near to the mean of all as it can.

    x_t = argmin_x || t mu - (x_1 + ... + x_{t-1}) - x ||, of the vectors not yet taken; when all are, from the start
    again. The first is the one nearest to the mean, and every beginning of the list is the list for a smaller count.
    Source: Welling 2009, *Herding dynamical weights to learn*; in the form for vectors of any length of Rebuffi et al.
    2017 (iCaRL), algorithm 4.
    """
    vectors = _small(vectors)
    mean, squares = vectors.mean(0), np.einsum("nv,nv->n", vectors, vectors)
    taken, wanted, free = [], np.zeros_like(mean), np.ones(len(vectors), bool)
    for _ in range(min(count, len(vectors))):
        wanted = wanted + mean
        distances = np.where(free, squares - 2 * vectors @ wanted, np.inf)
        index = int(np.argmin(distances))
        taken.append(index)
        free[index] = False
        wanted = wanted - vectors[index]
    return np.resize(taken, count)


def cover(vectors: Float[np.ndarray, "n values"], count: int) -> Int[np.ndarray, " count"]:
    """Indices such that no vector is far from all of them: each is the one farthest from those before it.

    Greedy k-center, at most twice as far as the best choice. The first is the one nearest to the mean of all. When
    there are no further vectors it starts again.
    Source: Sener & Savarese 2018, algorithm 1.
    """
    vectors = _small(vectors)
    taken = [int(np.argmin(_distances(vectors, vectors.mean(0))))]
    nearest = _distances(vectors, vectors[taken[0]])
    for _ in range(1, min(count, len(vectors))):
        nearest[taken[-1]] = -np.inf  # also of vectors that are all alike none is taken twice
        taken.append(int(np.argmax(nearest)))
        nearest = np.minimum(nearest, _distances(vectors, vectors[taken[-1]]))
    return np.resize(taken, count)


def nearest_to_centres(vectors: Float[np.ndarray, "n values"], count: int, seed: int) -> Int[np.ndarray, " count"]:
    """Of each cluster of k-means with k = `count` the vector nearest to its centre; repeated where clusters are fewer.

    Source: Cui et al. 2022, *DC-BENCH*, section 3 (k-means of embeddings).
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    vectors = _small(vectors)
    clusters = min(count, len(np.unique(vectors, axis=0)))
    with threadpool_limits(1):  # several threads add up in any order, and runs would differ in the last bits
        found = KMeans(clusters, n_init=1, random_state=word_of_seed(seed)).fit(vectors)
    own = np.square(vectors - found.cluster_centers_[found.labels_]).sum(1)
    taken = [int(np.argmin(np.where(found.labels_ == cluster, own, np.inf))) for cluster in range(clusters)]
    return np.resize(taken, count)


def _distances(vectors: np.ndarray, point: np.ndarray) -> np.ndarray:
    """Squared, from every vector to a point."""
    return np.square(vectors - point[None]).sum(1)


def _small(vectors: np.ndarray) -> np.ndarray:
    """As float32, about their mean: distances stay, and differences of large numbers go."""
    vectors = np.asarray(vectors, np.float32)
    return vectors - vectors.mean(0)[None]
