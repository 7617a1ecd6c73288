"""Distilled sets that others released, as sets of this library: with preprocessing, labels, step size and protocol."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from dd_jax.data import to_model, to_pixels
from dd_jax.data.checks import as_images
from dd_jax.data.labels import ClassNames, names_of
from dd_jax.data.telling import tell
from dd_jax.data.transforms import WHITE
from dd_jax.errors import DataError, OptionError
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.storage.import_labels import (
    check_classes,
    floats,
    given_labels,
    labels_of,
    labels_of_nodes,
    tell_classes,
    tell_constant,
)
from dd_jax.storage.import_options import (
    NORMALISATIONS,
    PREPROCESSINGS,
    ImportOptions,
    check_dataset,
    check_meaning,
    needs_step_size,
    options_of,
    paths_of,
    protocol_of,
)
from dd_jax.storage.released import FORMATS, Found
from dd_jax.synthetic import PARAMETERISATIONS, distilled_from_arrays, num_formed
from dd_jax.types import AS_DISTILLED, Dataset, DistilledData, Protocol, Transform

_STEP_SIZE = 0.01  # of a graph, whose networks are trained by Adam
_ODD = 0.25  # share of pixels so far outside of [0, 1] that the preprocessing is doubted
_SLACK = 0.5  # how far outside
_SHOWN = 4  # step sizes in a message
_ROLES = ("images", "labels", "step_sizes", "adjacency")  # of arrays in files


class Imported(NamedTuple):
    """A set out of released files.

    Attributes:
        distilled: the set.
        taken: what was taken where no option said it, by name: of plain values.
    """

    distilled: DistilledData
    taken: Mapping[str, Any]


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
            a graph whose training classes are equally large. By its name, digits and letters are not mirrored.
        class_names: in place of those of the dataset.
        options: the fields of `ImportOptions`.

    Warns:
        DataWarning: what was taken for granted or left out, or is odd about the set.

    Raises:
        DataError: the files aren't there, are damaged, hold something else, or don't fit together or to the dataset.
        OptionError: for a bad option, one that is missing, one that says otherwise than the files, or one that has no
            meaning for the format.
    """
    return read_released(files, format, dataset, class_names=class_names, **options).distilled


def read_released(
    files: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    format: str,
    dataset: Dataset | None = None,
    *,
    class_names: ClassNames = (),
    **options: Any,
) -> Imported:
    """What `import_distilled` gives, with what was taken for granted."""
    paths, chosen = paths_of(files, format), options_of(options)
    check_dataset(dataset)
    check_meaning(chosen, format)
    protocol, note_on_protocol = protocol_of(chosen, format, paths, dataset)
    found = FORMATS[format].read(paths, chosen.index)
    found = found._replace(places={role: found.places.get(role, paths[0]) for role in _ROLES})
    for note in found.notes:
        tell(note)
    names = names_of(class_names) or (() if dataset is None else dataset.class_names)
    make = _graph if format == "gcond" else _images
    made = make(found, format, dataset, names, protocol, chosen)
    if note_on_protocol is not None:
        tell(note_on_protocol)
    by_default = {} if chosen.protocol is not None else {"protocol": protocol}
    return Imported(made.distilled, {**by_default, **found.taken, **made.taken})


def _graph(
    found: Found, format: str, dataset: Dataset | None, names: tuple[str, ...], protocol: str, options: ImportOptions
) -> Imported:
    """A graph of nodes; features are in the space of the dataset."""
    del format
    path, edges = found.places["images"], found.places["adjacency"]
    features = floats(found.images, f"features in {path.name}")
    learnt = {"features": features}
    kind = PARAMETERISATIONS["graph"]
    if problem := kind.check(learnt):
        raise DataError(f"{path}: {problem}.")
    if dataset is not None and dataset.image_shape != (1, 1, features.shape[1]):
        raise DataError(
            f"The nodes should have as many features as those of {dataset.name}, {dataset.image_shape}, but "
            f"have {features.shape[1]}."
        )
    if found.adjacency is not None:
        learnt["adjacency"] = floats(found.adjacency, f"adjacency in {edges.name}")
        if problem := kind.check(learnt):
            raise DataError(f"{edges}: {problem}.")
        if not learnt["adjacency"].any():
            tell(f"{edges.name}: all weights of edges are 0, so the graph has no edges.")
    labels, taken = given_labels(options, len(features), "node"), {}
    if labels is None:
        labels, order = labels_of_nodes(len(features), dataset, path)
        taken = {"label_order": order}
    what = f"labels of {path}" if options.labels is None else "option labels"
    check_classes(labels, names, what)
    tell_classes(labels, names, "node", what)
    tell_constant(features, "features", "node", path)
    distilled = DistilledData(
        {name: jnp.asarray(array) for name, array in learnt.items()},
        jnp.asarray(labels)[None],
        jnp.full(1, _STEP_SIZE, jnp.float32),
        Transform("identity", {}) if dataset is None else dataset.transform,
        names,
        Protocol(protocol, order="random"),
        Parameterisation(kind),
    )
    return Imported(distilled, taken)


def _images(
    found: Found, format: str, dataset: Dataset | None, names: tuple[str, ...], protocol: str, options: ImportOptions
) -> Imported:
    """A set of images in the model space that the preprocessing says."""
    path = found.places["images"]
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
    tell_constant(images, "pixels of the images", "image", path)
    if found.images.dtype == np.uint8 or FORMATS[format].pixels:
        _check_pixels(images, path)
        images = np.asarray(to_model(transform, images))
    else:
        _doubt(transform, images, path)
    default, place = "targets" if format == "frepo" else "shares", found.places["labels"]
    labels, soft = labels_of(found.labels, len(images), place, options, default)
    what = "option labels" if found.labels is None else f"labels in {place}"
    check_classes(labels, names, what)
    tell_classes(labels, names, "image", what)
    taken = {"soft_labels": soft} if soft is not None and options.soft_labels is None else {}
    form, parameterisation = {"images": images[None]}, PLAIN
    if format == "idc":
        taken |= {"formation": "single"} if options.formation is None else {}
        form, parameterisation, labels = _formed(images, labels, options, path)
    sizes = _step_sizes(found, protocol, options)
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
    return Imported(dataclasses.replace(made, learnt=learnt, parameterisation=parameterisation), taken)


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


def _step_sizes(found: Found, protocol: str, options: ImportOptions) -> np.ndarray | None:
    """Of the learnt steps, or of the training where its protocol needs one."""
    given = None if options.step_size is None else np.full(1, options.step_size, np.float32)
    if found.step_sizes is None:
        if given is None and needs_step_size(protocol):
            raise OptionError(
                f"The protocol {protocol!r} needs the learnt step size, but no file has it. Give step_size, or "
                "another protocol."
            )
        return given
    path = found.places["step_sizes"]
    sizes = floats(np.atleast_1d(found.step_sizes), f"step sizes in {path.name}")
    shown = ", ".join(f"{size:.6g}" for size in sizes.ravel()[:_SHOWN]) + (", ..." if sizes.size > _SHOWN else "")
    if sizes.ndim != 1 or not (sizes > 0).all():
        raise DataError(
            f"{path}: step sizes should be positive, of shape (T,), but are {shown} of shape {sizes.shape}. "
            "Save the learnt ones again."
        )
    if given is not None and not (sizes.size == 1 and np.allclose(sizes, given, atol=0)):
        raise OptionError(
            f"step_size should be what {path} says, {shown}, but is {options.step_size:g}. Leave out step_size, or the "
            "step sizes of the file."
        )
    return sizes


def _formed(
    images: np.ndarray, labels: np.ndarray, options: ImportOptions, path: Path
) -> tuple[dict[str, np.ndarray], Parameterisation, np.ndarray]:
    """Stored images, of each of which several are made, and the labels of these."""
    if options.factor is None:
        raise OptionError(
            f"The file name {path.name} doesn't tell into how many images each stored one is decoded. Give factor."
        )
    formation = options.formation or "single"
    kind, settings = PARAMETERISATIONS["multi_formation"], {"factor": options.factor, "formation": formation}
    if problem := kind.check({"stored": images}, **settings):
        raise OptionError(f"{path}: {problem}.")
    if images.shape[1] % options.factor or images.shape[2] % options.factor:
        tell(
            f"{path.name}: sides of {images.shape[1]} x {images.shape[2]} are no multiples of {options.factor}; tiles "
            "at the edge end in mean values here, and in grey in the released code."
        )
    count = num_formed(options.factor, formation)
    return {"stored": images}, Parameterisation.of(kind, **settings), np.repeat(labels, count, axis=0)
