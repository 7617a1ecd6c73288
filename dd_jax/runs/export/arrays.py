"""The formats that are arrays: plain NumPy ones, and those for PyTorch with a script that trains on them."""

import hashlib
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dd_jax.data import to_pixels, zca
from dd_jax.data.transforms import WHITE
from dd_jax.errors import DataError
from dd_jax.evaluation import training_of
from dd_jax.inner import ADAM_BETAS, EPSILON, RMSPROP_DECAY, Training, draw_network, networks_of
from dd_jax.models import MODELS, Shapes, make
from dd_jax.outcomes import records
from dd_jax.runs.experiment import NETWORKS
from dd_jax.runs.export.contents import Contents
from dd_jax.runs.export.words import changes, in_words
from dd_jax.seeds import key_of_seed
from dd_jax.storage.artefact import sealed
from dd_jax.storage.files import write_json
from dd_jax.storage.pretrained import load_pretrained
from dd_jax.types import Dataset, Params

_BYTE_ERROR = 0.01  # of a level, up to which pixels are taken for bytes

_LAYOUT = {
    "pixels": "(S, B, H, W, C) uint8: to look at; clipped and rounded",
    "labels": "(S, B) int32 classes, or (S, B, K) float32 soft labels",
    "step_sizes": "(T,) float32: of the T inner steps, in their order",
    "momenta": "(T,) float32: theirs, v <- momentum v + gradient, weights <- weights - step size v; only where learnt",
    "order": "(T,) int32: the batch s that each inner step takes; (0,) where batches are drawn from all images",
    "transform/...": "what takes pixels in [0, 1] to model space: (pixels - mean) / std, or nothing at all (identity); "
    "with ZCA flat images (D,), in the order H, W, C, as a row times axes diag(scales) axes^T: "
    "((pixels - mean) / std) @ axes * scales @ axes.T",
}


def write_npz(contents: Contents, folder: Path) -> str:
    """distilled.npz and distilled.json; `load_distilled` reads them as well."""
    arrays = {**contents.arrays, "order": contents.order}
    data = _npz(arrays)
    (folder / "distilled.npz").write_bytes(data)
    meta = {
        **contents.meta,
        "arrays": "distilled.npz",
        "sha256": hashlib.sha256(data).hexdigest(),
        "layout": {**dict(contents.distilled.parameterisation.kind.layout), **_LAYOUT},
        "bytes": contents.num_bytes,
        "clipped": contents.clipped,
        "results": _summary(contents.results),
    }
    write_json(folder / "distilled.json", sealed(meta))
    return "plain NumPy arrays, and all else as json"


def write_torch(contents: Contents, folder: Path) -> str:
    """images_nchw.npz, train_torch.py and network.json; init.npz of a set for one known network."""
    labels = contents.arrays["labels"]
    arrays = {
        "images": np.ascontiguousarray(np.moveaxis(contents.images, -1, 2)),
        "labels": labels if contents.soft else labels.astype(np.int64),
        "step_sizes": contents.arrays["step_sizes"],
        "order": contents.order.astype(np.int64),
        **_rule(contents),
        **_normalisation(contents),
        **_training(contents),
    }
    (folder / "images_nchw.npz").write_bytes(_npz(arrays))
    shutil.copyfile(Path(__file__).with_name("train_torch.py"), folder / "train_torch.py")
    write_json(folder / "network.json", _network(contents))
    if contents.distilled.protocol.from_scratch:
        return f"arrays for PyTorch, and a script that trains on them from scratch{_left_out(contents)}"
    if contents.distilled.protocol.init != "fixed":
        return "arrays for PyTorch, and a script that trains on them"
    params = known_network(contents)
    if params is None:
        return "arrays for PyTorch, and a script; without the one network that the set is for, which is not at hand"
    leaves = jax.tree_util.tree_leaves_with_path(params)
    weights = {"/".join(str(part.key) for part in path): np.asarray(leaf) for path, leaf in leaves}
    (folder / "init.npz").write_bytes(_npz(weights))
    return "arrays for PyTorch, a script that trains on them, and the one network that the set is for"


def write_test(contents: Contents, dataset: Dataset, folder: Path) -> str:
    """test.npz, the test split of the dataset for the script: bytes where its pixels are that, else floats."""
    assert contents.distilled.transform is not None
    pixels = np.asarray(to_pixels(dataset.transform, dataset.test.images), np.float32)
    levels = np.round(WHITE * pixels)
    are_bytes = bool(np.abs(WHITE * pixels - levels).max() < _BYTE_ERROR)
    images = levels.clip(0, WHITE).astype(np.uint8) if are_bytes else pixels
    (folder / "test.npz").write_bytes(_npz({"images": images, "labels": np.asarray(dataset.test.labels, np.int64)}))
    return f"{len(images):,} test images of {dataset.name}"


def _network(contents: Contents) -> dict[str, Any]:
    """The network that the set is for, as the script builds it."""
    settings = dict(contents.meta["provenance"].get("model") or {})
    name = settings.pop("name", "")
    return {
        "name": name,
        "settings": {key: value for key, value in settings.items() if key != "precision"},
        "image_shape": list(contents.images.shape[2:]),
        "num_classes": len(contents.class_names),
        "fixed": contents.distilled.protocol.init == "fixed" and not contents.distilled.protocol.from_scratch,
    }


def known_network(contents: Contents) -> Params | None:
    """Where the network of a fixed init starts; None if it is neither one of the library's nor kept with the run."""
    protocol = contents.distilled.protocol
    if protocol.pretrained:
        if not (contents.run / NETWORKS).is_file():
            return None
        kept = load_pretrained(contents.run / NETWORKS)
        if kept.fingerprint != protocol.pretrained:
            return None
        return jax.tree.map(lambda leaf: leaf[0], networks_of(kept, protocol, "train"))
    settings = dict(contents.meta["provenance"].get("model") or {})
    name = settings.pop("name", None)
    settings.pop("precision", None)
    if name not in MODELS:
        return None
    height, width, channels = contents.images.shape[2:]
    model = make(name, Shapes((height, width, channels), len(contents.class_names)), **settings)
    return draw_network(model, key_of_seed(protocol.init_seed))


def _training(contents: Contents) -> dict[str, np.ndarray]:
    """The numbers of a training from scratch, as the script takes them; drops are counted in epochs."""
    training = training_of(None, contents.distilled)
    if training is None:
        return {}
    if not isinstance(training, Training) or training.optimiser != "sgd" or training.loss != "cross_entropy":
        raise DataError(
            "The torch format trains by gradient descent on the cross-entropy, but the protocol of the set, "
            f"{contents.distilled.protocol.name!r}, is {in_words(training)}. Use other formats, such as "
            "--formats npz."
        )
    names = ("epochs", "batch_size", "learning_rate", "momentum", "weight_decay", "drop_factor")
    drops = np.array([round(drop * training.epochs) for drop in training.drops if training.schedule == "drops"], int)
    return {**{name: np.asarray(getattr(training, name)) for name in names}, "drops": drops}


def _rule(contents: Contents) -> dict[str, np.ndarray]:
    """The numbers of the rule of the learnt steps, as the script takes them; none of plain gradient descent."""
    protocol = contents.distilled.protocol
    if protocol.from_scratch or protocol.rule == "sgd":
        return {}
    if protocol.rule == "momentum":
        return {"momenta": contents.arrays["momenta"]}
    own = {"adam_betas": ADAM_BETAS} if protocol.rule == "adam" else {"rmsprop_decay": RMSPROP_DECAY}
    return {name: np.asarray(value) for name, value in {**own, "epsilon": EPSILON}.items()}


def _left_out(contents: Contents) -> str:
    training = training_of(None, contents.distilled)
    assert isinstance(training, Training)
    changed = changes(training)
    return f", but without the protocol's augmentation ({changed})" if changed else ""


def _normalisation(contents: Contents) -> dict[str, np.ndarray]:
    kind, channels = contents.meta["transform"], contents.images.shape[-1]
    if kind == "identity":
        return {"mean": np.zeros(channels, np.float32), "std": np.ones(channels, np.float32)}
    arrays = {name: contents.arrays[f"transform/{name}"] for name in ("mean", "std")}
    if kind == "standardise":
        return arrays
    mean = arrays["mean"].reshape(contents.images.shape[2:])
    parts = {name: contents.arrays[f"transform/{name}"] for name in ("axes", "scales")}
    return {"mean": mean, "std": arrays["std"], "whitening": zca.matrix(parts)}


def _npz(arrays: Mapping[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


def _summary(results: Mapping[str, Any]) -> dict[str, Any]:
    names = ("mean", "std", "n", "split", "chosen", "balanced", "counts", *records())
    return {row: {name: found[name] for name in names if name in found} for row, found in results.items()}
