"""A training split of which only a part is in memory: stratified parts of it, one after another, read by threads.

Each class is gone through in an order of its own, and in another one the next time: over as many parts as hold all the
images, every image is seen as often as any other of its class.
"""

import functools

import numpy as np

from dd_jax.data.rows import Rows
from dd_jax.errors import OptionError

PART_STEPS = 50  # outer steps that are made with one part

_BATCH = 64  # images that a thread reads at a time
_THREADS = 4
_AHEAD = 8  # batches of images


def part_counts(labels: np.ndarray, num_classes: int, resident_images: int) -> np.ndarray:
    """How many images of each class (K,) a part has: about `resident_images`, in proportion, and of every class one.

    Raises:
        OptionError: if so few can't have one of each class.
    """
    if resident_images < num_classes:
        raise OptionError(
            f"resident_images must be at least {num_classes}, one for each class, but is {resident_images}."
        )
    of_class = np.bincount(labels, minlength=num_classes)
    share = min(1.0, resident_images / len(labels))
    return np.maximum(1, np.floor(share * of_class)).astype(int)


def read_part(
    images: Rows, labels: np.ndarray, counts: np.ndarray, seed: int, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels of part `number` of a split: counts[c] of each class c, class by class, as they are on disk.

    Args:
        images: (N, H, W, C).
        labels: (N,). Equal arguments give the same part.
    """
    import grain

    members = [
        grain.MapDataset.source(np.flatnonzero(labels == c)).seed(_seed_of(seed, c)).shuffle().repeat()
        for c in range(len(counts))
    ]
    mine = [part.slice(slice(number * n, (number + 1) * n)) for part, n in zip(members, counts.tolist(), strict=True)]
    order = grain.MapDataset.concatenate(mine)
    batches = order.batch(_BATCH).map(functools.partial(_read, images, labels))
    options = grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
    found_images, found_labels = zip(*batches.to_iter_dataset(options), strict=True)
    return np.concatenate(found_images), np.concatenate(found_labels)


def _read(images: Rows, labels: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return images[indices], labels[indices]


def _seed_of(seed: int, of_class: int) -> int:
    """32 bits, as many as shuffling takes."""
    return int(np.random.SeedSequence((seed, of_class)).generate_state(1)[0])
