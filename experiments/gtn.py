"""Generative teaching networks: a generator whose images teach networks in a few steps.

Paper:     Such et al. 2020, *Generative Teaching Networks*: about 98.9 on MNIST after 32 inner steps of ConvNets of
           random width, with the full curriculum (a curve of the paper; no table has the number)
Command:   python experiments/gtn.py mlp-curriculum       also -shuffled, -noise, -pixels, -real; convnets-...
           python experiments/gtn.py convnets-curriculum --paper         the paper's own settings, for a GPU
Options:   those of dd-jax distill; --smoke to see it run
Result:    mlp-curriculum: 88.9 +- 0.4, n=20 networks, and 91.8 +- 0.3 with --num-outer-steps 4000 --eval-every 500;
           pixels 88.5 +- 0.7, shuffled 84.7 +- 1.2, noise 83.0 +- 1.1, real 82.0 +- 1.8 (random real images at their
           best step 78.0 +- 2.6, k-means 82.6 +- 1.3, nearest neighbours 85.2 +- 0.5); one seed, 422 s of two busy
           cores of an AMD EPYC, 29 November 2026; see docs/methods/generative_teaching.md. ConvNets of
           widths 8, 12, 16: pixels 96.1 +- 0.3 for width 16 in 10 min, curriculum 91.9 +- 0.2 (random real 88.5
           +- 1.0). The paper's settings are not measured
"""

import sys

from dd_jax.cli import run_table
from dd_jax.presets.teaching import teacher_cells

if __name__ == "__main__":
    sys.exit(run_table(teacher_cells(), paper=teacher_cells(paper=True)))
