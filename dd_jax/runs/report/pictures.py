"""The distilled images in a page, and how they evolved."""

import base64
import math
from collections.abc import Sequence

import numpy as np

from dd_jax.figures.encode import figure_png, png, png_size, smaller_png
from dd_jax.figures.sheet import Sheet, SheetRow, sheet_of
from dd_jax.parameterisation import Pictures
from dd_jax.runs.report.amounts import count
from dd_jax.runs.report.markup import Markup, element, join, scroll
from dd_jax.types import DistilledData

MAX_TILES = 120  # images of a set that is shown as one gallery
MAX_PIXELS = 500_000  # of all the images of a sheet together: about two megabytes of page at worst
MAX_FRAMES = 30
MAX_FRAME_BYTES = 2_000_000  # of all the frames together

_GALLERY_CLASSES = 5  # from so many classes on, a set of one image each is a gallery
_PRINTED = 6  # frames on paper
_NARROWEST, _WIDEST = 48, 120  # pixels of the page that an image gets where there is room
_NARROW_COLUMNS = 12
_HALF_PAGE, _TALL = 400, 600  # pixels of the page: a card's width, and where it is higher than a chart's
_BROAD = 2.5
_GREY_SAVES = 3.0  # as many times smaller grey frames may become that were written in colour


def images(distilled: DistilledData, share: float = 1.0) -> Markup:
    """The images: a column for each class and a row for each step, or a gallery where there is one row.

    Args:
        share: of `MAX_PIXELS`, where a page has several sets. What is no sheet of images its parameterisation draws.
    """
    pictures = distilled.parameterisation.kind.pictures
    if pictures is not None:
        return drawn(distilled, pictures)
    if _is_gallery(distilled):
        sheet = sheet_of(distilled, max_columns=MAX_TILES)
        shown = _gallery(sheet, _side(sheet, share))
    else:
        sheet = sheet_of(distilled)
        shown = _grid(sheet, _side(sheet, share))
    says = "Grey is the mean of an image; its contrast is stretched evenly to both sides. " + _sizes(distilled)
    left_out = f" Shown: {sheet.left_out}." if sheet.left_out else ""
    return join([shown, element("p", says + left_out, class_="note")])


def _sizes(distilled: DistilledData) -> str:
    """What η is beside the rows; of a gallery, which has none, the step sizes themselves; "" where none were learnt."""
    if distilled.protocol.from_scratch:
        return ""
    several = distilled.num_epochs > 1
    if not _is_gallery(distilled):
        return "η: the step size in the first and the last epoch." if several else "η: the step size."
    first, last = (f"{float(distilled.step_sizes[end]):.2g}" for end in (0, -1))
    return f"Step size: {first} in the first epoch, {last} in the last." if several else f"Step size: {first}."


def is_narrow(distilled: DistilledData) -> bool:
    """Whether the images need no more than half of a page; a drawing needs all of it."""
    if distilled.parameterisation.kind.pictures is not None:
        return False
    small = max(distilled.images.shape[2:4]) < _WIDEST / 2
    return small and len(distilled.class_names) <= _NARROW_COLUMNS and not _is_gallery(distilled)


def is_tall(distilled: DistilledData) -> bool:
    """Whether narrow images are as high as two charts."""
    rows = len(sheet_of(distilled).rows)
    return rows * _column(len(distilled.class_names), distilled.images.shape[2]) > _TALL


def _column(columns: int, pixels: int) -> int:
    """Pixels of the page that a column gets where there is room: more where there are few."""
    return min(_WIDEST, max(_NARROWEST, 2 * pixels, _HALF_PAGE // columns))


def glimpse(distilled: DistilledData, share: float) -> Markup:
    """A few of the images, to be put next to those of other sets, or a small drawing."""
    pictures = distilled.parameterisation.kind.pictures
    if pictures is not None:
        return element("figure", _image(png(pictures.small(distilled)), pictures.small_words))
    sheet = sheet_of(distilled, max_rows=3, max_columns=10)
    left_out = element("p", f"Shown: {sheet.left_out}.", class_="note") if sheet.left_out else None
    return join([_grid(sheet, _side(sheet, share)), left_out])


def drawn(distilled: DistilledData, pictures: Pictures) -> Markup:
    """What a parameterisation draws of a set, with what is to be known of it."""
    drawing = _image(figure_png(pictures.figure(distilled)), pictures.words(distilled), "image-rendering:auto")
    return join([element("figure", drawing), element("p", pictures.note(distilled), class_="note")])


def evolution(frames: Sequence[tuple[int, bytes]], distilled: DistilledData | None) -> Markup:
    """Frames (outer step, PNG) as a strip that a script makes a player of.

    Args:
        distilled: the set that became of them, if there is one.
    """
    shown = [
        frames[i] for i in sorted({round(i) for i in np.linspace(0, len(frames) - 1, min(len(frames), MAX_FRAMES))})
    ]
    shown, factor = _within_limit(shown)
    kept = {round(i) for i in np.linspace(0, len(shown) - 1, _PRINTED)}
    strip = [
        element(
            "figure",
            _image(data, f"{_framed(distilled)} after outer step {step:,}", f"--aspect:{min(_aspect(data), 30):.3g}"),
            element("figcaption", f"outer step {step:,}"),
            class_=None if index in kept else "unprinted",
        )
        for index, (step, data) in enumerate(shown)
    ]
    controls = element(
        "div",
        element("button", "Play", type="button"),
        element("input", type="range", min=0, max=len(shown) - 1, value=len(shown) - 1, aria_label="Outer step"),
        element("output", aria_live="off"),
        class_="controls",
        hidden=True,
    )
    says = _rows_say(distilled)
    if len(shown) < len(frames):
        says += f" Shown: {len(shown)} of {count(len(frames), 'frame')}."
    if factor > 1:
        says += f" Reduced to 1/{factor} of their size."
    strip_box = element("div", *strip, class_="strip", tabindex="0", role="region", aria_label="How the images evolved")
    return join([element("div", controls, strip_box, class_="evolution"), element("p", says, class_="note")])


def _framed(distilled: DistilledData | None) -> str:
    """What a frame shows."""
    pictures = None if distilled is None else distilled.parameterisation.kind.pictures
    return "Distilled images" if pictures is None else pictures.small_words


def _rows_say(distilled: DistilledData | None) -> str:
    """What columns and rows of a frame are."""
    if distilled is None:
        return "Columns are classes."
    if distilled.parameterisation.kind.pictures is not None:
        return f"{_framed(distilled)}."
    steps, most = distilled.num_batches, max(counts_of_classes(distilled, 0))
    if steps == 1:
        return "Columns are classes." if most == 1 else f"Columns are classes, rows are the {most} images of each."
    what = "batches" if distilled.protocol.order == "random" else "steps"
    return f"Columns are classes, rows are {what}" + (f", {most} images of a class in each." if most > 1 else ".")


def counts_of_classes(distilled: DistilledData, step: int | None = None) -> list[int]:
    """How many images each class has, in one step or in all; with a soft label they count as of its largest class."""
    labels = np.asarray(distilled.labels if step is None else distilled.labels[step : step + 1])
    classes = labels.argmax(-1) if labels.ndim == 3 else labels
    return np.bincount(classes.ravel(), minlength=len(distilled.class_names) or 1).tolist()


def is_broad(frames: Sequence[tuple[int, bytes]]) -> bool:
    """Whether frames are much wider than high."""
    return any(_aspect(data) > _BROAD for _, data in frames)


def _within_limit(frames: list[tuple[int, bytes]]) -> tuple[list[tuple[int, bytes]], int]:
    """Frames that together are no more than `MAX_FRAME_BYTES`, and by which factor they had to be reduced."""
    excess = _excess(frames)
    if 1 < excess <= _GREY_SAVES:
        frames = [(step, smaller_png(data, 1)) for step, data in frames]
        excess = _excess(frames)
    factor = math.ceil(math.sqrt(excess))
    return (frames if factor == 1 else [(step, smaller_png(data, factor)) for step, data in frames]), factor


def _excess(frames: Sequence[tuple[int, bytes]]) -> float:
    """How many times as large frames are together as they may be; at least 1."""
    return max(1.0, sum(len(data) for _, data in frames) / MAX_FRAME_BYTES)


def _aspect(data: bytes) -> float:
    width, height = png_size(data) or (1, 1)
    return width / height


def data_uri(data: bytes) -> str:
    """A PNG as the address of an image."""
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _is_gallery(distilled: DistilledData) -> bool:
    steps, batch = distilled.labels.shape[:2]
    return steps == 1 and batch == len(distilled.class_names) >= _GALLERY_CLASSES


def _image(data: bytes, alt: str, style: str | None = None) -> Markup:
    width, height = png_size(data) or (None, None)
    return element("img", src=data_uri(data), alt=alt, width=width, height=height, style=style)


def _side(sheet: Sheet, share: float) -> int:
    """The longest side that images may have, so that all of them together stay within the limit."""
    number = sum(image is not None for row in sheet.rows for image in row.images)
    return max(8, math.isqrt(int(MAX_PIXELS * share / max(1, number))))


def _grid(sheet: Sheet, side: int) -> Markup:
    """A table of images. Its roles are spelled out, as on a narrow page it is laid out as another thing."""
    titles = [None, *sheet.names]
    first = "step" if any(row.step_sizes for row in sheet.rows) else ""
    above = [
        element("th", name, scope="col", role="columnheader", title=title)
        for name, title in zip((first, *sheet.names), titles, strict=True)
    ]
    head = element("thead", element("tr", *above, role="row"), role="rowgroup")
    lines = []
    for index, row in enumerate(sheet.rows):
        cells = [_cell(image, name, row, side) for image, name in zip(row.images, sheet.names, strict=True)]
        lines.append(element("tr", _row_head(sheet, index), *cells, role="row"))
    columns = len(sheet.names)
    native = max(image.shape[0] for row in sheet.rows for image in row.images if image is not None)
    widest = 64 + columns * _column(columns, min(native, side))
    style = f"--columns:{columns};max-width:{widest}px"
    body = element("tbody", *lines, role="rowgroup")
    return scroll(element("table", head, body, class_="images", role="table", style=style), "Distilled images")


def _row_head(sheet: Sheet, index: int) -> Markup | None:
    """The number and the sizes of a step, beside all rows of the step."""
    row = sheet.rows[index]
    if not row.first:
        return None
    height = sum(other.step == row.step for other in sheet.rows)
    over = {"scope": "rowgroup", "rowspan": height} if height > 1 else {"scope": "row"}
    if not row.step_sizes:
        return element("th", f"{height} each" if height > 1 else "all", role="rowheader", **over)
    ends = sorted({0, len(row.step_sizes) - 1})
    sizes = element("small", "η " + "–".join(f"{row.step_sizes[end]:.2g}" for end in ends))
    return element("th", row.step + 1, " ", sizes, role="rowheader", **over)


def _cell(image: np.ndarray | None, name: str, row: SheetRow, side: int) -> Markup:
    inside = None if image is None else _image(png(reduced(image, side)), f"{name}, step {row.step + 1}")
    return element("td", inside, role="cell")


def _gallery(sheet: Sheet, side: int) -> Markup:
    tiles = [
        element("figure", _image(png(reduced(image, side)), f"Distilled image of {name}"), element("figcaption", name))
        for image, name in zip(sheet.rows[0].images, sheet.names, strict=True)
        if image is not None
    ]
    return element("div", *tiles, class_="gallery")


def reduced(image: np.ndarray, side: int) -> np.ndarray:
    """An image (H, W, C) with whole squares of pixels averaged into one, until no side is longer than `side`."""
    factor = math.ceil(max(image.shape[:2]) / side)
    if factor == 1:
        return image
    height, width, channels = image.shape
    padding = ((0, -height % factor), (0, -width % factor), (0, 0))
    padded = np.pad(image, padding, mode="edge")
    squares = padded.reshape(padded.shape[0] // factor, factor, padded.shape[1] // factor, factor, channels)
    return squares.mean((1, 3))
