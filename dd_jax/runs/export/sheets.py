"""The format "sheet": all images at a glance, page by page, as they are and with their contrast stretched."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.pictures import PICTURE_CHANNELS

PAGE = 1600  # pixels that the images of a page may take, in width and in height

_SMALLEST = 56  # pixels; smaller images are enlarged, each pixel to a square
_GAP = 4  # pixels between two images
_CONTRAST_PERCENTILE = 98.0  # of the deviations from an image's mean: goes to black or white
_DPI, _FONT = 100, 8.0  # points; a letter is about _LETTER pixels wide
_LETTER = 6.5
_LONGEST = 20  # letters of a class name
_INK, _FAINT = "#222222", "#6b6b6b"
_NOTES = {
    "true": "true pixels, clipped to black and white",
    "stretched": "contrast stretched evenly about each image's mean, which is mid-grey",
}


class Row(NamedTuple):
    """A row of a sheet: its step, and for each class the position of an image in the batch, or None."""

    step: int
    first: bool
    positions: list[int | None]


def write_sheet(contents: Contents, folder: Path) -> str:
    """sheet-true.png and sheet-stretched.png; where a page can't hold all images, sheet-true-1.png and so on.

    A column for each class, a row for each step, several if it has several images of a class. Images with soft labels
    stand in the column of the largest. The channels of images that are neither grey nor RGB are shown side by side.
    """
    pages = list(_pages(contents))
    for kind in _NOTES:
        for number, (rows, columns) in enumerate(pages, start=1):
            ending = f"-{number:0{len(str(len(pages)))}d}" if len(pages) > 1 else ""
            title = "Distilled images" + (f", page {number} of {len(pages)}" if len(pages) > 1 else "")
            figure = _page(contents, kind, rows, columns, title)
            (folder / f"sheet-{kind}{ending}.png").write_bytes(_png(figure))
    return "all images as they are, and with their contrast stretched"


def cell(contents: Contents, kind: str, step: int, position: int) -> np.ndarray:
    """An image as it is on the sheet, (height, width, 3) uint8."""
    stretch = kind == "stretched"
    pixels = stretched(contents.unclipped[step, position]) if stretch else contents.pixels[step, position]
    if pixels.shape[-1] not in PICTURE_CHANNELS:
        pixels = np.concatenate(np.split(pixels, pixels.shape[-1], axis=-1), axis=1)
    factor = _factor(contents)
    return np.broadcast_to(pixels.repeat(factor, axis=0).repeat(factor, axis=1), (*_cell_shape(contents), 3))


def stretched(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) with its mean at mid-grey, and black and white as far from there."""
    centred = image - image.mean()
    reach = np.percentile(np.abs(centred), _CONTRAST_PERCENTILE)
    return np.round(255 * np.clip(0.5 + 0.5 * centred / max(reach, 1e-6), 0, 1)).astype(np.uint8)


def _factor(contents: Contents) -> int:
    height, width = contents.pixels.shape[2:4]
    return max(1, -(-_SMALLEST // max(height, width)))


def _cell_shape(contents: Contents) -> tuple[int, int]:
    height, width, channels = contents.pixels.shape[2:]
    side_by_side = 1 if channels in PICTURE_CHANNELS else channels
    return height * _factor(contents), width * side_by_side * _factor(contents)


def _pitch(contents: Contents) -> tuple[int, int]:
    """Pixels from one image to the next, downwards and across; captions must fit."""
    height, width = _cell_shape(contents)
    return max(height + _GAP, 32), width + _GAP


def _pages(contents: Contents) -> Iterator[tuple[list[Row], range]]:
    """The rows and columns of each page: the classes side by side first, then the steps."""
    height, width = (max(1, PAGE // side) for side in _pitch(contents))
    num_classes = len(contents.class_names)
    rows = [row for step in range(contents.distilled.num_batches) for row in _rows(contents, step)]
    for top in range(0, len(rows), height):
        for left in range(0, num_classes, width):
            yield rows[top : top + height], range(left, min(left + width, num_classes))


def _rows(contents: Contents, step: int) -> list[Row]:
    of_class = [np.flatnonzero(contents.classes[step] == k).tolist() for k in range(len(contents.class_names))]
    height = max(map(len, of_class))
    return [
        Row(step, row == 0, [positions[row] if row < len(positions) else None for positions in of_class])
        for row in range(height)
    ]


def _page(contents: Contents, kind: str, rows: Sequence[Row], columns: Sequence[int], title: str) -> Any:
    from matplotlib.figure import Figure

    height, width = _cell_shape(contents)
    names = [_heading(contents.class_names[k], k) for k in columns]
    slanted = max(map(len, names)) * _LETTER > width
    captions = {row.step: _caption(contents, row.step) for row in rows}
    left = 20 + round(max(len(line) for caption in captions.values() for line in caption.split("\n")) * _LETTER)
    right = 12 + (round(max(map(len, names)) * _LETTER * 0.75) if slanted else 0)
    top = 48 + (round(max(map(len, names)) * _LETTER * 0.75) if slanted else 0)
    down, across = _pitch(contents)
    total = max(left + across * len(columns) + right, 460), top + down * len(rows) + 30
    figure = Figure(figsize=(total[0] / _DPI, total[1] / _DPI), dpi=_DPI, facecolor="white")
    for row, (step, first, _) in enumerate(rows):
        if first or row == 0:
            middle = 1 - (top + down * row + height / 2) / total[1]
            _text(figure, (left - 8) / total[0], middle, captions[step], ha="right", va="center")
    figure.figimage(_grid(contents, kind, rows, columns), left, total[1] - top - down * len(rows), origin="upper")
    for column, name in enumerate(names):
        style: dict[str, Any] = {"rotation": 45, "ha": "left"} if slanted else {"ha": "center"}
        x = left + across * column + width * (0.35 if slanted else 0.5)
        _text(figure, x / total[0], 1 - (top - 6) / total[1], name, va="bottom", **style)
    _text(figure, 10 / total[0], 1 - 8 / total[1], title, va="top", size=_FONT + 2, weight="bold")
    sizes = "" if contents.distilled.protocol.from_scratch else "; η: the step size"
    _text(figure, 10 / total[0], 8 / total[1], _NOTES[kind] + sizes, va="bottom", color=_FAINT)
    return figure


def _grid(contents: Contents, kind: str, rows: Sequence[Row], columns: Sequence[int]) -> np.ndarray:
    """The images of a page in their places, on white."""
    (height, width), (down, across) = _cell_shape(contents), _pitch(contents)
    grid = np.full((down * len(rows), across * len(columns), 3), 255, np.uint8)
    for top, (step, _, positions) in zip(range(0, len(grid), down), rows, strict=True):
        for column, k in enumerate(columns):
            position = positions[k]
            if position is not None:
                shown = cell(contents, kind, step, position)
                grid[top : top + height, column * across : column * across + width] = shown
    return grid


def _caption(contents: Contents, step: int) -> str:
    sizes = contents.sizes_of(step)
    if contents.distilled.protocol.from_scratch:
        return ""
    return f"step {step}\nη {sizes[0]:.2g}" + (f" … {sizes[-1]:.2g}" if len(sizes) > 1 else "")


def _heading(name: str, number: int) -> str:
    """A class name in one line that isn't too long; the class's number where the font lacks a letter of it."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    line = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    font = get_font(findfont(FontProperties()))
    if not line or not all(font.get_char_index(ord(c)) for c in line):
        return f"class {number}"
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def _text(figure: Any, x: float, y: float, text: str, **style: Any) -> None:
    figure.text(x, y, text, **{"fontsize": style.pop("size", _FONT), "color": _INK, "parse_math": False, **style})


def _png(figure: Any) -> bytes:
    import warnings

    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support .* natively")
        FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()
