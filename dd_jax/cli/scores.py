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
    """Score a distilled set by DC-BENCH and DD-Ranking, each time beside random real images by the same protocol.

    Most of the time is compiling: every augmentation, learning rate and network is a program of its own. On a CPU take
    one of --rates, and few others.
    """

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere: its folder or json file."""
    model: str | None = None
    """Network, with settings after a colon; None: the one that the set was distilled for."""
    others: tuple[str, ...] = ("mlp", "convnet:width=32,depth=2")
    """Networks for the transfer average."""
    augments: tuple[str, ...] | None = None
    """Augmentations, the last one is DD-Ranking's; None: none and dsa, without mirrors where the set's protocol has
    none. DC-BENCH's are none auto_augment rand_augment imagenet dsa."""
    rates: tuple[float, ...] = RATES
    """Learning rates, of which validation chooses in DD-Ranking."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets that they are spread over."""
    epochs: int | None = None
    """In place of those of the protocols, 300 without augmentation and 1,000 with one."""
    dataset: str | None = None
    """Real data, as for `dd-jax distill`; needed where the set has no run."""
    out: Path | None = None
    """File for the scores; None for scores.json beside the set."""
    smoke: bool = False
    """One network, one epoch, one of each, to see it run."""


@dataclasses.dataclass(frozen=True)
class TransferTo:
    """Train other networks on a distilled set than the one it was distilled for, each beside random real images."""

    path: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a distilled set from elsewhere: its folder or json file."""
    models: tuple[str, ...] = ("mlp", "convnet:width=32,depth=2")
    """Networks, with settings after a colon, besides the set's own."""
    protocol: str | None = None
    """How they are trained, as for `dd-jax train`; None: the set's own protocol."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets that they are spread over."""
    epochs: int | None = None
    """Passes through the images, in place of those of a protocol from scratch."""
    dataset: str | None = None
    """Real data, as for `dd-jax distill`; needed where the set has no run."""
    out: Path | None = None
    """File for the table; None for transfer.json beside the set."""


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
