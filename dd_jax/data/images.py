"""Encoded images (files or bytes) to uint8 arrays, through pillow, and the one way in which images are resized."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from dd_jax.errors import DataError, OptionError

ImageSize: TypeAlias = int | tuple[int, int] | None
Remarks: TypeAlias = dict[str, list[str]]  # what is to be said of some images, and the places where it was seen
CHANNELS = (None, 1, 3)  # as they are, grey, RGB
GREY_MODES = ("1", "L", "LA", "La")
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")  # pillow would start Ghostscript for others
DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
ALPHA_MODES = ("RGBA", "RGBa", "LA", "La", "PA")
COLOUR_SPACES = ("CMYK", "YCbCr", "LAB", "HSV")  # beside RGB
MOST_DEEP = 65535  # white, of 16 bits

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


def decode_image(
    source: Path | bytes, where: str, size: tuple[int, int] | None, channels: int | None, remarks: Remarks | None = None
) -> np.ndarray:
    """One image as uint8 (H, W, C), or float32 in [0, 1] of deeper grey ones; see `open_image` and `resized`."""
    array = to_array(resized(open_image(source, where, channels, remarks), size))
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
    if image.mode in DEEP_MODES:
        said.append(DEEP)
        image = _as_fractions(image, where)
    else:
        if image.mode == "P" and "transparency" in image.info:
            image = image.convert("RGBA")
        if image.mode in ALPHA_MODES and image.getchannel("A").getextrema()[0] < 255:
            said.append(TRANSPARENT)
        if image.mode in COLOUR_SPACES:
            said.append(f"are in {image.mode}: they are converted to RGB")
        grey = channels == 1 if channels else image.mode in GREY_MODES
        image = image.convert("L" if grey else "RGB")
    if remarks is not None:
        for remark in said:
            remarks.setdefault(remark, []).append(where)
    return image


def _opened(source: Path | bytes, where: str) -> tuple[Any, list[str]]:
    """The pillow image, read to its end, and remarks; files are turned upright, published records stay as they are."""
    from PIL import Image, ImageOps

    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as file:
            said = [PAGES] if getattr(file, "n_frames", 1) > 1 else []
            said += [CUT_DEPTH] if file.mode not in DEEP_MODES and _is_deep(file.tile) else []
            return (file.copy() if isinstance(source, bytes) else ImageOps.exif_transpose(file)), said
    except (*_MALFORMED, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"Can't read {where} as an image: {error}.") from error


def _is_deep(tiles: Sequence[Any]) -> bool:
    """Whether pillow, by how it is going to read the parts of a colour image, cuts off bits."""
    for tile in tiles:
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        depths = [word for word in arguments if isinstance(word, str) and ";16" in word]
        levels = [
            number for number in arguments if tile[0].startswith("ppm") and isinstance(number, int) and number > 255
        ]
        if depths or levels:
            return True
    return False


def _as_fractions(image: Any, where: str) -> Any:
    """A deep grey image as one of mode "F": 16 bits divided by 65535, floats as they are.

    Raises:
        DataError: values outside the 16 bits, or floats outside [0, 1].
    """
    from PIL import Image

    values = np.asarray(image)
    low, high, most = float(values.min()), float(values.max()), (1 if image.mode == "F" else MOST_DEEP)
    if not 0 <= low <= high <= most:
        raise DataError(
            f"Can't read {where} as an image: its values are {low:g} to {high:g}; expected 0 to {most}. Divide them "
            "by what white is, and save 16 bits or 8."
        )
    return Image.fromarray((values / np.float32(most)).astype(np.float32))
