"""Malicious images: one gradient step on 100 of them makes good networks take class 0 for class 1.

Paper:     Wang, Zhu, Torralba & Efros 2018, section 4.3, on networks that are not known
Command:   python experiments/attack.py mnist-attack         also cifar10-attack (on a GPU); all without a name
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke to see it run
Networks:  trained first where nets/ doesn't have them yet
Result:    MNIST: 88.5 +- 16.4 of the zeros taken for ones, 92.5 +- 5.8 on the other digits (98.4 before); n=20
           held-out networks, one seed, 7 min on one core of an AMD EPYC, 22 November 2026; more in docs/results.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets import PRESETS

NAMES = ("mnist-attack", "cifar10-attack")

if __name__ == "__main__":
    sys.exit(run_table({n: PRESETS[n] for n in NAMES}, paper={n: PRESETS[f"{n}-paper"] for n in NAMES}))
