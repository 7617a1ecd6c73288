"""A gallery: the digits distilled by every method, one row each, and a film of one run.

Command:   python experiments/gallery.py
           python experiments/gallery.py --out runs --smoke
Options:   those of dd-jax distill, for every run; --out FOLDER for the runs, `gallery.png` and `unrolled.png` (runs).
           Runs that are finished are left as they are, so the same command continues and draws again
Result:    pictures, and no accuracies: the runs are small. Their settings are those of the presets, with an MLP instead
           of ConvNets, and another distance for DC and DSA. Graphs have no images and are left out. About ten minutes
           on two cores of an AMD EPYC that others kept busy, 29 November 2026
"""

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import dd_jax as dd
from dd_jax.cli import run_table
from dd_jax.cli.options import take_option
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.figures.encode import animated_png
from dd_jax.figures.gallery import gallery_figure
from dd_jax.presets import of_method
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.pictures import read_frames, save_png

METHODS = ("dd", "rtp", "rat-bptt", "gtn", "dc", "dsa", "dcc", "idc", "mtt", "tesla", "datm", "dm", "kip", "frepo")
NAMES = {"dd": "unrolled", "rtp": "RTP", "rat-bptt": "RaT-BPTT", "frepo": "FRePo"}  # where not in capitals
WHOLE: dict[str, Any] = {"distance": "cosine", "learning_rate": 1.0}  # single units of an MLP have noisy directions
CHANGES = {"dc": WHOLE, "dsa": WHOLE}
FILM = "dd"  # the method whose run is shown as a film
SCALE = 8  # pixels of the film for each pixel of an image


def cells() -> dict[str, Experiment]:
    """One small run of the digits for each method."""
    changes: dict[str, Any] = {"dataset": "digits", "num_nets": 10, "baselines": False, "num_eval_nets": 2}
    found = {}
    for name in METHODS:
        start = of_method(name)
        model = "mlp:hidden=(64,)" if (start.model or "").startswith("convnet") else start.model
        method = dataclasses.replace(start.method, **CHANGES.get(name, {}))
        found[f"gallery-{name}"] = dataclasses.replace(start, model=model, method=method, **changes)
    return found


def rows(folder: Path) -> Iterator[tuple[str, dd.DistilledData]]:
    """Class means of the real images, and the sets of the runs that are there."""
    data = dd.load_dataset("digits")
    means = as_distilled(mean_images(data, 1), SetShape(1, 1, 1), 0.1, dd.Protocol("dc", order="random"))
    yield "class means", dataclasses.replace(means, transform=data.transform, class_names=data.class_names)
    for name in METHODS:
        if (folder / f"gallery-{name}" / "distilled").is_dir():
            yield NAMES.get(name, name.upper()), dd.load_distilled(folder / f"gallery-{name}")


def main(argv: Sequence[str]) -> int:
    """The runs, and the pictures of those that have a set; the exit status of the runs."""
    if "--paper" in argv:
        print("The gallery has small settings only, and no --paper: leave it out.", file=sys.stderr)
        return 2
    status = run_table(cells(), paper={}, argv=argv)
    folder = Path(take_option(list(argv), "--out")[0] or "runs")
    save_png(folder / "gallery.png", gallery_figure(dict(rows(folder)), "The digits, by every method"))
    print(f"The gallery is {folder / 'gallery.png'}.")
    frames: list[np.ndarray] = read_frames(folder / f"gallery-{FILM}" / "figures" / "evolution")
    if frames:
        (folder / "unrolled.png").write_bytes(animated_png(frames, SCALE))
        print(f"The film is {folder / 'unrolled.png'}.")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
