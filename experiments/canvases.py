"""Whether the canvases of a run have seams, whether it matters where they are read, and what real ones are worth.

Paper:     Cazenavette et al. 2022, *Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation*
Command:   python experiments/canvases.py runs/RUN             a run of experiments/wearable.py
           python experiments/canvases.py runs/RUN --num-nets 2 --num-sets 2 --rolls 1      five minutes at width 32
Leaves:    canvases.json in the run, and the table on the screen
Result:    docs/methods/trajectory_matching.md, for CIFAR-10; experiments/wearable.py says what its own runs gave
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro

import dd_jax as dd
from dd_jax.cli import run_function
from dd_jax.runs.load_run import load_set
from dd_jax.runs.progress import note, table
from dd_jax.storage.files import write_json
from dd_jax.synthetic import sample_per_class
from dd_jax.synthetic.canvas import mirrored, seam_ratio


def main(
    run: Annotated[Path, tyro.conf.Positional], /, num_nets: int = 10, num_sets: int = 5, rolls: int = 4, seed: int = 0
) -> None:
    """Measure.

    Args:
        run: run directory of a set of canvases.
        num_nets: networks of each row.
        num_sets: sets of real images.
        rolls: ways to roll the canvases.
        seed: of rolls and real images.
    """
    distilled, model, data, _ = load_set(run, None, None)
    canvases = np.asarray(distilled.learnt["canvases"])
    generator = np.random.default_rng(seed)

    def measured(given: np.ndarray, nets: int) -> list[float]:
        learnt = {"canvases": jnp.asarray(given)}
        found = dd.evaluate(dataclasses.replace(distilled, learnt=learnt), model, data, num_nets=nets)
        return [float(accuracy) for accuracy in found.accuracies]

    def rolled() -> np.ndarray:
        return np.roll(canvases, [int(generator.integers(side)) for side in canvases.shape[2:4]], (2, 3))

    def single(key: jax.Array) -> np.ndarray:
        """A real image of each canvas's class, with its mirror images."""
        drawn = data.train.images[sample_per_class(key, data.train.labels, classes)]
        return np.asarray(mirrored(drawn, down)).reshape(canvases.shape)

    def tiled(key: jax.Array) -> np.ndarray:
        """Real images of a canvas's class side by side, as many as it has room for."""
        wanted = np.repeat(classes[:, None], down * across, 1)
        drawn = np.asarray(data.train.images)[sample_per_class(key, data.train.labels, wanted)]
        rows = [np.concatenate(list(drawn[:, i * across : (i + 1) * across].swapaxes(0, 1)), 2) for i in range(down)]
        return np.concatenate(rows, 1).reshape(canvases.shape)

    samples = dict(distilled.parameterisation.settings)["samples"]
    classes = np.asarray(distilled.labels).reshape(-1)[::samples]
    down, across = (big // small for big, small in zip(canvases.shape[2:4], data.image_shape[:2], strict=True))
    keys = jax.random.split(jax.random.key(seed), num_sets)
    laid_out = {"real images side by side": tiled} | ({} if down % 2 else {"real images, mirrored": single})
    each = -(-num_nets // num_sets)
    rows: dict[str, dict[str, Any]] = {
        "distilled": {"seam_ratio": seam_ratio(canvases), "accuracies": measured(canvases, num_nets)},
        "distilled, rolled": {"accuracies": [a for _ in range(rolls) for a in measured(rolled(), each)]},
    }
    for name, lay_out in laid_out.items():
        real = [lay_out(key) for key in keys]
        ratio = float(np.mean([seam_ratio(one) for one in real]))
        rows[name] = {"seam_ratio": ratio, "accuracies": [a for one in real for a in measured(one, each)]}
    write_json(run / "canvases.json", {"rows": rows, "rolls": rolls, "num_sets": num_sets})
    table(
        f"Canvases of {run.name}: test accuracy of {model.name} on random crops",
        ("canvases", "accuracy", "n", "seam ratio"),
        [
            (
                name,
                f"{100 * np.mean(row['accuracies']):.1f} ± {100 * np.std(row['accuracies']):.1f}",
                str(len(row["accuracies"])),
                f"{row['seam_ratio']:.2f}" if "seam_ratio" in row else "",
            )
            for name, row in rows.items()
        ],
    )
    note(f"Written to {run / 'canvases.json'}")


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
