"""The figures of a run as files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.figures.encode import figure_png, png, png_pixels
from dd_jax.figures.evolution import frame
from dd_jax.figures.plots import curve_figure, steps_figure
from dd_jax.figures.sheet import images_figure
from dd_jax.storage.files import disk_errors, write_bytes
from dd_jax.types import DistilledData


def save_images(path: str | Path, distilled: DistilledData) -> None:
    """Save the sheet of `images_figure`, or what the parameterisation draws in its place."""
    pictures = distilled.parameterisation.kind.pictures
    save_png(path, images_figure(distilled) if pictures is None else pictures.figure(distilled))


def save_curve(
    path: str | Path, history: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], what: str = "Accuracy"
) -> None:
    """Save the plot of `curve_figure`."""
    save_png(path, curve_figure(history, baselines, what))


def save_steps(path: str | Path, step_sizes: Any) -> None:
    """Save the bars of `steps_figure` for the `step_sizes` (T,)."""
    save_png(path, steps_figure(step_sizes))


def save_frame(folder: str | Path, step: int, distilled: DistilledData) -> None:
    """Save the images of `sheet_of` as they are after outer step `step`, pixel by pixel, as step_00000100.png.

    A column for each class, a row for each inner step; each image's contrast is stretched on its own.

    Raises:
        RunError: if the disk refuses.
    """
    path = Path(folder) / f"step_{step:08d}.png"
    with disk_errors("save the picture", path):
        write_bytes(path, png(frame(distilled)))


def read_frames(folder: str | Path) -> list[np.ndarray]:
    """The pictures of `save_frame` in a folder, in the order of their outer steps: each (H, W, 3), NaN where empty."""
    return [png_pixels(path.read_bytes()) for path in sorted(Path(folder).glob("step_*.png"))]


def save_png(path: str | Path, figure: Any) -> None:
    """Save a matplotlib figure as PNG.

    Raises:
        RunError: if the disk refuses.
    """
    data = figure_png(figure)
    with disk_errors("save the figure", path):
        write_bytes(path, data)
