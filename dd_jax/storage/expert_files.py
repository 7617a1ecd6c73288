"""Expert trajectories on disk: a folder with one safetensors file for each network, and an index.

expert-000007.safetensors   tensors LAYER/WEIGHT with a leading axis over snapshots, float32 or bfloat16
index.json                  architecture, training, dataset; of each network its file, its SHA-256 and its accuracies

Opening reads the index and the headers of the files; weights are read when asked for, and only those.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax import models
from dd_jax.errors import DataError, DDJaxError, OptionError, RunError
from dd_jax.models import Shapes
from dd_jax.storage.files import atomic_write, disk_errors, hash_json, plain, read_json, write_json
from dd_jax.storage.pretrained import named
from dd_jax.types import Experts, Networks, Params

INDEX = "index.json"
FORMAT = 1
DTYPES = {"float32": "F32", "bfloat16": "BF16"}  # of stored weights, as safetensors calls them
_BYTES = {"float32": 4, "bfloat16": 2}

_FIELDS = {
    "format": int,
    "name": str,
    "model": str,
    "settings": dict,
    "image_shape": list,
    "num_classes": int,
    "dtype": str,
    "split": str,
    "epochs": list,
    "training": dict,
    "experts": list,
}
_ROW = {"file": str, "bytes": int, "sha256": str, "accuracies": list}


def load_experts(folder: str | Path, *, verify: bool = False) -> Experts:
    """The expert trajectories in `folder`, which `pretrain_experts` or `dd-jax pretrain --snapshots` wrote.

    Nothing in any file is executed, and no weights are read before they are asked for.

    Args:
        verify: whether to read all files and compare them with their checksums; without it their headers and sizes are.

    Raises:
        DataError: if there are none, or if they are damaged or of an architecture that can't be built.
    """
    folder = Path(folder).expanduser()
    index = read_index(folder)
    rows, shapes = index["experts"], _template(folder, index)
    if not rows:
        raise DataError(f"{folder} has no experts yet. Train them with the same dd-jax pretrain --snapshots command.")
    for row in rows:
        _check_file(folder / row["file"], row, index, shapes)
        if verify and sha256_of(folder / row["file"]) != row["sha256"]:
            raise DataError(f"{folder / row['file']} is damaged: its checksum differs. {_REMEDY}")

    def read(expert: int, snapshots: Sequence[int]) -> Networks:
        return _read(folder / rows[expert]["file"], shapes, snapshots)

    return Experts(
        index["name"],
        index["model"],
        index["settings"],
        tuple(index["image_shape"]),
        index["num_classes"],
        index["training"]["dataset"]["fingerprint"],
        np.asarray([row["accuracies"] for row in rows], np.float32),
        index["split"],
        np.asarray(index["epochs"], np.float32),
        read,
        sum(row["bytes"] for row in rows),
        index["training"],
        hash_json([row["sha256"] for row in rows])[:16],
    )


def save_expert(path: Path, snapshots: Networks, dtype: str) -> dict[str, Any]:
    """Write a network's snapshots (leaves with a leading axis) in one go; what the index says of the file."""
    from safetensors.numpy import save

    tensors = {name: np.ascontiguousarray(leaf, jnp.dtype(dtype)) for name, leaf in named(snapshots).items()}
    data = save(tensors)
    with disk_errors("keep the snapshots of a network", path.parent):
        atomic_write(path, lambda file: file.write(data))
    return {"file": path.name, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def read_index(folder: Path) -> dict[str, Any]:
    """What the index of a folder of experts says; DataError if there is none, or if it is damaged."""
    if not (folder / INDEX).is_file():
        raise DataError(
            f"There are no expert trajectories in {folder}: it has no {INDEX}. Make some with dd-jax pretrain "
            "--snapshots --out FOLDER."
        )
    try:
        index = read_json(folder / INDEX)
    except RunError as error:
        raise DataError(f"{error} {_REMEDY}") from error
    _check_fields(folder, index, _FIELDS)
    if index["format"] != FORMAT:
        raise DataError(
            f"{folder} has format {index['format']}, but this version of dd_jax reads {FORMAT}. Update dd_jax."
        )
    sizes = (*index["image_shape"], index["num_classes"])
    numbers = [type(number) in (int, float) for number in index["epochs"]]
    dataset = index["training"].get("dataset")
    if (
        len(sizes) != 4
        or not all(type(size) is int and size > 0 for size in sizes)
        or index["dtype"] not in DTYPES
        or not numbers
        or not all(numbers)
        or not isinstance(dataset, dict)
        or not isinstance(dataset.get("fingerprint"), str)
    ):
        raise DataError(f"{folder / INDEX} is damaged: it doesn't describe expert trajectories. {_REMEDY}")
    for row in index["experts"]:
        _check_fields(folder, row, _ROW)
        if len(row["accuracies"]) != len(index["epochs"]) or Path(row["file"]).name != row["file"]:
            raise DataError(f"{folder / INDEX} is damaged: found {row!r:.200} for a network. {_REMEDY}")
    return index


def write_index(folder: Path, index: Mapping[str, Any]) -> None:
    """Write the index in one go."""
    with disk_errors("write the index of the experts", folder):
        write_json(folder / INDEX, index)


def expert_bytes(params: Params, snapshots: int, dtype: str) -> int:
    """Bytes of the weights of one network at so many snapshots, of its shapes or arrays."""
    return snapshots * _BYTES[dtype] * sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def describe_experts(folder: str | Path) -> dict[str, Any]:
    """What is known of the experts in a folder, as plain values."""
    experts = load_experts(folder)
    about = ("name", "model", "settings", "image_shape", "num_classes", "training", "fingerprint", "num_bytes")
    along = {
        f"{epoch:g} epochs": float(mean) for epoch, mean in zip(experts.epochs, experts.accuracies.mean(0), strict=True)
    }
    return plain({**{name: getattr(experts, name) for name in about}, "networks": len(experts.accuracies),
                  f"mean accuracy on {experts.split} after": along})  # fmt: skip


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_REMEDY = "Put back a copy, or run the same dd-jax pretrain --snapshots again: it makes what is damaged or missing."


def _check_fields(folder: Path, found: Any, fields: Mapping[str, type]) -> None:
    for field, kind in fields.items():
        if not isinstance(found, dict) or not isinstance(found.get(field), kind):
            raise DataError(
                f"{folder / INDEX} is damaged: it should have {field!r}, a {kind.__name__}; found {found!r:.200}. "
                f"{_REMEDY}"
            )


def _template(folder: Path, index: Mapping[str, Any]) -> Params:
    """Shapes of one network's parameters."""
    try:
        spec = Shapes(tuple(index["image_shape"]), index["num_classes"])
        model = models.make(index["model"], spec, **index["settings"])
        return jax.eval_shape(model.init, jax.random.key(0))
    except (DDJaxError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{folder} is for a network that can't be built: {error}") from error


def _check_file(path: Path, row: Mapping[str, Any], index: Mapping[str, Any], shapes: Params) -> None:
    """DataError unless the file has the size that the index says, and the tensors of the network."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path} is missing. {_REMEDY}")
    if path.stat().st_size != row["bytes"]:
        raise DataError(f"{path} should have {row['bytes']:,} bytes, but has {path.stat().st_size:,}. {_REMEDY}")
    count, dtype = len(index["epochs"]), DTYPES[index["dtype"]]
    expected = {name: ([count, *leaf.shape], dtype) for name, leaf in named(shapes).items()}
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} can't be read: {error}. {_REMEDY}") from error
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise DataError(f"{path}: {name!r} should be {expected.get(name)}, found {found.get(name)}. {_REMEDY}")


def _read(path: Path, shapes: Params, snapshots: Sequence[int]) -> Networks:
    """Some snapshots of one network, float32, stacked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:

            def rows(name: str) -> np.ndarray:
                part = file.get_slice(name)
                count = part.get_shape()[0]
                if not all(0 <= s < count for s in snapshots):
                    raise OptionError(f"snapshots should be from 0 to {count - 1}, but are {list(snapshots)}.")
                return np.concatenate([np.asarray(part[s : s + 1], np.float32) for s in snapshots])

            leaves = [rows(name) for name in named(shapes)]
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path} can't be read: {error}. {_REMEDY}") from error
    if not all(np.isfinite(leaf).all() for leaf in leaves):
        raise DataError(f"{path} holds weights that are not finite. {_REMEDY}")
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)
