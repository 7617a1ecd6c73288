"""Figures of a run: the distilled images, the accuracy while they were learnt, their step sizes.

Functions named ..._figure draw, without pyplot, so that no global state is read or left behind; `save_png`, `svg` and
the savers below make files or text of what they drew.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dd_jax.runs.figures.encode import save_png
from dd_jax.runs.figures.graph import graph_figure
from dd_jax.runs.figures.plots import curve_figure, steps_figure
from dd_jax.runs.figures.sheet import images_figure
from dd_jax.types import DistilledData

__all__ = ["save_curve", "save_images", "save_steps"]


def save_images(path: str | Path, distilled: DistilledData) -> None:
    """Save the sheet of `images_figure`; of a graph its drawing, `graph_figure`."""
    save_png(path, images_figure(distilled) if distilled.adjacency is None else graph_figure(distilled))


def save_curve(
    path: str | Path, history: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], what: str = "Accuracy"
) -> None:
    """Save the plot of `curve_figure`."""
    save_png(path, curve_figure(history, baselines, what))


def save_steps(path: str | Path, step_sizes: Any) -> None:
    """Save the bars of `steps_figure` for the `step_sizes` (T,)."""
    save_png(path, steps_figure(step_sizes))
