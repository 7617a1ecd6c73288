"""Options that several methods have: the images of a set, as they start, and what a regression on them needs.

Those of sampling and of the outer optimiser stand where these are, in `sampling.py` and `outer.py`.
"""

import dataclasses

from dd_jax.synthetic import Counts, ImageInit


@dataclasses.dataclass(frozen=True)
class SetOptions:
    """How many images a set has, and what they start as."""

    images_per_class: Counts = 1
    """Images of each class: one number, or one for each class."""
    init_images: ImageInit = "real"
    """Start of the images: noise, real training images, the class mean plus noise, k-means centres, or herded training
    images."""


@dataclasses.dataclass(frozen=True)
class RegressionOptions(SetOptions):
    """A set that networks, or their kernels, are fitted to in closed form."""

    regulariser: float = 1e-6
    """Number to add to the diagonal of the set's kernel, as a share of the diagonal's mean."""
