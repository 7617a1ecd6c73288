"""What files of released sets don't say: the options of an import, and which of them have a meaning."""

import dataclasses
import operator
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from dd_jax.data.characters import of_characters
from dd_jax.errors import DataError, OptionError, unknown_name
from dd_jax.evaluation import PROTOCOLS
from dd_jax.inner import Regression, Training
from dd_jax.storage.released import FORMATS
from dd_jax.types import AS_DISTILLED, Dataset, Transform

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

_FOR_GRAPHS = "gcond"  # format
_BY_NAME = {"dc": "dc", "dsa": "dsa", "dm": "dsa"}  # protocol of a file res_NAME_...
_MEANINGLESS = {
    "preprocessing": "the features of nodes are as the dataset has them",
    "soft_labels": "its files have no labels",
    "step_size": "its networks are trained at the rate of the protocol",
    "factor": "only a stored image of the format 'idc' is several images",
    "formation": "only a stored image of the format 'idc' is several images",
    "index": "its files hold one set only",
}


@dataclasses.dataclass(frozen=True)
class ImportOptions:
    """What files of released sets don't say.

    An option that says otherwise than the files is refused, and so is one that has no meaning for their format.
    """

    preprocessing: str | Transform | None = None
    """Map from real images to the numbers that networks see: "dataset" as the given dataset has it, "identity" for
    pixels in [0, 1], or the mean and deviation of released code for "mnist", "fashion_mnist", "svhn", "cifar10",
    "cifar100" or "tiny_imagenet". Files of the format idc hold pixels, all others hold these numbers. Needed for
    images."""
    labels: tuple[int, ...] | None = None
    """Class of each image or node, for files without labels."""
    soft_labels: SoftLabels | None = None
    """Meaning of labels that are not classes: "shares" that sum to one, "logits" before their softmax, or "targets" of
    a regression. None: targets in the format frepo, else shares."""
    step_size: float | None = None
    """Learnt step size, for files of the formats mtt and npz without one, or for a protocol that needs one."""
    protocol: str | None = None
    """Training of networks on the set. None: as the method of the format does, or "as-distilled" for npz, without
    mirrored images for datasets of digits or letters. Needed for dc if the name of the file doesn't start with res_DC,
    res_DSA or res_DM."""
    factor: int | None = None
    """Factor of the format idc, where it is needed: a stored image is factor x factor images."""
    formation: str | None = None
    """Formation of the format idc: "multi" if a stored image is also the images of every smaller factor, or "single".
    None: single."""
    index: int | None = None
    """Number of the file's set in the format dc, counted from 0. None: the last one."""


NAMES = tuple(field.name for field in dataclasses.fields(ImportOptions))


def options_of(given: dict[str, Any]) -> ImportOptions:
    """Options out of keywords; OptionError for an unknown one, or a value of another kind."""
    if unknown := set(given) - set(NAMES):
        raise unknown_name("option", min(unknown), NAMES)
    options = ImportOptions(**given)
    _check_protocol(options.protocol)
    _check_choice("preprocessing", options.preprocessing, PREPROCESSINGS, Transform)
    _check_choice("soft_labels", options.soft_labels, get_args(SoftLabels))
    if options.step_size is not None and not _is_positive(options.step_size):
        raise OptionError(
            f"step_size should be a positive number, but is {options.step_size!r:.80}. Give the learnt one."
        )
    if options.index is not None and not _is_whole(options.index):
        raise OptionError(f"index should be a whole number from 0, but is {options.index!r:.80}. Give one such number.")
    return options


def paths_of(files: Any, format: Any) -> list[Path]:
    """The files of a format; OptionError for no format or for names that are no paths, DataError for no file."""
    if not isinstance(format, str):
        raise OptionError(f"format should be one of {', '.join(FORMATS)}, but is {format!r:.80}. Name one of them.")
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    single = isinstance(files, str | bytes | os.PathLike)
    listed = [files] if single or not np.iterable(files) else list(files)
    if not all(isinstance(file, str | os.PathLike) for file in listed):
        raise OptionError(f"files should be a path or a list of paths, but are {files!r:.80}. Give paths as text.")
    if not listed:
        raise DataError(f"No file is named. The files of the format {format!r} are {FORMATS[format].files}.")
    return [Path(os.fsdecode(file)).expanduser() for file in listed]


def check_dataset(dataset: Any) -> None:
    """OptionError for anything but a dataset or None."""
    if dataset is not None and not isinstance(dataset, Dataset):
        how = f"dd_jax.load_dataset({dataset!r:.80})" if isinstance(dataset, str) else "dd_jax.load_dataset(NAME)"
        raise OptionError(
            f"dataset should be a Dataset, but is {dataset!r:.80}, a {type(dataset).__name__}. Load it with {how}."
        )


def check_meaning(options: ImportOptions, format: str) -> None:
    """OptionError for an option that has no meaning for the format."""
    needs_rate = options.protocol is not None and needs_step_size(options.protocol) and format != _FOR_GRAPHS
    takes = (*FORMATS[format].takes, *(["step_size"] if needs_rate else []))
    for name in NAMES:
        value = getattr(options, name)
        if value is not None and name not in takes:
            shown = repr(value) if isinstance(value, str | int | float) else f"a {type(value).__name__}"
            raise OptionError(
                f"{name} has no meaning for the format {format!r}, but is {shown}: {_MEANINGLESS[name]}. Leave "
                f"out {name}."
            )


def needs_step_size(protocol: str) -> bool:
    """Whether networks are trained at a learnt step size."""
    return protocol == AS_DISTILLED or getattr(PROTOCOLS.get(protocol), "learning_rate", 0.0) is None


def protocol_of(
    options: ImportOptions, format: str, paths: Sequence[Path], dataset: Dataset | None
) -> tuple[str, str | None]:
    """The name of the protocol, the one that was said or that of the method, and what to tell about the choice."""
    if options.protocol is not None:
        _check_fit(options.protocol, format)
        return options.protocol, None
    by_name = _BY_NAME.get(paths[0].name.lower().removeprefix("res_").partition("_")[0]) if format == "dc" else None
    name = FORMATS[format].protocol or by_name
    if name is None and format == "npz":
        name = AS_DISTILLED
    if name is None:
        raise OptionError(
            f"The file name {paths[0].name} doesn't tell how networks are trained on the set. Give protocol, "
            "such as 'dc', 'dsa', or 'dsa-digits' for digits, which must not be mirrored."
        )
    said = f"{paths[0].name}: the protocol is"
    why = "judging by the file name" if by_name is not None else f"as for the format {format!r}"
    characters, variant = _why_characters(options, format, paths[0], dataset), f"{name}-digits"
    if characters and variant in PROTOCOLS:
        return variant, (
            f"{said} {variant!r}: {name!r}, {why}, but without mirrored images, because {characters}. Give protocol to "
            "change it."
        )
    return name, None if by_name is None else f"{said} {name!r}, {why}. Give protocol to change it."


def _why_characters(options: ImportOptions, format: str, path: Path, dataset: Dataset | None) -> str:
    """Why the images are taken to be digits or letters, as a clause; empty where nothing tells so."""
    if dataset is not None:
        return f"the dataset {dataset.name!r} is of digits or letters" if of_characters(dataset.name) else ""
    if isinstance(options.preprocessing, str) and options.preprocessing in NORMALISATIONS:
        found = of_characters(options.preprocessing)
        return f"the preprocessing {options.preprocessing!r} is that of digits" if found else ""
    word = path.name.removeprefix("res_").partition("_")[2].partition("_")[0] if format == "dc" else ""
    return f"{word} in the file name means digits or letters" if of_characters(word) else ""


def _check_fit(name: str, format: str) -> None:
    """OptionError for a protocol of graphs on images, or the other way around."""
    if format != _FOR_GRAPHS:
        if name == "gcond":
            raise OptionError(
                "The protocol 'gcond' trains on the nodes of a graph, but these are images. Give another one, such as "
                "'dc'."
            )
        return
    training = PROTOCOLS.get(name)
    if not isinstance(training, Training) or training.augment != "none" or training.cutmix or needs_step_size(name):
        raise OptionError(
            f"The protocol {name!r} is for sets of images, but these are the nodes of a graph. Leave out protocol, or "
            "give one that neither changes images nor needs a learnt step size, such as 'gcond'."
        )


def _check_protocol(protocol: Any) -> None:
    known = (AS_DISTILLED, *PROTOCOLS)
    if isinstance(protocol, Training | Regression):
        raise OptionError(
            f"protocol should be a name, which is kept with the set, but is a {type(protocol).__name__}. Give one of "
            f"{', '.join(known)}, and your own training to evaluate: dd_jax.evaluate(..., protocol=training)."
        )
    _check_choice("protocol", protocol, known)


def _check_choice(name: str, value: Any, known: Sequence[str], other: type | None = None) -> None:
    """OptionError for a value that is neither None nor one of the known names, or of the `other` type."""
    if value is None or (other is not None and isinstance(value, other)):
        return
    if not isinstance(value, str):
        raise OptionError(f"{name} should be one of {', '.join(known)}, but is {value!r:.80}. Give one of these names.")
    if value not in known:
        raise unknown_name(name, value, known)


def _is_positive(value: Any) -> bool:
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "fiu" and bool(np.isfinite(array) and array > 0)


def _is_whole(value: Any) -> bool:
    try:
        operator.index(value)
    except TypeError:
        return False
    return not isinstance(value, bool)
