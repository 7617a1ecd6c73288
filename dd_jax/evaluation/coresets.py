"""Images to compare with: sets made from real data without learning, in the shape of a distilled set."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.outcomes import outcome_of
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.synthetic import Counts, class_counts, class_means, cover, herd, kmeans_centres, nearest_to_centres
from dd_jax.types import Dataset, DistilledData, Protocol, see_each_other

_FLOAT = 4  # bytes of a number of a real image, as distilled ones have them


class SetShape(NamedTuple):
    """num_batches batches of images_per_class images of each class, gone through num_epochs times.

    The images of a class are one number, or one for each class.
    """

    num_batches: int
    num_epochs: int
    images_per_class: Counts

    @classmethod
    def of(cls, distilled: DistilledData, num_classes: int) -> "SetShape":
        """The shape of a distilled set; of one whose labels tell no classes with as many images of each as possible."""
        size = distilled.labels.shape[1]
        counts: Counts = max(1, size // num_classes)
        alone = distilled.parameterisation.kind.of_examples is None
        if alone and distilled.labels.ndim == 2 and outcome_of(distilled.protocol).truthful:
            there = np.bincount(np.asarray(distilled.labels[0]), minlength=num_classes)
            counts = tuple(map(int, there)) if there.min() and len(set(there)) > 1 else counts
        elif alone and size % num_classes:
            counts = tuple(size // num_classes + (c < size % num_classes) for c in range(num_classes))
        return cls(distilled.num_batches, distilled.num_epochs, counts)

    @classmethod
    def of_bytes(cls, distilled: DistilledData, dataset: Dataset) -> "SetShape":
        """The shape of sets of real images that take as many bytes as what was learnt, to whole images of each class.

        Labels and step sizes don't count. Where images are stored as they are, and of graphs, it is that of the set.
        """
        num_classes = dataset.num_classes
        shape = cls.of(distilled, num_classes)
        if distilled.parameterisation.kind.of_examples is not None:
            return shape
        stored = sum(array.nbytes for array in distilled.learnt.values())
        share = stored / (_FLOAT * distilled.num_examples * math.prod(dataset.image_shape))
        counts = [max(1, round(share * count)) for count in class_counts(shape.images_per_class, num_classes).tolist()]
        return shape._replace(images_per_class=counts[0] if len(set(counts)) == 1 else tuple(counts))

    @property
    def per_class(self) -> Counts:
        """Images of each class in the whole set."""
        if isinstance(self.images_per_class, int):
            return self.num_batches * self.images_per_class
        return tuple(self.num_batches * count for count in self.images_per_class)


# Where classes have images of unequal number, M is that of the largest, and those of the others repeat up to it.


def random_images(dataset: Dataset, per_class: Counts, seed: int) -> Any:
    """Random training images, (K, M, H, W, C); none twice while a class has others."""
    generator = np.random.default_rng(seed)
    labels, counts = np.asarray(dataset.train.labels), class_counts(per_class, dataset.num_classes)
    indices = [_draw(generator, np.flatnonzero(labels == c), count) for c, count in enumerate(counts.tolist())]
    return taken(dataset, _repeated(indices))


def mean_images(dataset: Dataset, per_class: Counts, seed: int = 0) -> np.ndarray:
    """The mean training image of each class, (K, M, H, W, C), the same one over and over."""
    del seed
    means = np.asarray(class_means(dataset.train, dataset.num_classes))
    return np.repeat(means[:, None], class_counts(per_class, dataset.num_classes).max(), axis=1)


def kmeans_images(dataset: Dataset, per_class: Counts, seed: int) -> np.ndarray:
    """The centres of k-means with k = `per_class` on the pixels of each class, (K, M, H, W, C)."""
    return kmeans_centres(dataset.train, dataset.num_classes, per_class, seed)


def herding_images(
    dataset: Dataset, per_class: Counts, seed: int = 0, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """Training images whose mean stays near that of their class, (K, M, H, W, C), see `herd`.

    Args:
        vectors: of the training images, such as features of a network; None for their pixels.
    """
    del seed
    return _selected(herd, dataset, per_class, vectors)


def kcenter_images(
    dataset: Dataset, per_class: Counts, seed: int = 0, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """Training images that no other of their class is far from, (K, M, H, W, C), see `cover`.

    Args:
        vectors: as for `herding_images`.
    """
    del seed
    return _selected(cover, dataset, per_class, vectors)


def central_images(
    dataset: Dataset, per_class: Counts, seed: int, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """The training images nearest to the centres of k-means in each class, (K, M, H, W, C).

    Args:
        vectors: as for `herding_images`.
    """
    return _selected(functools.partial(nearest_to_centres, seed=seed), dataset, per_class, vectors)


# What real images are chosen by: (dataset, per_class, seed) -> images (K, M, H, W, C), of a graph as nodes. The first
# three are in every table; the others where they are named. Those of "features" also take the vectors of the
# training images.
MAKERS: Mapping[str, Callable[..., Any]] = {
    "random real": random_images,
    "class mean": mean_images,
    "k-means": kmeans_images,
    "herding": herding_images,
    "k-center": kcenter_images,
    "herding features": herding_images,
    "k-center features": kcenter_images,
    "k-means features": central_images,
}


def is_only_one(name: str, per_class: Counts) -> bool:
    """Whether there is a single set of this name, whatever the seed."""
    return not name.startswith(("random", "k-means")) or (name.startswith("k-means") and bool(np.max(per_class) == 1))


def _selected(
    choose: Callable[[np.ndarray, int], np.ndarray], dataset: Dataset, per_class: Counts, vectors: np.ndarray | None
) -> Any:
    labels = np.asarray(dataset.train.labels)
    vectors = np.asarray(dataset.train.images).reshape(len(labels), -1) if vectors is None else vectors
    members = [np.flatnonzero(labels == c) for c in range(dataset.num_classes)]
    counts = class_counts(per_class, dataset.num_classes)
    indices = [mine[choose(vectors[mine], int(count))] for mine, count in zip(members, counts, strict=True)]
    return taken(dataset, _repeated(indices))


def _repeated(indices: Sequence[np.ndarray]) -> np.ndarray:
    """Indices of each class, in rows of the same length."""
    most = max(map(len, indices))
    return np.stack([np.resize(mine, most) for mine in indices])


def taken(dataset: Dataset, indices: np.ndarray) -> Any:
    """Training images by their indices, as an array; of a graph as nodes."""
    images = dataset.train.images[indices]
    return images if see_each_other(images) else np.asarray(images)


def as_distilled(
    images: Any,
    shape: SetShape,
    step_size: float,
    protocol: Protocol,
    parameterisation: Parameterisation = PLAIN,
    momentum: float = 0.0,
) -> DistilledData:
    """Images (K, M, H, W, C), the first of each class, as batches in class order, with one step size throughout.

    They have the labels that networks are to learn, by the outcome of the protocol.

    Args:
        parameterisation: of the set that it is to be compared with, which says what becomes of real examples.
        momentum: of every step, where the rule of the protocol is "momentum".
    """
    num_classes, examples = len(images), images
    images = np.asarray(images)
    counts = class_counts(shape.images_per_class, num_classes)
    mine = [of[: shape.num_batches * count] for of, count in zip(images, counts, strict=True)]
    by_step = np.concatenate([of.reshape(shape.num_batches, -1, *of.shape[1:]) for of in mine], 1)
    labels = np.tile(np.repeat(np.arange(num_classes, dtype=np.int32), counts), (shape.num_batches, 1))
    labels = outcome_of(protocol).relabel(labels)
    sizes: Float[Array, " unrolled"] = jnp.full((shape.num_batches * shape.num_epochs,), step_size, jnp.float32)
    of_examples = parameterisation.kind.of_examples
    learnt, made = ({"images": by_step}, PLAIN) if of_examples is None else of_examples(examples, by_step)
    learnt = {name: jnp.asarray(array) for name, array in learnt.items()}
    momenta = jnp.full(sizes.shape, momentum, jnp.float32) if protocol.rule == "momentum" else None
    return DistilledData(learnt, jnp.asarray(labels), sizes, protocol=protocol, parameterisation=made, momenta=momenta)


def as_vectors(images: Any, per_class: Counts) -> tuple[np.ndarray, np.ndarray]:
    """Images (K, M, H, W, C), the first of each class, as vectors, with their labels, for neighbour searches."""
    counts = class_counts(per_class, len(images))
    vectors = np.asarray(images).reshape(*images.shape[:2], -1)
    mine = [of[:count] for of, count in zip(vectors, counts, strict=True)]
    return np.concatenate(mine), np.repeat(np.arange(len(images)), counts)


def _draw(generator: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    rounds = [generator.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate(rounds)[:count]
