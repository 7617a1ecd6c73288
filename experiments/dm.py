"""Distribution matching (DM): images with the mean features of real ones.

Paper:     Zhao & Bilen 2023, *Dataset Condensation with Distribution Matching*, table 1
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128:
           CIFAR-10 26.0 / 48.9 / 63.0, CIFAR-100 11.4 / 29.7 / 43.6
Command:   python experiments/dm.py mnist-ipc1            also fashion_mnist, svhn, cifar10, cifar100; ipc10, ipc50
           python experiments/dm.py cifar10-ipc10 --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    these settings have not been measured
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.matching import cells

if __name__ == "__main__":
    sys.exit(run_table(cells("dm"), paper=cells("dm", paper=True)))
