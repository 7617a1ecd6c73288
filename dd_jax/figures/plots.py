"""Plots of a run, each on axes of its own: the accuracy while the images were learnt, their step sizes."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

# Colours are those of Okabe and Ito, which people with any kind of colour vision can tell apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#222222", "#E69F00")
INK, FAINT, GRID = "#222222", "#8a8a8a", "#e8e8e8"
DPI = 160
FONT = 8.0  # points


def curve_figure(history: Sequence[Mapping[str, Any]], baselines: Mapping[str, float], what: str = "Accuracy") -> Any:
    """The validation accuracy against the outer step, with baselines as horizontal lines.

    Args:
        history: rows with "step", "validation" and, for the band, "validation_std" (fractions); rows without
            "validation" are left out, so the rows of `read_metrics` will do.
        baselines: name -> mean accuracy, a fraction.
        what: what is measured, in the title.
    """
    rows = [row for row in history if row.get("validation") is not None]
    steps = np.array([row["step"] for row in rows])
    mean = 100 * np.array([row["validation"] for row in rows], float)
    std = 100 * np.array([row.get("validation_std") or 0.0 for row in rows], float)
    lines = [(f"{name} {100 * value:.1f} %", 100 * value, colour) for (name, value), colour in _coloured(baselines)]
    if len(mean):
        lines.append((f"distilled {mean[-1]:.1f} %", mean[-1], COLOURS[0]))
    beside = 0.3 + 0.066 * max((len(text) for text, _, _ in lines), default=0)  # inches; a letter is that wide
    figure, axes = bare_axes(4.65 + beside, 3.6, right=beside)
    axes.fill_between(steps, mean - std, mean + std, color=COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(steps, mean, color=COLOURS[0], linewidth=1.8, marker="o" if len(steps) < 15 else None, markersize=3.5)
    for _, level, colour in lines[: len(baselines)]:
        axes.axhline(level, color=colour, linewidth=1.2, linestyle=(0, (5, 2.5)))
    if len(mean):
        axes.set_xlim(steps[0], max(steps[-1], steps[0] + 1))
    fit_heights(axes, [*(mean - std), *(mean + std), *(level for _, level, _ in lines)])
    _label_lines(axes, lines)
    axes.set_xlabel("outer step", fontsize=FONT + 1, color=INK)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    _set_title(axes, f"{what} on validation (dashed: baselines, on test)")
    return figure


def steps_figure(
    step_sizes: Any, width: float | None = None, font: float = FONT, title: str = "Learnt step sizes"
) -> Any:
    """A bar for each of the `step_sizes` (T,), in the order in which the steps are taken.

    Args:
        width: of the figure, in inches; None for what the number of bars needs.
        font: in points.
    """
    from matplotlib.ticker import MaxNLocator

    sizes = np.asarray(step_sizes, float)
    width = width or min(6.4, max(3.2, 1.2 + 0.28 * len(sizes)))
    figure, axes = bare_axes(width, 2.2, right=0.15, top=0.36 if title else 0.12, font=font)
    axes.bar(np.arange(1, len(sizes) + 1), sizes, width=0.8, color=COLOURS[0], linewidth=0)
    axes.set_xlim(0.4, len(sizes) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("inner step", fontsize=font + 1 if title else font, color=INK)
    _set_title(axes, title)
    return figure


# Plots.


def bare_axes(
    width: float,
    height: float,
    left: float = 0.62,
    right: float = 0.15,
    top: float = 0.36,
    bottom: float = 0.48,
    font: float = FONT,
) -> tuple[Any, Any]:
    """A figure of width x height inches with bare axes, leaving so many inches free beside them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(labelsize=font, colors=FAINT, labelcolor=INK, length=3)
    axes.grid(axis="y", color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def fit_heights(axes: Any, heights: Sequence[float]) -> None:
    """From just below the lowest to just above the highest, within what accuracies in per cent can be."""
    if heights:
        margin = max(2.0, 0.06 * (max(heights) - min(heights)))
        axes.set_ylim(max(0.0, min(heights) - margin), min(100.5, max(heights) + margin))


def _set_title(axes: Any, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=FONT + 2, fontweight="bold", color=INK, parse_math=False)


def _coloured(baselines: Mapping[str, float]) -> list[tuple[tuple[str, float], str]]:
    colours = COLOURS[1:]
    return [(item, colours[index % len(colours)]) for index, item in enumerate(baselines.items())]


def _label_lines(axes: Any, lines: Sequence[tuple[str, float, str]]) -> None:
    """Write each line's text beside its right end; texts that would overlap are moved apart."""
    leader = {"arrowstyle": "-", "linewidth": 0.7, "shrinkA": 2, "shrinkB": 0, "relpos": (0, 0.5)}
    low, high = axes.get_ylim()
    inches = axes.get_position().height * axes.figure.get_size_inches()[1]
    ordered = sorted(lines, key=lambda line: line[1])
    ends = [(level - low) / (high - low) for _, level, _ in ordered]
    for (text, _, colour), end, at in zip(ordered, ends, _spread(ends, 1.35 * FONT / 72 / inches), strict=True):
        axes.annotate(
            text, xy=(1, end), xytext=(1.045, at), xycoords="axes fraction", textcoords="axes fraction",
            va="center", fontsize=FONT, color=colour, annotation_clip=False, parse_math=False,
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
