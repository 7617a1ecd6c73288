"""What becomes of a drawn figure or an array of pixels: PNG bytes, or SVG text for a page."""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from dd_jax.errors import OptionError

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_HALF = 0.5  # of a pixel

_IDS = re.compile(r'(\bid="|\burl\(#|\bhref="#)')
_WHAT_ONLY_FILES_NEED = re.compile(r'<\?xml.*?\?>|<!DOCTYPE.*?>|<metadata>.*?</metadata>| xmlns(:xlink)?="[^"]*"', re.S)
_SIZE = re.compile(r'(<svg) (?:height|width)="[^"]*"([^>]*?) (?:height|width)="[^"]*"')


def figure_png(figure: Any) -> bytes:
    """A matplotlib figure as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with _any_glyph():
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # or the bytes would tell the version
    return buffer.getvalue()


def svg(figure: Any, name: str, colours: Mapping[str, str]) -> str:
    """A matplotlib figure as an <svg> element to be put into an HTML page, the same for the same figure and name.

    Text stays text, the background is transparent, and the size is left to the page.

    Args:
        name: a word of its own in the page; all ids start with it.
        colours: what to write in place of colours, e.g. {"#222222": "currentColor"}.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "font.family": ["sans-serif"]}), _any_glyph():
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    text = _WHAT_ONLY_FILES_NEED.sub("", buffer.getvalue()).strip()
    text = _SIZE.sub(r"\1\2", text, count=1)
    text = _IDS.sub(lambda found: f"{found[0]}{name}-", text)
    for drawn, written in colours.items():
        text = re.sub(f'(?<=[ ":]){drawn.lower()}(?=[;"])', written, text)
    return text


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 3) in [0, 1] as PNG, transparent where they are NaN; grey ones take a third of the room."""
    from PIL import Image

    there = ~np.isnan(pixels).any(-1, keepdims=True)
    levels = np.round(255 * np.clip(np.where(there, pixels, 0), 0, 1)).astype(np.uint8)
    colours = levels[..., :1] if (levels == levels[..., :1]).all() else levels
    layers = colours if there.all() else np.concatenate([colours, 255 * there.astype(np.uint8)], -1)
    buffer = io.BytesIO()
    Image.fromarray(layers[..., 0] if layers.shape[-1] == 1 else layers).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def animated_png(frames: Sequence[np.ndarray], scale: int = 1, milliseconds: int = 400, last: int = 2000) -> bytes:
    """Frames (H, W, 3) in [0, 1] as one PNG that moves and starts again; white where they are NaN.

    Args:
        scale: side of the square that each pixel becomes.
        milliseconds: how long each frame is shown; the last one is shown for `last`.

    Raises:
        OptionError: if there is no frame, or two frames differ in size.
    """
    from PIL import Image

    if len({frame.shape for frame in frames}) != 1:
        sizes = ", ".join(str(frame.shape) for frame in frames) or "none"
        raise OptionError(f"An animation needs frames of one size (H, W, 3), but these are {sizes}.")
    levels = [np.round(255 * np.clip(np.nan_to_num(frame, nan=1.0), 0, 1)).astype(np.uint8) for frame in frames]
    grey = all((level == level[..., :1]).all() for level in levels)
    large = [level.repeat(scale, axis=0).repeat(scale, axis=1) for level in levels]
    images = [Image.fromarray(level[..., 0] if grey else level) for level in large]
    shown = [milliseconds] * (len(images) - 1) + [last]
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], duration=shown, loop=0, optimize=True)
    return buffer.getvalue()


def png_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a PNG as its header tells, or None if it is no PNG."""
    if len(data) < 33 or not data.startswith(PNG_SIGNATURE) or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def png_pixels(data: bytes) -> np.ndarray:
    """The pixels (H, W, 3) in [0, 1] of a PNG, NaN where it is transparent: what `png` was given."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        layers = np.asarray(image.convert("RGBA")) / 255
    return np.where(layers[..., 3:] < _HALF, np.nan, layers[..., :3])


def smaller_png(data: bytes, factor: int) -> bytes:
    """A PNG with `factor` x `factor` pixels averaged into one; grey where it is, transparent where most of it is."""
    from PIL import Image

    with Image.open(io.BytesIO(data)) as image:
        reduced = np.asarray(image.convert("RGBA").convert("RGBa").reduce(factor).convert("RGBA")) / 255
    return png(np.where(reduced[..., 3:] < _HALF, np.nan, reduced[..., :3]))


@contextmanager
def _any_glyph() -> Iterator[None]:
    """Draw names in any script: a glyph that the font lacks becomes a box, and in SVG is the reader's font's affair."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        yield
