"""Datasets as folders of image files, one folder per class."""

import functools
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np

from dd_jax.data.arrays import Pair, RawData, with_test
from dd_jax.data.files import SUFFIXES, Files, find_files, layout_of, subfolders
from dd_jax.data.images import ImageSize, as_channels, as_size, decode_image
from dd_jax.data.missing import not_there
from dd_jax.data.stack import WIDENED, Room, Seen, in_memory, nothing_seen, stack_images
from dd_jax.errors import DataError

Shape: TypeAlias = tuple[tuple[int, int] | None, int | None]  # (H, W) and channels to make of every image


def read_folder(
    path: Path,
    image_size: ImageSize = None,
    channels: int | None = None,
    skip_broken: bool = False,
    room: Room = in_memory,
) -> RawData:
    """The images below PATH/CLASS/, or below PATH/train/CLASS/ with PATH/test/CLASS/ and PATH/validation/CLASS/.

    The sorted class folders are the classes. Unless `channels` says otherwise, images are grey when all of
    them are, else RGB; transparency is dropped. Test and validation folders are optional; a validation folder
    without a test folder is the test split, as no other part of the set could be. Splits may be spelt in other usual
    ways, such as Training, val or TEST. A file is an image by its content; hidden files and folders are none.
    The notes say what was left out or converted.

    Args:
        path: the folder.
        image_size: resize every image to this side, or (H, W).
        channels: 1 makes every image grey, 3 RGB.
        skip_broken: leave out images that can't be read.
        room: makes the array that the training images go to.

    Raises:
        DataError: no such folder, no class folders, a class without images, unreadable images (all are named), images
            of differing sizes without `image_size`, or a test class that is not in train.
    """
    if not path.is_dir():
        raise not_there("folder", path, "Expected a folder with one folder of images for each class.")
    shape = as_size(image_size), as_channels(channels)
    folders = layout_of(path)
    class_folders = [folder.name for folder in subfolders(folders["train"])]
    if not class_folders:
        raise DataError(f"{folders['train']} has no class folders. Expected one folder of images for each class.")
    seen, files = nothing_seen(), find_files(path, folders)
    for name in class_folders:
        if not files.images[folders["train"] / name]:
            raise DataError(
                f"The class folder {folders['train'] / name} has no images "
                f"({', '.join(sorted(SUFFIXES))}). Put images there, or remove it."
            )
    parts = {
        part: _read_part(folder, class_folders, shape, files, seen, room if part == "train" else in_memory)
        for part, folder in folders.items()
    }
    notes = (*files.notes, *seen.notes(skip_broken), *_widened(parts))
    class_names = tuple(os.fsencode(name).decode(errors="replace") for name in class_folders)  # UTF-8, in any locale
    return with_test(RawData(**_same_channels(parts), class_names=class_names, notes=notes))


def _read_part(root: Path, class_folders: list[str], shape: Shape, files: Files, seen: Seen, room: Room) -> Pair:
    strangers = [folder.name for folder in subfolders(root) if folder.name not in class_folders]
    if strangers:
        raise DataError(
            f"{root} has the class {strangers[0]!r}, but there is no such class among the training "
            "images. Rename or remove its folder."
        )
    members = [(label, file) for label, name in enumerate(class_folders) for file in files.images.get(root / name, ())]
    if not members:
        raise DataError(f"{root} has no images in class folders. Expected one folder of images for each class.")
    items = ((str(file), functools.partial(decode_image, file, str(file), *shape, seen.remarks)) for _, file in members)
    images, kept = stack_images(items, len(members), seen, room)
    return images, np.asarray([label for label, _ in members], np.int32)[kept]


def _widened(parts: dict[str, Pair]) -> list[str]:
    """Notes on splits that are grey where others are in colour."""
    channels = {part: images.shape[3] for part, (images, _) in parts.items() if len(images)}
    return [f"The {part} images {WIDENED}." for part, count in channels.items() if count < max(channels.values())]


def _same_channels(parts: dict[str, Pair]) -> dict[str, Pair]:
    channels = max(images.shape[3] for images, _ in parts.values())
    if isinstance(parts["train"][0], np.memmap) and parts["train"][0].shape[3] < channels:
        raise DataError(
            "The training images are grey, and others are in colour. Give channels=3 for colour or channels=1 for grey."
        )
    return {
        part: (images if images.shape[3] == channels else np.repeat(images, channels, axis=3), labels)
        for part, (images, labels) in parts.items()
    }
