"""What a folder of images holds: its splits by whatever usual name, its class folders, and its files by content."""

import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from dd_jax.data.images import is_image
from dd_jax.data.splits import SPELLINGS
from dd_jax.data.telling import listed
from dd_jax.errors import DataError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})

_OTHERS = ("__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information")  # folders that systems leave behind
_PARTS = {spelling: part for part, spellings in SPELLINGS.items() for spelling in spellings}

_WORDS = {**_PARTS, "trn": "train", "tst": "test", "holdout": "test"}  # in the names of splits


class Files(NamedTuple):
    """The image files of each class folder, sorted, and notes on what was left out."""

    images: Mapping[Path, list[Path]]
    notes: tuple[str, ...]


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted, without hidden ones."""
    return sorted(entry for entry in path.iterdir() if entry.is_dir() and not _is_hidden(entry.name))


def layout_of(path: Path) -> dict[str, Path]:
    """The folder of each split, "train" among them; {"train": path} where PATH itself has the class folders.

    Folders that only have the word for a split in their names, such as seg_train and seg_test, are splits where they
    have the same class folders.

    Raises:
        DataError: two folders for one split, splits without class folders, or test without train.
    """
    folders = subfolders(path)
    splits: dict[str, list[Path]] = {}
    for folder in folders:
        if (part := _part(folder.name)) is not None:
            splits.setdefault(part, []).append(folder)
    holding = [folder for found in splits.values() for folder in found if subfolders(folder)]
    train = [folder for folder in splits.get("train", ()) if folder in holding]
    expected = f"expected the class folders in {path / 'train'} and, of test images, in {path / 'test'}"
    if train:
        for part, found in splits.items():
            if len(found) > 1:
                names = " and ".join(folder.name for folder in found)
                raise DataError(f"{path} has {names}, which both mean the {part} split. Rename or remove one of them.")
        return {part: splits[part][0] for part in SPELLINGS if part in splits}
    if holding:
        names = listed([folder.name for folder in holding])
        raise DataError(
            f"{path} has {names} with class folders, but no training folder with class folders; {expected}."
        )
    if guessed := _guessed(folders):
        return guessed
    if len(splits) > 1 and sum(map(len, splits.values())) == len(folders):
        raise DataError(f"{path} has {listed([f.name for f in folders])}, which have no class folders; {expected}.")
    return {"train": path}


def find_files(path: Path, splits: Mapping[str, Path]) -> Files:
    """All image files below the class folders of the splits, and what else is there."""
    images: dict[Path, list[Path]] = {}
    strange: list[Path] = []
    loose: list[Path] = []
    for root in splits.values():
        for folder in subfolders(root):
            images[folder] = []
            for file in sorted(_walk(folder)):
                (images[folder] if _looks_like_image(file) else strange).append(file)
    for folder in {path, *splits.values()}:
        loose += sorted(f for f in folder.iterdir() if _is_image_name(f) and f.is_file())
    aside = [folder for folder in subfolders(path) if path not in splits.values() and folder not in splits.values()]
    notes = [
        f"{path}: read {root.name} as the {'training' if part == 'train' else part} split."
        for part, root in splits.items()
        if root != path and _part(root.name) != part
    ]
    if strange:
        kinds = Counter(file.suffix.lower() or "no suffix" for file in strange)
        counted = listed([f"{kind}: {count}" for kind, count in kinds.most_common()])
        notes.append(f"{path}: left out {len(strange)} files that aren't images ({counted}), such as {strange[0]}.")
    if loose:
        notes.append(f"{path}: left out {len(loose)} images that are in no class folder, such as {loose[0]}.")
    if aside:
        notes.append(f"{path}: left out {listed([folder.name for folder in aside])}, beside the folders of the splits.")
    return Files(images, tuple(notes))


def _part(name: str) -> str | None:
    """The split that a folder is named after, whatever case, digits and signs are in the name."""
    return _PARTS.get(re.sub(r"[^a-z]", "", name.lower()))


def _guessed(folders: Sequence[Path]) -> dict[str, Path]:
    """The folders of splits by a word in their names; empty unless training and another one have the same classes."""
    found: dict[str, Path] = {}
    for folder in folders:
        words = [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", folder.name)]
        parts = {_WORDS[word] for word in words if word in _WORDS}
        if len(parts) == 1 and (part := parts.pop()) not in found:
            found[part] = folder
        elif parts:
            return {}
    classes = {part: {inside.name for inside in subfolders(folder)} for part, folder in found.items()}
    known = classes.get("train")
    if len(found) < 2 or not known or not all(names and names <= known for names in classes.values()):
        return {}
    return {part: found[part] for part in SPELLINGS if part in found}


def _walk(folder: Path) -> Iterator[Path]:
    """All files below, without hidden ones and those in hidden folders."""
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _is_hidden(name)]
        yield from (Path(place, name) for name in files if not _is_hidden(name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name in _OTHERS


def _is_image_name(file: Path) -> bool:
    return file.suffix.lower() in SUFFIXES and not _is_hidden(file.name)


def _looks_like_image(file: Path) -> bool:
    """A file with the name of an image, which is to be read, or with the content of one."""
    return file.is_file() and (_is_image_name(file) or is_image(file))
