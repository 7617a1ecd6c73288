"""The format "images": a PNG for each image, and a table of them."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.names import safe_names

PICTURE_CHANNELS = (1, 3)  # grey and RGB; other images are shown channel by channel


def write_images(contents: Contents, folder: Path) -> str:
    """step_SS/BB-CLASS.png, which sort in the order learnt, and index.csv.

    Images that are neither grey nor RGB are one grey PNG for each channel.
    """
    names, classes, pixels = safe_names(contents.class_names), contents.classes, contents.pixels
    steps, batch = classes.shape
    rows = []
    for step in range(steps):
        place = folder / f"step_{padded(step, steps)}"
        place.mkdir()
        for position in range(batch):
            stem = f"{padded(position, batch)}-{names[classes[step, position]]}"
            for channel, ending, plane in _planes(pixels[step, position]):
                file = place / f"{stem}{ending}.png"
                file.write_bytes(png(plane))
                about = _about(contents, step, position)
                rows.append({"file": file.relative_to(folder).as_posix(), **about, **channel})
    write_table(folder / "index.csv", rows)
    return f"{len(rows)} pictures, pixel by pixel, and index.csv"


def png(pixels: np.ndarray) -> bytes:
    """Pixels (H, W, 1) or (H, W, 3) uint8 as they are, as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_table(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The rows as CSV, UTF-8, with the names of their fields in the first line."""
    with open(path, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def soft_label(contents: Contents, step: int, position: int) -> dict[str, str]:
    """The column of a table that holds a soft label, its K numbers apart by spaces; none where labels are hard."""
    if not contents.soft:
        return {}
    return {"soft_label": numbers(contents.arrays["labels"][step, position])}


def numbers(values: np.ndarray) -> str:
    """Float32 numbers, apart by spaces, with as many digits as it takes to read them back to the bit."""
    return " ".join(str(value) for value in values)


def _about(contents: Contents, step: int, position: int) -> dict[str, Any]:
    label = int(contents.classes[step, position])
    return {
        "step": step,
        "position": position,
        "class": contents.class_names[label],
        "label": label,
        "step_sizes": numbers(contents.sizes_of(step)),
        **soft_label(contents, step, position),
    }


def _planes(pixels: np.ndarray) -> Iterator[tuple[dict[str, int], str, np.ndarray]]:
    """An image (H, W, C) as pictures: (columns for the table, ending of the name, pixels)."""
    channels = pixels.shape[-1]
    if channels in PICTURE_CHANNELS:
        yield {}, "", pixels
        return
    for channel in range(channels):
        yield {"channel": channel}, f"-channel_{padded(channel, channels)}", pixels[..., channel : channel + 1]


def padded(number: int, count: int) -> str:
    """As wide as the last of `count` numbers from 0, so that they sort; two digits at least."""
    return f"{number:0{max(2, len(str(count - 1)))}d}"
