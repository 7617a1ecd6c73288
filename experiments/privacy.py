"""What distilled sets of MNIST tell of its images: membership inference, and copies.

Papers:    Carlini et al. 2022 (LiRA); Yeom et al. 2018 (loss threshold); Dong et al. 2022 (privacy of distilled sets)
Command:   python experiments/privacy.py                     or with --dataset cifar10, --method ..., --num-worlds 32
Options:   those of dd-jax apply privacy; --smoke to see it run
Result:    docs/applications/privacy.md
"""

import sys

from dd_jax.cli import main

MNIST = (
    *("--preset", "mnist-dm", "--model", "mlp:hidden=(128,)", "--num-outer-steps", "300", "--eval-every", "300"),
    *("--num-eval-nets", "1", "--epochs", "200"),
)
SMOKE = (
    *("--dataset", "digits", "--num-worlds", "6", "--num-members", "5", "--num-outer-steps", "1", "--eval-every", "1"),
    *("--epochs", "1", "--full-training.epochs", "1"),
)

if __name__ == "__main__":
    smoke = "--smoke" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--smoke"]
    sys.exit(main(["apply", "privacy", *MNIST, *(SMOKE if smoke else ()), *words]))
