"""Image sets that TensorFlow Datasets has prepared on this machine, read without TensorFlow.

Nothing is downloaded or generated here: a prepared set is found on disk by its name, its records are read
and its images decoded with pillow, once; afterwards the decoded arrays come from the cache.
"""

import functools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax.data.arrays import Pair, RawData
from dd_jax.data.cache import cache_folder, cached, source_key
from dd_jax.data.images import ImageSize, as_size, decode_image, stack_images
from dd_jax.data.tfds_find import data_dir, find_prepared, prepare_command
from dd_jax.errors import DataError

READ_CHUNK = 1000  # records read at a time
CHANNELS = (1, 3, None)  # what the image feature may declare; None: each image decides


def read_tfds(name: str, image_size: ImageSize = None, cache_dir: str | os.PathLike[str] | None = None) -> RawData:
    """The published train, test and validation splits of a prepared image set, uint8, and its class names.

    Where a set has no labelled test split, its validation split is the test split. A set with neither
    comes with train alone.

    Args:
        name: "mnist", "emnist/letters", "mnist:3.0.1".
        image_size: resize every image to this side, or (H, W).
        cache_dir: where decoded arrays are kept; by default dd_jax/datasets in the user's cache folder.

    Raises:
        DataError: not prepared (the message says how to prepare it), prepared in a format without random
            access, or not one 8-bit image and one class label per record.
        OptionError: there is no such set.
    """
    size = as_size(image_size)
    directory = find_prepared(name)
    files = [file for file in directory.iterdir() if file.is_file()]
    stem = "-".join(directory.relative_to(data_dir()).parts)
    path = cache_folder(cache_dir) / f"{stem}-{source_key(files, stem, size)}.npz"
    return cached(path, functools.partial(_read_prepared, directory, name, size))


def _read_prepared(directory: Path, name: str, size: tuple[int, int] | None) -> RawData:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    features = builder.info.features
    image_key = _only_key(builder.info, 0, tfds.features.Image, name)
    label_key = _only_key(builder.info, 1, tfds.features.ClassLabel, name)
    channels = features[image_key].shape[-1]
    if features[image_key].np_dtype != np.uint8 or channels not in CHANNELS:
        raise DataError(f"{name}: feature {image_key!r} is {features[image_key]}; expected 8-bit grey or RGB images.")
    splits = {part: part for part in ("train", "test", "validation") if part in builder.info.splits}
    if "train" not in splits:
        raise DataError(f"{name} has no train split; found {', '.join(builder.info.splits)}.")

    raw_bytes = {key: tfds.decode.SkipDecoding() for key, f in features.items() if isinstance(f, tfds.features.Image)}
    try:
        sources = builder.as_data_source(split=splits, decoders=raw_bytes)
        keys = image_key, label_key
        pairs = {part: _read_split(source, keys, f"{name} {part}", size, channels) for part, source in sources.items()}
    except (NotImplementedError, ImportError, OSError, RuntimeError, IndexError) as error:
        raise _unreadable(directory, name, error) from error
    return RawData(**_published(pairs), class_names=tuple(features[label_key].names))


def _only_key(info: Any, place: int, kind: type, name: str) -> str:
    """The feature of this kind that the set declares as its input (place 0) or target (1), else the only one."""
    features = dict(info.features.items())
    declared = info.supervised_keys[place] if info.supervised_keys else None
    if isinstance(declared, str) and isinstance(features.get(declared), kind):
        return declared
    found = [key for key, feature in features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(features.items()))
        raise DataError(f"{name} must have one {kind.__name__} feature; found {len(found)} among {listed}.")
    return found[0]


def _read_split(
    source: Any, keys: tuple[str, str], where: str, size: tuple[int, int] | None, channels: int | None
) -> Pair:
    image_key, label_key = keys
    labels = np.empty(len(source), np.int32)

    def images() -> Iterator[tuple[str, np.ndarray]]:
        for start in range(0, len(source), READ_CHUNK):
            records = source.__getitems__(list(range(start, min(start + READ_CHUNK, len(source)))))
            for index, record in enumerate(records, start):
                labels[index] = record[label_key]
                place = f"{where} image {index}"
                yield place, decode_image(record[image_key], place, size, channels)

    return stack_images(images(), len(source)), labels


def _published(pairs: dict[str, Pair]) -> dict[str, Pair]:
    """Without unlabelled splits (TFDS labels them -1), and with a test split if there is any to be had."""
    labelled = {part: pair for part, pair in pairs.items() if (pair[1] >= 0).any()}
    if "test" not in labelled and "validation" in labelled:
        labelled["test"] = labelled.pop("validation")
    return labelled


def _unreadable(directory: Path, name: str, error: Exception) -> DataError:
    if isinstance(error, ImportError):
        return DataError(f"Reading {directory} needs the package array_record (Linux only): {error}")
    return DataError(
        f"{directory} can't be read record by record: {error}\n"
        f"It is damaged or not in array_record format. Move it away and prepare it again with\n"
        f"    {prepare_command(name)}"
    )
