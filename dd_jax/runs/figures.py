"""Figures of a run: the distilled images, the accuracy while they were learnt, their step sizes.

Drawn without pyplot, so no global state is read or left behind. Colours are those of Okabe and Ito,
which people with any kind of colour vision can tell apart.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.runs.files import disk_errors, write_bytes
from dd_jax.types import DistilledData

MAX_ROWS, MAX_COLUMNS = 12, 20  # of images on a sheet; more can't be read
CONTRAST_PERCENTILE = 98.0  # of the deviations from an image's mean: goes to black or white

_DPI = 160
_FONT = 8.0  # points
_CELL = 0.46  # inches, side of an image on the sheet
_INK, _FAINT = "#222222", "#8a8a8a"
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#E69F00")


def save_images(path: str | Path, distilled: DistilledData) -> None:
    """Save a sheet of the images: a column for each class, a row for each step (several if it has several).

    Evenly spread steps are shown where there are more than `MAX_ROWS`. Images with soft labels stand in
    the column of the largest. The contrast of every image is stretched on its own, so that what it
    consists of can be seen: brightnesses can't be compared between images.
    """
    labels = np.asarray(distilled.labels)
    classes = labels.argmax(-1) if labels.ndim == 3 else labels
    num_classes = len(distilled.class_names) or int(classes.max()) + 1
    columns, shown = range(min(num_classes, MAX_COLUMNS)), _shown_steps(classes)
    rows = [(step, images) for step in shown for images in _rows_of(classes[step], columns)]
    names = [distilled.class_names[c] if distilled.class_names else str(c) for c in columns]
    captions = [
        f"step {step + 1}\nη {_sizes(distilled, step)}" if index == 0 or rows[index - 1][0] != step else ""
        for index, (step, _) in enumerate(rows)
    ]
    title = _sheet_title(distilled.num_steps, len(shown), num_classes, len(columns))
    _save(path, _sheet(_stretched_sheet(distilled, rows), names, captions, title))


def save_curve(
    path: str | Path, history: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], what: str = "Accuracy"
) -> None:
    """Save the validation accuracy against the outer step, with baselines as horizontal lines.

    history: rows with "step", "validation" and, for the band, "validation_std" (fractions); rows without
        "validation" are left out, so the rows of `read_metrics` will do.
    baselines: name -> mean accuracy, a fraction. what: what is measured, in the title.
    """
    rows = [row for row in history if row.get("validation") is not None]
    steps = np.array([row["step"] for row in rows])
    mean = 100 * np.array([row["validation"] for row in rows], float)
    std = 100 * np.array([row.get("validation_std") or 0.0 for row in rows], float)
    lines = [(f"{name} {100 * value:.1f} %", 100 * value, colour) for (name, value), colour in _coloured(baselines)]
    if len(mean):
        lines.append((f"distilled {mean[-1]:.1f} %", mean[-1], _COLOURS[0]))
    beside = 0.3 + 0.066 * max((len(text) for text, _, _ in lines), default=0)  # inches; a letter is that wide
    figure, axes = _plot(4.65 + beside, 3.6, right=beside)
    axes.fill_between(steps, mean - std, mean + std, color=_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=_COLOURS[0], linewidth=1.8, marker="o" if len(steps) < 15 else None, markersize=3.5)
    for _, level, colour in lines[: len(baselines)]:
        axes.axhline(level, color=colour, linewidth=1.2, linestyle=(0, (5, 2.5)))
    if len(mean):
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    _fit_heights(axes, [*(mean - std), *(mean + std), *(level for _, level, _ in lines)])
    _label_lines(axes, lines)
    axes.set_xlabel("outer step", fontsize=_FONT + 1, color=_INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_title(f"{what} on validation (dashed: baselines, on test)", **_title_style())
    _save(path, figure)


def save_steps(path: str | Path, step_sizes: Any) -> None:
    """Save a bar for each of the `step_sizes` (T,), in the order in which the steps are taken."""
    from matplotlib.ticker import MaxNLocator

    sizes = np.asarray(step_sizes, float)
    figure, axes = _plot(min(6.4, max(3.2, 1.2 + 0.28 * len(sizes))), 2.2, right=0.15)
    axes.bar(np.arange(1, len(sizes) + 1), sizes, width=0.8, color=_COLOURS[0], linewidth=0)
    axes.set_xlim(0.4, len(sizes) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("inner step", fontsize=_FONT + 1, color=_INK)
    axes.set_title("Learnt step sizes", **_title_style())
    _save(path, figure)


# The sheet of images.


def _shown_steps(classes: np.ndarray) -> list[int]:
    """Evenly spread steps, the first and the last among them, as many as fit on the sheet."""
    per_step = max(int(np.bincount(row).max()) for row in classes)
    count = max(2, MAX_ROWS // per_step)
    return sorted({int(step) for step in np.linspace(0, len(classes) - 1, min(count, len(classes))).round()})


def _rows_of(classes: np.ndarray, columns: Sequence[int]) -> list[list[int | None]]:
    """The rows of one step: for each column the index of an image of that class, or None."""
    of_class = [np.flatnonzero(classes == column)[:MAX_ROWS].tolist() for column in columns]
    height = max(1, *(len(images) for images in of_class))
    return [[images[row] if row < len(images) else None for images in of_class] for row in range(height)]


def _sizes(distilled: DistilledData, step: int) -> str:
    """The step sizes of a step: one number, or the first and the last of several epochs."""
    sizes = np.asarray(distilled.step_sizes)[step :: distilled.num_steps]
    return f"{sizes[0]:.2g}" if len(sizes) == 1 else f"{sizes[0]:.2g} … {sizes[-1]:.2g}"


def _sheet_title(num_steps: int, shown_steps: int, num_classes: int, shown_classes: int) -> str:
    parts = []
    if shown_steps < num_steps:
        parts.append(f"{shown_steps} of {num_steps} steps")
    if shown_classes < num_classes:
        parts.append(f"the first {shown_classes} of {num_classes} classes")
    return "Distilled images" + (f" ({', '.join(parts)})" if parts else "")


def _stretched_sheet(distilled: DistilledData, rows: Sequence[tuple[int, list[int | None]]]) -> list[list[Any]]:
    from dd_jax.data.transforms import to_pixels

    steps = sorted({step for step, _ in rows})
    images = np.asarray(distilled.images)[steps]
    pixels = images if distilled.transform is None else np.asarray(to_pixels(distilled.transform, images))
    return [[None if i is None else _stretched(pixels[steps.index(step), i]) for i in row] for step, row in rows]


def _stretched(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) with its mean at mid-grey and the same distance from there to black and to white."""
    centred = np.nan_to_num(image - image.mean())
    reach = np.percentile(np.abs(centred), CONTRAST_PERCENTILE)
    grey_or_rgb = np.clip(0.5 + 0.5 * centred / max(reach, 1e-6), 0, 1)
    if grey_or_rgb.shape[-1] not in (1, 3):
        grey_or_rgb = grey_or_rgb.mean(-1, keepdims=True)
    return np.broadcast_to(grey_or_rgb, (*image.shape[:2], 3))


def _sheet(cells: list[list[Any]], names: Sequence[str], captions: Sequence[str], title: str) -> Any:
    from matplotlib.figure import Figure

    slanted = max(map(len, names)) > 7
    left, top, bottom, right = 1.15, 0.42 + (0.5 if slanted else 0.2), 0.42, 0.35 if slanted else 0.12
    pitch, gap = _CELL, 0.035
    width, height = max(left + pitch * len(names) + right, 3.6), top + pitch * len(cells) + bottom
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    for row, images in enumerate(cells):
        below = height - top - pitch * (row + 1)
        for column, image in enumerate(images):
            if image is not None:
                box = (left + pitch * column, below + gap, pitch - gap, pitch - gap)
                axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
                axes.imshow(_enlarged(image), interpolation="nearest")
                axes.set_axis_off()
        figure.text(
            (left - 0.08) / width, (below + pitch / 2) / height, captions[row],
            ha="right", va="center", fontsize=_FONT - 1, color=_INK, linespacing=1.3,
        )  # fmt: skip
    for column, name in enumerate(names):
        style: dict[str, Any] = {"rotation": 35, "ha": "left"} if slanted else {"ha": "center"}
        x = left + pitch * (column + (0.35 if slanted else 0.46))
        figure.text(x / width, 1 - (top - 0.05) / height, name, va="bottom", fontsize=_FONT, color=_INK, **style)
    figure.text(0.1 / width, 1 - 0.1 / height, title, va="top", fontsize=_FONT + 2, fontweight="bold", color=_INK)
    note = "grey: the mean of an image; its contrast is stretched\nevenly to both sides; η: the step size"
    figure.text(0.1 / width, 0.1 / height, note, va="bottom", fontsize=_FONT - 2, color=_FAINT, linespacing=1.3)
    return figure


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Whole pixels, so that the edges stay sharp when the sheet is drawn."""
    factor = max(1, round(2 * _CELL * _DPI / image.shape[0]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)


# Plots.


def _plot(width: float, height: float, right: float) -> tuple[Any, Any]:
    """A figure of width x height inches with bare axes, leaving `right` inches free beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    left, bottom, top = 0.62, 0.48, 0.36
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_FAINT)
    axes.tick_params(labelsize=_FONT, colors=_FAINT, labelcolor=_INK, length=3)
    axes.grid(axis="y", color="#e8e8e8", linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def _title_style() -> dict[str, Any]:
    return {"loc": "left", "fontsize": _FONT + 2, "fontweight": "bold", "color": _INK}


def _coloured(baselines: Mapping[str, float]) -> list[tuple[tuple[str, float], str]]:
    colours = _COLOURS[1:]
    return [(item, colours[index % len(colours)]) for index, item in enumerate(baselines.items())]


def _fit_heights(axes: Any, heights: Sequence[float]) -> None:
    """From just below the lowest to just above the highest, within what accuracies in per cent can be."""
    if heights:
        margin = max(2.0, 0.06 * (max(heights) - min(heights)))
        axes.set_ylim(max(0.0, min(heights) - margin), min(100.5, max(heights) + margin))


def _label_lines(axes: Any, lines: Sequence[tuple[str, float, str]]) -> None:
    """Write each line's text beside its right end; texts that would overlap are moved apart."""
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_size_inches()[1]
    ordered = sorted(lines, key=lambda line: line[1])
    ends = [(level - low) / (high - low) for _, level, _ in ordered]
    for (text, _, colour), end, at in zip(ordered, ends, _spread(ends, 1.35 * _FONT / 72 / inches), strict=True):
        axes.annotate(
            text, xy=(1, end), xytext=(1.045, at), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=_FONT, color=colour, annotation_clip=False,
            arrowprops=leader | {"color": colour},
        )  # fmt: skip


def _spread(positions: Sequence[float], gap: float) -> list[float]:
    """The sorted `positions` moved as little as leaves `gap` between neighbours (isotonic regression)."""
    blocks: list[list[float]] = []  # [sum of the members' (position - index * gap), number of members]
    for index, position in enumerate(positions):
        blocks.append([position - index * gap, 1])
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, count = blocks.pop()
            blocks[-1] = [blocks[-1][0] + total, blocks[-1][1] + count]
    bases = [total / count for total, count in blocks for _ in range(int(count))]
    return [base + index * gap for index, base in enumerate(bases)]


def _save(path: str | Path, figure: Any) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer, metadata={"Software": None})  # or the bytes would tell the version
    with disk_errors("save the figure", path):
        write_bytes(path, buffer.getvalue())
