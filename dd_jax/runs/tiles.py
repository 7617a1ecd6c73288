"""Canvases as pictures that can be put side by side without seams: patterns for cloth, walls and screens."""

from pathlib import Path

import numpy as np

from dd_jax.data.transforms import WHITE, to_pixels
from dd_jax.errors import DataError, OptionError
from dd_jax.runs.export.names import safe_names
from dd_jax.runs.export.pictures import PICTURE_CHANNELS, padded, png
from dd_jax.storage.artefact import load_distilled
from dd_jax.storage.files import disk_errors, write_bytes
from dd_jax.synthetic import canvases_of


def save_tiles(path: str | Path, out: str | Path | None = None, *, repeat: int = 3, scale: int = 4) -> tuple[Path, ...]:
    """Write each canvas of the set at `path` as a PNG, `repeat` times `repeat` of it side by side.

    Returns the files. Raises DataError where there is no such set, or where its images are neither grey nor RGB;
    OptionError for numbers below one; RunError if the disk refuses.

    Args:
        path: a run directory, or an artefact, of a set that is learnt on canvases (`canvas_size` of the methods).
        out: folder, made where it is missing; None for the folder "tiles" beside the set. Files of the same names are
            replaced: tile-NN-CLASS.png, and step_SS-tile-NN-CLASS.png of a set of several batches.
        repeat: 1 for the canvas alone. Its edges fit together whatever it is, so a printer may repeat it on.
        scale: each pixel becomes so many times so many: none is lost, and none is made up.
    """
    for name, count in (("repeat", repeat), ("scale", scale)):
        if count < 1:
            raise OptionError(f"{name} must be at least 1, but is {count}.")
    distilled = load_distilled(path)
    kind = distilled.parameterisation.kind.name
    if kind != "canvas":
        raise DataError(
            f"Tiles need canvases, whose edges join, but the set at {path} has {kind}. Learn one with canvas_size=2."
        )
    shown = canvases_of(distilled)
    assert distilled.transform is not None
    pixels = np.asarray(to_pixels(distilled.transform, shown.images))
    steps, batch, *_, channels = pixels.shape
    if channels not in PICTURE_CHANNELS:
        raise DataError(
            f"Pictures are grey or RGB, but the images at {path} have {channels} channels. Export them as npz."
        )
    whole = np.round(np.clip(pixels, 0, 1) * WHITE).astype(np.uint8)
    labels = np.asarray(shown.labels)
    classes = labels.argmax(-1) if labels.ndim == 3 else labels
    names = safe_names(list(distilled.class_names) or [str(k) for k in range(int(classes.max()) + 1)])
    folder = Path(path) / "tiles" if out is None else Path(out).expanduser()
    written = []
    for step in range(steps):
        for position in range(batch):
            first = "" if steps == 1 else f"step_{padded(step, steps)}-"
            file = folder / f"{first}tile-{padded(position, batch)}-{names[classes[step, position]]}.png"
            with disk_errors("save the tiles", folder):
                write_bytes(file, png(tiled(whole[step, position], repeat, scale)))
            written.append(file)
    return tuple(written)


def tiled(canvas: np.ndarray, repeat: int, scale: int) -> np.ndarray:
    """A canvas (H, W, C) `repeat` times below and beside itself, each pixel as scale * scale of them."""
    return np.tile(canvas, (repeat, repeat, 1)).repeat(scale, axis=0).repeat(scale, axis=1)
