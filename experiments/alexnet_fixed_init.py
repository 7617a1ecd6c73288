"""AlexNet with ImageNet weights learns PASCAL VOC or CUB-200 from one image per class, in 1 step x 3 epochs.

Paper:     Wang, Zhu, Torralba & Efros 2018, section 4.2, adaptation of AlexNet to PASCAL-VOC and CUB-200
Command:   python experiments/alexnet_fixed_init.py voc-alexnet         or cub200-alexnet; both without a name
Options:   those of dd-jax distill; --paper for the paper's own settings; --smoke to see it run
Needs:     a GPU; voc/2007 or caltech_birds2011 prepared by TFDS; torchvision's weights in nets/:
           curl -o nets/alexnet-owt-7be5be79.pth https://download.pytorch.org/models/alexnet-owt-7be5be79.pth
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets import PRESETS

NAMES = ("voc-alexnet", "cub200-alexnet")

if __name__ == "__main__":
    sys.exit(run_table({n: PRESETS[n] for n in NAMES}, paper={n: PRESETS[f"{n}-paper"] for n in NAMES}))
