"""How much a set depends on its order: sets learnt in a fixed and in a random order, each used in several ways.

Paper:     Wang, Zhu, Torralba & Efros 2018 learn batches in a fixed order. Users of the released code found a set for a
           known network to fall from 96.5 % to 62 % when its images are shuffled (its issue 36)
Command:   python experiments/random_order.py                                      or some of the names in SETS
Options:   those of dd-jax distill; --smoke to see it run. Runs that are finished are used as they are
Result:    "Fixed and random order" in docs/results.md
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any, Literal, TypeAlias

from dd_jax.cli import main, run_table
from dd_jax.presets import PRESETS
from dd_jax.runs.experiment import Experiment

Order: TypeAlias = Literal["fixed", "random"]
ORDERS: tuple[Order, ...] = ("fixed", "random")
WAYS = (["--order", "fixed"], ["--order", "random"], ["--protocol", "dc"], ["--protocol", "dsa-digits"])


def in_order(preset: str, order: Order, **changes: Any) -> Experiment:
    """A preset, its images learnt in this order."""
    method = dataclasses.replace(PRESETS[preset].method, **{"order": order, **changes})
    return dataclasses.replace(PRESETS[preset], method=method, num_nets=20)


KNOWN: dict[str, Any] = {"num_batches": 10, "init_step_size": 0.02}
SETS = {
    **{f"mnist-random-{order}-order": in_order("mnist-random-init", order) for order in ORDERS},
    **{
        f"mnist-known-{order}-order": dataclasses.replace(
            in_order("mnist-fixed-init", order, **KNOWN), num_outer_steps=3000
        )
        for order in ORDERS
    },
}

if __name__ == "__main__":
    if status := run_table(SETS, paper=SETS):
        sys.exit(status)
    names = [word for word in sys.argv[1:] if word in SETS] or list(SETS)
    folder = Path(sys.argv[sys.argv.index("--out") + 1] if "--out" in sys.argv else "runs")
    ways, nets = (WAYS[:2], "1") if "--smoke" in sys.argv else (WAYS, "10")
    for name in names:
        for way in ways:
            print(f"{name}, used with {' '.join(way)}:", flush=True)
            if status := main(["train", str(folder / name), "--num-nets", nets, *way]):
                sys.exit(status)
