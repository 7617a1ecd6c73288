"""Architecture search on MNIST at 14 x 14 pixels: small ConvNets ranked by what they learn from a distilled set.

Papers:    Zhao et al. 2021, section 4.4 (720 ConvNets on CIFAR-10); Cui et al. 2022, DC-BENCH, who found rank
           correlations of about zero for every method at 50 images per class
Command:   python experiments/nas.py                           distils a set first, with the preset mnist-dm
           python experiments/nas.py runs/mine runs/other      sets that are there
Options:   those of dd-jax apply nas; --smoke to see it run
Result:    docs/applications/architecture_search.md
"""

import sys
from pathlib import Path

from dd_jax.cli import main

SEARCH = (
    *("--space.activations", "sigmoid", "relu", "--space.poolings", "max", "avg", "--num-candidates", "72"),
    *("--epochs", "100", "--num-real", "2500", "--full-training.epochs", "6", "--full-training.batch-size", "64"),
)
SMOKE = (
    *("--space.widths", "4", "--space.depths", "1", "--space.norms", "none", "instance"),
    *("--space.activations", "relu", "--space.poolings", "max", "avg", "--num-nets", "1", "--num-full-nets", "1"),
    *("--epochs", "1", "--num-real", "100", "--full-training.epochs", "1"),
)

if __name__ == "__main__":
    words = [word for word in sys.argv[1:] if word != "--smoke"]
    smoke = "--smoke" in sys.argv
    if {"-h", "--help"} & set(words):
        sys.exit(main(["apply", "nas", "--help"]))
    if not words or words[0].startswith("-"):
        run = str(Path("runs") / "nas-set")
        distil = ["distill", "--preset", "mnist-dm", "--image-size", "14", "--num-nets", "5", "--out", run]
        if status := main([*distil, *(["--smoke"] if smoke else [])]):
            sys.exit(status)
        words = [run, *words]
    count = next((i for i, word in enumerate(words) if word.startswith("-")), len(words))
    sys.exit(main(["apply", "nas", *words[:count], *(SMOKE if smoke else SEARCH), *words[count:]]))
