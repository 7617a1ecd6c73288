"""Several images out of each stored one: its tiles, enlarged (Kim et al. 2022)."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.parameterisation import Kind, Learnt, Parameterisation
from dd_jax.synthetic.base import Synthetic, describe
from dd_jax.synthetic.counts import Counts
from dd_jax.synthetic.initial import initial_images
from dd_jax.synthetic.pixels import check_set, class_labels, one_batch, projection
from dd_jax.types import Batch, Dataset, DistilledData

Formation: TypeAlias = Literal["single", "multi"]
FORMATIONS: tuple[str, ...] = get_args(Formation)


class MultiFormation(NamedTuple):
    """stored (N, H, W, C), in class order: all that is learnt."""

    stored: Float[Array, "set height width channels"]


def multi_formation(
    num_classes: int,
    images_per_class: Counts = 1,
    factor: int = 2,
    init_images: str = "real",
    step_size: float = 0.01,
    formation: str = "single",
    clamp: bool = False,
) -> Synthetic:
    """`images_per_class` stored images of each class, each of them factor * factor images of the set, see `formed`.

    Args:
        init_images: what the images of the set start as, see `initial_images`; they are made smaller and put side by
            side. "noise" is that of the stored pixels.
        step_size: not learnt; said of the set where something asks for one.
        formation: "single", or "multi": the images of every factor from 1 to this one, 1 + 4 + ... of each stored
            image.
        clamp: whether stored images are kept where their pixels lie between 0 and 1.

    Raises:
        OptionError: for a count or a factor below one, a step size that is not positive or an unknown `init_images` or
            `formation`; at its start DataError for images that have fewer pixels than there are tiles.

    Source: Kim et al. 2022, section 3.2 and the released code (decode_zoom, decode_zoom_multi; init "mix").
    """
    check_set(init_images, step_size)
    if factor < 1:
        raise OptionError(f"factor must be at least 1, but is {factor}.")
    parameterisation = Parameterisation.of(MULTI_FORMATION, factor=factor, formation=formation)
    start_labels = class_labels(num_classes, images_per_class, factor**2)
    labels = class_labels(num_classes, images_per_class, num_formed(factor, formation))

    def init(key: jax.Array, dataset: Dataset) -> MultiFormation:
        if factor > min(dataset.image_shape[:2]):
            raise DataError(
                f"Images {dataset.image_shape} can't be split into {factor} x {factor} tiles. Use a smaller factor."
            )
        if init_images == "noise":
            stored = initial_images(key, dataset, class_labels(num_classes, images_per_class), 1, "noise")
            return MultiFormation(stored[0])
        return MultiFormation(tiled(initial_images(key, dataset, start_labels, 1, init_images)[0], factor))

    def batch(learnable: MultiFormation, key: jax.Array, t: jax.Array) -> Batch:
        return Batch(parameterisation.decode({"stored": learnable.stored})[0], jnp.asarray(labels))

    def decode(learnable: MultiFormation) -> DistilledData:
        return one_batch({"stored": learnable.stored}, labels, step_size, parameterisation)

    return Synthetic(init, batch, decode, projection(clamp), 1)


def decode_formed(learnt: Learnt, *, factor: int, formation: str) -> jax.Array:
    """The images (1, N, H, W, C) that the stored ones become, those of each side by side in one batch."""
    stored = learnt["stored"]
    parts = [formed(stored, f).reshape(len(stored), f**2, *stored.shape[1:]) for f in _factors(factor, formation)]
    return jnp.concatenate(parts, 1).reshape(1, -1, *stored.shape[1:])


def check_formed(learnt: Mapping[str, np.ndarray], *, factor: Any = None, formation: Any = None) -> str:
    """They are an array (N, H, W, C) of images that can be split into so many tiles."""
    if set(learnt) != {"stored"} or learnt["stored"].ndim != 4 or not learnt["stored"].size:
        return f"stored images should be 'stored' (N, H, W, C), found {describe(learnt)}"
    if formation not in FORMATIONS:
        return f"formation should be one of {', '.join(FORMATIONS)}, found {formation!r:.80}"
    if type(factor) is not int or not 1 <= factor <= min(learnt["stored"].shape[1:3]):
        return f"factor should be a number from 1 to {min(learnt['stored'].shape[1:3])}, found {factor!r:.80}"
    return ""


MULTI_FORMATION = Kind("multi_formation", decode_formed, check_formed)


def num_formed(factor: int, formation: str = "single") -> int:
    """How many images of the set a stored one becomes; OptionError for an unknown formation."""
    return sum(f**2 for f in _factors(factor, formation))


def _factors(factor: int, formation: str) -> tuple[int, ...]:
    if formation not in FORMATIONS:
        raise unknown_name("formation", formation, FORMATIONS)
    return (factor,) if formation == "single" else tuple(range(1, factor + 1))


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
