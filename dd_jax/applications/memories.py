"""What is kept of tasks that are over: distilled sets or real images, as images with labels of the whole stream."""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dd_jax.evaluation import storage_bytes
from dd_jax.evaluation.coresets import MAKERS
from dd_jax.evaluation.embeddings import trained_features
from dd_jax.models import Model
from dd_jax.types import Dataset, DistilledData, Protocol, Transform

RESERVOIR = "reservoir"
FREE = Protocol("dc", order="random")  # of sets that any training may use


class Kept(NamedTuple):
    """Images that are kept.

    Attributes:
        images: (N, H, W, C) in model space.
        labels: (N,) classes of the stream, or (N, K) soft labels.
        num_bytes: that they take to store.
    """

    images: np.ndarray
    labels: np.ndarray
    num_bytes: int


def bytes_of_image(dataset: Dataset) -> int:
    """What a real image takes to store with its label, in float32 as distilled ones are."""
    return 4 * int(np.prod(dataset.image_shape)) + 4


def images_of_bytes(num_bytes: int, dataset: Dataset, num_classes: int | None = None) -> int:
    """Real images of each class, with their labels, whose bytes come nearest to so many; at least one."""
    return max(1, round(num_bytes / (bytes_of_image(dataset) * (num_classes or dataset.num_classes))))


def kept_of_set(distilled: DistilledData, first: int, num_classes: int, before: DistilledData | None = None) -> Kept:
    """A distilled set of a task whose classes begin with number `first` of `num_classes` of the stream.

    Args:
        before: a set of an earlier task, whose bases are among those of this one and stored once for both.
    """
    images = np.asarray(distilled.images)
    images, labels = images.reshape(-1, *images.shape[2:]), np.asarray(distilled.labels)
    num_bytes = storage_bytes(distilled) - (0 if before is None else before.learnt["bases"].nbytes)
    if labels.ndim == 2:
        return Kept(images, labels.reshape(-1) + first, num_bytes)
    labels = labels.reshape(-1, labels.shape[-1])
    whole = np.zeros((len(labels), num_classes), labels.dtype)
    whole[:, first : first + labels.shape[-1]] = labels
    return Kept(images, whole, num_bytes)


def kept_of_real(name: str, task: Dataset, model: Model, per_class: int, first: int, seed: int) -> Kept:
    """Real images of a task, or made of them, by a name in `MAKERS`.

    Args:
        model: for the task, trained where a name needs its features.
        first: number of its first class in the stream.
    """
    vectors = {"vectors": trained_features(model, task, seed)} if name.endswith("features") else {}
    images = np.asarray(MAKERS[name](task, per_class, seed, **vectors))
    labels = np.repeat(np.arange(first, first + len(images), dtype=np.int32), per_class)
    images = images.reshape(-1, *images.shape[2:])
    return Kept(images, labels, len(labels) * bytes_of_image(task))


def joined(parts: Sequence[Kept]) -> Kept:
    """What is kept of several tasks."""
    images, labels = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return Kept(images, labels, sum(part.num_bytes for part in parts))


def reservoirs(whole: Dataset, num_tasks: int, capacity: int, seed: int) -> list[Kept]:
    """What a reservoir of `capacity` images holds after each task: a uniform sample of all that has come so far.

    Source: Vitter 1985, algorithm R, over a stream in which the images of a task come in random order.
    """
    generator = np.random.default_rng((seed, capacity, 7))
    labels = np.asarray(whole.train.labels)
    size = len(labels) // num_tasks
    held: list[int] = []
    after = []
    for task in range(num_tasks):
        for seen, index in enumerate(task * size + generator.permutation(size), start=task * size):
            place = len(held) if seen < capacity else int(generator.integers(0, seen + 1))
            if place == len(held) < capacity:
                held.append(int(index))
            elif place < capacity:
                held[place] = int(index)
        chosen = np.asarray(held)
        num_bytes = len(chosen) * bytes_of_image(whole)
        after.append(Kept(np.asarray(whole.train.images[chosen]), labels[chosen], num_bytes))
    return after


def as_set(kept: Kept, transform: Transform) -> DistilledData:
    """What is kept as a set to train on."""
    sizes = jnp.full((1,), 0.01, jnp.float32)  # not used
    labels = jnp.asarray(kept.labels[None])
    return DistilledData({"images": jnp.asarray(kept.images[None])}, labels, sizes, transform, protocol=FREE)
