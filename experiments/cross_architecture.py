"""A set that was distilled for LeNet, on other networks and for more epochs than it was made for.

Paper:     Wang, Zhu, Torralba & Efros 2018, docs/advanced.md of the released code (test_distill_epochs); sets that were
           learnt for one network and used on another are not in the paper
Command:   python experiments/cross_architecture.py runs/mnist-lenet-random       any run of 28- or 32-pixel images
Options:   --num-nets N (200)
Result:    the set of mnist_random_init.py: MLPs 85 to 86, ConvNets 88 to 90 after three epochs; see docs/results.md
"""

import sys

from dd_jax.cli import main

MODELS = ("lenet", "mlp:hidden=(64,)", "mlp", "convnet:width=32,depth=2", "convnet:width=32,depth=2,norm=none")
EPOCHS = (1, 3, 10)

if __name__ == "__main__":
    run, *options = sys.argv[1:] or ["runs/mnist-lenet-random"]
    for model in MODELS:
        for epochs in EPOCHS:
            if status := main(["evaluate", run, "--model", model, "--num-epochs", str(epochs), *options]):
                sys.exit(status)
