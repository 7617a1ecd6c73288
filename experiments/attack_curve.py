"""How often an attack succeeds for the harm it does, beside real images that are labelled alike, at any step size.

Paper:     Wang et al. 2018 give real images one step size; which one decides how such a comparison ends
Command:   python experiments/attack_curve.py runs/mnist-attack        a run of attack.py
Options:   --num-nets N (held-out networks), --num-sets N (random sets), --num-sizes N, --losses POINTS ...
Result:    MNIST, a hundred images, at 5 / 10 / 15 points that the other classes lose: see docs/results.md

Every set is tried at many step sizes, the distilled one at multiples of its own. The table says how often it succeeds
where the other classes have lost so many points on average, in between linearly. Nothing is chosen here, except for the
best of the random sets: it is chosen on test, which favours it.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

import dd_jax as dd
from dd_jax.cli import run_function
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled
from dd_jax.runs.load_run import load_run
from dd_jax.runs.progress import note, table
from dd_jax.storage.files import write_json

FACTORS = (0.35, 2.0)  # of the distilled set's own step size, ...
STEP_SIZES = (0.01, 0.07)  # ... and step sizes of real images: from and to


@dataclasses.dataclass(frozen=True)
class Options:
    """What is compared."""

    run: tyro.conf.Positional[Path] = Path("runs/mnist-attack")
    """Run directory of an attack on pretrained networks."""
    num_nets: int = 20
    """Held-out networks."""
    num_sets: int = 10
    """Sets of random real images."""
    num_sizes: int = 12
    """Step sizes that each set is tried at."""
    losses: tuple[float, ...] = (5.0, 10.0, 15.0)
    """Points of accuracy that the other classes lose."""


def success_at(curve: np.ndarray, losses: tuple[float, ...]) -> list[float]:
    """Success, in between linearly, of a curve (sizes, 2) of losses and successes; NaN beyond its ends."""
    lost, succeeded = curve[np.argsort(curve[:, 0])].T
    return [float(np.interp(loss, lost, succeeded, left=np.nan, right=np.nan)) for loss in losses]


def main(options: Annotated[Options, tyro.conf.arg(name="")]) -> None:
    """Measure, print the table and leave it in the run directory."""
    distilled, model, data, networks = load_run(options.run)
    if distilled.protocol.attack is None:
        raise dd.OptionError(f"{options.run} is not an attack; see experiments/attack.py for one.")
    shape = SetShape.of(distilled, data.num_classes)

    def harm(candidate: dd.DistilledData, num_epochs: int | None = None) -> np.ndarray:
        """Points that the other classes lose, to those before, and how often it succeeds in per cent."""
        found = dd.evaluate(
            candidate, model, data, num_nets=options.num_nets, num_epochs=num_epochs, pretrained=networks,
            num_curve_nets=0,
        )  # fmt: skip
        return 100 * np.array([-found.measures["others"].mean(), found.measures["success"].mean()])

    sizes = np.geomspace(*STEP_SIZES, options.num_sizes).tolist()
    before = harm(distilled, num_epochs=0)[0]
    curves: dict[str, list[np.ndarray]] = {"distilled": []}
    for factor in np.geomspace(*FACTORS, options.num_sizes).tolist():
        curves["distilled"].append(harm(dataclasses.replace(distilled, step_sizes=factor * distilled.step_sizes)))
    for kind, count in {"random real": options.num_sets, "class mean": 1, "k-means": 1}.items():
        for seed in range(count):
            images = MAKERS[kind](data, shape.per_class, seed)
            name = f"{kind} {seed}" if count > 1 else kind
            curves[name] = [harm(as_distilled(images, shape, size, distilled.protocol)) for size in sizes]
        note(f"  {kind}: done")

    found = {name: success_at(np.stack(curve) - [before, 0], options.losses) for name, curve in curves.items()}
    random = np.array([found.pop(name) for name in list(found) if name.startswith("random real")])
    found |= {"random real": random.mean(0).tolist(), "best of random, chosen on test": random.max(0).tolist()}
    columns = [f"{loss:g} points lost" for loss in options.losses]
    lines = [(name, *(f"{value:.1f} %" for value in values)) for name, values in found.items()]
    table(f"Success where the other classes have lost so much, {options.num_nets} networks", ("set", *columns), lines)
    record = {"losses": options.losses, "success": found, "num_nets": options.num_nets, "num_sets": options.num_sets}
    write_json(options.run / "attack_curve.json", record)
    note(f"Written to {options.run / 'attack_curve.json'}")


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
