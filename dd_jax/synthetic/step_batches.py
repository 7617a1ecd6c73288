"""One batch of images per inner step, and one step size per unrolled step (Wang et al. 2018)."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from dd_jax.errors import OptionError, unknown_name
from dd_jax.synthetic.base import Synthetic, num_bytes
from dd_jax.synthetic.order import ORDERS, batch_of_step
from dd_jax.types import Batch, Dataset, DistilledData

IMAGE_INITS = ("noise", "real", "mean", "kmeans")


class StepBatches(NamedTuple):
    """images (S, K * images_per_class, H, W, C), raw_step_sizes (T,): what is learnt."""

    images: Float[Array, "steps batch height width channels"]
    raw_step_sizes: Float[Array, " unrolled"]


def step_batches(
    num_classes: int,
    num_steps: int = 10,
    num_epochs: int = 3,
    images_per_class: int = 1,
    init_images: str = "noise",
    init_step_size: float = 0.02,
    init_step_decay: float = 1.0,
    order: str = "fixed",
) -> Synthetic:
    """S batches, gone through E times; step t of T = S * E uses batch t mod S, or one drawn at random, and step size t.

    images_per_class: images of each class in each batch; labels are hard, in class order, and not learnt.
    order: "fixed", or "random": every epoch deals all the images out to its batches anew, whatever their class.
    init_images: "noise" (standard normal), "real" (random training images), "mean" (the class mean plus noise of
        half the standard deviation) or "kmeans" (the centres of k-means in each class, in random order).
    init_step_size: where the first step size starts; they are stored through the inverse of softplus, so stay positive.
    init_step_decay: where the last one starts, as a share of the first; geometric in between.
    Raises OptionError for counts below one, a step size that is not positive, or an unknown `init_images` or `order`.
    Source: Wang et al. 2018, section 3.4 and Algorithm 1; softplus from the released code.
    """
    counts = {"num_steps": num_steps, "num_epochs": num_epochs, "images_per_class": images_per_class}
    for name, count in counts.items():
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    if not 0 < init_step_size < float("inf"):
        raise OptionError(f"init_step_size must be positive and finite, but is {init_step_size}.")
    if not 0 < init_step_decay < float("inf"):
        raise OptionError(f"init_step_decay must be positive and finite, but is {init_step_decay}.")
    if init_images not in IMAGE_INITS:
        raise unknown_name("init_images", init_images, IMAGE_INITS)
    if order not in ORDERS:
        raise unknown_name("order", order, ORDERS)
    labels = np.repeat(np.arange(num_classes, dtype=np.int32), images_per_class)
    all_labels = np.broadcast_to(labels, (num_steps, len(labels)))

    def init(key: jax.Array, dataset: Dataset) -> StepBatches:
        shape = (num_steps, len(labels), *dataset.image_shape)
        total = num_steps * num_epochs
        sizes = init_step_size * init_step_decay ** (np.arange(total) / max(total - 1, 1))
        raw = jnp.asarray(inverse_softplus(sizes), jnp.float32)
        return StepBatches(_initial_images(key, dataset, labels, shape, init_images), raw)

    def batch(learnable: StepBatches, key: jax.Array, t: jax.Array) -> Batch:
        return batch_of_step(learnable.images, jnp.asarray(all_labels), order, key, t)

    def decode(learnable: StepBatches) -> DistilledData:
        return DistilledData(learnable.images, jnp.asarray(all_labels), jax.nn.softplus(learnable.raw_step_sizes))

    return Synthetic(init, batch, decode, lambda learnable: learnable, num_bytes, num_steps * num_epochs)


def inverse_softplus(values: Float[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """R with log(1 + exp(r)) = value, for each of the positive values."""
    return values + np.log(-np.expm1(-values))


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


def _initial_images(key, dataset, labels, shape, kind):
    if kind == "kmeans":
        num_steps, size = shape[:2]
        return jnp.asarray(_centres(key, dataset, num_steps * size // dataset.num_classes, shape))
    if kind == "real":
        wanted = np.broadcast_to(labels, shape[:2])
        return dataset.train.images[sample_per_class(key, dataset.train.labels, wanted)]
    noise = jax.random.normal(key, shape, jnp.float32)
    if kind == "noise":
        return noise
    means = class_means(dataset.train, dataset.num_classes)
    return means[labels][None] + 0.5 * noise


def _centres(key, dataset, per_class, shape):
    """k-means centres of each class, dealt out to the batches in random order."""
    seed = int(jax.random.key_data(key)[-1])
    generator = np.random.default_rng(seed)
    centres = kmeans_centres(dataset.train, dataset.num_classes, per_class, seed % 2**32)
    dealt = np.stack([generator.permutation(mine) for mine in centres])
    by_step = dealt.reshape(dataset.num_classes, shape[0], -1, *shape[2:])
    return np.moveaxis(by_step, 1, 0).reshape(shape)


def kmeans_centres(split: Batch, num_classes: int, per_class: int, seed: int) -> np.ndarray:
    """The centres of k-means with k = `per_class` on the pixels of each class, (K, per_class, H, W, C).

    Where a class has fewer different images than that, centres repeat.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    labels = np.asarray(split.labels)
    flat = np.asarray(split.images).reshape(len(labels), -1)
    centres = []
    for c in range(num_classes):
        mine = flat[labels == c]
        clusters = min(per_class, len(np.unique(mine, axis=0)))
        with threadpool_limits(1):  # several threads add up in any order, and runs would differ in the last bits
            found = KMeans(clusters, n_init=1, random_state=seed).fit(mine).cluster_centers_
        centres.append(found[np.arange(per_class) % clusters])
    return np.stack(centres).reshape(num_classes, per_class, *split.images.shape[1:]).astype(np.float32)


def class_means(split: Batch, num_classes: int) -> Float[Array, "classes height width channels"]:
    """The mean image of each class."""
    sums = jax.ops.segment_sum(split.images, split.labels, num_classes)
    counts = jax.ops.segment_sum(jnp.ones_like(split.labels), split.labels, num_classes)
    return sums / counts[:, None, None, None].astype(sums.dtype)
