"""Images to compare with: sets made from real data without learning, in the shape of a distilled set."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.outcomes import outcome_of
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.synthetic import class_means, cover, herd, kmeans_centres, nearest_to_centres
from dd_jax.types import Dataset, DistilledData, Protocol, see_each_other


class SetShape(NamedTuple):
    """num_batches batches of images_per_class images of each class, gone through num_epochs times."""

    num_batches: int
    num_epochs: int
    images_per_class: int

    @classmethod
    def of(cls, distilled: DistilledData, num_classes: int) -> "SetShape":
        """The shape of a distilled set."""
        return cls(distilled.num_batches, distilled.num_epochs, distilled.labels.shape[1] // num_classes)

    @property
    def per_class(self) -> int:
        """Images of each class in the whole set."""
        return self.num_batches * self.images_per_class


def random_images(dataset: Dataset, per_class: int, seed: int) -> Any:
    """Random training images, (K, per_class, H, W, C); none twice while a class has others."""
    generator = np.random.default_rng(seed)
    labels = np.asarray(dataset.train.labels)
    indices = [_draw(generator, np.flatnonzero(labels == c), per_class) for c in range(dataset.num_classes)]
    return taken(dataset, np.stack(indices))


def mean_images(dataset: Dataset, per_class: int, seed: int = 0) -> np.ndarray:
    """The mean training image of each class, (K, per_class, H, W, C), the same one over and over."""
    del seed
    means = np.asarray(class_means(dataset.train, dataset.num_classes))
    return np.repeat(means[:, None], per_class, axis=1)


def kmeans_images(dataset: Dataset, per_class: int, seed: int) -> np.ndarray:
    """The centres of k-means with k = `per_class` on the pixels of each class, (K, per_class, H, W, C)."""
    return kmeans_centres(dataset.train, dataset.num_classes, per_class, seed)


def herding_images(
    dataset: Dataset, per_class: int, seed: int = 0, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """Training images whose mean stays near that of their class, (K, per_class, H, W, C), see `herd`.

    Args:
        vectors: of the training images, such as features of a network; None for their pixels.
    """
    del seed
    return _selected(herd, dataset, per_class, vectors)


def kcenter_images(
    dataset: Dataset, per_class: int, seed: int = 0, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """Training images that no other of their class is far from, (K, per_class, H, W, C), see `cover`.

    Args:
        vectors: as for `herding_images`.
    """
    del seed
    return _selected(cover, dataset, per_class, vectors)


def central_images(
    dataset: Dataset, per_class: int, seed: int, vectors: Float[np.ndarray, "n values"] | None = None
) -> Any:
    """The training images nearest to the centres of k-means in each class, (K, per_class, H, W, C).

    Args:
        vectors: as for `herding_images`.
    """
    return _selected(functools.partial(nearest_to_centres, seed=seed), dataset, per_class, vectors)


# What real images are chosen by: (dataset, per_class, seed) -> images (K, per_class, H, W, C), of a graph as nodes. The
# first three are in every table; the others where they are named. Those of "features" also take the vectors of the
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


def is_only_one(name: str, per_class: int) -> bool:
    """Whether there is a single set of this name, whatever the seed."""
    return not name.startswith(("random", "k-means")) or (name.startswith("k-means") and per_class == 1)


def _selected(
    choose: Callable[[np.ndarray, int], np.ndarray], dataset: Dataset, per_class: int, vectors: np.ndarray | None
) -> Any:
    labels = np.asarray(dataset.train.labels)
    vectors = np.asarray(dataset.train.images).reshape(len(labels), -1) if vectors is None else vectors
    members = [np.flatnonzero(labels == c) for c in range(dataset.num_classes)]
    indices = [mine[choose(vectors[mine], per_class)] for mine in members]
    return taken(dataset, np.stack(indices))


def taken(dataset: Dataset, indices: np.ndarray) -> Any:
    """Training images by their indices, as an array; of a graph as nodes."""
    images = dataset.train.images[indices]
    return images if see_each_other(images) else np.asarray(images)


def as_distilled(
    images: Any, shape: SetShape, step_size: float, protocol: Protocol, parameterisation: Parameterisation = PLAIN
) -> DistilledData:
    """Images (K, per_class, H, W, C) as batches in class order, with one step size throughout.

    They have the labels that networks are to learn, by the outcome of the protocol.

    Args:
        parameterisation: of the set that it is to be compared with, which says what becomes of real examples.
    """
    num_classes, examples = len(images), images
    images = np.asarray(images)
    by_step = images.reshape(num_classes, shape.num_batches, shape.images_per_class, *images.shape[2:])
    by_step = np.moveaxis(by_step, 1, 0).reshape(shape.num_batches, -1, *images.shape[2:])
    labels = np.tile(np.repeat(np.arange(num_classes, dtype=np.int32), shape.images_per_class), (shape.num_batches, 1))
    labels = outcome_of(protocol).relabel(labels)
    sizes: Float[Array, " unrolled"] = jnp.full((shape.num_batches * shape.num_epochs,), step_size, jnp.float32)
    of_examples = parameterisation.kind.of_examples
    learnt, made = ({"images": by_step}, PLAIN) if of_examples is None else of_examples(examples, by_step)
    learnt = {name: jnp.asarray(array) for name, array in learnt.items()}
    return DistilledData(learnt, jnp.asarray(labels), sizes, protocol=protocol, parameterisation=made)


def as_vectors(images: Any) -> tuple[np.ndarray, np.ndarray]:
    """Images (K, per_class, H, W, C) as vectors, with their labels, for neighbour searches."""
    num_classes, per_class = images.shape[:2]
    return np.asarray(images).reshape(num_classes * per_class, -1), np.repeat(np.arange(num_classes), per_class)


def _draw(generator: np.random.Generator, pool: np.ndarray, count: int) -> np.ndarray:
    rounds = [generator.permutation(pool) for _ in range(-(-count // len(pool)))]
    return np.concatenate(rounds)[:count]
