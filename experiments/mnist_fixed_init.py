"""MNIST into 10 images for one known LeNet: 1 step x 3 epochs.

Paper:     Wang, Zhu, Torralba & Efros 2018, Figure 2a: 12.9 -> 93.8 %
Command:   python experiments/mnist_fixed_init.py
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke for a minute, to see it run
"""

import sys

from dd_jax.cli import run_script
from dd_jax.presets import PRESETS

if __name__ == "__main__":
    sys.exit(run_script(PRESETS["mnist-fixed-init"], paper=PRESETS["mnist-fixed-init-paper"]))
