"""A small sheet of the distilled images at every look at validation, to see how they became what they are."""

from pathlib import Path

import numpy as np

from dd_jax.runs.figures.encode import png
from dd_jax.runs.figures.graph import adjacency_picture
from dd_jax.runs.figures.sheet import sheet_of
from dd_jax.runs.files import disk_errors, write_bytes
from dd_jax.types import DistilledData

MAX_SIDE = 64  # pixels of an image; larger ones are shown by every second pixel, or fewer

_GAP = 1  # pixel between images
_PAPER = 1.0


def save_frame(folder: str | Path, step: int, distilled: DistilledData) -> None:
    """Save the images of `sheet_of` as they are after outer step `step`, pixel by pixel, as step_00000100.png.

    A column for each class, a row for each inner step; each image's contrast is stretched on its own.
    Raises RunError if the disk refuses.
    """
    path = Path(folder) / f"step_{step:08d}.png"
    with disk_errors("save the picture", path):
        write_bytes(path, png(frame(distilled)))


def frame(distilled: DistilledData) -> np.ndarray:
    """The images of `sheet_of` tiled, (height, width, 3) in [0, 1]; of a graph its adjacency."""
    if distilled.adjacency is not None:
        return adjacency_picture(distilled)
    return _tiled([row.images for row in sheet_of(distilled).rows])


def _tiled(rows: list[list[np.ndarray | None]]) -> np.ndarray:
    """Images (H, W, 3), or None for a gap, side by side and one row below another."""
    first = next(image for row in rows for image in row if image is not None)
    every = -(-max(first.shape[:2]) // MAX_SIDE)
    height, width = first[::every, ::every].shape[:2]
    pitch = height + _GAP, width + _GAP
    sheet = np.full((pitch[0] * len(rows) - _GAP, pitch[1] * len(rows[0]) - _GAP, 3), _PAPER)
    for down, row in enumerate(rows):
        for right, image in enumerate(row):
            if image is not None:
                top, left = down * pitch[0], right * pitch[1]
                sheet[top : top + height, left : left + width] = image[::every, ::every]
    return sheet
