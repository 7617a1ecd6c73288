"""A small sheet of the distilled images at every validation, to see how they became what they are."""

import numpy as np

from dd_jax.figures.sheet import sheet_of
from dd_jax.types import DistilledData

MAX_SIDE = 64  # pixels of an image; larger ones are shown by every second pixel, or fewer

_GAP = 1  # pixel between images


def frame(distilled: DistilledData) -> np.ndarray:
    """The images of `sheet_of` tiled, or what the parameterisation shows instead.

    Returns (height, width, 3) in [0, 1], and NaN where there is no image: the page shines through.
    """
    pictures = distilled.parameterisation.kind.pictures
    if pictures is not None:
        return pictures.small(distilled)
    return _tiled([row.images for row in sheet_of(distilled).rows])


def _tiled(rows: list[list[np.ndarray | None]]) -> np.ndarray:
    """Images (H, W, 3), or None for a gap, side by side and one row below another."""
    first = next(image for row in rows for image in row if image is not None)
    every = -(-max(first.shape[:2]) // MAX_SIDE)
    height, width = first[::every, ::every].shape[:2]
    pitch = height + _GAP, width + _GAP
    sheet = np.full((pitch[0] * len(rows) - _GAP, pitch[1] * len(rows[0]) - _GAP, 3), np.nan)
    for down, row in enumerate(rows):
        for right, image in enumerate(row):
            if image is not None:
                top, left = down * pitch[0], right * pitch[1]
                sheet[top : top + height, left : left + width] = image[::every, ::every]
    return sheet
