"""Addressable memories (RememberThePast): images that are mixtures of bases, learnt through whole trainings.

Paper:     Deng & Russakovsky 2022, *Remember the Past: Distilling Datasets into Addressable Memories for Neural
           Networks*, table 1, at 1 / 10 / 50 images of each class, ConvNet of depth 3 and width 128: MNIST 98.7 /
           99.3 / 99.4, SVHN 87.3 / 91.4 / 92.2, CIFAR-10 66.4 / 71.2 / 73.6, CIFAR-100 34.0 / 42.9, Tiny ImageNet
           16.0 with one
Command:   python experiments/rtp.py mnist-ipc1               also digits, mnist-convnet and cifar10; ipc1, ipc10
           python experiments/rtp.py mnist-ipc1 --images stored           the same with plain images in as much room
           python experiments/rtp.py cifar10-ipc1 --paper                 the paper's settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    MNIST, in the room of 10 images: 94.4 +- 0.5, n=10 networks, ConvNet of width 16 (mnist-convnet-ipc1, 448
           processor seconds; k-means of 40 images 86.3 +- 0.9, class mean 81.2 +- 0.9); 87.7 +- 0.5, MLP of 64 and 64
           (plain images 83.5 +- 1.1, k-means of 40 images 83.9 +- 1.0, class mean 76.7 +- 1.8); digits: 90.7 +- 0.7
           (class mean 86.9 +- 1.2); one seed, about a minute of one core of an AMD EPYC, 29 November 2026. CIFAR-10,
           width 32: 41.3 +- 0.6, n=5 networks (k-means of as many images 27.8 +- 0.9), 1,800 outer steps in 1 h 37 min
           of one core, 30 November 2026; see docs/methods/bptt.md
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.bptt import bptt_cells

if __name__ == "__main__":
    sys.exit(run_table(bptt_cells("rtp"), paper=bptt_cells("rtp", paper=True)))
