"""Pretrained networks on disk: one safetensors file of stacked weights, with what is known of them beside.

Tensors are named PART/LAYER/WEIGHT, PART being "train" or "held_out", each with a leading axis over networks, and
PART.accuracy. Opening reads the header alone; weights are read when asked for.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dd_jax import models
from dd_jax.data.missing import not_there
from dd_jax.errors import DataError, DDJaxError
from dd_jax.models import Model, Shapes
from dd_jax.storage.files import disk_errors, parse_json, plain, write_bytes
from dd_jax.types import Networks, Params, Pretrained

PARTS = ("train", "held_out")
FORMAT = 1

_KEY = "dd_jax"  # of our entry in the file's metadata
_FIELDS = {
    "format": int,
    "name": str,
    "model": str,
    "settings": dict,
    "image_shape": list,
    "num_classes": int,
    "num_selection": int,
    "training": dict,
    "fingerprint": str,
}


def save_pretrained(path: str | Path, networks: Mapping[str, Networks], pretrained: Pretrained) -> Pretrained:
    """Write the parts of `networks` (leaves with a leading axis) and what `pretrained` says of them to `path`.

    Returns what `load_pretrained` gives. Without a fingerprint in `pretrained` it is that of the weights of "train".
    The file appears in one go. Raises RunError if the disk refuses.
    """
    from safetensors.numpy import save

    path = Path(path).expanduser()
    tensors: dict[str, np.ndarray] = {}
    digest = hashlib.sha256()
    for part in PARTS:
        for name, leaf in sorted(named(networks[part]).items()):
            tensors[f"{part}/{name}"] = np.ascontiguousarray(leaf, np.float32)
            if part == "train":
                digest.update(name.encode())
                digest.update(tensors[f"{part}/{name}"])
        tensors[f"{part}.accuracy"] = np.asarray(pretrained.accuracies[part], np.float32)
    about = {
        "format": FORMAT,
        "name": pretrained.name,
        "model": pretrained.model,
        "settings": dict(pretrained.settings),
        "image_shape": list(pretrained.image_shape),
        "num_classes": pretrained.num_classes,
        "num_selection": pretrained.num_selection,
        "training": dict(pretrained.training),
        "fingerprint": pretrained.fingerprint or digest.hexdigest()[:16],
    }
    with disk_errors("save the networks", path):
        write_bytes(path, save(tensors, {_KEY: json.dumps(plain(about))}))
    return load_pretrained(path)


def load_pretrained(path: str | Path, model: Model | None = None) -> Pretrained:
    """The networks in `path`: a file that `dd-jax pretrain` wrote, or torchvision's weights of an AlexNet.

    Nothing in any file is executed.

    Args:
        model: what torchvision's weights (.pth or .safetensors) are for; they say neither classes nor image size. Their
            last layer is replaced: zero weights, unit biases. They are one network, in the part "train".

    Raises:
        DataError: if there is no such file, or if it is damaged, holds another architecture or anything but weights.
    """
    path = Path(path).expanduser()
    about = read_about(path)
    if about is None:
        return _from_torchvision(path, model)
    found = _found(path)
    accuracies = {part: _accuracies(path, part, found) for part in PARTS}
    template = _template(path, about, len(found))
    _check_tensors(path, template, accuracies, found)
    if not 0 <= about["num_selection"] < max(len(accuracies["train"]), 1):
        raise DataError(
            f"{path} is damaged: num_selection should be at most {len(accuracies['train'])}, the number of "
            f"networks, but is {about['num_selection']}."
        )

    def read(part: str, first: int, last: int) -> Networks:
        first, last = (min(end, len(accuracies[part])) for end in (first, last))
        leaves = [_tensor(path, f"{part}/{name}", first, last) for name in named(template)]
        if not all(np.isfinite(leaf).all() for leaf in leaves):
            raise DataError(f"{path} holds weights that are not finite. Make it again with dd-jax pretrain.")
        return jax.tree.unflatten(jax.tree.structure(template), leaves)

    shape = tuple(about["image_shape"])
    return Pretrained(
        about["name"],
        about["model"],
        about["settings"],
        shape,
        about["num_classes"],
        accuracies,
        read,
        about["num_selection"],
        about["training"],
        about["fingerprint"],
    )


def read_about(path: Path) -> dict[str, Any] | None:
    """What the file `path` says of its networks; None if it is no file of ours, but perhaps one of torchvision's.

    Raises:
        DataError: if there is no file, or if what it says is damaged.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file of pretrained networks.")
    if not path.is_file():
        raise not_there(
            "file",
            path,
            "Expected pretrained networks: make some with dd-jax pretrain. (ImageNet weights of AlexNet: "
            "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth.)",
        )
    metadata = _metadata(path)
    if metadata is None or _KEY not in metadata:
        return None
    try:
        about = parse_json(metadata[_KEY])
    except ValueError as error:
        raise DataError(f"{path} is damaged: its description is not JSON ({error}).") from error
    for field, kind in _FIELDS.items():
        if not isinstance(about, dict) or not isinstance(about.get(field), kind):
            raise DataError(
                f"{path} is damaged: its description should have {field!r}, a {kind.__name__}, but is {about!r:.400}."
            )
    if about["format"] != FORMAT:
        raise DataError(
            f"{path} has format {about['format']}, but this version of dd_jax reads {FORMAT}. Update dd_jax."
        )
    sizes = (*about["image_shape"], about["num_classes"])
    if len(sizes) != 4 or not all(type(size) is int and size > 0 for size in sizes):
        raise DataError(
            f"{path} is damaged: it should be for images (H, W, C) in K classes; found {about['image_shape']!r:.80} "
            f"and {about['num_classes']!r:.80}."
        )
    return about


def describe_networks(pretrained: Pretrained) -> dict[str, Any]:
    """What is known of pretrained networks, as plain values."""
    accuracies = {
        part: {"networks": len(a), "accuracy": float(a.mean()), "std": float(a.std())}
        for part, a in pretrained.accuracies.items()
        if len(a)
    }
    about = {field: getattr(pretrained, field) for field in _FIELDS if field != "format"}
    return plain({**about, "accuracies on test": accuracies})


def _metadata(path: Path) -> dict[str, str] | None:
    """The metadata of a safetensors file; None if it isn't one."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            return file.metadata() or {}
    except SafetensorError:
        return None


def _tensor(path: Path, name: str, first: int = 0, last: int | None = None) -> np.ndarray:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            if last is None:
                return file.get_tensor(name)
            if first >= last:  # safetensors has no empty slices
                return np.zeros((0, *file.get_slice(name).get_shape()[1:]), np.float32)
            return file.get_slice(name)[first:last]
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: can't read {name!r}: {error}.") from error


def _found(path: Path) -> dict[str, tuple[list[int], str]]:
    """Shape and dtype of every tensor in a safetensors file."""
    from safetensors import safe_open

    with safe_open(path, framework="np") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        return {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}


def _accuracies(path: Path, part: str, found: Mapping[str, tuple[list[int], str]]) -> np.ndarray:
    name = f"{part}.accuracy"
    shape, dtype = found.get(name, ([], "nothing"))
    if len(shape) != 1 or dtype != "F32":
        raise DataError(f"{path}: {name!r} should be float32 (N,); found {dtype} {tuple(shape)}.")
    return _tensor(path, name)


def _template(path: Path, about: Mapping[str, Any], num_tensors: int) -> Params:
    """Shapes and dtypes of one network's parameters."""
    if any(isinstance(value, list) and len(value) > num_tensors for value in about["settings"].values()):
        raise DataError(f"{path} is damaged: it describes more layers than it has weights.")
    spec = Shapes(tuple(about["image_shape"]), about["num_classes"])
    try:
        model = models.make(about["model"], spec, **about["settings"])
        return jax.eval_shape(model.init, jax.random.key(0))
    except (DDJaxError, TypeError, ValueError, ArithmeticError) as error:
        raise DataError(f"{path} is for a network that can't be built: {error}") from error


def _check_tensors(
    path: Path,
    template: Params,
    accuracies: Mapping[str, np.ndarray],
    found: Mapping[str, tuple[list[int], str]],
) -> None:
    expected = {
        f"{part}/{name}": [len(accuracies[part]), *leaf.shape]
        for part in PARTS
        for name, leaf in named(template).items()
    } | {f"{part}.accuracy": [len(accuracies[part])] for part in PARTS}
    for name, shape in expected.items():
        if name not in found:
            raise DataError(f"{path} lacks the weights {name!r}; it has {', '.join(sorted(found)[:4])}, ...")
        if found[name] != (shape, "F32"):
            raise DataError(f"{path}: {name!r} should be float32 {tuple(shape)}; found {found[name][1]} "
                            f"{tuple(found[name][0])}.")  # fmt: skip
    if strangers := sorted(set(found) - set(expected)):
        raise DataError(f"{path} has {strangers[0]!r}, which its architecture doesn't know.")


def _from_torchvision(path: Path, model: Model | None) -> Pretrained:
    from dd_jax.storage.weights import read_state_dict

    state = read_state_dict(path)
    if model is None:
        raise DataError(f"{path} holds weights without a description of their network. Name the model (alexnet).")
    params = models.alexnet_from_torchvision(state, model)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    train = jax.tree.map(lambda leaf: np.asarray(leaf)[None], params)

    def read(part: str, first: int, last: int) -> Networks:
        return jax.tree.map(lambda leaf: leaf[first : last if part == "train" else first], train)

    accuracies = {"train": np.full(1, np.nan, np.float32), "held_out": np.zeros(0, np.float32)}
    return Pretrained(
        path.stem,
        model.name,
        models.architecture(model),
        model.image_shape,
        model.num_classes,
        accuracies,
        read,
        0,
        {},
        digest,
    )


def named(params: Params) -> dict[str, Any]:
    """The leaves of nested dicts by their path, "Conv_0/kernel", in the order of the tree."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return {"/".join(str(key.key) for key in keys): leaf for keys, leaf in leaves}
