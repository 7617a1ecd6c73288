"""What is exported: the artefact, and what is known of it."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.data.transforms import WHITE, to_pixels
from dd_jax.errors import DataError
from dd_jax.storage.artefact import described, load_artefact
from dd_jax.storage.files import read_json
from dd_jax.synthetic import as_plain
from dd_jax.types import DistilledData


@dataclasses.dataclass(frozen=True)
class Contents:
    """A distilled set with S batches of B images in K classes, and T inner steps.

    Attributes:
        file: of the artefact.
        run: the run directory, or the folder that the artefact lies in.
        arrays, meta: as the artefact has them, of plain images or what else needs nothing to be read.
        results: the table of the run, or what an earlier export kept of it.
        source: what the run was made from. Both are empty where that isn't known.
        drawn: whether the images are one draw of what is random in the set.
    """

    file: Path
    run: Path
    arrays: Mapping[str, np.ndarray]
    meta: Mapping[str, Any]
    results: Mapping[str, Any]
    source: Mapping[str, Any]
    distilled: DistilledData
    drawn: bool = False

    @property
    def images(self) -> np.ndarray:
        """(S, B, H, W, C) float32 in model space; DataError of what has no pictures."""
        return self._pictured("images")

    @property
    def pixels(self) -> np.ndarray:
        """(S, B, H, W, C) uint8; DataError of what has none."""
        return self._pictured("pixels")

    def _pictured(self, name: str) -> np.ndarray:
        if name not in self.arrays:
            kind = self.distilled.parameterisation.kind.name
            raise DataError(f"A {kind} has no pictures to export. Export the set as npz.")
        return self.arrays[name]

    @functools.cached_property
    def unclipped(self) -> np.ndarray:
        """(S, B, H, W, C) float32 pixels: black is 0, white is 1."""
        assert self.distilled.transform is not None
        return np.asarray(to_pixels(self.distilled.transform, self.distilled.images))

    @property
    def classes(self) -> np.ndarray:
        """(S, B) the class of each image; of a soft label the largest."""
        labels = self.arrays["labels"]
        return labels.argmax(-1) if self.soft else labels

    @property
    def soft(self) -> bool:
        return self.arrays["labels"].ndim == 3

    @property
    def class_names(self) -> list[str]:
        """K names; numbers where the set has none."""
        if self.meta["class_names"]:
            return list(self.meta["class_names"])
        labels = self.arrays["labels"]
        return [str(k) for k in range(labels.shape[2] if self.soft else int(labels.max()) + 1)]

    @property
    def random_order(self) -> bool:
        return self.distilled.protocol.order == "random"

    @property
    def order(self) -> np.ndarray:
        """(T,) int32, the batch that each inner step takes; (0,) of a set whose batches are drawn at random."""
        steps = self.arrays["step_sizes"].size
        return np.arange(0 if self.random_order else steps, dtype=np.int32) % np.int32(self.distilled.num_batches)

    @property
    def clipped(self) -> float:
        """The share of the values that 8-bit pixels can't hold: darker than black or lighter than white."""
        rounding = 0.5 / WHITE
        return float(((self.unclipped < -rounding) | (self.unclipped > 1 + rounding)).mean())

    @property
    def num_bytes(self) -> dict[str, int]:
        """Of the arrays that train a network, and of the pixels."""
        names = [name for name in (*self.distilled.arrays, "pixels") if name in self.arrays]
        return {name: self.arrays[name].nbytes for name in names}

    def sizes_of(self, step: int) -> np.ndarray:
        """(E,) the step sizes of a batch, one for each epoch."""
        return self.arrays["step_sizes"][step :: self.distilled.num_batches]


def read_contents(path: str | Path) -> Contents:
    """What `load_distilled` takes, with the results of its run where they are; raises what it raises."""
    artefact = load_artefact(path)
    folder = artefact.file.absolute().parent
    run = folder.parent if folder.name == "distilled" else folder
    results = _record(run / "results.json", "results") or artefact.meta.get("results", {})
    source = _record(run / "config.json", "config").get("source", {})
    plain = as_plain(artefact.distilled)
    others = {name: array for name, array in artefact.arrays.items() if name not in artefact.distilled.learnt}
    arrays = {**{name: np.asarray(array) for name, array in plain.learnt.items()}, **others}
    meta = {**artefact.meta, "parameterisation": described(plain.parameterisation)}
    drawn = artefact.distilled.parameterisation.kind.draw is not None
    return Contents(artefact.file, run, arrays, meta, results, source, plain, drawn)


def _record(file: Path, name: str) -> dict[str, Any]:
    """What a record of the run has under `name`; empty if there is no such file."""
    found = read_json(file) if file.is_file() else {name: {}}
    if not isinstance(found, dict) or not isinstance(found.get(name), dict):
        raise DataError(f"{file} is damaged, or not from a run: expected an object that holds an object {name!r}.")
    return found[name]
