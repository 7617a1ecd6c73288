"""Datasets as folders of image files, one folder per class."""

from pathlib import Path
from typing import TypeAlias

import numpy as np

from dd_jax.data.arrays import Pair, RawData
from dd_jax.data.images import ImageSize, Room, as_channels, as_size, decode_image, in_memory, stack_images
from dd_jax.errors import DataError

Shape: TypeAlias = tuple[tuple[int, int] | None, int | None]  # (H, W) and channels to make of every image
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
PART_NAMES = {"test": ("test",), "validation": ("validation", "val", "valid")}


def read_folder(
    path: Path, image_size: ImageSize = None, channels: int | None = None, room: Room = in_memory
) -> RawData:
    """The images below PATH/CLASS/, or below PATH/train/CLASS/ with PATH/test/CLASS/ and PATH/validation/CLASS/.

    The sorted class folders are the classes. Unless `channels` says otherwise, images are grey when all of
    them are, else RGB; transparency is dropped. Test and validation folders are optional; a validation folder
    without a test folder is the test split, as no other part of the set could be.

    Args:
        path: the folder.
        image_size: resize every image to this side, or (H, W).
        channels: 1 makes every image grey, 3 RGB.
        room: makes the array that the training images go to.

    Raises:
        DataError: no such folder, no class folders, a class without images, an unreadable image, images
            of differing sizes without `image_size`, or a test class that is not in train.
    """
    if not path.is_dir():
        raise DataError(f"There is no folder {path}.")
    root = path / "train" if _subfolders(path / "train") else path
    class_names = tuple(folder.name for folder in _subfolders(root))
    if not class_names:
        raise DataError(f"{root} has no class folders; expected one folder of images per class.")
    shape = as_size(image_size), as_channels(channels)
    train = _read_part(root, class_names, shape, complete=True, room=room)
    if root == path:
        return RawData(train, class_names=class_names)

    parts: dict[str, Pair] = {}
    for part, names in PART_NAMES.items():
        folder = next((path / name for name in names if (path / name).is_dir()), None)
        if folder is not None:
            parts[part] = _read_part(folder, class_names, shape, complete=False)
    if "test" not in parts and "validation" in parts:
        parts["test"] = parts.pop("validation")
    train, parts = _same_channels(train, parts)
    return RawData(train, **parts, class_names=class_names)


def _subfolders(path: Path) -> list[Path]:
    return sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".")) if path.is_dir() else []


def _read_part(root: Path, class_names: tuple[str, ...], shape: Shape, complete: bool, room: Room = in_memory) -> Pair:
    strangers = [folder.name for folder in _subfolders(root) if folder.name not in class_names]
    if strangers:
        raise DataError(f"{root} has the class {strangers[0]!r}, which is not among the training classes.")
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        members = _image_files(root / name)
        if complete and not members:
            raise DataError(f"The class folder {root / name} has no images ({', '.join(sorted(SUFFIXES))}).")
        files += members
        labels += [label] * len(members)
    if not files:
        raise DataError(f"{root} has no images in class folders.")
    images = ((str(file), decode_image(file, str(file), *shape)) for file in files)
    return stack_images(images, len(files), room), np.asarray(labels, np.int32)


def _image_files(folder: Path) -> list[Path]:
    found = folder.rglob("*") if folder.is_dir() else iter(())
    return sorted(f for f in found if f.suffix.lower() in SUFFIXES and not f.name.startswith(".") and f.is_file())


def _same_channels(train: Pair, parts: dict[str, Pair]) -> tuple[Pair, dict[str, Pair]]:
    channels = max(pair[0].shape[3] for pair in (train, *parts.values()))

    def widen(pair: Pair) -> Pair:
        images, labels = pair
        if isinstance(images, np.memmap) and images.shape[3] < channels:
            raise DataError("The training images are grey, and others are in colour: say channels=3 or channels=1.")
        return (images if images.shape[3] == channels else np.repeat(images, channels, axis=3)), labels

    return widen(train), {part: widen(pair) for part, pair in parts.items()}
