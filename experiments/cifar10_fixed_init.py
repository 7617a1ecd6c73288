"""CIFAR-10 into 100 images for one known AlexCifarNet: 10 steps x 3 epochs.

Paper:     Wang, Zhu, Torralba & Efros 2018, Figure 2b: 8.8 -> 54.0 %
Command:   python experiments/cifar10_fixed_init.py
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke for a minute, to see it run
"""

import sys

from dd_jax.cli import run_script
from dd_jax.presets import PRESETS

if __name__ == "__main__":
    sys.exit(run_script(PRESETS["cifar10-fixed-init"], paper=PRESETS["cifar10-fixed-init-paper"]))
