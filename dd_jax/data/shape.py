"""Arrays of images brought to one size and channel count, so that two sets can go through one network."""

from typing import Any

import numpy as np

from dd_jax.data.arrays import RawData
from dd_jax.data.checks import as_images
from dd_jax.data.images import resized
from dd_jax.errors import DataError

GREY, RGB = 1, 3
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R 601, the weights of pillow's mode "L"


def to_shape(raw: RawData, size: tuple[int, int] | None, channels: int | None, *, any_range: bool = False) -> RawData:
    """A source's arrays as (N, *size, channels), uint8 or float32; None leaves the sizes or channels as they are.

    Grey comes from RGB by ITU-R 601 luma, RGB from grey by repetition. Bicubic resizing overshoots at edges:
    floats are clipped to [0, 1], or to their own range where that is wider.

    Args:
        raw: pairs as `dataset_from_arrays` takes them.
        size: (H, W).
        channels: 1 or 3.
        any_range: floats may have any finite value.

    Raises:
        DataError: the images can't be used, or are neither grey nor RGB and `channels` is asked for.
    """
    if size is None and channels is None:
        return raw
    shaped: dict[str, Any] = {}
    for part in ("train", "test", "validation"):
        pair = getattr(raw, part)
        if pair is not None:
            images = as_images(pair[0], f"{part} images", any_range=any_range)
            shaped[part] = _shaped(images, size, channels, f"{part} images"), pair[1]
    return raw._replace(**shaped)


def _shaped(images: np.ndarray, size: tuple[int, int] | None, channels: int | None, what: str) -> np.ndarray:
    found = images.shape[3]
    if channels not in (None, found) and found not in (GREY, RGB):
        transparency = " Drop the transparency with images[..., :-1]." if found in (2, 4) else ""
        raise DataError(
            f"channels={channels} converts grey (1) and colour (3) images, but the {what} have "
            f"{found} channels.{transparency}"
        )
    if channels == GREY and found == RGB:
        images = _grey(images)
    if size is not None and size != images.shape[1:3]:
        images = _resized(images, size)
    return np.repeat(images, RGB, axis=3) if channels == RGB and found == GREY else images


def _grey(images: np.ndarray) -> np.ndarray:
    from PIL import Image

    if images.dtype != np.uint8:
        return _clipped_to((images @ LUMA)[..., None], images)
    grey = np.empty((*images.shape[:3], 1), np.uint8)
    for index, image in enumerate(images):
        grey[index, ..., 0] = np.asarray(Image.fromarray(image).convert("L"))
    return grey


def _resized(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    result = np.empty((len(images), *size, images.shape[3]), images.dtype)
    for index in range(len(images)):
        for channel in range(images.shape[3]):
            plane = Image.fromarray(images[index, ..., channel])  # mode "L" or "F"
            result[index, ..., channel] = np.asarray(resized(plane, size))
    return result if images.dtype == np.uint8 else _clipped_to(result, images)


def _clipped_to(values: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Values in place within [0, 1], or within the range of the images where that is wider."""
    return np.clip(values, min(images.min(), 0), max(images.max(), 1), out=values)
