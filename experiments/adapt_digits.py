"""Digits: networks trained on one dataset learn another from 100 images, in 10 steps x 3 epochs.

Paper:     Wang, Zhu, Torralba & Efros 2018, section 4.2, adaptation of networks that are not known (random
           pretrained): MNIST -> USPS 90.4 +- 3.0 to 95.4 +- 1.8, USPS -> MNIST 67.5 +- 3.9 to 92.7 +- 1.4; and of a
           known one (fixed)
Command:   python experiments/adapt_digits.py                                     all, those whose data are at hand
           python experiments/adapt_digits.py usps-to-mnist usps-to-mnist-fixed   some
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke to see it run
Networks:  trained first where nets/ doesn't have them yet (8 s each on one core; 220 of MNIST, 120 of USPS)
Result:    MNIST -> USPS 75.0 +- 3.2 to 93.5 +- 0.6, USPS -> MNIST 54.2 +- 4.1 to 93.3 +- 1.1 (n=20 held-out networks,
           one seed; 6 and 8 min on one core of an AMD EPYC, 21 November 2026); one known network 76.3 to 95.3
           and 50.2 to 97.2
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets import PRESETS

PAIRS = ("mnist-to-usps", "usps-to-mnist", "svhn-to-mnist")
NAMES = [f"{pair}{fixed}" for pair in PAIRS for fixed in ("", "-fixed")]

if __name__ == "__main__":
    sys.exit(run_table({n: PRESETS[n] for n in NAMES}, paper={n: PRESETS[f"{n}-paper"] for n in NAMES}))
