"""The scores of a distilled set: DC-BENCH's and DD-Ranking's, each beside random real images by the same protocol.

Papers:    Cui, Wang, Si & Hsieh 2022, DC-BENCH; Li et al. 2025, DD-Ranking (accuracies as fractions)
Command:   python experiments/score.py runs/mine                            as dd-jax score runs/mine
           python experiments/score.py runs/mine --others mlp resnet18 --augments none dsa
Options:   those of dd-jax score; --smoke to see it run
Time:      mostly compiling: every augmentation, learning rate and network is a program of its own. On a CPU take
           --rates 0.01 and few others
"""

import sys

from dd_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(["score", *sys.argv[1:]]))
