"""One distillation with several seeds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dd_jax.errors import OptionError
from dd_jax.methods import Method
from dd_jax.runs.loop import Run, distill
from dd_jax.seeds import check_seed
from dd_jax.types import Dataset


def distill_many(
    method: Method,
    dataset: Dataset,
    *,
    seeds: Sequence[int],
    num_outer_steps: int,
    out: str | Path | None = None,
    **options: Any,
) -> list[Run]:
    """`distill` with several seeds, one after another; programs are compiled for the first one only.

    Args:
        seeds: of the distillations, each from 0 to 2**63 - 1 and none twice.
        out: a folder, in which each run has a directory: "seed0", "seed1"; those that are finished return at once.
        options: of `distill`.

    Returns the runs in the order of their seeds.

    Raises:
        OptionError: for seeds that are none, or twice the same; and what `distill` raises, at the first run that does.
    """
    seeds = [check_seed(seed) for seed in seeds]
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"The seeds should be different ones, but are {', '.join(map(str, seeds))}.")
    folders = [None if out is None else Path(out) / f"seed{seed}" for seed in seeds]
    shared: dict[str, Any] = {"num_outer_steps": num_outer_steps, **options}
    return [distill(method, dataset, seed=seed, out=to, **shared) for seed, to in zip(seeds, folders, strict=True)]
