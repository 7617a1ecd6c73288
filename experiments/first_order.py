"""How far TESLA's first-order gradient is from the exact one of trajectory matching.

Paper:     Cui et al. 2023, *Scaling Up Dataset Distillation to ImageNet-1K with Constant Memory*, section 3.2
Command:   python experiments/first_order.py                 digits; experts are made first
           python experiments/first_order.py --preset mnist-mtt --inner-steps 1 20
Result:    digits, 10 images, MLP of 64 units, at the start: cosine with the exact gradient 1 for one inner step, 0.99
           +- 0.01 for 5 and 0.91 +- 0.05 for 20, and 1, 1.15 and 1.44 times as long; n=8 windows, 30 November 2026
"""

import dataclasses
import sys
from typing import Annotated, Any

import jax
import numpy as np
import tyro

import dd_jax as dd
from dd_jax import models
from dd_jax.cli import run_function
from dd_jax.methods import TrajectoryMatchingOptions
from dd_jax.methods.trajectory_loss import trajectory_gradient
from dd_jax.methods.trajectory_matching import images_of
from dd_jax.presets import preset
from dd_jax.runs.networks import networks_file
from dd_jax.runs.progress import table


@dataclasses.dataclass(frozen=True)
class Options:
    """Of which experiment, and how often."""

    preset: str = "digits-mtt"
    """An experiment of trajectory matching; its inner steps are replaced."""
    inner_steps: tuple[int, ...] = (1, 5, 20)
    """Numbers of inner steps."""
    windows: int = 8
    """Starts of experts, each with images of its own."""


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """A row for each number of inner steps."""
    experiment = preset(options.preset)
    assert isinstance(experiment.method, TrajectoryMatchingOptions)
    name, settings = models.parse_model(experiment.model or "mlp")
    dataset = dd.load_dataset(experiment.dataset, zca=experiment.zca)
    model = models.make(name, dataset, **settings)
    experts = dd.load_experts(networks_file(str(experiment.experts)))
    synthetic = images_of(model, experiment.method)
    rows = []
    for steps in options.inner_steps:
        given = dataclasses.replace(experiment.method, num_inner_steps=steps, remat="steps")
        exact, first_order = (
            jax.jit(trajectory_gradient(model, synthetic, dataclasses.replace(given, gradient=kind)))
            for kind in ("exact", "first_order")
        )

        def of_images(gradient: Any, window: int, given: TrajectoryMatchingOptions = given) -> np.ndarray:
            start = given.min_start + window % (given.max_start - given.min_start)
            pair = experts.read(window % len(experts.accuracies), [start, start + given.expert_epochs])
            ends = [jax.tree.map(lambda leaf, i=i: leaf[i], pair) for i in range(2)]
            key = jax.random.key(window)
            return np.ravel(jax.tree.leaves(gradient(synthetic.init(key, dataset), key, *ends)[1])[0])

        pairs = [[of_images(gradient, w) for gradient in (exact, first_order)] for w in range(options.windows)]
        lengths = np.array([[np.linalg.norm(gradient) for gradient in pair] for pair in pairs])
        cosines = np.array([a @ b for a, b in pairs]) / lengths.prod(1)
        longer = lengths[:, 1] / lengths[:, 0]
        rows.append((str(steps), f"{cosines.mean():.3f} ± {cosines.std():.3f}", f"{longer.mean():.2f}"))
    head = ("inner steps", "cosine with the exact gradient", "times as long")
    table(f"The first-order gradient of images, {options.preset} (n={options.windows} windows)", head, rows)


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
