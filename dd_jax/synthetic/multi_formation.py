"""Several images out of each stored one: its tiles, enlarged (Kim et al. 2022)."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from dd_jax.errors import DataError, OptionError
from dd_jax.synthetic.base import Synthetic, num_bytes
from dd_jax.synthetic.initial import initial_images
from dd_jax.synthetic.pixels import check_set, class_labels, one_batch
from dd_jax.types import Batch, Dataset, DistilledData


class MultiFormation(NamedTuple):
    """stored (K * images_per_class, H, W, C), in class order: all that is learnt."""

    stored: Float[Array, "set height width channels"]


def multi_formation(
    num_classes: int,
    images_per_class: int = 1,
    factor: int = 2,
    init_images: str = "real",
    step_size: float = 0.01,
) -> Synthetic:
    """`images_per_class` stored images of each class, each of them factor * factor images of the set, see `formed`.

    init_images: what the images of the set start as, see `initial_images`; they are made smaller and put side by side.
        "noise" is that of the stored pixels.
    step_size: not learnt; said of the set where something asks for one.
    Raises OptionError for a count or a factor below one, a step size that is not positive or an unknown
    `init_images`; at its start DataError for images that have fewer pixels than there are tiles.
    Source: Kim et al. 2022, section 3.2 and the released code (decode_zoom; init "mix").
    """
    check_set(images_per_class, init_images, step_size)
    if factor < 1:
        raise OptionError(f"factor must be at least 1, but is {factor}.")
    labels = class_labels(num_classes, images_per_class * factor**2)

    def init(key: jax.Array, dataset: Dataset) -> MultiFormation:
        if factor > min(dataset.image_shape[:2]):
            raise DataError(f"Images {dataset.image_shape} can't be split into {factor} x {factor} tiles.")
        if init_images == "noise":
            stored = initial_images(key, dataset, class_labels(num_classes, images_per_class), 1, "noise")
            return MultiFormation(stored[0])
        return MultiFormation(tiled(initial_images(key, dataset, labels, 1, init_images)[0], factor))

    def batch(learnable: MultiFormation, key: jax.Array, t: jax.Array) -> Batch:
        return Batch(formed(learnable.stored, factor), jnp.asarray(labels))

    def decode(learnable: MultiFormation) -> DistilledData:
        return one_batch(formed(learnable.stored, factor), labels, step_size)

    return Synthetic(init, batch, decode, lambda learnable: learnable, num_bytes, 1)


def formed(
    stored: Float[Array, "set height width channels"], factor: int
) -> Float[Array, "formed height width channels"]:
    """The factor * factor tiles of each stored image, row by row, each enlarged to the whole size, bilinearly.

    Linear in the stored pixels. Where the sides aren't multiples of the factor the last tiles end in zeros.
    """
    count, height, width, channels = stored.shape
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    padded = jnp.pad(stored, [(0, 0), (0, rows * factor - height), (0, columns * factor - width), (0, 0)])
    tiles = padded.reshape(count, factor, rows, factor, columns, channels).swapaxes(2, 3)
    return jax.image.resize(
        tiles.reshape(-1, rows, columns, channels), (count * factor**2, height, width, channels), "bilinear"
    )


def tiled(
    images: Float[Array, "formed height width channels"], factor: int
) -> Float[Array, "set height width channels"]:
    """Images, factor * factor at a time, made smaller and put side by side into one."""
    count, height, width, channels = images.shape
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    small = jax.image.resize(images, (count, rows, columns, channels), "bilinear")
    grid = small.reshape(-1, factor, factor, rows, columns, channels).swapaxes(2, 3)
    return grid.reshape(-1, factor * rows, factor * columns, channels)[:, :height, :width]
