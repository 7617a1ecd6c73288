"""Tiles without seams, learnt by trajectory matching from random crops (Wearable ImageNet).

Paper:     Cazenavette et al. 2022, *Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation*; it
           shows pictures, and no accuracies
Command:   python experiments/wearable.py digits-wearable      also cifar10-wearable; experts are made first
           python experiments/wearable.py squawk-wearable --paper    the released command, for a GPU; class folders
                                                              of ten birds of ImageNet in imagesquawk/
           python experiments/wearable.py mnist-wearable --compare-nets 10     then says how clear the seams are, and
                                                              what so many networks make of the canvases rolled by half,
                                                              and of real images laid out as canvases
Options:   those of dd-jax distill; --smoke to see it run. Pictures to put side by side are in the folder tiles of each
           run; --tile-scale says how many pixels wide each pixel becomes (4)
Result:    digits, ten canvases of 16 x 16 pixels: 23.5 +- 3.3, n=5 networks of width 16 and depth 2 trained on random
           crops (chance: 10); one seed, 800 outer steps in 41 s on one core of an AMD EPYC, 29 November 2026
"""

import dataclasses
import sys
from pathlib import Path

import jax
import numpy as np

import dd_jax as dd
from dd_jax.cli import run_table
from dd_jax.cli.options import take_option
from dd_jax.presets.trajectories import wearable_cells
from dd_jax.runs.load_run import load_run
from dd_jax.synthetic import on_canvas, pixels
from dd_jax.synthetic.canvas import seam_ratio


def main(argv: list[str]) -> int:
    """The experiments, and the tiles of those that have a set; the exit status of the experiments."""
    scale, argv = take_option(argv, "--tile-scale")
    folder, _ = take_option(argv, "--out")
    nets, argv = take_option(argv, "--compare-nets")
    status = run_table(wearable_cells(), paper=wearable_cells(paper=True), argv=argv)
    for run in sorted(Path(folder or "runs").glob("*-wearable*")) if status == 0 else ():
        files = dd.save_tiles(run, scale=int(scale or 4))
        print(f"{len(files)} tiles in {run / 'tiles'}")
        if nets:
            compare(run, int(nets))
    return status


def compare(run: Path, num_nets: int) -> None:
    """Print what a canvas without edges should pass: its seams, its accuracy rolled by half, that of real canvases."""
    distilled, model, dataset, _ = load_run(run)
    canvases = np.asarray(distilled.learnt["canvases"])
    per_class, (tall, broad) = canvases.shape[1] // model.num_classes, canvases.shape[2:4]
    plain = pixels(model.num_classes, per_class, "real")
    real = on_canvas(plain, model.image_shape, tall // model.image_shape[0])
    drawn = real.decode(real.init(jax.random.key(0), dataset))
    print(f"differences across the seams, as a share of those inside: {seam_ratio(canvases):.2f}")
    given = {
        "distilled": canvases,
        "rolled by half": np.roll(canvases, (tall // 2, broad // 2), (2, 3)),
        "of real images": np.asarray(drawn.learnt["canvases"]),
    }
    for name, learnt in given.items():
        changed = dataclasses.replace(distilled, learnt={"canvases": learnt})
        result = dd.evaluate(changed, model, dataset, num_nets=num_nets, num_curve_nets=0)
        print(f"canvases, {name}: {result}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
