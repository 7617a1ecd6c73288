"""The scores of a distilled set: DC-BENCH's and DD-Ranking's, each beside random real images by the same protocol.

Papers:    Cui, Wang, Si & Hsieh 2022, DC-BENCH; Li et al. 2025, DD-Ranking (accuracies as fractions)
Command:   python experiments/score.py runs/mine                            a run, or a distilled set with --dataset
           python experiments/score.py runs/mine --others mlp resnet18 --augments none dsa
Options:   --help; --out FILE for a json; --smoke to see it run
Time:      mostly compiling: every augmentation, learning rate and network is a program of its own. On a CPU take
           --rates 0.01 and few others
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro

import dd_jax as dd
from dd_jax.evaluation import DCBench, DDRanking, Evaluation
from dd_jax.evaluation.protocols import minibatches
from dd_jax.evaluation.scores import RATES
from dd_jax.runs.load_run import load_set, made, with_notes
from dd_jax.storage.files import write_json


@dataclasses.dataclass(frozen=True)
class Options:
    """What to score, and how."""

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere."""
    dataset: str | None = None
    """Real data, as for dd-jax distill; needed where the set has no run."""
    model: str | None = None
    """Network; None: the one that the set was distilled for."""
    others: tuple[str, ...] = ("mlp", "convnet:width=32,depth=2")
    """Networks for the transfer average."""
    augments: tuple[str, ...] = ("none", "dsa")
    """Augmentations, the last one is DD-Ranking's; for digits none dsa_no_flip. DC-BENCH's are none auto_augment
    rand_augment imagenet dsa."""
    rates: tuple[float, ...] = RATES
    """Learning rates, of which validation chooses in DD-Ranking."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets that they are spread over."""
    epochs: int | None = None
    """In place of those of the protocols."""
    out: Path | None = None
    """A json to write the scores to."""
    smoke: bool = False
    """One network, one epoch, one of each."""


def score(options: Options) -> tuple[DCBench, DDRanking]:
    """Both scores of the set."""
    distilled, model, data, _ = load_set(options.path, options.dataset, options.model)
    others = {name: made(name, data) for name in options.others}
    counts: dict[str, Any] = {"num_nets": options.num_nets, "num_sets": options.num_sets}
    bench = dd.dc_bench(
        distilled, model, data, others=others, augments=options.augments, epochs=options.epochs, **counts
    )
    training = minibatches("dc")
    training = dataclasses.replace(training, epochs=options.epochs or training.epochs)
    full = dd.Training(epochs=1) if options.smoke else None
    counts |= {"augment": options.augments[-1], "rates": options.rates}
    return bench, dd.dd_ranking(distilled, model, data, training=training, full_training=full, **counts)


def plain(bench: DCBench, ranking: DDRanking) -> dict[str, Any]:
    """All numbers for a json: accuracies as fractions."""

    def of(found: Evaluation) -> dict[str, Any]:
        return {"mean": found.mean, "std": found.std, "n": found.n}

    def both(results: Any) -> dict[str, Any]:
        return {name: {"distilled": of(own), "random real": of(random)} for name, (own, random) in results.items()}

    parts = ("full", "hard", "distilled", "random_real", "distilled_augmented", "random_augmented")
    transfer = bench.transfer
    return {
        "storage_bytes": bench.num_bytes,
        "dc-bench": {
            "best": bench.best,
            "average": bench.average,
            "random average": bench.random_average,
            "augmentation": bench.chosen,
            "transfer average": None if transfer is None else transfer.mean,
            "random transfer average": None if transfer is None else transfer.random_mean,
            "by augmentation": both(bench.results),
            "by network": {} if transfer is None else both(transfer.results),
        },
        "dd-ranking": {
            **{name: getattr(ranking, name) for name in ("lrs", "ars", "hlr", "ior", "rates")},
            **{name: of(getattr(ranking, name)) for name in parts},
        },
    }


def tell(found: Any, indent: str = "") -> None:
    """Print nested numbers, one in a line."""
    for name, value in found.items():
        if isinstance(value, dict) and set(value) == {"mean", "std", "n"}:
            print(f"{indent}{name}: {100 * value['mean']:.1f} ± {100 * value['std']:.1f} % (n={value['n']})")
        elif isinstance(value, dict):
            print(f"{indent}{name}:")
            tell(value, indent + "    ")
        else:
            print(f"{indent}{name}: {f'{value:.4f}' if isinstance(value, float) else value}")


def main(options: Options) -> None:
    """Measure, tell and keep."""
    if options.smoke:
        small: dict[str, Any] = {"others": options.others[:1], "augments": ("none",), "rates": (0.01,)}
        options = dataclasses.replace(options, num_nets=1, num_sets=1, epochs=1, **small)
    found = plain(*with_notes(lambda: score(options)))
    tell(found)
    if options.out is not None:
        write_json(options.out, found)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
