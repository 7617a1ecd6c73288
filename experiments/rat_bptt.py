"""Random truncated windows (RaT-BPTT): images that are learnt through a few steps anywhere in a training by Adam.

Paper:     Feng et al. 2024, *Embarrassingly Simple Dataset Distillation*, table 1, at 1 / 10 / 50 images of each class,
           ConvNet of depth 3 and width 128: CIFAR-10 53.2 / 69.4 / 75.3, CIFAR-100 36.3 / 47.5 / 50.6, Tiny ImageNet
           (depth 4) 20.1 / 24.4 / 30.2
Command:   python experiments/rat_bptt.py mnist-ipc1          also digits, mnist-convnet and cifar10; ipc1, ipc10
           python experiments/rat_bptt.py cifar10-ipc10 --paper           the paper's settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 10 images: 81.9 +- 0.6, n=10 networks, MLP of 64, 64 units (class mean 76.4 +- 1.2, random real 40.2
           +- 3.8); one seed, 214 s on a shared core of an AMD EPYC, 29 November 2026; see docs/methods/bptt.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.bptt import bptt_cells

if __name__ == "__main__":
    sys.exit(run_table(bptt_cells("rat-bptt"), paper=bptt_cells("rat-bptt", paper=True)))
