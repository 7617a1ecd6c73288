"""Tiles without seams, learnt by trajectory matching from random crops (Wearable ImageNet).

Paper:     Cazenavette et al. 2022, *Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation*; it
           shows pictures, and no accuracies
Command:   python experiments/wearable.py digits-wearable      also cifar10-wearable; experts are made first
           python experiments/wearable.py squawk-wearable --paper    the released command, for a GPU; class folders
                                                              of ten birds of ImageNet in imagesquawk/
Options:   those of dd-jax distill; --smoke to see it run. Pictures to put side by side are in the folder tiles of each
           run; --tile-scale says how many pixels wide each pixel becomes (4)
Result:    digits, ten canvases of 16 x 16 pixels: 23.5 +- 3.3, n=5 networks of width 16 and depth 2 trained on random
           crops (chance: 10); one seed, 800 outer steps in 41 s on one core of an AMD EPYC, 29 November 2026
"""

import sys
from pathlib import Path

import dd_jax as dd
from dd_jax.cli import run_table
from dd_jax.cli.options import take_option
from dd_jax.presets.trajectories import wearable_cells


def main(argv: list[str]) -> int:
    """The experiments, and the tiles of those that have a set; the exit status of the experiments."""
    scale, argv = take_option(argv, "--tile-scale")
    folder, _ = take_option(argv, "--out")
    status = run_table(wearable_cells(), paper=wearable_cells(paper=True), argv=argv)
    for run in sorted(Path(folder or "runs").glob("*-wearable*")) if status == 0 else ():
        files = dd.save_tiles(run, scale=int(scale or 4))
        print(f"{len(files)} tiles in {run / 'tiles'}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
