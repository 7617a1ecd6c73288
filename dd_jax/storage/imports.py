"""Distilled sets that others released, as sets of this library: with preprocessing, labels, step size and protocol."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import jax.numpy as jnp
import numpy as np

from dd_jax.data import to_model, to_pixels
from dd_jax.data.checks import as_array, as_images
from dd_jax.data.labels import ClassNames, as_labels, names_of
from dd_jax.data.telling import tell
from dd_jax.data.transforms import WHITE
from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.evaluation import PROTOCOLS
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.storage.released import FORMATS, Found
from dd_jax.synthetic import PARAMETERISATIONS, distilled_from_arrays, num_formed
from dd_jax.types import AS_DISTILLED, Dataset, DistilledData, Protocol, Transform

SoftLabels: TypeAlias = Literal["shares", "logits", "targets"]

# Mean and standard deviation of each channel, as the released code of DC, DSA, DM, MTT and IDC has them.
NORMALISATIONS = {
    "mnist": ((0.1307,), (0.3081,)),
    "fashion_mnist": ((0.2861,), (0.3530,)),
    "svhn": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4866, 0.4409), (0.2673, 0.2564, 0.2762)),
    "tiny_imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
PREPROCESSINGS = ("dataset", "identity", *NORMALISATIONS)

_STEP_SIZE = 0.01  # of a graph, whose networks are trained by Adam
_SUM_SLACK = 1e-3  # how far shares may sum to something else than one
_ODD = 0.25  # share of pixels so far outside of [0, 1] that the preprocessing is doubted
_SLACK = 0.5  # how far outside


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What files of released sets don't say."""

    preprocessing: str | Transform | None = None
    """Map from real images to the numbers that networks see: "dataset" as the given dataset has it, "identity" for
    pixels in [0, 1], or the mean and deviation of released code for "mnist", "fashion_mnist", "svhn", "cifar10",
    "cifar100" or "tiny_imagenet". Files of the format idc hold pixels, all others hold these numbers. Needed for
    images."""
    labels: tuple[int, ...] | None = None
    """Class of each image or node, if the files don't say."""
    soft_labels: SoftLabels | None = None
    """Meaning of labels that are not classes: "shares" that sum to one, "logits" before their softmax, or "targets" of
    a regression. None: targets in the format frepo, else shares."""
    step_size: float | None = None
    """Learnt step size for the formats mtt and npz, if the files don't say."""
    protocol: str | None = None
    """Training of networks on the set. None: as the method of the format does, or "as-distilled" for npz. Needed for dc
    if the name of the file doesn't start with res_DC, res_DSA or res_DM."""
    factor: int | None = None
    """Factor of the format idc, where it is needed: a stored image is factor x factor images."""
    formation: str = "single"
    """Formation of the format idc: "multi" if a stored image is also the images of every smaller factor."""
    index: int | None = None
    """Number of the file's set in the format dc, counted from 0. None: the last one."""


def import_distilled(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    format: str,
    dataset: Dataset | None = None,
    *,
    class_names: ClassNames = (),
    **options: Any,
) -> DistilledData:
    """A set that others released, as a set of this library. Nothing in the files is run.

    Args:
        files: one file or several, as the format has them.
        format: "gcond" (Jin et al. 2022: features and adjacency), "dc" (Zhao et al.: DC, DSA, DM), "mtt" (Cazenavette
            et al. 2022, and TESLA), "idc" (Kim et al. 2022), "frepo" (Zhou et al. 2022) or "npz" (any arrays).
        dataset: what it was distilled from: gives class names and, if asked for, the preprocessing; and the labels of
            a graph whose training classes are equally large.
        class_names: in place of those of the dataset.
        options: the fields of `ImportOptions`.

    Warns:
        DataWarning: what was taken for granted or left out.

    Raises:
        DataError: the files aren't there, are damaged, hold something else, or don't fit together or to the dataset.
        OptionError: for a bad option, or one that is missing.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    unknown = set(options) - {field.name for field in dataclasses.fields(ImportOptions)}
    if unknown:
        raise unknown_name("option", min(unknown), [field.name for field in dataclasses.fields(ImportOptions)])
    chosen = ImportOptions(**options)
    paths = [Path(file).expanduser() for file in ([files] if isinstance(files, str | os.PathLike) else files)]
    if not paths:
        raise DataError(f"No file is named. The files of the format {format!r} are {FORMATS[format].files}.")
    protocol = _protocol(chosen, format, paths)
    found = FORMATS[format].read(paths, chosen.index)
    for note in found.notes:
        tell(note)
    names = names_of(class_names) or (() if dataset is None else dataset.class_names)
    make = _graph if format == "gcond" else _images
    return make(found, format, paths[0], dataset, names, protocol, chosen)


def _protocol(options: ImportOptions, format: str, paths: Sequence[Path]) -> str:
    """The name of the protocol: the one that was said, or that of the method."""
    methods = {"dc": "dc", "dsa": "dsa", "dm": "dsa"}
    known = (AS_DISTILLED, *PROTOCOLS)
    if options.protocol is not None:
        if options.protocol not in known:
            raise unknown_name("protocol", options.protocol, known)
        return options.protocol
    by_name = methods.get(paths[0].name.lower().removeprefix("res_").partition("_")[0]) if format == "dc" else None
    name = FORMATS[format].protocol or by_name
    if name is None and format == "npz":
        name = AS_DISTILLED
    if name is None:
        raise OptionError(
            f"The file name {paths[0].name} doesn't tell how networks are trained on the set. Give protocol, "
            "such as 'dc', 'dsa', or 'dsa-digits' for digits, which must not be mirrored."
        )
    if by_name is not None:
        tell(f"{paths[0].name}: the protocol is {name!r}, judging by the file name. Give protocol to change it.")
    return name


def _graph(
    found: Found, format: str, path: Path, dataset: Dataset | None, names: tuple[str, ...], protocol: str,
    options: ImportOptions,
) -> DistilledData:  # fmt: skip
    """A graph of nodes; features are in the space of the dataset."""
    del format
    features = _floats(found.images, "features")
    learnt = {"features": features}
    if found.adjacency is not None:
        learnt["adjacency"] = _floats(found.adjacency, "adjacency")
    kind = PARAMETERISATIONS["graph"]
    if problem := kind.check(learnt):
        raise DataError(f"{path}: {problem}.")
    if dataset is not None and dataset.image_shape != (1, 1, features.shape[1]):
        raise DataError(
            f"The nodes should have as many features as those of {dataset.name}, {dataset.image_shape}, but "
            f"have {features.shape[1]}."
        )
    count = len(features)
    labels = _given_labels(options, count, "node")
    if labels is None:
        labels = _labels_of_gcond(count, dataset, path)
    _check_classes(labels, names)
    return DistilledData(
        {name: jnp.asarray(array) for name, array in learnt.items()},
        jnp.asarray(labels)[None],
        jnp.full(1, _STEP_SIZE, jnp.float32),
        Transform("identity", {}) if dataset is None else dataset.transform,
        names,
        Protocol(protocol, order="random"),
        Parameterisation(kind),
    )


def _labels_of_gcond(count: int, dataset: Dataset | None, path: Path) -> np.ndarray:
    """Labels of nodes as GCond's code orders them: equally many of each class, in order of first appearance.

    That is, among the training labels, where these are equally many of each class; else the code has another rule,
    which needs the ratio that it was run with.
    """
    asks = f"{path.name} has no labels. Give labels, the class of each of the {count} nodes"
    if dataset is None:
        raise OptionError(f"{asks}, or dataset, the graph that the set was distilled from.")
    train = np.asarray(dataset.train.labels)
    counts = np.bincount(train, minlength=dataset.num_classes)
    if len(set(counts.tolist())) > 1 or count % dataset.num_classes:
        raise OptionError(
            f"{asks}. They follow from the training labels only where the {dataset.num_classes} classes of "
            f"{dataset.name} have equally many training nodes ({counts.min()} to {counts.max()}) and the nodes can be "
            "shared out evenly."
        )
    order = train[np.sort(np.unique(train, return_index=True)[1])]
    tell(
        f"{path.name}: labels as GCond's code orders them, {count // len(order)} nodes of each class, classes in order "
        f"of first appearance among the training labels of {dataset.name}: {', '.join(map(str, order))}."
    )
    return np.repeat(order, count // len(order)).astype(np.int32)


def _images(
    found: Found, format: str, path: Path, dataset: Dataset | None, names: tuple[str, ...], protocol: str,
    options: ImportOptions,
) -> DistilledData:  # fmt: skip
    """A set of images in the model space that the preprocessing says."""
    values = found.images if found.channels_last else _channels_last(found.images, path)
    images = as_images(values, f"images in {path.name}", any_range=True)
    transform = _transform(options.preprocessing, dataset, images.shape[-1])
    if dataset is not None and dataset.image_shape != images.shape[1:]:
        raise DataError(
            f"The images should have the shape of those of {dataset.name}, {dataset.image_shape}, but have "
            f"{images.shape[1:]}."
        )
    if transform.kind.startswith("zca") and transform.arrays["mean"].size != images[0].size:
        raise DataError(
            f"The preprocessing whitens images {dataset and dataset.image_shape}, but the images are "
            f"{images.shape[1:]}."
        )
    if images.dtype == np.uint8:
        tell(f"{path.name}: the values are bytes and are read as pixels, with 255 as white.")
        images = np.divide(images, np.float32(WHITE))
    if found.images.dtype == np.uint8 or FORMATS[format].pixels:
        _check_pixels(images, path)
        images = np.asarray(to_model(transform, images))
    else:
        _doubt(transform, images, path)
    labels = _labels(found, format, len(images), path, options)
    form, parameterisation = {"images": images[None]}, PLAIN
    if format == "idc":
        form, parameterisation, labels = _formed(images, labels, options, path)
    elif options.factor is not None:
        raise OptionError(f"factor is only for the format 'idc', but the format is {format!r}. Leave it out.")
    sizes = _step_sizes(found, protocol, options, path)
    _check_classes(labels, names)
    decoded = parameterisation.decode(form)
    from_scratch = protocol != AS_DISTILLED
    made = distilled_from_arrays(
        np.asarray(decoded),
        labels[None],
        step_sizes=sizes,
        transform=transform,
        class_names=names,
        protocol=Protocol(protocol, order="random" if from_scratch else "fixed"),
    )
    learnt = {name: jnp.asarray(array) for name, array in form.items()}
    return dataclasses.replace(made, learnt=learnt, parameterisation=parameterisation)


def _channels_last(images: np.ndarray, path: Path) -> np.ndarray:
    if images.ndim != 4:
        raise DataError(f"{path} should hold images (N, C, H, W), but holds {images.shape}.")
    return np.moveaxis(images, 1, -1)


def _transform(preprocessing: str | Transform | None, dataset: Dataset | None, channels: int) -> Transform:
    """Pixels to model space, as it was said."""
    if isinstance(preprocessing, Transform):
        return preprocessing
    if preprocessing is None:
        raise OptionError(
            "The files don't tell how the images were preprocessed. Give preprocessing, one of "
            f"{', '.join(map(repr, PREPROCESSINGS))}. With another one than the set was distilled with, "
            "networks do much worse. For whitened images use 'dataset', with a dataset that was loaded with "
            "zca=True."
        )
    if preprocessing == "identity":
        return Transform("identity", {})
    if preprocessing == "dataset":
        if dataset is None:
            raise OptionError("preprocessing='dataset' uses the transform of the dataset. Give dataset too.")
        return dataset.transform
    if preprocessing not in NORMALISATIONS:
        raise unknown_name("preprocessing", preprocessing, PREPROCESSINGS)
    mean, std = NORMALISATIONS[preprocessing]
    if len(mean) != channels:
        raise OptionError(
            f"preprocessing={preprocessing!r} is for images of {len(mean)} channels, but these have {channels}. "
            "Give another one."
        )
    return Transform("standardise", {"mean": jnp.asarray(mean, jnp.float32), "std": jnp.asarray(std, jnp.float32)})


def _check_pixels(images: np.ndarray, path: Path) -> None:
    low, high = float(images.min()), float(images.max())
    if low < -_SLACK or high > 1 + _SLACK:
        raise DataError(
            f"{path} should hold pixels from 0 to 1, but they are from {low:.3g} to {high:.3g}. If the images were "
            "normalised before they were saved, save images * std + mean."
        )


def _doubt(transform: Transform, images: np.ndarray, path: Path) -> None:
    """Tell where the pixels that the preprocessing means are mostly none."""
    pixels = np.asarray(to_pixels(transform, images))
    share = float(np.mean(np.abs(np.nan_to_num(pixels) - 0.5) > 0.5 + _SLACK))
    if share > _ODD:
        tell(
            f"{path.name}: with this preprocessing {100 * share:.0f} % of the pixels are below {-_SLACK} or "
            f"above {1 + _SLACK}, where 0 is black and 1 is white. The images may have been preprocessed in "
            "another way."
        )


def _labels(found: Found, format: str, count: int, path: Path, options: ImportOptions) -> np.ndarray:
    """Classes (N,) int32, or soft labels (N, K) float32."""
    given = _given_labels(options, count, "image")
    if given is not None:
        return given
    assert found.labels is not None
    labels = as_array(found.labels, "labels")
    if labels.ndim != 2 or labels.shape[1] == 1:
        return as_labels(labels, count, f"labels in {path.name}")
    if len(labels) != count:
        raise DataError(
            f"{path}: {count} images should have labels ({count},) or ({count}, K), but have {labels.shape}."
        )
    soft = _floats(labels, "labels")
    kind = options.soft_labels or ("targets" if format == "frepo" else "shares")
    if kind not in get_args(SoftLabels):
        raise unknown_name("soft_labels", kind, get_args(SoftLabels))
    if kind == "logits":
        soft = np.exp(soft - soft.max(1, keepdims=True))
        return (soft / soft.sum(1, keepdims=True)).astype(np.float32)
    if kind == "shares" and not ((soft >= 0).all() and (np.abs(soft.sum(1) - 1) <= _SUM_SLACK).all()):
        raise OptionError(
            f"{path}: soft labels should be shares that sum to 1, but go from {soft.min():.3g} to "
            f"{soft.max():.3g} and sum to {soft.sum(1).min():.3g} to {soft.sum(1).max():.3g}. Give "
            "soft_labels='logits' or 'targets'."
        )
    return soft


def _given_labels(options: ImportOptions, count: int, unit: str) -> np.ndarray | None:
    if options.labels is None:
        return None
    if len(options.labels) != count:
        raise OptionError(f"labels should have a class for each of the {count} {unit}s, but has {len(options.labels)}.")
    return as_labels(np.asarray(options.labels), count, "labels")


def _check_classes(labels: np.ndarray, names: tuple[str, ...]) -> None:
    highest = labels.shape[1] if labels.ndim == 2 else int(labels.max()) + 1
    if names and (highest > len(names) or (labels.ndim == 2 and highest != len(names))):
        raise DataError(
            f"There should be a class name for each class, but there are {len(names)} and the labels have {highest} "
            "classes."
        )


def _step_sizes(found: Found, protocol: str, options: ImportOptions, path: Path) -> np.ndarray | None:
    """Of the learnt steps, or of the training where its protocol needs one."""
    stated = found.step_sizes if options.step_size is None else np.full(1, options.step_size)
    if stated is not None:
        sizes = _floats(np.atleast_1d(stated), "step sizes")
        if sizes.ndim != 1 or not (sizes > 0).all():
            raise DataError(
                f"{path}: step sizes should be positive, of shape (T,), but are {sizes.ravel()[:4]} of shape "
                f"{sizes.shape}."
            )
        return sizes
    training = PROTOCOLS.get(protocol)
    if protocol == AS_DISTILLED or getattr(training, "learning_rate", 0.0) is None:
        raise OptionError(
            f"The protocol {protocol!r} needs the learnt step size, but no file has it. Give step_size, or "
            "another protocol."
        )
    return None


def _formed(
    images: np.ndarray, labels: np.ndarray, options: ImportOptions, path: Path
) -> tuple[dict[str, np.ndarray], Parameterisation, np.ndarray]:
    """Stored images, of each of which several are made, and the labels of these."""
    if options.factor is None:
        raise OptionError(
            f"The file name {path.name} doesn't tell into how many images each stored one is decoded. Give factor."
        )
    kind, settings = PARAMETERISATIONS["multi_formation"], {"factor": options.factor, "formation": options.formation}
    if problem := kind.check({"stored": images}, **settings):
        raise OptionError(f"{path}: {problem}.")
    if images.shape[1] % options.factor or images.shape[2] % options.factor:
        tell(
            f"{path.name}: sides of {images.shape[1]} x {images.shape[2]} are no multiples of {options.factor}; tiles "
            "at the edge end in mean values here, and in grey in the released code."
        )
    count = num_formed(options.factor, options.formation)
    return {"stored": images}, Parameterisation.of(kind, **settings), np.repeat(labels, count, axis=0)


def _floats(values: Any, what: str) -> np.ndarray:
    """Finite numbers as float32."""
    array = as_array(values, what)
    if array.dtype.kind not in "fiu":
        raise DataError(f"The {what} have type {array.dtype}; expected numbers.")
    with np.errstate(over="ignore"):  # told right below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise DataError(f"The {what} hold {int((~np.isfinite(array)).sum())} numbers that are not finite.")
    return array
