"""Trajectory matching (MTT): images on which training goes where it went on real data; TESLA with --gradient.

Paper:     Cazenavette et al. 2022, *Dataset Distillation by Matching Training Trajectories*, table 1
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128 (Tiny ImageNet: depth 4):
           CIFAR-10 46.3 +- 0.8 / 65.3 +- 0.7 / 71.6 +- 0.2, CIFAR-100 24.3 / 40.1 / 47.7, Tiny ImageNet 8.8 / 23.2 /
           28.0; ImageNette 47.7 with one image of each class of 128 pixels
Command:   python experiments/mtt.py mnist-ipc10             also digits and cifar10, ipc1; experts are made first
           python experiments/mtt.py cifar10-ipc10 --paper           the paper's settings, for a GPU; 6.5 GB of experts
           python experiments/mtt.py mnist-ipc10 --gradient first_order          TESLA's gradient
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, 100 images: 88.5 +- 0.1 over three distillations of ten networks, MLP of 64 and 64 units (random real
           74.8 +- 0.9, k-means 86.5 +- 0.7); 16 s for ten experts and 36 s for 800 outer steps on one core of an AMD
           EPYC, 30 November 2026; digits, 10 images: 91.1 +- 0.3 over five. cifar10-ipc1 --paper with 4 % of the
           steps, four experts: 41.5 +- 1.5, n=5; see docs/methods/trajectory_matching.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.trajectories import trajectory_cells

if __name__ == "__main__":
    sys.exit(run_table(trajectory_cells(), paper=trajectory_cells(paper=True)))
