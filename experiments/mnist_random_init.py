"""MNIST into 100 images for LeNets drawn at random: 10 steps x 3 epochs.

Paper:     Wang, Zhu, Torralba & Efros 2018, Table 1, random init: 79.5 ± 8.1 %
Command:   python experiments/mnist_random_init.py
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke for a minute, to see it run
"""

import sys

from dd_jax.cli import run_script
from dd_jax.presets import PRESETS

if __name__ == "__main__":
    sys.exit(run_script(PRESETS["mnist-random-init"], paper=PRESETS["mnist-random-init-paper"]))
