"""Encoded images (files or bytes) to uint8 arrays, through pillow, and the one way in which images are resized."""

import io
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dd_jax.data.deep import DEEP_MODES, as_fractions, is_cut, other_bytes, planes_of
from dd_jax.errors import DataError, OptionError

ImageSize: TypeAlias = int | tuple[int, int] | None
Remarks: TypeAlias = dict[str, list[str]]  # what is to be said of some images, and the places where it was seen
CHANNELS = (None, 1, 3)  # as they are, grey, RGB
GREY_MODES = ("1", "L", "LA", "La")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # pillow would start Ghostscript for others
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
COLOUR_SPACES = ("CMYK", "YCbCr", "LAB", "HSV")  # beside RGB

PAGES = "have several pages, of which the first alone is read"
TRANSPARENT = "are transparent in places: what lies beneath is read"
CUT_DEPTH = "have more than 8 bits per channel, of which the upper 8 are read"
DEEP = "have 16 bits or floats: all are read as floats"

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
        raise OptionError(f"image_size must be a positive integer or (height, width), but is {image_size!r}.")
    return size[0], size[1]


def as_channels(channels: int | None) -> int | None:
    """A `channels` option: 1 (grey), 3 (RGB) or None.

    Raises:
        OptionError: anything else.
    """
    if channels not in CHANNELS:
        raise OptionError(f"channels must be 1 (grey), 3 (colour) or None (unchanged), but is {channels!r}.")
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


def decode_image(
    source: Path | bytes, where: str, size: tuple[int, int] | None, channels: int | None, remarks: Remarks | None = None
) -> np.ndarray:
    """One image as uint8 (H, W, C), or float32 in [0, 1] of deeper ones; see `open_image` and `resized`."""
    planes = _planes(source, where, channels, remarks)
    array = np.concatenate([to_array(resized(plane, size)) for plane in planes], axis=2)
    return np.repeat(array, channels, axis=2) if channels == 3 and array.shape[2] == 1 else array


def to_array(image: Any) -> np.ndarray:
    """A pillow image of mode "L" or "RGB" as uint8 (H, W, C), of mode "F" as float32 in [0, 1]."""
    array = np.asarray(image)
    if image.mode == "F":
        array = np.clip(array, 0, 1)  # resizing overshoots
    return array[..., None] if array.ndim == 2 else array


def is_image(path: Path) -> bool:
    """Whether a file is an image of one of `FORMATS`, by how it begins and whatever its name."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS):
            return True
    except (*_MALFORMED, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return False


def open_image(source: Path | bytes, where: str, channels: int | None, remarks: Remarks | None = None) -> Any:
    """One image as a pillow image of mode "L" (grey by ITU-R 601 luma) or "RGB"; deeper grey ones as "F" in [0, 1].

    Args:
        source: a file, or the bytes of one.
        where: what to call it in an error.
        channels: 1 or 3; None keeps grey images at 1 and makes all others 3.
        remarks: takes `where` under what is to be said of the image: other pages, transparency, depth, colour space.

    Raises:
        DataError: not an image, in another format than `FORMATS`, truncated, of more pixels than pillow takes for
            honest (179 million), or of numbers whose white isn't known.
    """
    image, said = _opened(source, where)
    image = _converted(image, where, channels, said)
    _remark(said, where, remarks)
    return image


def _planes(source: Path | bytes, where: str, channels: int | None, remarks: Remarks | None) -> list[Any]:
    """What `open_image` gives, in a list; of colour in 16 bits three images of mode "F", or one that is grey."""
    image, said = _opened(source, where)
    converted = _converted(image, where, channels, said)
    low = _opened(source, where, low=True)[0] if CUT_DEPTH in said else None
    if low is None:
        _remark(said, where, remarks)
        return [converted]
    _remark([*(word for word in said if word != CUT_DEPTH), DEEP], where, remarks)
    return planes_of(image, low, channels == 1)


def _remark(said: Iterable[str], where: str, remarks: Remarks | None) -> None:
    for remark in said if remarks is not None else ():
        remarks.setdefault(remark, []).append(where)  # type: ignore[union-attr]


def _converted(image: Any, where: str, channels: int | None, said: list[str]) -> Any:
    """An opened image in the mode that is wanted; `said` takes what is to be said of that."""
    if image.mode in DEEP_MODES:
        said.append(DEEP)
        return as_fractions(image, where)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    if image.mode in ALPHA_MODES and image.getchannel("A").getextrema()[0] < 255:
        said.append(TRANSPARENT)
    if image.mode in COLOUR_SPACES:
        said.append(f"are in {image.mode}: they are converted to RGB")
    grey = channels == 1 if channels else image.mode in GREY_MODES
    return image.convert("L" if grey else "RGB")


def _opened(source: Path | bytes, where: str, low: bool = False) -> tuple[Any, list[str]]:
    """The pillow image, read to its end, and remarks; files are turned upright, published records stay as they are.

    Args:
        low: the lower bytes of colour in 16 bits, and None where pillow can't read them.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            said = [PAGES] if getattr(file, "n_frames", 1) > 1 else []
            said += [CUT_DEPTH] if file.mode not in DEEP_MODES and is_cut(file.tile) else []
            if low:
                if (tiles := other_bytes(file.tile)) is None:
                    return None, []
                file.tile = tiles
            return (file.copy() if isinstance(source, bytes) else ImageOps.exif_transpose(file)), said
    except (*_MALFORMED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"Can't read {where} as an image: {error}.") from error
