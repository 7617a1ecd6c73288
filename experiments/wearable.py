"""Tiles without seams, learnt by trajectory matching from random crops (Wearable ImageNet).

Paper:     Cazenavette et al. 2022, *Wearable ImageNet: Synthesizing Tileable Textures via Dataset Distillation*; it
           shows pictures, and no accuracies
Command:   python experiments/wearable.py digits-ipc1       also mnist-ipc1, cifar10-ipc1; experts are made first
           python experiments/wearable.py squawk-ipc1 --paper    the released command, for a GPU; class folders of ten
                                                                 birds of ImageNet in imagesquawk/
Options:   those of dd-jax distill; --smoke to see it run. Pictures to put side by side are in the folder tiles of each
           run; --tile-scale says how many pixels wide each pixel becomes (4)
Result:    RESULT
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
    for name in [word for word in argv if word in {**wearable_cells(), **wearable_cells(paper=True)}]:
        for run in (Path(folder or "runs") / f"{name}{ending}" for ending in ("", "-paper")):
            if (run / "distilled" / "distilled.json").is_file():
                print(f"{len(dd.save_tiles(run, scale=int(scale or 4)))} tiles in {run / 'tiles'}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
