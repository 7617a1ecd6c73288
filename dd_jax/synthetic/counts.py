"""How many images of each class a set has: the same number of all, or of each its own."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from jaxtyping import Int

from dd_jax.errors import OptionError
from dd_jax.types import Dataset

Counts: TypeAlias = int | tuple[int, ...]


def class_counts(images_per_class: int | Sequence[int], num_classes: int) -> Int[np.ndarray, " classes"]:
    """Images of each class; OptionError unless they are one number from 1, or as many as there are classes."""
    if isinstance(images_per_class, int | np.integer):
        images_per_class = (int(images_per_class),) * num_classes
    counts = np.asarray(images_per_class)
    if counts.shape != (num_classes,):
        raise OptionError(
            f"images_per_class should be one number, or one for each of the {num_classes} classes, but has "
            f"{counts.size}: {', '.join(map(str, counts.ravel()))}."
        )
    if not np.issubdtype(counts.dtype, np.integer) or counts.min() < 1:
        raise OptionError(
            f"images_per_class must be at least 1, but is {', '.join(map(str, dict.fromkeys(images_per_class)))}."
        )
    return counts


def num_images(images_per_class: Counts, num_classes: int) -> int:
    """Images of all classes together."""
    return int(class_counts(images_per_class, num_classes).sum())


def is_equal(images_per_class: Counts) -> bool:
    """Whether there are as many of each class."""
    return isinstance(images_per_class, int | np.integer) or len(set(images_per_class)) <= 1


def same_count(images_per_class: Counts) -> int:
    """The images of each class where there must be as many of all; OptionError, with what does without, for others."""
    if is_equal(images_per_class):
        return int(np.max(images_per_class))
    raise OptionError(
        "This method needs the same number of images of each class, but images_per_class is "
        f"{', '.join(map(str, np.ravel(images_per_class)))}. Give one number, or use unrolled, "
        "distribution_matching, gradient_matching, trajectory_matching, frepo or kernel_inducing_points."
    )


def counts_word(images_per_class: Counts) -> str:
    """The counts in the name of a run directory: "ipc10" or, of unequal ones, "images6" in all."""
    if isinstance(images_per_class, int | np.integer):
        return f"ipc{images_per_class}"
    return f"images{sum(images_per_class)}"


def share_images(total: int, dataset: Dataset, proportional: bool = False) -> tuple[int, ...]:
    """Share `total` images among the classes: the numbers for `images_per_class`.

    Left-over images go to the classes with the largest remainders. If shares are equal they go to the classes with the
    most training images.

    Args:
        proportional: share the images like those of the training split, with at least one for each class. Otherwise
            share them as equally as possible.

    Raises:
        OptionError: for fewer images than classes.
    """
    count = dataset.num_classes
    if total < count:
        raise OptionError(
            f"There should be at least one image of each of the {count} classes, but there are only {total} in all."
        )
    real = np.bincount(np.asarray(dataset.train.labels), minlength=count)
    exact = total * real / max(real.sum(), 1) if proportional else np.full(count, total / count)
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while shares.sum() > total:  # to those with next to none went one; it comes from those that have most to spare
        shares[np.argmax(np.where(shares > 1, shares - exact, -np.inf))] -= 1
    rest = total - int(shares.sum())
    order = np.lexsort((np.arange(count), -real, -(exact - shares)))
    shares[order[:rest]] += 1
    return tuple(map(int, shares))
