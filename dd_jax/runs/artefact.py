"""The artefact: a distilled set on disk, whole and checkable, as arrays (npz) and text (json).

`distilled.json` names the npz beside it, by a name made from its content, and holds the SHA-256 of both. The
npz is written first and the json last, so the json always leads to a whole set: the old one or the new.
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dd_jax.data.archive import read_archive
from dd_jax.data.transforms import KINDS
from dd_jax.data.zca import problem as zca_problem
from dd_jax.errors import DataError, RunError
from dd_jax.evaluation import AS_DISTILLED, PROTOCOLS
from dd_jax.inner import INITS
from dd_jax.runs.files import disk_errors, hash_json, plain, read_json, remove_temporary, write_bytes, write_json
from dd_jax.synthetic import ORDERS
from dd_jax.types import DistilledData, Protocol, Transform

SCHEMA_VERSION = 1

_JSON = "distilled.json"
_SEAL = "content_sha256"
_TRANSFORM = "transform/"  # prefix of the transform's arrays in the npz
_ARRAYS = ("images", "labels", "step_sizes")
_FLOATS = (np.float16, np.float32, np.float64)
_SEEDS = range(-(2**63), 2**63)  # that JAX takes
_INTEGERS = ("labels", "pixels", "order")  # or may be; "order" is that of an exported set


class Artefact(NamedTuple):
    """A distilled set as it lies on the disk.

    file: the json. arrays: all that the npz holds, by name, pixels (S, B, H, W, C) uint8 if it has any; those
    of the transform start with "transform/". meta: what the json holds. distilled: the set that they make.
    """

    file: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    distilled: DistilledData


def save_distilled(folder: str | Path, distilled: DistilledData, provenance: Mapping[str, Any]) -> None:
    """Write `distilled` into `folder`, in place of what is there.

    provenance: where it came from, and what is known of it, such as accuracies; kept in the json.

    Raises:
        DataError: if `distilled` could not be loaded again: not finite, labels out of range, no transform.
        RunError: if the disk refuses; what was there before is intact.
    """
    folder = Path(folder)
    if distilled.transform is None:
        raise DataError("The distilled set has no transform, so it has no pixels: give it its dataset's transform.")
    arrays = _arrays(distilled)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "class_names": list(distilled.class_names),
        "transform": distilled.transform.kind,
        "protocol": dataclasses.asdict(distilled.protocol),
        "provenance": plain(provenance),
    }
    _check(arrays, meta, "the distilled set")
    if distilled.adjacency is None:
        arrays["pixels"] = _pixels(distilled)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    name = f"distilled-{digest[:12]}.npz"
    with disk_errors("save the distilled set", folder):
        write_bytes(folder / name, buffer.getvalue())
        write_json(folder / _JSON, sealed({"arrays": name, "sha256": digest, **meta}))
        for old in set(folder.glob("distilled-*.npz")) - {folder / name}:
            old.unlink()
        remove_temporary(folder)


def load_distilled(path: str | Path) -> DistilledData:
    """The distilled set at `path`: a run directory, or the artefact's own folder or json file.

    Raises:
        DataError: if there is none, or if it is damaged or inconsistent; the file and the problem are named.
    """
    return load_artefact(path).distilled


def load_artefact(path: str | Path) -> Artefact:
    """The artefact at `path` with all that lies on the disk; takes and raises what `load_distilled` does."""
    file, meta = _meta(path)
    arrays = _read_arrays(file.parent / meta["arrays"], meta["sha256"])
    _check(arrays, meta, str(file.parent / meta["arrays"]))
    distilled = DistilledData(
        images=jnp.asarray(arrays["images"]),
        labels=jnp.asarray(arrays["labels"]),
        step_sizes=jnp.asarray(arrays["step_sizes"]),
        transform=Transform(meta["transform"], {name: jnp.asarray(a) for name, a in _transform_arrays(arrays).items()}),
        class_names=tuple(meta["class_names"]),
        protocol=_protocol(meta["protocol"], file),
        adjacency=jnp.asarray(arrays["adjacency"]) if "adjacency" in arrays else None,
    )
    if "pixels" not in arrays and distilled.adjacency is None:
        arrays["pixels"] = _pixels(distilled)
    return Artefact(file, arrays, meta, distilled)


def load_provenance(path: str | Path) -> dict[str, Any]:
    """What `save_distilled` was told about the set at `path` (as for `load_distilled`)."""
    return _meta(path)[1]["provenance"]


def sealed(meta: Mapping[str, Any]) -> dict[str, Any]:
    """What a json is to hold, with the SHA-256 of it."""
    content = {name: value for name, value in plain(meta).items() if name != _SEAL}
    return {**content, _SEAL: hash_json(content)}


def holds(folder: str | Path, distilled: DistilledData, **provenance: Any) -> bool:
    """Whether `folder` holds just this set, whole, with these entries in its provenance."""
    try:
        found = load_artefact(folder)
    except DataError:
        return False
    same = all(np.array_equal(found.arrays[name], array) for name, array in _arrays(distilled).items())
    return same and found.meta["provenance"].items() >= provenance.items()


def _arrays(distilled: DistilledData) -> dict[str, np.ndarray]:
    """What goes into the npz, but for the pixels."""
    assert distilled.transform is not None
    labels = np.asarray(distilled.labels)
    return {
        "images": np.asarray(distilled.images, np.float32),
        "labels": labels.astype(np.int32 if np.issubdtype(labels.dtype, np.integer) else np.float32),
        "step_sizes": np.asarray(distilled.step_sizes, np.float32),
        **({} if distilled.adjacency is None else {"adjacency": np.asarray(distilled.adjacency, np.float32)}),
        **{_TRANSFORM + name: np.asarray(array) for name, array in distilled.transform.arrays.items()},
    }


def _pixels(distilled: DistilledData) -> np.ndarray:
    """The images as pixels (S, B, H, W, C) uint8, clipped: for looking at, not for training on."""
    from dd_jax.data.transforms import to_pixels

    assert distilled.transform is not None
    pixels = np.asarray(to_pixels(distilled.transform, distilled.images))
    # Of images near the largest floats there is no number to whiten back to.
    return np.round(255 * np.clip(np.nan_to_num(pixels), 0, 1)).astype(np.uint8)


def _transform_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(_TRANSFORM): array for name, array in arrays.items() if name.startswith(_TRANSFORM)}


# Reading.


def _meta(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The json file that `path` leads to, and its content, with every field there and of its type."""
    path = Path(path).expanduser()
    places = [path] if path.suffix == ".json" else [path / _JSON, path / "distilled" / _JSON]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise DataError(f"There is no distilled set at {path}: expected {' or '.join(map(str, places))}.")
    try:
        meta = read_json(file)
    except RunError as error:
        raise DataError(str(error)) from error
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if version != SCHEMA_VERSION:
        raise DataError(f"{file} has schema version {version!r}; this version of dd_jax reads {SCHEMA_VERSION}.")
    fields = {"arrays": str, "sha256": str, "class_names": list, "transform": str, "protocol": dict, "provenance": dict}
    for name, kind in fields.items():
        if not isinstance(meta.get(name), kind):
            raise DataError(f"{file}: {name!r} should be a {kind.__name__}, found {meta.get(name)!r:.200}.")
    if not re.fullmatch(r"[\w.-]{1,200}", meta["arrays"], re.ASCII):
        raise DataError(f"{file}: 'arrays' should name a file beside it, found {meta['arrays']!r:.200}.")
    if not all(isinstance(name, str) for name in meta["class_names"]):
        raise DataError(f"{file}: 'class_names' should be a list of names, found {meta['class_names']!r:.200}.")
    if _SEAL in meta and sealed(meta) != meta:
        raise DataError(f"{file} is damaged: it is not as it was written. Without {_SEAL!r} it is taken as it stands.")
    return file, meta


def _read_arrays(file: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays in `file`. Its hash tells damage from what was saved; it says nothing about who made both files."""
    if file.exists() and not file.is_file():  # reading a pipe would never end
        raise DataError(f"{file} can't be read: it is no file.")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{file} is damaged: its SHA-256 is not the one in {_JSON}.")
    return read_archive(io.BytesIO(data), str(file))


def _protocol(fields: Mapping[str, Any], file: Path) -> Protocol:
    attack = fields.get("attack")
    try:
        protocol = Protocol(**{**fields, "attack": tuple(attack) if isinstance(attack, list) else attack})
    except TypeError as error:
        raise DataError(f"{file}: the protocol is not one of this version of dd_jax: {error}.") from error
    named = protocol.name == AS_DISTILLED or (isinstance(protocol.name, str) and protocol.name in PROTOCOLS)
    known = named and protocol.order in ORDERS and protocol.init in INITS
    if not known or not isinstance(protocol.pretrained, str) or not _are_integers((protocol.init_seed,), 1, _SEEDS):
        raise DataError(f"{file}: the protocol is not one of this version of dd_jax: {dict(fields)!r:.200}.")
    if protocol.attack is not None and not _are_integers(protocol.attack, 2, _SEEDS):
        raise DataError(f"{file}: an attack should be two classes, found {attack!r:.200}.")
    return protocol


def _are_integers(values: Any, count: int, allowed: range) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(type(v) is int and v in allowed for v in values)


# Checking.


def _check(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], where: str) -> None:
    def require(condition: Any, problem: str) -> None:
        if not condition:
            raise DataError(f"{where}: {problem}.")

    for name in _ARRAYS:
        require(name in arrays, f"the array {name!r} is missing; there are {', '.join(arrays) or 'none'}")
    images, labels, step_sizes = (arrays[name] for name in _ARRAYS)
    for name, array in arrays.items():
        if name not in _INTEGERS:
            require(array.dtype in _FLOATS, f"{name} should be floating point, found {array.dtype}")
            require(np.isfinite(array).all(), f"{name} holds numbers that are not finite")
    require(images.dtype == np.float32, f"images should be float32, found {images.dtype}")
    require(images.ndim == 5 and images.size, f"images should be (steps, batch, H, W, C), found {images.shape}")
    pixels = arrays.get("pixels")
    require(
        pixels is None or (pixels.dtype == np.uint8 and pixels.shape == images.shape),
        f"pixels should be uint8 of the shape of the images, {images.shape}",
    )
    _check_labels(labels, images.shape[:2], len(meta["class_names"]), require)
    steps = images.shape[0]
    require(
        step_sizes.ndim == 1 and step_sizes.size and step_sizes.size % steps == 0,
        f"step_sizes should be (T,) with T a multiple of {steps}, found {step_sizes.shape}",
    )
    require((step_sizes > 0).all(), f"step sizes should be positive, the smallest is {step_sizes.min()}")
    if "adjacency" in arrays:
        _check_adjacency(arrays["adjacency"], images.shape, require)
    _check_transform(meta["transform"], _transform_arrays(arrays), images.shape[2:], require)


def _check_labels(labels: np.ndarray, leading: tuple[int, ...], num_classes: int, require: Any) -> None:
    if labels.dtype == np.int32:
        require(labels.shape == leading, f"labels should be {leading}, found {labels.shape}")
        require(labels.min() >= 0, f"labels should not be negative, found {labels.min()}")
        require(
            not num_classes or labels.max() < num_classes,
            f"there are {num_classes} classes, but a label {labels.max()}",
        )
    else:
        require(labels.dtype == np.float32, f"labels should be int32 or float32, found {labels.dtype}")
        require(
            labels.ndim == 3 and labels.shape[:2] == leading and (not num_classes or labels.shape[2] == num_classes),
            f"soft labels should be {(*leading, num_classes or 'K')}, found {labels.shape}",
        )
        require(np.isfinite(labels).all(), "labels holds numbers that are not finite")


def _check_adjacency(adjacency: np.ndarray, shape: tuple[int, ...], require: Any) -> None:
    require(adjacency.dtype == np.float32, f"adjacency should be float32, found {adjacency.dtype}")
    nodes = shape[0] == 1 and shape[2:4] == (1, 1)
    require(nodes, f"the nodes of a graph should be images (1, nodes, 1, 1, features), found {shape}")
    expected = (shape[1], shape[1])
    require(adjacency.shape == expected, f"adjacency should be {expected}, found {adjacency.shape}")
    inside = adjacency.min() >= 0 and adjacency.max() <= 1
    require(inside, f"edges should weigh 0 to 1, found {adjacency.min()} to {adjacency.max()}")
    require((adjacency == adjacency.T).all(), "adjacency should be symmetric")
    require((np.diagonal(adjacency) == 0).all(), "adjacency should have no self loops")


def _check_transform(kind: str, arrays: Mapping[str, np.ndarray], image_shape: tuple[int, ...], require: Any) -> None:
    require(kind in KINDS, f"the transform {kind!r:.80} is not one of this version of dd_jax: {', '.join(KINDS)}")
    expected = {"identity": set(), "standardise": {"mean", "std"}}.get(kind)
    if expected is not None:
        require(set(arrays) == expected, f"transform {kind!r} needs {sorted(expected)}, found {sorted(arrays)}")
    if kind.startswith("zca"):
        found = zca_problem(arrays, image_shape)
        require(not found, found)
    channels = image_shape[-1]
    if kind == "standardise":
        for name, array in arrays.items():
            require(array.shape == (channels,), f"the transform's {name} should be ({channels},), found {array.shape}")
        require((arrays["std"] > 0).all(), "the transform's std should be positive")
