"""Carving a stratified part out of a labelled set, always the same way for the same seed."""

import numpy as np

from dd_jax.errors import OptionError
from dd_jax.seeds import check_seed

SPELLINGS = {  # of splits, in lower case and without anything between letters
    "train": ("train", "training", "trainset", "trainingset"),
    "test": ("test", "testing", "testset", "testingset"),
    "validation": ("validation", "val", "valid", "dev", "validationset", "valset", "validset", "devset"),
}
TEST_STREAM, VALIDATION_STREAM = 0, 1  # independent random streams under one split seed


def carve(labels: np.ndarray, fraction: float, seed: int, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices (rest, carved) that put about `fraction` of every class into the carved part.

    The carved counts are fraction * n rounded up or down, so that they sum to the rounded share of the
    whole set; a class of n >= 2 images gives at least one and keeps at least one, a class of one image
    keeps it. Both index arrays are sorted and share nothing.

    Args:
        labels: (N,) integer classes.
        fraction: share of each class, 0 <= fraction < 1; 0 carves nothing.
        seed, stream: choose the images; the same pair always chooses the same.

    Raises:
        OptionError: the fraction is outside [0, 1), or the seed is none.
    """
    if not 0 <= fraction < 1:
        raise OptionError(f"A split fraction must be at least 0 and below 1, but is {fraction}.")
    rng = np.random.default_rng((check_seed(seed, "split_seed"), stream))
    chosen = np.zeros(len(labels), bool)
    classes, counts = np.unique(labels, return_counts=True)
    for label, share in zip(classes, _shares(counts, fraction), strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        chosen[members[:share]] = True
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _shares(counts: np.ndarray, fraction: float) -> np.ndarray:
    """How many to carve from each class, by the largest-remainder method."""
    exact = fraction * counts
    shares = np.floor(exact).astype(int)
    by_remainder = np.argsort(shares - exact, kind="stable")
    shares[by_remainder[: round(fraction * counts.sum()) - shares.sum()]] += 1
    return shares if fraction == 0 else np.clip(shares, np.minimum(1, counts - 1), counts - 1)
