"""Several images out of each stored one, matched in networks trained on real images (IDC).

Paper:     Kim et al. 2022, *Dataset Condensation via Efficient Synthetic-Data Parameterization*, the released code,
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128:
           MNIST 94.2 / 98.4 / 99.1, Fashion-MNIST 81.0 / 86.0 / 86.2, SVHN 68.5 / 87.5 / 90.1, CIFAR-10 50.6 / 67.5 /
           74.5, CIFAR-100 - / 45.1 / -
Command:   python experiments/idc.py mnist-ipc1            also fashion_mnist, svhn, cifar10, cifar100; ipc10, ipc50
           python experiments/idc.py cifar10-ipc10 --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 1 stored image of each class: 87.1 +- 0.4, n=10 networks of width 16 and depth 2 (factor 1: 81.8 +-
           0.6, class mean: 81.5 +- 0.9); one seed, 236 s on one core of an AMD EPYC, 21 November 2026; see
           docs/methods/gradient_matching.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.matching import cells

if __name__ == "__main__":
    sys.exit(run_table(cells("idc"), paper=cells("idc", paper=True)))
