"""The artefact: a distilled set on disk, whole and checkable, as arrays (npz) and text (json).

`distilled.json` names the npz beside it, by a name made from its content, and holds the SHA-256 of both. The
npz is written first and the json last, so the json always leads to a whole set: the old one or the new.

The npz holds what was learnt, under the names that its parameterisation gives it, and besides labels, step sizes, the
arrays of the transform and, for looking at, pixels. In the first schema it held images, and an adjacency of graphs.
"""

import dataclasses
import hashlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data.archive import read_archive
from dd_jax.data.missing import not_there
from dd_jax.data.transforms import KINDS
from dd_jax.data.zca import problem as zca_problem
from dd_jax.errors import DataError, RunError
from dd_jax.evaluation import AS_DISTILLED, PROTOCOLS
from dd_jax.inner import INITS, RULES
from dd_jax.outcomes import problem_of
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.renamed import with_new_names
from dd_jax.storage.files import disk_errors, hash_json, plain, read_json, remove_temporary, write_bytes, write_json
from dd_jax.synthetic import ORDERS, PARAMETERISATIONS
from dd_jax.types import DistilledData, Protocol, Transform, each_alone

SCHEMA_VERSION = 2

_JSON = "distilled.json"
_SEAL = "content_sha256"
_TRANSFORM = "transform/"  # prefix of the transform's arrays in the npz
_PLAIN_VALUES = (str, int, float, bool, type(None))  # that settings may have
_FLOATS = (np.float16, np.float32, np.float64)
_SEEDS = range(-(2**63), 2**63)  # that JAX takes
_INTEGERS = ("labels", "pixels", "order")  # or may be; "order" is that of an exported set


class Artefact(NamedTuple):
    """A distilled set as it lies on the disk.

    Attributes:
        file: the json.
        arrays: all that the npz holds, by name, pixels (S, B, H, W, C) uint8 if it has any; those of the transform
            start with "transform/".
        meta: what the json holds.
        distilled: the set that they make.
    """

    file: Path
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    distilled: DistilledData


def save_distilled(folder: str | Path, distilled: DistilledData, provenance: Mapping[str, Any]) -> None:
    """Write `distilled` into `folder`, in place of a set that is there; other files stay.

    Args:
        provenance: where it came from, and what is known of it, such as accuracies; kept in the json.

    Raises:
        DataError: if `distilled` could not be loaded again: not finite, labels out of range, no transform.
        RunError: if the disk refuses; what was there before is intact.
    """
    save_artefact(folder, distilled, provenance)


def save_artefact(
    folder: str | Path, distilled: DistilledData, provenance: Mapping[str, Any], resumes: bool = True
) -> None:
    """What `save_distilled` does.

    Args:
        resumes: as for `disk_errors`.
    """
    folder = Path(folder)
    if distilled.transform is None:
        raise DataError(
            "A distilled set needs a transform, so that its pixels are known, but has none. Give it the transform "
            "of its dataset."
        )
    form = distilled.parameterisation
    if PARAMETERISATIONS.get(form.kind.name) != form.kind:
        raise DataError(
            f"The parameterisation {form.kind.name!r} would not be found when the set is loaded. Put its kind "
            f"into dd_jax.synthetic.PARAMETERISATIONS[{form.kind.name!r}] first."
        )
    arrays = _arrays(distilled)
    meta = {
        "schema_version": SCHEMA_VERSION,
        "class_names": list(distilled.class_names),
        "transform": distilled.transform.kind,
        "protocol": dataclasses.asdict(distilled.protocol),
        "parameterisation": described(form),
        "provenance": plain(provenance),
    }
    _check(arrays, meta, "the distilled set")
    if form.kind.pictures is None:
        arrays["pixels"] = _pixels(distilled)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()
    name = f"distilled-{digest[:12]}.npz"
    with disk_errors("save the distilled set", folder, resumes):
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
    where = str(file.parent / meta["arrays"])
    if meta["schema_version"] == 1:
        arrays, meta = _from_schema_1(arrays, meta, where)
    _check(arrays, meta, where)
    distilled = DistilledData(
        learnt={name: jnp.asarray(array) for name, array in _learnt(arrays).items()},
        labels=jnp.asarray(arrays["labels"]),
        step_sizes=jnp.asarray(arrays["step_sizes"]),
        transform=Transform(meta["transform"], {name: jnp.asarray(a) for name, a in _transform_arrays(arrays).items()}),
        class_names=tuple(meta["class_names"]),
        protocol=_protocol(meta["protocol"], file),
        parameterisation=_parameterisation(meta["parameterisation"], where),
        momenta=jnp.asarray(arrays["momenta"]) if "momenta" in arrays else None,
    )
    if "pixels" not in arrays and distilled.parameterisation.kind.pictures is None:
        arrays["pixels"] = _pixels(distilled)
    return Artefact(file, arrays, meta, distilled)


def load_provenance(path: str | Path) -> dict[str, Any]:
    """What `save_distilled` was told about the set at `path` (as for `load_distilled`)."""
    return _meta(path)[1]["provenance"]


def described(parameterisation: Parameterisation) -> dict[str, Any]:
    """A parameterisation as the json holds it."""
    return {"name": parameterisation.kind.name, "settings": dict(parameterisation.settings)}


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
        **{name: np.asarray(array, np.float32) for name, array in distilled.learnt.items()},
        "labels": labels.astype(np.int32 if np.issubdtype(labels.dtype, np.integer) else np.float32),
        "step_sizes": np.asarray(distilled.step_sizes, np.float32),
        **({} if distilled.momenta is None else {"momenta": np.asarray(distilled.momenta, np.float32)}),
        **{_TRANSFORM + name: np.asarray(array) for name, array in distilled.transform.arrays.items()},
    }


def _pixels(distilled: DistilledData) -> np.ndarray:
    """The images as pixels (S, B, H, W, C) uint8, clipped: for looking at, not for training on."""
    from dd_jax.data.transforms import to_pixels

    assert distilled.transform is not None
    pixels = np.asarray(to_pixels(distilled.transform, distilled.images))
    # Of images near the largest floats there is no number to whiten back to.
    return np.round(255 * np.clip(np.nan_to_num(pixels), 0, 1)).astype(np.uint8)


def _learnt(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    others = (*_INTEGERS, "step_sizes", "momenta")
    return {name: array for name, array in arrays.items() if name not in others and not name.startswith(_TRANSFORM)}


def _transform_arrays(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(_TRANSFORM): array for name, array in arrays.items() if name.startswith(_TRANSFORM)}


# Reading.


def _meta(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """The json file that `path` leads to, and its content, with every field there and of its type."""
    path = Path(path).expanduser()
    places = [path] if path.suffix == ".json" else [path / _JSON, path / "distilled" / _JSON]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        if not path.exists():
            raise not_there(
                "file" if path.suffix == ".json" else "folder",
                path,
                "Expected a run directory, or a distilled set: its folder or json file.",
            )
        raise DataError(
            f"There is no distilled set at {path}: expected {' or '.join(map(str, places))}. A run that was stopped "
            "has one when its `dd-jax distill` command has finished."
        )
    try:
        meta = read_json(file)
    except RunError as error:
        raise DataError(str(error)) from error
    version = meta.get("schema_version") if isinstance(meta, dict) else None
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise DataError(
            f"{file} has schema version {version!r}, but this version of dd_jax reads 1 to {SCHEMA_VERSION}. Update "
            "dd_jax."
        )
    fields = {"arrays": str, "sha256": str, "class_names": list, "transform": str, "protocol": dict, "provenance": dict}
    fields |= {"parameterisation": dict} if version > 1 else {}
    for name, kind in fields.items():
        if not isinstance(meta.get(name), kind):
            raise DataError(f"{file} is damaged: {name!r} should be a {kind.__name__}, but is {meta.get(name)!r:.200}.")
    if not re.fullmatch(r"[\w.-]{1,200}", meta["arrays"], re.ASCII):
        raise DataError(f"{file} is damaged: 'arrays' should name a file beside it, but is {meta['arrays']!r:.200}.")
    if not all(isinstance(name, str) for name in meta["class_names"]):
        raise DataError(
            f"{file} is damaged: 'class_names' should be a list of names, but is {meta['class_names']!r:.200}."
        )
    if _SEAL in meta and sealed(meta) != meta:
        raise DataError(
            f"{file} is damaged: it was changed after it was written. Put back a copy. Without the field {_SEAL!r} "
            "it is read as it is."
        )
    return file, {**meta, "provenance": with_new_names(meta["provenance"])}


def _read_arrays(file: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays in `file`. Its hash tells damage from what was saved; it says nothing about who made both files."""
    if file.exists() and not file.is_file():  # reading a pipe would never end
        raise DataError(f"{file} can't be read: it is not a file.")
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} can't be read: {error.strerror}.") from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise DataError(f"{file} is damaged: its SHA-256 is not the one in {_JSON}. Put back a copy.")
    return read_archive(io.BytesIO(data), str(file))


def _from_schema_1(
    arrays: dict[str, np.ndarray], meta: dict[str, Any], where: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What the first schema says, as this one says it: images were images, and with an adjacency nodes."""
    if "adjacency" not in arrays:
        return arrays, {**meta, "parameterisation": {"name": PLAIN.kind.name, "settings": {}}}
    images = arrays.get("images", np.zeros(0))
    if images.ndim != 5 or images.shape[0] != 1 or images.shape[2:4] != (1, 1):
        raise DataError(
            f"{where}: the nodes of a graph should be images (1, nodes, 1, 1, features), but are {images.shape}."
        )
    others = {name: array for name, array in arrays.items() if name != "images"}
    return {"features": images[0, :, 0, 0], **others}, {**meta, "parameterisation": {"name": "graph", "settings": {}}}


def _parameterisation(found: Mapping[str, Any], where: str) -> Parameterisation:
    """The parameterisation of a name and settings that were read."""
    name, settings = found.get("name"), found.get("settings")
    if not isinstance(name, str) or not isinstance(settings, dict):
        raise DataError(f"{where}: the parameterisation should have a name and settings, but is {dict(found)!r:.200}.")
    if name not in PARAMETERISATIONS:
        raise DataError(
            f"{where}: there is no parameterisation {name!r:.80}; there are {', '.join(PARAMETERISATIONS)}. If "
            "it is your own, first import the code that adds it to dd_jax.synthetic.PARAMETERISATIONS."
        )
    if not all(isinstance(value, _PLAIN_VALUES) for value in settings.values()):
        raise DataError(f"{where}: settings should be plain values, but are {settings!r:.200}.")
    return Parameterisation.of(PARAMETERISATIONS[name], **settings)


def _protocol(fields: Mapping[str, Any], file: Path) -> Protocol:
    values: dict[str, Any] = {n: tuple(value) if isinstance(value, list) else value for n, value in fields.items()}
    try:
        protocol = Protocol(**values)
    except TypeError as error:
        raise DataError(f"{file}: this version of dd_jax doesn't know the protocol: {error}. Update dd_jax.") from error
    named = protocol.name == AS_DISTILLED or (isinstance(protocol.name, str) and protocol.name in PROTOCOLS)
    known = named and protocol.order in ORDERS and protocol.init in INITS and protocol.rule in RULES
    if not known or not isinstance(protocol.pretrained, str) or not _are_integers((protocol.init_seed,), 1, _SEEDS):
        raise DataError(
            f"{file}: this version of dd_jax doesn't know the protocol: {dict(fields)!r:.200}. Update dd_jax."
        )
    if problem := problem_of(protocol):
        raise DataError(f"{file}: {problem}.")
    return protocol


def _are_integers(values: Any, count: int, allowed: range) -> bool:
    return isinstance(values, tuple) and len(values) == count and all(type(v) is int and v in allowed for v in values)


# Checking.


def _check(arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any], where: str) -> None:
    def require(condition: Any, problem: str) -> None:
        if not condition:
            raise DataError(f"{where}: {problem}.")

    form, learnt = _parameterisation(meta["parameterisation"], where), _learnt(arrays)
    for name in ("labels", "step_sizes"):
        require(name in arrays, f"the array {name!r} is missing; there are {', '.join(arrays) or 'none'}")
    for name, array in arrays.items():
        if name not in _INTEGERS:
            require(array.dtype in _FLOATS, f"{name} should be floating point, found {array.dtype}")
            require(np.isfinite(array).all(), f"{name} holds numbers that are not finite")
    for name, array in learnt.items():
        require(array.dtype == np.float32, f"{name} should be float32, found {array.dtype}")
    try:
        problem = form.kind.check(learnt, **dict(form.settings))
    except TypeError:
        problem = f"a set of {form.kind.name} has no such settings: {dict(form.settings)!r:.200}"
    require(not problem, problem)
    shape = jax.eval_shape(lambda: each_alone(form.decode(learnt))).shape
    labels, step_sizes, pixels = arrays["labels"], arrays["step_sizes"], arrays.get("pixels")
    require(
        pixels is None or (pixels.dtype == np.uint8 and pixels.shape == shape),
        f"pixels should be uint8 of the shape of the images, {shape}",
    )
    _check_labels(labels, shape[:2], len(meta["class_names"]), require)
    steps = shape[0]
    require(
        step_sizes.ndim == 1 and step_sizes.size and step_sizes.size % steps == 0,
        f"step_sizes should be (T,) with T a multiple of {steps}, found {step_sizes.shape}",
    )
    require((step_sizes > 0).all(), f"step sizes should be positive, the smallest is {step_sizes.min()}")
    momenta, rule = arrays.get("momenta"), meta["protocol"].get("rule", "sgd")
    require(
        (momenta is not None) == (rule == "momentum"),
        f"there should be momenta where the rule is 'momentum', and nowhere else; the rule is {rule!r:.80}",
    )
    require(
        momenta is None or (momenta.shape == step_sizes.shape and (momenta >= 0).all() and (momenta < 1).all()),
        f"momenta should be {step_sizes.shape}, from 0 to below 1",
    )
    _check_transform(meta["transform"], _transform_arrays(arrays), shape[2:], require)


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
