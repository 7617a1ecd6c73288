"""Encoded images (files or bytes) to uint8 arrays, through pillow, and the one way in which images are resized."""

import io
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dd_jax.data.memory import free_host_memory, in_units
from dd_jax.errors import DataError, OptionError

ImageSize: TypeAlias = int | tuple[int, int] | None
Room: TypeAlias = Callable[[tuple[int, ...]], np.ndarray]  # shape (N, H, W, C) -> an array to fill, uint8
CHANNELS = (None, 1, 3)  # as they are, grey, RGB
GREY_MODES = ("1", "L", "LA", "La")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # pillow would start Ghostscript for others
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")

_MALFORMED = (  # what pillow raises for garbled images
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
)


def as_size(image_size: ImageSize) -> tuple[int, int] | None:
    """(H, W) of an `image_size` option, or None.

    Raises:
        OptionError: neither a positive integer nor a pair of them.
    """
    if image_size is None:
        return None
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if not isinstance(size, Sequence) or len(size) != 2 or not all(isinstance(side, int) and side > 0 for side in size):
        raise OptionError(f"image_size must be a positive integer or (height, width); found {image_size!r}.")
    return size[0], size[1]


def as_channels(channels: int | None) -> int | None:
    """A `channels` option: 1 (grey), 3 (RGB) or None.

    Raises:
        OptionError: anything else.
    """
    if channels not in CHANNELS:
        raise OptionError(f"channels must be 1 (grey), 3 (RGB) or None (as they are); found {channels!r}.")
    return channels


def resized(image: Any, size: tuple[int, int] | None) -> Any:
    """A pillow image at (H, W), whatever its aspect ratio was; None keeps the size.

    Bicubic with antialiasing, the filter of the released code of Wang et al. 2018. It overshoots at edges:
    8-bit images are clipped by pillow, float ones (mode "F") aren't.
    """
    from PIL import Image

    if size is None or image.size == size[::-1]:
        return image
    return image.resize(size[::-1], Image.Resampling.BICUBIC)


def decode_image(source: Path | bytes, where: str, size: tuple[int, int] | None, channels: int | None) -> np.ndarray:
    """One image as uint8 (H, W, C); see `open_image` and `resized`."""
    return to_array(resized(open_image(source, where, channels), size))


def to_array(image: Any) -> np.ndarray:
    """A pillow image of mode "L" or "RGB" as uint8 (H, W, C)."""
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def open_image(source: Path | bytes, where: str, channels: int | None) -> Any:
    """One image as a pillow image of mode "L" (grey by ITU-R 601 luma) or "RGB"; transparency is dropped.

    Args:
        source: a file, or the bytes of one.
        where: what to call it in an error.
        channels: 1 or 3; None keeps grey images at 1 and makes all others 3.

    Raises:
        DataError: not an image, in another format than `FORMATS`, truncated, of more pixels than pillow takes for
            honest (179 million), or deeper than 8 bits.
    """
    image = _opened(source, where)
    if image.mode in DEEP_MODES:
        raise DataError(f"{where} has more than 8 bits per channel (pillow mode {image.mode}); convert it first.")
    grey = channels == 1 if channels else image.mode in GREY_MODES
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("L" if grey else "RGB")


def _opened(source: Path | bytes, where: str) -> Any:
    """The pillow image, read to its end; files are turned upright, published records stay as they are."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            return file.copy() if isinstance(source, bytes) else ImageOps.exif_transpose(file)
    except (*_MALFORMED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"Can't read {where} as an image: {error}.") from error


def in_memory(shape: tuple[int, ...]) -> np.ndarray:
    """Room for images (N, H, W, C); DataError if they don't fit into memory."""
    needed, free = math.prod(shape), free_host_memory()
    if needed > free:
        raise DataError(
            f"{shape[0]} images of {shape[1]}x{shape[2]} take {in_units(needed)}, but only {in_units(free)} of memory "
            "are free. Give a smaller image_size=(height, width), fewer images, or resident_images=N to have only N "
            "training images in memory at a time."
        )
    return np.empty(shape, np.uint8)


def stack_images(images: Iterable[tuple[str, np.ndarray]], count: int, room: Room = in_memory) -> np.ndarray:
    """`count` named images (H, W, C) as one array; grey ones among colour ones get three equal channels.

    room: makes the array for a shape (N, H, W, C).

    Raises:
        DataError: an image has another size than the first, or all of them don't fit into the room.
    """
    stacked = np.empty((0, 0, 0, 0), np.uint8)
    first = ""
    for index, (where, image) in enumerate(images):
        if index == 0:
            first, stacked = where, room((count, *image.shape))
        if image.shape[:2] != stacked.shape[1:3]:
            (height, width), found = stacked.shape[1:3], image.shape[:2]
            raise DataError(
                f"The images differ in size: {first} is {height}x{width}, {where} is {found[0]}x{found[1]}. "
                f"Give image_size=(height, width), e.g. image_size={min(height, width)}, to resize them."
            )
        if image.shape[2] > stacked.shape[3]:
            if room is not in_memory:
                raise DataError(f"{first} is grey and {where} is in colour: say channels=3 or channels=1.")
            stacked = np.repeat(stacked, image.shape[2], axis=3)
        stacked[index] = image
    return stacked
