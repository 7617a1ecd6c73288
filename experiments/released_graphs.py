"""The graphs that GCond's authors released, as sets of this library, under its protocol.

Paper:     Jin et al. 2022, table 2: Cora 79.8 ± 1.3 (35 nodes), Citeseer 70.5 (30 nodes)
Command:   python experiments/released_graphs.py FOLDER         the folder `saved_ours` of ChandlerBang/GCond
Result:    docs/guides/released_sets.md, results/released-graphs.json
Time:      11 s for each graph of Cora, 30 s for each of Citeseer, one core of an AMD EPYC
"""

import json
import sys
from pathlib import Path
from typing import Annotated

import tyro

import dd_jax as dd
from dd_jax.cli import run_function
from dd_jax.outcomes.nested import nested
from dd_jax.runs.provenance import provenance

NUM_NETS = 5
RATES = {"cora": 0.25, "citeseer": 0.25}  # nodes over labelled ones, as the files have it in their names


def measure(folder: Path, name: str, rate: float) -> dict[str, list[float]]:
    """The accuracies of networks on each released graph of a dataset, by the number of the graph."""
    data = dd.load_dataset(name)
    model = dd.models.gcn(data)
    found = {}
    for features in sorted(folder.glob(f"feat_{name}_{rate}_*.pt")):
        number = features.stem.rpartition("_")[2]
        graph = dd.import_distilled([features, folder / f"adj_{name}_{rate}_{number}.pt"], "gcond", data)
        measured = dd.evaluate(graph, model, data, num_nets=NUM_NETS, num_curve_nets=0)
        print(f"{name} {number}: {measured}", flush=True)
        found[number] = measured.accuracies.tolist()
    return found


def main(
    folder: Annotated[Path, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional] = Path("released-graphs.json"),
    /,
) -> None:
    """Measure them all, and write the accuracies.

    Args:
        folder: with the files that were released.
        out: for the accuracies.
    """
    accuracies = {name: measure(folder, name, rate) for name, rate in RATES.items()}
    for name, graphs in accuracies.items():
        if graphs:
            print(f"{name}: {nested(list(graphs.values()))}")
    out.write_text(json.dumps({"accuracies": accuracies, "made_with": provenance()}, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(run_function(main, __doc__))
