"""Generative teaching networks: a generator whose images teach networks in a few steps.

Paper:     Such et al. 2020, *Generative Teaching Networks*: about 98.9 on MNIST after 32 inner steps of ConvNets of
           random width, with the full curriculum (a curve of the paper; no table has the number)
Command:   python experiments/gtn.py mlp-curriculum       also -shuffled, -noise, -pixels, -real; convnets-...
           python experiments/gtn.py convnets-curriculum --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    these settings have not been measured
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.teaching import teacher_cells

if __name__ == "__main__":
    sys.exit(run_table(teacher_cells(), paper=teacher_cells(paper=True)))
