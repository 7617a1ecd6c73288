"""Gradient matching (DC): images on which networks have the gradients of real ones.

Paper:     Zhao, Mopuri & Bilen 2021, *Dataset Condensation with Gradient Matching*, table 1 and the released code
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128:
           MNIST 91.7 / 97.4 / 98.8, Fashion-MNIST 70.5 / 82.3 / 83.6, SVHN 31.2 / 76.1 / 82.3, CIFAR-10 28.3 / 44.9 /
           53.9, CIFAR-100 12.8 / 25.2 / -
Command:   python experiments/dc.py mnist-ipc1            also fashion_mnist, svhn, cifar10, cifar100; ipc10, ipc50
           python experiments/dc.py cifar10-ipc10 --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 1 image of each class: 81.2 +- 0.7, n=10 networks of width 16 and depth 2 (class mean 81.5 +- 0.9);
           one seed, 79 s on one core of an AMD EPYC, 22 November 2026; see docs/methods/gradient_matching.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.matching import cells

if __name__ == "__main__":
    sys.exit(run_table(cells("dc"), paper=cells("dc", paper=True)))
