"""Continual learning on split MNIST at 14 x 14 pixels: five tasks of two classes, ten distilled images of each class.

Papers:    Zhao & Bilen 2023, section 4.3 (CIFAR-100 in 5 and 10 steps); Deng & Russakovsky 2022
Command:   python experiments/continual.py                     or with --dataset cifar10 --image-size 32, --method ...
Options:   those of dd-jax apply continual; --smoke to see it run
Result:    docs/applications/continual_learning.md
"""

import sys

from dd_jax.cli import main

SPLIT_MNIST = (
    *("--preset", "mnist-dm", "--image-size", "14", "--num-outer-steps", "500", "--eval-every", "250"),
    *("--num-eval-nets", "1"),
    *("--num-real", "500", "--num-nets", "2", "--epochs", "200", "--full-training.epochs", "6"),
)
SMOKE = ("--num-orders", "1", "--num-nets", "1", "--epochs", "1", "--num-real", "20", "--full-training.epochs", "1")

if __name__ == "__main__":
    smoke = "--smoke" in sys.argv
    sys.exit(main(["apply", "continual", *SPLIT_MNIST, *(SMOKE if smoke else ()), *sys.argv[1:]]))
