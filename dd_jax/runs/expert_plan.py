"""What expert trajectories are to be made: their index, how large they are, and what is there already."""

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax

from dd_jax import models
from dd_jax.errors import DataError, RunError
from dd_jax.inner import Training, check_every, steps_per_epoch
from dd_jax.models import Model
from dd_jax.runs.directory import refuse_difference
from dd_jax.runs.places import followed
from dd_jax.runs.pretrain import training_record
from dd_jax.runs.progress import note
from dd_jax.runs.provenance import provenance
from dd_jax.storage.expert_files import FORMAT, INDEX, expert_bytes, read_index, sha256_of, write_index
from dd_jax.storage.files import disk_errors, plain
from dd_jax.types import Dataset


class Plan(NamedTuple):
    """What is made. about: the index, without its networks; every, snapshots: steps between two, and their number."""

    about: dict[str, Any]
    every: int
    snapshots: int
    num_bytes: int
    seed: int


def planned(model: Model, dataset: Dataset, training: Training, every: int | None, seed: int, dtype: str) -> Plan:
    """The plan; OptionError for an `every` that doesn't divide the steps of an epoch."""
    per_epoch = steps_per_epoch(training, len(dataset.train.labels))
    every = per_epoch if every is None else every
    check_every(every, per_epoch)
    snapshots = 1 + training.epochs * per_epoch // every
    config = plain(
        {
            "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
            "model": {"name": model.name, **models.architecture(model)},
            "training": training_record(dataclasses.asdict(training)),
            "seed": seed,
            "every": every,
            "dtype": dtype,
        }
    )
    index = {
        "format": FORMAT,
        "name": f"{dataset.name}-{model.name}",
        "model": model.name,
        "settings": models.architecture(model),
        "image_shape": model.image_shape,
        "num_classes": model.num_classes,
        "dtype": dtype,
        "split": "validation" if len(dataset.validation.labels) else "train",
        "epochs": [i * every / per_epoch for i in range(snapshots)],
        "training": config,
        "made_with": provenance(),
    }
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return Plan(plain(index), every, snapshots, expert_bytes(shapes, snapshots, dtype), seed)


def claim(out: Path, index: Mapping[str, Any]) -> dict[int, Any]:
    """The networks that `out` has, by number; RunError if it holds something else. A new folder gets its index."""
    with disk_errors("use the folder of the experts", out):
        out.mkdir(parents=True, exist_ok=True)
        if not (out / INDEX).is_file():
            others = [entry.name for entry in out.iterdir() if not entry.name.startswith(".")]
            if others:
                raise RunError(
                    f"{out} is not a folder of experts: it has no {INDEX}, but holds {others[0]!r}. Choose "
                    "another folder."
                )
            write_index(out, {**index, "experts": []})
        elif not read_index(out)["experts"]:  # of a start that failed: nothing is lost
            write_index(out, {**index, "experts": []})
    there = read_index(out)
    remedy = "Choose another folder, or delete this one."
    config = {**there["training"], "training": training_record(there["training"].get("training") or {})}
    config, _ = followed(config, index["training"])
    refuse_difference(config, dict(index["training"]), f"{out} holds other experts", remedy)
    rows = {}
    for row in there["experts"]:
        path = out / row["file"]
        number = path.stem.removeprefix("expert-")
        if not number.isdigit() or path.name != file_of(int(number)):
            raise DataError(
                f"{out / INDEX} is damaged: {path.name!r} is not a file of an expert. Delete the folder to start again."
            )
        if path.is_file() and sha256_of(path) == row["sha256"]:
            rows[int(number)] = row
        else:
            note(f"{path} is missing or damaged. Making it again.")
    return rows


def check_disk(out: Path, plan: Plan, missing: int, num_experts: int) -> None:
    """Say what the networks take on the disk; RunError if there is no room for them."""
    need, free = missing * plan.num_bytes, shutil.disk_usage(out).free
    rest = "" if missing == num_experts else f"; {num_experts - missing} of {num_experts} are done"
    what = f"{missing} experts with {plan.snapshots} snapshots each take {_size(need)} in {out}"
    if need > free:
        raise RunError(
            f"{what}, but its disk has only {_size(free)} left. Lower num_experts or the epochs (max_start + "
            "expert_epochs are used), raise every, use dtype bfloat16 for half the size, or choose another "
            "folder."
        )
    note(f"{what} ({_size(free)} left on the disk){rest}.")


def file_of(number: int) -> str:
    return f"expert-{number:06d}.safetensors"


def _size(count: int) -> str:
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{count} bytes"
