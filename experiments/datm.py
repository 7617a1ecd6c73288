"""Difficulty-aligned trajectory matching (DATM): a range of experts' epochs that grows, and learnt labels.

Paper:     Guo et al. 2024, *Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching*, table 1
           at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128 (Tiny ImageNet: depth 4): CIFAR-10 46.9
           / 66.8 / 76.1, CIFAR-100 27.9 / 47.2 / 55.0, Tiny ImageNet 17.1 / 31.1 / 39.7; CIFAR-10 at 1,000: 85.5
Command:   python experiments/datm.py digits-ipc1              also mnist and cifar10, ipc10; experts are made first
           python experiments/datm.py cifar10-ipc10 --paper         the released settings, for a GPU; 13 GB of experts
Options:   those of dd-jax distill; --smoke to see it run
Result:    see docs/methods/trajectory_matching.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.trajectories import trajectory_cells

if __name__ == "__main__":
    sys.exit(run_table(trajectory_cells("datm"), paper=trajectory_cells("datm", paper=True)))
