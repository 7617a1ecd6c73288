"""The distilled images, arranged: which of them are shown, their contrast, and a figure of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dd_jax.figures.plots import DPI, FAINT, FONT, INK
from dd_jax.types import DistilledData

MAX_ROWS, MAX_COLUMNS = 12, 20  # of images on a sheet; more can't be read
CONTRAST_PERCENTILE = 98.0  # of the deviations from an image's mean: goes to black or white
CONTRAST_NOTE = "grey: the mean of an image; its contrast is stretched\nevenly to both sides"
STEP_SIZE_NOTE = "; η: the step size"

_CELL = 0.46  # inches, side of an image on the sheet


class SheetRow(NamedTuple):
    """Images (H, W, 3) in [0, 1] of one step, one for each column, None where there is none.

    Attributes:
        step: counted from 0.
        step_sizes: one for each epoch, if they were learnt.
        first: whether it is the first row of its step.
    """

    step: int
    step_sizes: tuple[float, ...]
    first: bool
    images: list[np.ndarray | None]


class Sheet(NamedTuple):
    """Images of a distilled set in the order in which they are shown.

    Attributes:
        names: of the classes, one for each column.
        left_out: what isn't shown, in words, or "".
    """

    names: list[str]
    rows: list[SheetRow]
    left_out: str


def sheet_of(distilled: DistilledData, max_rows: int = MAX_ROWS, max_columns: int = MAX_COLUMNS) -> Sheet:
    """A column for each class, a row for each step (several if it has several images of a class).

    Evenly spread steps are shown where there are more than fit into `max_rows`. Images with soft labels stand in
    the column of the largest. The contrast of every image is stretched on its own, so that what it
    consists of can be seen: brightnesses can't be compared between images.
    """
    shown_as = distilled.parameterisation.kind.shown
    distilled = distilled if shown_as is None else shown_as(distilled)
    labels = np.asarray(distilled.labels)
    classes = labels.argmax(-1) if labels.ndim == 3 else labels
    num_classes = len(distilled.class_names) or int(classes.max()) + 1
    columns, shown = range(min(num_classes, max_columns)), _shown_steps(classes, max_rows)
    pixels = dict(zip(shown, _pixels(distilled, shown), strict=True))
    sizes = np.asarray(distilled.step_sizes)[: 0 if distilled.protocol.from_scratch else None]
    rows = [
        SheetRow(
            step,
            tuple(sizes[step :: distilled.num_batches].tolist()),
            index == 0,
            [None if image is None else _stretched(pixels[step][image]) for image in images],
        )
        for step in shown
        for index, images in enumerate(_rows_of(classes[step], columns, max_rows))
    ]
    names = [distilled.class_names[c] if distilled.class_names else str(c) for c in columns]
    return Sheet(names, rows, _left_out(classes, shown, num_classes, len(columns), max_rows))


def images_figure(distilled: DistilledData) -> Any:
    """The images of `sheet_of`, with the classes above them and the steps and their sizes beside them."""
    sheet = sheet_of(distilled)
    captions = [_caption(row) for row in sheet.rows]
    title = "Distilled images" + (f" ({sheet.left_out})" if sheet.left_out else "")
    note = CONTRAST_NOTE + STEP_SIZE_NOTE
    return draw_rows([row.images for row in sheet.rows], sheet.names, captions, title, note)


def _shown_steps(classes: np.ndarray, max_rows: int = MAX_ROWS) -> list[int]:
    """Evenly spread steps, the first and the last among them, as many as fit on the sheet."""
    per_step = max(int(np.bincount(row).max()) for row in classes)
    count = max(2, max_rows // per_step)
    return sorted({int(step) for step in np.linspace(0, len(classes) - 1, min(count, len(classes))).round()})


def _rows_of(classes: np.ndarray, columns: Sequence[int], max_rows: int) -> list[list[int | None]]:
    """The rows of one step: for each column the index of an image of that class, or None."""
    of_class = [np.flatnonzero(classes == column)[:max_rows].tolist() for column in columns]
    height = max(1, *(len(images) for images in of_class))
    return [[images[row] if row < len(images) else None for images in of_class] for row in range(height)]


def _caption(row: SheetRow) -> str:
    return f"step {row.step + 1}\nη {_ends(row.step_sizes)}" if row.first and row.step_sizes else ""


def _ends(sizes: Sequence[float]) -> str:
    """The step sizes of a step: one number, or the first and the last of several epochs."""
    return f"{sizes[0]:.2g}" if len(sizes) == 1 else f"{sizes[0]:.2g} … {sizes[-1]:.2g}"


def _left_out(classes: np.ndarray, shown: Sequence[int], num_classes: int, shown_classes: int, max_rows: int) -> str:
    parts = []
    if len(shown) < len(classes):
        parts.append(f"{len(shown)} of {len(classes)} steps")
    if shown_classes < num_classes:
        parts.append(f"the first {shown_classes} of {num_classes} classes")
    per_class = max(int(np.bincount(classes[step]).max()) for step in shown)
    if per_class > max_rows:
        parts.append(f"{max_rows} of {per_class} images of a class")
    return ", ".join(parts)


def _pixels(distilled: DistilledData, steps: Sequence[int]) -> np.ndarray:
    """The images of these steps in [0, 1], or in model space where there is no transform."""
    from dd_jax.data.transforms import to_pixels

    images = np.asarray(distilled.images)[list(steps)]
    return images if distilled.transform is None else np.asarray(to_pixels(distilled.transform, images))


def _stretched(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) with its mean at mid-grey and the same distance from there to black and to white."""
    centred = np.nan_to_num(image - image.mean())
    reach = np.percentile(np.abs(centred), CONTRAST_PERCENTILE)
    grey_or_rgb = np.clip(0.5 + 0.5 * centred / max(reach, 1e-6), 0, 1)
    if grey_or_rgb.shape[-1] not in (1, 3):
        grey_or_rgb = grey_or_rgb.mean(-1, keepdims=True)
    return np.broadcast_to(grey_or_rgb, (*image.shape[:2], 3))


def draw_rows(
    cells: Sequence[Sequence[Any]], names: Sequence[str], captions: Sequence[str], title: str, note: str = CONTRAST_NOTE
) -> Any:
    """Rows of images (H, W, 3) in [0, 1], None for a gap: a name above each column, a caption beside each row."""
    from matplotlib.figure import Figure

    slanted = max(map(len, names)) > 7
    left, top, bottom, right = 1.15, 0.42 + (0.5 if slanted else 0.2), 0.42, 0.35 if slanted else 0.12
    pitch, gap = _CELL, 0.035
    width, height = max(left + pitch * len(names) + right, 3.6), top + pitch * len(cells) + bottom
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
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
            ha="right", va="center", fontsize=FONT - 1, color=INK, linespacing=1.3,
        )  # fmt: skip
    for column, name in enumerate(names):
        style: dict[str, Any] = {"rotation": 35, "ha": "left"} if slanted else {"ha": "center"}
        x = left + pitch * (column + (0.35 if slanted else 0.46))
        y = 1 - (top - 0.05) / height
        figure.text(x / width, y, name, va="bottom", fontsize=FONT, color=INK, parse_math=False, **style)
    figure.text(0.1 / width, 1 - 0.1 / height, title, va="top", fontsize=FONT + 2, fontweight="bold", color=INK)
    below_all: dict[str, Any] = {"va": "bottom", "fontsize": FONT - 2, "color": FAINT, "linespacing": 1.3}
    figure.text(0.1 / width, 0.1 / height, note, **below_all)
    return figure


def _enlarged(image: np.ndarray) -> np.ndarray:
    """Whole pixels, so that the edges stay sharp when the sheet is drawn."""
    factor = max(1, round(2 * _CELL * DPI / image.shape[0]))
    return image.repeat(factor, axis=0).repeat(factor, axis=1)
