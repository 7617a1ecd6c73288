"""The commands that score a distilled set by published benchmarks, and on other networks."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

from dd_jax.cli.options import parse
from dd_jax.evaluation.scores import RATES
from dd_jax.inner import Training


@dataclasses.dataclass(frozen=True)
class Score:
    """Score a distilled set by DC-BENCH and DD-Ranking, beside random real images by the same protocol.

    Compiling takes most of the time: every augmentation, learning rate and network is a program of its own. On a CPU
    give one of --rates, few --augments and few --others.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere: its folder or json file."""
    model: str | None = None
    """Network, with settings after a colon. None: the network that the set was distilled for."""
    others: tuple[str, ...] = ("mlp", "convnet:width=32,depth=2")
    """Networks for the transfer average."""
    augments: tuple[str, ...] | None = None
    """Augmentations; DD-Ranking takes the last one. None: none and dsa, without mirrors if the set's protocol has none.
    DC-BENCH's are none auto_augment rand_augment imagenet dsa."""
    rates: tuple[float, ...] = RATES
    """Learning rates to choose from on validation, for DD-Ranking."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets to spread the networks over."""
    epochs: int | None = None
    """Epochs, in place of the protocols' 300 without augmentation and 1,000 with one."""
    dataset: str | None = None
    """Real data, as for `dd-jax distill`. Needed if the set has no run."""
    out: Path | None = None
    """File for the scores. None: scores.json beside the set."""
    smoke: bool = False
    """Run a tiny version: one network, one epoch, and one of everything else."""


@dataclasses.dataclass(frozen=True)
class TransferTo:
    """Train other networks on a distilled set than its own, each beside random real images."""

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere: its folder or json file."""
    models: tuple[str, ...] = ("mlp", "convnet:width=32,depth=2")
    """Networks to add to the set's own, with settings after a colon."""
    protocol: str | None = None
    """Training of the networks, as for `dd-jax train`. None: the set's own protocol."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets to spread the networks over."""
    epochs: int | None = None
    """Passes through the images, in place of the number of a protocol from scratch."""
    dataset: str | None = None
    """Real data, as for `dd-jax distill`. Needed if the set has no run."""
    out: Path | None = None
    """File for the table. None: transfer.json beside the set."""


def score(argv: Sequence[str]) -> None:
    """dd-jax score: DC-BENCH's and DD-Ranking's scores of a set."""
    from dd_jax.runs.scoring import score

    options = parse(Score, argv, "dd-jax score")
    full = None
    if options.smoke:
        full = Training(epochs=1)
        options = dataclasses.replace(
            options, num_nets=1, num_sets=1, epochs=1, others=options.others[:1], augments=("none",), rates=(0.01,)
        )
    given = dict(vars(options))
    given.pop("smoke")
    score(**given, full_training=full)


def transfer(argv: Sequence[str]) -> None:
    """dd-jax transfer: a set on other networks."""
    from dd_jax.runs.scoring import transfer

    transfer(**vars(parse(TransferTo, argv, "dd-jax transfer")))
