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
    """Distil with several seeds, one after another. Programs are compiled only for the first one.

    Args:
        seeds: seeds of the distillations, each from 0 to 2**63 - 1 and none twice.
        out: a folder with a directory for each run: "seed0", "seed1". Finished runs return at once.
        options: further arguments of `distill`.

    Returns the runs in the order of their seeds.

    Raises:
        OptionError: for a bad seed, or the same seed twice. The first run that fails raises what `distill` raises.
    """
    seeds = [check_seed(seed) for seed in seeds]
    if len(set(seeds)) < len(seeds):
        raise OptionError(f"The seeds should differ, but are {', '.join(map(str, seeds))}.")
    folders = [None if out is None else Path(out) / f"seed{seed}" for seed in seeds]
    shared: dict[str, Any] = {"num_outer_steps": num_outer_steps, **options}
    return [distill(method, dataset, seed=seed, out=to, **shared) for seed, to in zip(seeds, folders, strict=True)]
