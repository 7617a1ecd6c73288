"""A dataset as a stream of tasks, each with some of its classes."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from dd_jax.errors import DataError, OptionError
from dd_jax.runs.progress import note
from dd_jax.storage.files import hash_json
from dd_jax.types import Batch, Dataset, see_each_other

_DIGITS = 16  # of a fingerprint


class Stream(NamedTuple):
    """A dataset whose classes come one after another.

    Attributes:
        dataset: its classes numbered in the order in which they come; as many training images of each, in that order.
        tasks: each as a dataset of its own classes, numbered from 0.
        order: the numbers that the classes had.
    """

    dataset: Dataset
    tasks: tuple[Dataset, ...]
    order: tuple[int, ...]

    @property
    def classes_per_task(self) -> int:
        """How many classes each task has."""
        return self.dataset.num_classes // len(self.tasks)

    @property
    def task_of_test(self) -> np.ndarray:
        """(N,) the number of the task of each test image."""
        return np.asarray(self.dataset.test.labels) // self.classes_per_task


def stream_of(dataset: Dataset, num_tasks: int, order: int, seed: int = 0, num_real: int | None = None) -> Stream:
    """The stream of `num_tasks` tasks in which the classes come in a random order.

    Training images are as many of each class, as of the smallest one or `num_real`, and so are validation images: then
    all tasks have arrays of the same shapes, and what is compiled for one serves all.

    Args:
        order: number of the order; every number gives another one.

    Raises:
        OptionError: where the classes can't be shared out evenly.
        DataError: for graphs, and for a dataset with too few images.
    """
    classes = dataset.num_classes
    if not 1 < num_tasks <= classes or classes % num_tasks:
        raise OptionError(
            f"num_tasks must be above 1 and divide the {classes} classes of {dataset.name}, but is {num_tasks}."
        )
    if see_each_other(dataset.train.images) or dataset.stream is not None:
        raise DataError(
            f"Tasks are made of images that are all in memory, but {dataset.name} is a graph or is "
            "read in parts. Use a dataset of images, without resident_images."
        )
    turn = np.random.default_rng((seed, order, 5)).permutation(classes)
    train, validation = (_balanced(split, turn, seed, most) for split, most in
                         ((dataset.train, num_real), (dataset.validation, None)))  # fmt: skip
    if order == 0:
        left_out = len(dataset.train.labels) - len(train.labels)
        note(f"Each class has {len(train.labels) // classes:,} training images; {left_out:,} are left out.")
    new = np.argsort(turn)  # of an old number the new one
    whole = dataclasses.replace(
        dataset,
        train=train,
        validation=validation,
        test=dataset.test._replace(labels=jnp.asarray(new[np.asarray(dataset.test.labels)], jnp.int32)),
        class_names=tuple(dataset.class_names[c] for c in turn),
        fingerprint=_fingerprint(dataset, turn, num_real),
    )
    size = classes // num_tasks
    return Stream(whole, tuple(_task(whole, t * size, size) for t in range(num_tasks)), tuple(turn.tolist()))


def _balanced(split: Batch, turn: np.ndarray, seed: int, most: int | None) -> Batch:
    """As many images of each class, class by class in the order of the stream."""
    labels = np.asarray(split.labels)
    members = [np.flatnonzero(labels == c) for c in turn]
    count = min(map(len, members))
    count = count if most is None else min(count, most)
    if not count:
        raise DataError("Every class needs training and validation images, but at least one class has none.")

    def some(c: int, mine: np.ndarray) -> np.ndarray:
        """The same ones of a class in every order."""
        return mine[np.sort(np.random.default_rng((seed, count, c, 6)).permutation(len(mine))[:count])]

    indices = np.concatenate([some(int(c), mine) for c, mine in zip(turn, members, strict=True)])
    return Batch(split.images[indices], jnp.repeat(jnp.arange(len(turn), dtype=jnp.int32), count))


def _task(whole: Dataset, first: int, size: int) -> Dataset:
    """The classes from `first` on as a dataset of their own."""

    def part(split: Batch) -> Batch:
        labels = np.asarray(split.labels)
        mine = np.flatnonzero((labels >= first) & (labels < first + size))
        return Batch(split.images[mine], jnp.asarray(labels[mine] - first, jnp.int32))

    names = whole.class_names[first : first + size]
    return dataclasses.replace(
        whole,
        name=f"{whole.name} {', '.join(names)}",
        train=part(whole.train),
        validation=part(whole.validation),
        test=part(whole.test),
        class_names=names,
        fingerprint=hash_json([whole.fingerprint, first, size])[:_DIGITS],
        num_train=None,
    )


def _fingerprint(dataset: Dataset, turn: np.ndarray, num_real: int | None) -> str:
    return hash_json([dataset.fingerprint, turn.tolist(), num_real])[:_DIGITS]
