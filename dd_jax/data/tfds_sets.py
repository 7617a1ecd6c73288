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

from dd_jax.data.arrays import Pair, RawData, with_test
from dd_jax.data.cache import cache_folder, cached, mapped, source_key
from dd_jax.data.detection import join_trainval, object_labels, read_crops
from dd_jax.data.images import ImageSize, as_channels, as_size, decode_image
from dd_jax.data.stack import Item, Room, Seen, in_memory, nothing_seen, stack_images
from dd_jax.data.tfds_find import data_dir, find_prepared, prepare_command, tfds_name
from dd_jax.errors import DataError, OptionError

READ_CHUNK = 1000  # records read at a time
DECLARED_CHANNELS = (1, 3, None)  # what the image feature may declare; None: each image decides


def read_tfds(
    name: str,
    image_size: ImageSize = None,
    cache_dir: str | os.PathLike[str] | None = None,
    channels: int | None = None,
    skip_broken: bool = False,
    on_disk: bool = False,
) -> RawData:
    """The published train, test and validation splits of a prepared image set, uint8, and its class names.

    Where a set has no labelled test split, its validation split is the test split. A set with neither
    comes with train alone. Of a detection set, such as "voc/2007", every object is one image: the crop of
    its box; its train split is the published train and validation splits, when there is a test split.

    Args:
        name: "mnist", "emnist/letters", "mnist:3.0.1", or another name out of ALIASES.
        image_size: resize every image to this side, or (H, W).
        cache_dir: where decoded arrays are kept; by default dd_jax/datasets in the user's cache folder.
        channels: 1 makes every image grey, 3 RGB.
        skip_broken: leave out images that can't be read, and say so.
        on_disk: leave the decoded training images on disk and map them into memory.

    Raises:
        DataError: not prepared (the message says how to prepare it), prepared in a format without random
            access, not one 8-bit image and one class label per record, or detection without image_size.
        OptionError: there is no such set.
    """
    size, channels = as_size(image_size), as_channels(channels)
    name = tfds_name(name)
    directory = find_prepared(name)
    files = [file for file in directory.iterdir() if file.is_file()]
    stem = "-".join(directory.relative_to(data_dir()).parts)
    path = cache_folder(cache_dir) / f"{stem}-{source_key(files, stem, size, channels, skip_broken)}"
    read = functools.partial(_read_prepared, directory, name, size, channels, skip_broken)
    return mapped(path, read) if on_disk else cached(path.with_name(f"{path.name}.npz"), read)


def _read_prepared(
    directory: Path,
    name: str,
    size: tuple[int, int] | None,
    channels: int | None,
    skip_broken: bool,
    room: Room = in_memory,
) -> RawData:
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(directory)
    features = dict(builder.info.features.items())
    image_key = _image_key(builder.info, name)
    channels = channels or features[image_key].shape[-1]
    label_keys = _keys(builder.info, 1, tfds.features.ClassLabel)
    objects = object_labels(features, name) if len(label_keys) != 1 else None
    if objects and room is not in_memory:
        raise OptionError(f"{name} is cut into objects, which must all be in memory. Leave out resident_images.")
    label_key = "" if objects else _only(label_keys, builder.info, tfds.features.ClassLabel, name)
    splits = {part: part for part in ("train", "test", "validation") if part in builder.info.splits}
    if "train" not in splits:
        raise DataError(f"{name} should have a train split, but has {', '.join(builder.info.splits)}.")

    raw_bytes = {key: tfds.decode.SkipDecoding() for key, f in features.items() if isinstance(f, tfds.features.Image)}
    read = read_train = read_crops
    if not objects:
        read, read_train = (functools.partial(_read_split, label_key=label_key, room=r) for r in (in_memory, room))
    seen = nothing_seen()
    others = sorted(set(builder.info.splits) - set(splits))
    try:
        sources = builder.as_data_source(split=splits, decoders=raw_bytes)
        pairs = {
            part: (read_train if part == "train" else read)(source, image_key, f"{name} {part}", size, channels, seen)
            for part, source in sources.items()
        }
    except (NotImplementedError, ImportError, OSError, RuntimeError, IndexError) as error:
        raise _unreadable(directory, name, error) from error
    notes = [f"{name}: left out the split {', '.join(others)}."] if others else []
    labelled = _labelled(pairs, name)
    notes += [f"{name}: left out the {part} split, which has no labels." for part in pairs if part not in labelled]
    class_names = (objects or features[label_key]).names
    pairs = join_trainval(labelled) if objects else labelled
    raw = RawData(**pairs, class_names=tuple(class_names), notes=(*notes, *seen.notes(skip_broken)))
    return with_test(raw)


def _image_key(info: Any, name: str) -> str:
    import tensorflow_datasets as tfds

    key = _only(_keys(info, 0, tfds.features.Image), info, tfds.features.Image, name)
    feature = info.features[key]
    if feature.np_dtype != np.uint8 or feature.shape[-1] not in DECLARED_CHANNELS:
        raise DataError(f"The images of {name} should be 8-bit, grey or RGB, but its feature {key!r} is {feature}.")
    return key


def _keys(info: Any, place: int, kind: type) -> list[str]:
    """The feature of this kind that the set declares as its input (place 0) or target (1), else all of the kind."""
    features = dict(info.features.items())
    declared = info.supervised_keys[place] if info.supervised_keys else None
    if isinstance(declared, str) and isinstance(features.get(declared), kind):
        return [declared]
    return [key for key, feature in features.items() if isinstance(feature, kind)]


def _only(keys: list[str], info: Any, kind: type, name: str) -> str:
    if len(keys) != 1:
        listed = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(info.features.items()))
        raise DataError(f"{name} should have one {kind.__name__} feature, but has {len(keys)} among {listed}.")
    return keys[0]


def _read_split(
    source: Any,
    image_key: str,
    where: str,
    size: tuple[int, int] | None,
    channels: int | None,
    seen: Seen,
    label_key: str,
    room: Room = in_memory,
) -> Pair:
    labels = np.empty(len(source), np.int32)

    def images() -> Iterator[Item]:
        for start in range(0, len(source), READ_CHUNK):
            records = source.__getitems__(list(range(start, min(start + READ_CHUNK, len(source)))))
            for index, record in enumerate(records, start):
                labels[index] = record[label_key]
                place = f"{where} image {index}"
                yield place, functools.partial(decode_image, record[image_key], place, size, channels, seen.remarks)

    stacked, kept = stack_images(images(), len(source), seen, room)
    return stacked, labels[kept]


def _labelled(pairs: dict[str, Pair], name: str) -> dict[str, Pair]:
    """The splits with labels; TFDS labels images of others -1."""
    labelled = {part: pair for part, pair in pairs.items() if (pair[1] >= 0).any()}
    if "train" not in labelled:
        raise DataError(f"The train split of {name} should have labels, but no image has one.")
    return labelled


def _unreadable(directory: Path, name: str, error: Exception) -> DataError:
    if isinstance(error, ImportError):
        return DataError(f"Reading {directory} needs the package array_record (Linux only): {error}")
    return DataError(
        f"{directory} can't be read record by record: {error}\n"
        f"It is damaged or not in array_record format. Move it away and prepare it again with\n"
        f"    {prepare_command(name)}"
    )
