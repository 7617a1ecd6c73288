"""The digits that come with scikit-learn: 1,797 grey images of 8x8, there without any download."""

from dd_jax.data.arrays import RawData

MAX_VALUE = 16  # the pixels count the set points of 4x4 blocks


def read_digits() -> RawData:
    """The whole set as one pair; images (1797, 8, 8) float64 in [0, 1]. It has no published split."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return RawData((bunch.images / MAX_VALUE, bunch.target), class_names=tuple(map(str, bunch.target_names)))
