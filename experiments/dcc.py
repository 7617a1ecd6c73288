"""Gradient matching of all classes in one (DCC).

Paper:     Lee et al. 2022, *Dataset Condensation with Contrastive Signals*
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128:
           CIFAR-10 32.9 / 49.4 / 61.6, CIFAR-100 13.3 / 30.6 / -
Command:   python experiments/dcc.py mnist-ipc1            also fashion_mnist, svhn, cifar10, cifar100; ipc10, ipc50
           python experiments/dcc.py cifar10-ipc10 --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 1 image of each class: 79.9 +- 0.7, n=10 networks of width 16 and depth 2
           (DC 81.2 +- 0.7); one seed, 156 s on one core of an AMD EPYC, 22 November 2026
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.matching import cells

if __name__ == "__main__":
    sys.exit(run_table(cells("dcc"), paper=cells("dcc", paper=True)))
