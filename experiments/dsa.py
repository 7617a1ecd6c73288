"""Gradient matching with siamese augmentation (DSA).

Paper:     Zhao & Bilen 2021, *Dataset Condensation with Differentiable Siamese Augmentation*, the released code's table
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128:
           MNIST 88.7 / 97.8 / 99.2, Fashion-MNIST 70.6 / 84.6 / 88.7, SVHN 27.5 / 79.2 / 84.4, CIFAR-10 28.8 / 52.1 /
           60.6, CIFAR-100 13.9 / 32.3 / -
Command:   python experiments/dsa.py mnist-ipc1            also fashion_mnist, svhn, cifar10, cifar100; ipc10, ipc50
           python experiments/dsa.py cifar10-ipc10 --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 1 image of each class: 81.9 +- 0.5, n=10 networks of width 16 and depth 2, trained without
           augmentation (DC 81.2 +- 0.7); one seed, 149 s on one core of an AMD EPYC, 22 November 2026
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.matching import cells

if __name__ == "__main__":
    sys.exit(run_table(cells("dsa"), paper=cells("dsa", paper=True)))
