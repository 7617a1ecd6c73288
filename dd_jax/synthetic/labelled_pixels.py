"""One set of images with soft labels that are learnt too, without an order or step sizes of its own."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.synthetic.base import Synthetic, unbounded
from dd_jax.synthetic.counts import Counts
from dd_jax.synthetic.initial import initial_images
from dd_jax.synthetic.pixels import check_set, class_labels, one_batch, pixels
from dd_jax.types import Batch, Dataset, DistilledData


class LabelledPixels(NamedTuple):
    """images (N, H, W, C), in class order, and labels (N, K)."""

    images: Float[Array, "set height width channels"]
    labels: Float[Array, "set classes"]


def labelled_pixels(
    num_classes: int, images_per_class: Counts = 1, init_images: str = "real", step_size: float = 0.01
) -> Synthetic:
    """As `pixels`, but with soft labels, which start as one-hot vectors and may become any numbers.

    They are targets of a regression, unlike those of `soft_labels`, which are probabilities.

    Raises:
        OptionError: as `pixels` does.

    Source: Sucholutsky & Schonlau 2021; Nguyen et al. 2021, section 3.1.
    """
    check_set(init_images, step_size)
    classes = class_labels(num_classes, images_per_class)

    def init(key: jax.Array, dataset: Dataset) -> LabelledPixels:
        images = initial_images(key, dataset, classes, 1, init_images)[0]
        return LabelledPixels(images, jax.nn.one_hot(classes, num_classes, dtype=jnp.float32))

    def batch(learnable: LabelledPixels, key: jax.Array, t: jax.Array) -> Batch:
        return Batch(learnable.images, learnable.labels)

    def decode(learnable: LabelledPixels) -> DistilledData:
        return one_batch({"images": learnable.images[None]}, learnable.labels, step_size)

    return Synthetic(init, batch, decode, unbounded, 1)


def pixels_of(learn: str, num_classes: int, images_per_class: Counts, init_images: str) -> Synthetic:
    """`pixels`, whose labels stay hard, where `learn` is "images"; else `labelled_pixels`."""
    make = pixels if learn == "images" else labelled_pixels
    return make(num_classes, images_per_class, init_images)
