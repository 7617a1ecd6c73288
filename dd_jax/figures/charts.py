"""Charts for a page: all of one width, legible when they are shown as small as on a phone, without titles."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dd_jax.figures.plots import COLOURS, FAINT, GRID, INK, bare_axes, fit_heights

WIDTH = 4.2  # inches
FONT = 11.0  # points

_LINES: tuple[Any, ...] = ("solid", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))  # told apart without colours too
_ROW = 0.27  # inches, of a bar or of a line of text
_STEPS = [1, 2, 5, 10]  # between numbers on axes
_LETTER = 0.084  # inches, about
_LONGEST = 24  # letters of a name, then it is cut


class Series(NamedTuple):
    """A line: name in the legend, x (P,), mean (P,) and, for a band around it, std (P,)."""

    name: str
    x: Sequence[float]
    mean: Sequence[float]
    std: Sequence[float] | None = None


class Bar(NamedTuple):
    """A bar with its error bar. kind: "ours", "rival" (both filled) or "other" (outlined). text: stands beside it."""

    name: str
    mean: float
    std: float
    kind: str
    text: str


def lines_figure(
    series: Sequence[Series],
    xlabel: str,
    *,
    per_cent: bool = True,
    log: bool = False,
    level: tuple[str, float] | None = None,
    marks: Sequence[tuple[float, float]] = (),
    events: Sequence[float] = (),
) -> Any:
    """Lines over each other.

    Args:
        per_cent: the values are fractions, shown in per cent.
        level: name and height of a dashed horizontal line.
        marks: points (x, y) with a ring around them.
        events: where vertical lines stand.
    """
    scale = 100.0 if per_cent else 1.0
    named = [one for one in series if one.name]
    entries = len(named) + (level is not None)
    below = 0.46 + _ROW * entries + (0.06 if entries else 0)
    figure, axes = bare_axes(WIDTH, 2.35 + below - 0.46, left=0.66, right=0.2, top=0.12, bottom=below, font=FONT)
    heights: list[float] = []
    for index, one in enumerate(series):
        x, mean = np.asarray(one.x, float), scale * np.asarray(one.mean, float)
        std = np.zeros_like(mean) if one.std is None else scale * np.asarray(one.std, float)
        colour, style = COLOURS[index % len(COLOURS)], _LINES[index % len(_LINES)]
        if std.any():
            axes.fill_between(x, mean - std, mean + std, color=colour, alpha=0.2, linewidth=0)
        marker = "o" if len(x) < 15 else None
        axes.plot(x, mean, color=colour, linewidth=1.8, linestyle=style, marker=marker, markersize=4)
        heights += [*(mean - std), *(mean + std)]
        if one.name:
            _legend(figure, named.index(one), entries, one.name, colour, style)
    if level is not None:
        axes.axhline(scale * level[1], color=INK, linewidth=1.1, linestyle=(0, (4, 3)))
        _legend(figure, len(named), entries, level[0], INK, (0, (4, 3)))
        heights.append(scale * level[1])
    for event in events:
        axes.axvline(event, color=COLOURS[1], linewidth=1, linestyle=(0, (1, 1.5)))
    ring: dict[str, Any] = {"markersize": 9, "color": COLOURS[1], "markerfacecolor": "none", "clip_on": False}
    for at, height in marks:
        axes.plot([at], [scale * height], marker="o", **ring)
    _set_ranges(axes, series, [height for height in heights if np.isfinite(height)], per_cent, log)
    axes.set_xlabel(xlabel, fontsize=FONT, color=INK, labelpad=2)
    return figure


def bars_figure(bars: Sequence[Bar]) -> Any:
    """Horizontal bars of fractions from 0 to 1, in per cent, with error bars, the first one on top."""
    left = 0.12 + _LETTER * max(len(shortened(bar.name)) for bar in bars)
    right = 0.12 + _LETTER * max(len(bar.text) for bar in bars)
    figure, axes = bare_axes(WIDTH, _ROW * len(bars) + 0.34, left, right, top=0.04, bottom=0.3, font=FONT)
    colours = {"ours": COLOURS[0], "rival": FAINT, "other": FAINT}
    for row, bar in enumerate(bars):
        colour = colours[bar.kind]
        face = "none" if bar.kind == "other" else colour
        axes.barh(row, 100 * bar.mean, height=0.62, facecolor=face, edgecolor=colour, linewidth=1)
        if bar.std:
            low, high = max(0.0, 100 * (bar.mean - bar.std)), min(100.0, 100 * (bar.mean + bar.std))
            axes.plot([low, high], [row, row], color=INK, linewidth=1.3, solid_capstyle="butt")
            axes.plot([low, high], [row, row], color=INK, marker="|", markersize=6, linewidth=0)
        weight = "bold" if bar.kind == "ours" else "normal"
        place = {"va": "center", "fontsize": FONT, "color": INK, "fontweight": weight, "parse_math": False}
        axes.text(104, row, bar.text, **place)
        axes.text(-2, row, shortened(bar.name), ha="right", **place)
    axes.set_xlim(0, 100)
    axes.set_ylim(len(bars) - 0.5, -0.5)
    axes.set_yticks([])
    axes.set_xticks([0, 50, 100], ["0", "50", "100 %"])
    axes.grid(axis="y", visible=False)
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    return figure


def dots_figure(names: Sequence[str], series: Sequence[Series]) -> Any:
    """A row for each name, in it a dot for each of at most three series, whose x is ignored; fractions in per cent."""
    names = [shortened(name, 18) for name in names]
    left = 0.16 + _LETTER * max(len(name) for name in names)
    below = 0.34 + _ROW * len(series)
    figure, axes = bare_axes(WIDTH, _ROW * len(names) + below + 0.05, left, 0.25, top=0.05, bottom=below, font=FONT)
    values = 100 * np.array([one.mean for one in series], float)  # (series, names)
    known = values[np.isfinite(values)]
    for row in range(len(names)):
        ends = values[:, row][np.isfinite(values[:, row])]
        if len(ends):
            axes.plot([ends.min(), ends.max()], [row, row], color=FAINT, linewidth=1)
    for index, (one, marker) in enumerate(zip(series, "oDs", strict=False)):
        style = {"color": COLOURS[index], "marker": marker, "markersize": 6 if index == 0 else 4.5, "linewidth": 0}
        axes.plot(values[index], range(len(names)), **style)
        _legend(figure, index, len(series), one.name, COLOURS[index], marker=marker)
    low = max(0.0, 10 * np.floor((known.min() if len(known) else 0) / 10 - 0.2))
    axes.set_xlim(low, 100 + 0.02 * (100 - low))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %" if value in (low, 100) else f"{value:g}")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    return figure


def heat_figure(matrix: np.ndarray) -> Any:
    """A square for each entry, in [0, 1], of a matrix (K, K): the fuller the colour the larger."""
    figure, axes = bare_axes(WIDTH, WIDTH, left=0.62, right=0.12, top=0.12, bottom=0.62, font=FONT)
    red, green, blue = (int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    pixels = np.empty((*matrix.shape, 4))
    pixels[..., :3] = red, green, blue
    pixels[..., 3] = np.sqrt(np.clip(np.nan_to_num(matrix), 0, 1))  # or small ones could not be seen
    axes.imshow(pixels, interpolation="nearest")
    axes.grid(visible=False)
    axes.set_xlabel("answer (number of the class)", fontsize=FONT, color=INK)
    axes.set_ylabel("true class", fontsize=FONT, color=INK)
    return figure


def matrix_figure(matrix: np.ndarray, xlabel: str, ylabel: str) -> Any:
    """A square with its number, in per cent, for each fraction of a matrix (N, M); NaN is left blank."""
    rows, columns = matrix.shape
    figure, axes = bare_axes(WIDTH, 0.6 + 0.42 * rows, left=0.62, right=0.12, top=0.08, bottom=0.52, font=FONT)
    red, green, blue = (int(COLOURS[0][i : i + 2], 16) / 255 for i in (1, 3, 5))
    pixels = np.empty((rows, columns, 4))
    pixels[..., :3] = red, green, blue
    pixels[..., 3] = 0.75 * np.clip(np.nan_to_num(matrix), 0, 1)
    axes.imshow(pixels, interpolation="nearest", aspect="auto")
    for (row, column), value in np.ndenumerate(matrix):
        if np.isfinite(value):
            axes.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=FONT, color=INK)
    axes.grid(visible=False)
    axes.set_xticks(range(columns), [str(i + 1) for i in range(columns)])
    axes.set_yticks(range(rows), [str(i + 1) for i in range(rows)])
    axes.set_xlabel(xlabel, fontsize=FONT, color=INK, labelpad=2)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK, labelpad=2)
    return figure


def scatter_figure(x: Sequence[float], y: Sequence[float], xlabel: str, ylabel: str) -> Any:
    """A dot for each pair of fractions, in per cent."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = bare_axes(WIDTH, 3.4, left=0.78, right=0.2, top=0.12, bottom=0.56, font=FONT)
    across, up = 100 * np.asarray(x, float), 100 * np.asarray(y, float)
    axes.plot(across, up, color=COLOURS[0], marker="o", markersize=4.5, alpha=0.7, linewidth=0)
    fit_heights(axes, up[np.isfinite(up)].tolist())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.grid(axis="x", color=GRID, linewidth=0.7)
    axes.set_xlabel(xlabel, fontsize=FONT, color=INK, labelpad=2)
    axes.set_ylabel(ylabel, fontsize=FONT, color=INK, labelpad=2)
    return figure


def shortened(name: str, longest: int = _LONGEST) -> str:
    """A name that has room in a chart: the middle is left out, as names that begin alike often end differently."""
    name, tail = " ".join(name.split()), longest // 3
    return name if len(name) <= longest else f"{name[: longest - tail - 1]}…{name[-tail:]}"


def _legend(
    figure: Any, index: int, count: int, name: str, colour: str, style: Any = "solid", marker: str | None = None
) -> None:
    """One line of the legend at the bottom of the figure, the last line lowest."""
    from matplotlib.lines import Line2D

    width, height = figure.get_size_inches()
    y = (0.1 + _ROW * (count - 1 - index)) / height
    place: dict[str, Any] = {"transform": figure.transFigure, "color": colour, "markersize": 6, "linewidth": 1.8}
    x = [0.2 / width] if marker else [0.08 / width, 0.34 / width]
    figure.add_artist(Line2D(x, [y] * len(x), linestyle="none" if marker else style, marker=marker, **place))
    text = {"va": "center", "fontsize": FONT, "color": INK, "parse_math": False}
    figure.text(0.42 / width, y, shortened(name, 44), **text)


def _set_ranges(axes: Any, series: Sequence[Series], heights: Sequence[float], per_cent: bool, log: bool) -> None:
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    ends = [float(x) for one in series for x in one.x]
    if ends:
        axes.set_xlim(min(0.0, *ends), max(1.0, *ends))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=_STEPS))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    if per_cent:
        fit_heights(axes, heights)
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    elif log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=8))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=_STEPS))
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.3g}")
