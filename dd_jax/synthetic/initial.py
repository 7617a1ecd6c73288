"""What images start as: noise, real images at random or by herding, class means, k-means centres."""

from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.errors import DataError, unknown_name
from dd_jax.seeds import word_of_seed
from dd_jax.synthetic.counts import Counts, class_counts
from dd_jax.synthetic.select import herd
from dd_jax.types import Batch, Dataset, each_alone, see_each_other

ImageInit: TypeAlias = Literal["noise", "real", "mean", "kmeans", "herding"]
IMAGE_INITS: tuple[str, ...] = get_args(ImageInit)


def initial_images(
    key: jax.Array, dataset: Dataset, labels: Int[np.ndarray, " batch"], num_batches: int, kind: str
) -> Float[Array, "batches batch height width channels"]:
    """Images to start from, in batches of the same `labels`, which hold every class, in class order.

    Args:
        kind: "noise" (standard normal), "real" (random training images), "mean" (the class mean plus noise of half the
            standard deviation), "kmeans" (the centres of k-means in each class, in random order) or "herding" (training
            images whose mean is near that of their class, in the order they were chosen in, see `herd`).

    Raises:
        OptionError: for an unknown kind.
        DataError: for the nodes of a graph.
    """
    check_init_images(kind)
    if see_each_other(dataset.train.images):
        raise DataError(f"This method learns images, but {dataset.name} is a graph. Use the method graph_condensation.")
    shape = (num_batches, len(labels), *dataset.image_shape)
    counts = np.bincount(labels, minlength=dataset.num_classes)  # in each batch
    if kind == "kmeans":
        return jnp.asarray(_centres(key, dataset, counts, num_batches))
    if kind == "herding":
        return _herded(dataset, counts, num_batches)
    if kind == "real":
        wanted = np.broadcast_to(labels, shape[:2])
        return dataset.train.images[sample_per_class(key, dataset.train.labels, wanted)]
    noise = jax.random.normal(key, shape, jnp.float32)
    if kind == "noise":
        return noise
    means = class_means(dataset.train, dataset.num_classes)
    return means[labels][None] + 0.5 * noise


def check_init_images(kind: str) -> None:
    """OptionError for an unknown kind of initial images."""
    if kind not in IMAGE_INITS:
        raise unknown_name("init_images", kind, IMAGE_INITS)


def too_few_real(wanted: Int[np.ndarray, "..."], labels: Int[np.ndarray, " n"], names: Sequence[str]) -> str:
    """A sentence where a set has more images of a class than there are real ones, so that some repeat; empty if not.

    Args:
        wanted: the classes of the set.
        labels: those of the training images.
        names: of the classes.
    """
    asked, there = (np.bincount(np.ravel(classes), minlength=len(names)) for classes in (wanted, labels))
    short = np.flatnonzero(asked > there)
    if not short.size:
        return ""
    worst = short[np.argmin(there[short])]
    return (
        f"Of {len(short)} of {len(names)} classes the set has more images than there are to train on, such as "
        f"{asked[worst]} of {names[worst]!r}, which has {there[worst]}: where they start as real ones, these repeat."
    )


def sample_per_class(key: jax.Array, labels: Int[Array, " n"], wanted: Int[np.ndarray, "..."]) -> np.ndarray:
    """Indices, of the shape of `wanted`, of random images of the wanted classes; no image twice while they last."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    of_class, flat = np.asarray(labels), wanted.ravel()
    indices = np.empty(flat.shape, np.int64)
    for c in np.unique(flat):
        pool, places = np.flatnonzero(of_class == c), np.flatnonzero(flat == c)
        order = np.concatenate([generator.permutation(pool) for _ in range(-(-len(places) // len(pool)))])
        indices[places] = order[: len(places)]
    return indices.reshape(wanted.shape)


def kmeans_centres(split: Batch, num_classes: int, per_class: Counts, seed: int) -> np.ndarray:
    """The centres of k-means with k = `per_class` on the pixels of each class, (K, most of a class, H, W, C).

    Where a class has fewer different images than that, or is to have fewer than others, centres repeat.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    labels = np.asarray(split.labels)
    flat = np.asarray(split.images).reshape(len(labels), -1)
    centres, counts = [], class_counts(per_class, num_classes)
    most = int(counts.max())
    for c in range(num_classes):
        mine = flat[labels == c]
        clusters = min(int(counts[c]), len(np.unique(mine, axis=0)))
        with threadpool_limits(1):  # several threads add up in any order, and runs would differ in the last bits
            found = KMeans(clusters, n_init=1, random_state=word_of_seed(seed)).fit(mine).cluster_centers_
        centres.append(found[np.arange(most) % clusters])
    return np.stack(centres).reshape(num_classes, most, *split.images.shape[1:]).astype(np.float32)


def class_means(split: Batch, num_classes: int) -> Float[Array, "classes height width channels"]:
    """The mean image of each class."""
    images = each_alone(split.images)
    sums = jax.ops.segment_sum(images, split.labels, num_classes)
    counts = jax.ops.segment_sum(jnp.ones_like(split.labels), split.labels, num_classes)
    return sums / counts[:, None, None, None].astype(sums.dtype)


def _centres(key, dataset, counts, num_batches):
    """k-means centres of each class, dealt out to the batches in random order."""
    seed = int(jax.random.key_data(key)[-1])
    generator = np.random.default_rng(seed)
    totals = num_batches * counts
    centres = kmeans_centres(dataset.train, dataset.num_classes, tuple(map(int, totals)), seed % 2**32)
    dealt = [generator.permutation(mine[:total]) for mine, total in zip(centres, totals, strict=True)]
    return np.concatenate([mine.reshape(num_batches, -1, *mine.shape[1:]) for mine in dealt], 1)


def _herded(dataset: Dataset, counts: np.ndarray, num_batches: int) -> Float[Array, "batches batch h w c"]:
    """The first images that herding chooses are those of the first batch."""
    labels = np.asarray(dataset.train.labels)
    flat = np.asarray(dataset.train.images).reshape(len(labels), -1)
    members = [np.flatnonzero(labels == c) for c in range(dataset.num_classes)]
    chosen = [mine[herd(flat[mine], num_batches * int(n))] for mine, n in zip(members, counts, strict=True)]
    by_step = np.concatenate([mine.reshape(num_batches, -1) for mine in chosen], 1)
    return dataset.train.images[by_step]
