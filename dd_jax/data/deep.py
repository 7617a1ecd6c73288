"""Images of more than 8 bits per channel as fractions of white: pillow cuts colours to 8, and doesn't know white."""

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from dd_jax.errors import DataError

DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")  # of grey images
MOST = 65535  # white, of 16 bits

_LUMA = (0.299, 0.587, 0.114)  # ITU-R 601, as pillow makes grey of colour
_NATIVE = "L" if sys.byteorder == "little" else "B"
_OTHER = {"L": "B", "B": "L", "N": "B" if _NATIVE == "L" else "L"}
_SWAPPED = ("RGB", "RGBA")  # modes that pillow reads in either order of bytes


def is_cut(tiles: Sequence[Any]) -> bool:
    """Whether pillow, by how it is going to read the parts of a colour image, cuts off bits."""
    for name, _, _, arguments in tiles:
        words = arguments if isinstance(arguments, tuple) else (arguments,)
        if any(isinstance(word, str) and ";16" in word for word in words):
            return True
        if name.startswith("ppm") and any(isinstance(word, int) and word > 255 for word in words):
            return True
    return False


def other_bytes(tiles: Sequence[Any]) -> list[Any] | None:
    """The same parts, of which pillow reads the lower 8 bits: it keeps one byte of two, as the order of bytes says.

    None where it knows one order only.
    """
    found = []
    for tile in tiles:
        words = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        mode, _, order = str(words[0]).partition(";16")
        if mode not in _SWAPPED or order not in _OTHER:
            return None
        swapped = (f"{mode};16{_OTHER[order]}", *words[1:])
        found.append(tile._replace(args=swapped if isinstance(tile[3], tuple) else swapped[0]))
    return found


def planes_of(high: Any, low: Any, grey: bool) -> list[Any]:
    """Pillow images of mode "F" in [0, 1], one for each of three colours, or one grey one.

    Args:
        high, low: the colour image as the upper and the lower 8 bits of its values.
    """
    from PIL import Image

    both = [np.asarray(image)[..., :3].astype(np.float32) for image in (high, low)]
    values = (256 * both[0] + both[1]) / MOST
    if grey:
        return [Image.fromarray(values @ np.asarray(_LUMA, np.float32))]
    return [Image.fromarray(np.ascontiguousarray(values[..., channel])) for channel in range(3)]


def as_fractions(image: Any, where: str) -> Any:
    """A deep grey image as one of mode "F": 16 bits divided by 65535, floats as they are.

    Raises:
        DataError: values outside the 16 bits, or floats outside [0, 1].
    """
    from PIL import Image

    values = np.asarray(image)
    low, high, most = float(values.min()), float(values.max()), (1 if image.mode == "F" else MOST)
    if not 0 <= low <= high <= most:
        raise DataError(
            f"Can't read {where} as an image: its values are {low:g} to {high:g}; expected 0 to "
            f"{most}. Divide them by the value of white, and save them with 16 or 8 bits."
        )
    return Image.fromarray((values / np.float32(most)).astype(np.float32))
