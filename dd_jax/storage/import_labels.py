"""Labels of released sets: as files or options say them, and what is odd about them."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.data.checks import as_array
from dd_jax.data.labels import as_labels
from dd_jax.data.telling import NUM_LISTED, listed, tell
from dd_jax.errors import DataError, OptionError
from dd_jax.storage.import_options import ImportOptions
from dd_jax.types import Dataset

_SUM_SLACK = 1e-3  # how far shares may sum to something else than one


def labels_of(
    found: np.ndarray | None, count: int, path: Path, options: ImportOptions, default: str
) -> tuple[np.ndarray, str | None]:
    """Classes (N,) int32 and None, or soft labels (N, K) float32 and what they are.

    Args:
        found: what the file holds; None for no labels.
        count: N, the number of images.
        path: the file that has the labels, or should have.
        default: what soft labels are if the options don't say.

    Raises:
        DataError: labels of another shape or type.
        OptionError: options that say otherwise than the file, or are missing.
    """
    given = given_labels(options, count, "image")
    labels = given if found is None else as_array(found, f"labels in {path.name}")
    if labels is None:
        raise OptionError(
            f"There should be labels for the images in {path}, but there are none. Name a file that has them, or give "
            f"labels, the class of each of the {count} images."
        )
    if labels.ndim != 2 or labels.shape[1] == 1:
        classes = as_labels(labels, count, f"labels in {path.name}")
        if options.soft_labels is not None:
            raise OptionError(
                f"soft_labels is for labels (N, K), one number for each class, but is {options.soft_labels!r} where "
                f"the labels are classes {classes.shape}. Leave out soft_labels."
            )
        if given is not None:
            _check_same(given, classes, path)
        return classes, None
    if len(labels) != count:
        raise DataError(
            f"{path}: {count} images should have labels ({count},) or ({count}, K), but have {labels.shape}."
        )
    if given is not None:
        raise OptionError(
            f"labels gives a class for each image, but {path} has soft labels {labels.shape}. Leave out labels, or the "
            "labels of the file."
        )
    return _soft(labels, path, options, default)


def given_labels(options: ImportOptions, count: int, unit: str) -> np.ndarray | None:
    """The classes that the options say, if they do."""
    if options.labels is None:
        return None
    if np.ndim(options.labels) != 1:
        raise OptionError(
            f"labels should be a sequence of classes, one for each {unit}, but is {options.labels!r:.80}. Give one "
            f"number for each of the {count} {unit}s."
        )
    if len(options.labels) != count:
        raise OptionError(f"labels should have a class for each of the {count} {unit}s, but has {len(options.labels)}.")
    return as_labels(np.asarray(options.labels), count, "labels")


def check_classes(labels: np.ndarray, names: tuple[str, ...], what: str) -> None:
    """DataError for labels, called `what`, of other classes than those that are named."""
    count = len(names)
    if not names:
        return
    remedy = "Give the dataset that the set was distilled from, or class_names for all of its classes"
    if labels.ndim == 2:
        if labels.shape[1] != count:
            raise DataError(
                f"The {what} should be ({len(labels)}, {count}), as there are {count} classes, but are {labels.shape}. "
                f"{remedy}."
            )
        return
    beyond = np.flatnonzero(labels >= count)
    if beyond.size:
        raise DataError(
            f"The {what} should be from 0 to {count - 1}, as there are {count} classes, but {beyond.size} of "
            f"{len(labels)} are not, such as {labels[beyond[0]]} at index {beyond[0]}. {remedy}, or number the classes "
            "from 0."
        )


def tell_classes(labels: np.ndarray, names: tuple[str, ...], unit: str, what: str) -> None:
    """Tell where all labels, called `what`, are of one class, or a class has none."""
    soft = labels.ndim == 2
    classes = labels.argmax(1) if soft else labels
    if len(labels) > 1 and (classes == classes[0]).all():
        where = "have their largest number at" if soft else "are of"
        tell(f"All {len(labels)} {what} {where} one class, {classes[0]}, so networks can't tell classes apart.")
        return
    count = len(names) or (labels.shape[1] if soft else int(classes.max()) + 1)
    there = set((np.flatnonzero((labels > 0).any(0)) if soft else np.unique(labels)).tolist())
    if len(there) < count:
        first = itertools.islice((k for k in range(count) if k not in there), NUM_LISTED + 1)  # a label may be huge
        tell(f"The {what} give no {unit} to {count - len(there)} of {count} classes: {listed(list(first))}.")


def tell_constant(values: np.ndarray, what: str, unit: str, path: Path) -> None:
    """Tell which images, or features of nodes, are of one value throughout."""
    rows = values.reshape(len(values), -1)
    constant = np.flatnonzero(rows.min(1) == rows.max(1))
    if not constant.size or rows.shape[1] == 1:
        return
    if values.min() == values.max():
        value = values.flat[0] + 0.0  # without the sign of -0
        tell(f"{path.name}: all {what} have the same value, {value:g}, so nothing can be learnt from them.")
    else:
        tell(
            f"{path.name}: {constant.size} of {len(rows)} {unit}s have one value throughout, the first at index "
            f"{constant[0]}."
        )


def labels_of_nodes(count: int, dataset: Dataset | None, path: Path) -> tuple[np.ndarray, list[int]]:
    """Labels of nodes as GCond's code orders them: equally many of each class, in order of first appearance.

    That is, among the training labels, where these are equally many of each class; else the code has another rule,
    which needs the ratio that it was run with.

    Returns:
        Labels and the order of the classes.
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
    return np.repeat(order, count // len(order)).astype(np.int32), order.tolist()


def floats(values: Any, what: str) -> np.ndarray:
    """Finite numbers as float32."""
    array = as_array(values, what)
    if array.dtype.kind not in "fiu":
        raise DataError(f"The {what} have type {array.dtype}; expected numbers.")
    with np.errstate(over="ignore"):  # told right below
        array = array.astype(np.float32)
    if not np.isfinite(array).all():
        wrong = int((~np.isfinite(array)).sum())
        raise DataError(f"The {what} should be finite, but {wrong} of {array.size} numbers are not. Save them again.")
    return array


def _check_same(given: np.ndarray, found: np.ndarray, path: Path) -> None:
    """OptionError where the options say other classes than the file."""
    other = np.flatnonzero(given != found)
    if other.size:
        first = other[0]
        raise OptionError(
            f"labels should be those in {path}, but {other.size} of {len(found)} are not: label {first} is "
            f"{given[first]} in the option and {found[first]} in the file. Leave out labels, or the labels of the file."
        )


def _soft(labels: np.ndarray, path: Path, options: ImportOptions, default: str) -> tuple[np.ndarray, str]:
    soft = floats(labels, f"labels in {path.name}")
    kind = options.soft_labels or default
    are_shares = bool((soft >= 0).all() and (np.abs(soft.sum(1) - 1) <= _SUM_SLACK).all())
    if kind == "logits":
        if are_shares:
            tell(
                f"{path.name}: the labels are shares that sum to 1 already, but soft_labels is 'logits', so their "
                "softmax is taken."
            )
        soft = np.exp(soft - soft.max(1, keepdims=True))
        return (soft / soft.sum(1, keepdims=True)).astype(np.float32), kind
    if kind == "shares" and not are_shares:
        raise OptionError(
            f"{path}: soft labels should be shares that sum to 1, but go from {soft.min():.3g} to "
            f"{soft.max():.3g} and sum to {soft.sum(1).min():.3g} to {soft.sum(1).max():.3g}. Give "
            "soft_labels='logits' or 'targets'."
        )
    return soft, kind
