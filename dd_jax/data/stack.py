"""Many decoded images as one array; those that can't be read are named all at once, or left out."""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple, TypeAlias

import numpy as np

from dd_jax.data.images import Remarks
from dd_jax.data.memory import free_host_memory, in_units
from dd_jax.data.telling import listed, remarks_as_notes
from dd_jax.errors import DataError

Room: TypeAlias = Callable[[tuple[int, ...]], np.ndarray]  # shape (N, H, W, C) -> an array to fill, uint8
Item: TypeAlias = tuple[str, Callable[[], np.ndarray]]  # what to call an image, and how to decode it

WIDENED = "are grey among others in colour: they get three equal channels"


class Seen(NamedTuple):
    """What was seen while images were decoded: remarks on some, those that can't be read and why, and all of them."""

    remarks: Remarks
    broken: dict[str, str]
    every: list[str]

    def notes(self, skip_broken: bool) -> tuple[str, ...]:
        """One sentence for everything that is to be told.

        Raises:
            DataError: some images can't be read, and they are not to be skipped; all of them are named.
        """
        told = remarks_as_notes(self.remarks, len(self.every))
        if not self.broken:
            return told
        if not skip_broken:
            raise DataError(
                "\n".join(self.broken.values())
                + f"\n{len(self.broken)} of {len(self.every)} images can't be read: repair or remove them, or "
                "leave them out with skip_broken=True (--skip-broken)."
            )
        skipped = f"Left out {len(self.broken)} of {len(self.every)} images that can't be read"
        return f"{skipped}: {listed([*self.broken])}.", *told


def nothing_seen() -> Seen:
    """Before any image is decoded."""
    return Seen({}, {}, [])


def in_memory(shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """Room for images (N, H, W, C); DataError if they don't fit into memory."""
    needed, free = math.prod(shape) * np.dtype(dtype).itemsize, free_host_memory()
    if needed > free:
        raise DataError(
            f"{shape[0]} images of {shape[1]}x{shape[2]} take {in_units(needed)}, but only "
            f"{in_units(free)} of memory are free. Give a smaller image_size=(height, width), "
            "fewer images, or resident_images=N to keep only N training images in memory at a "
            "time."
        )
    return np.empty(shape, dtype)


def stack_images(
    items: Iterable[Item], count: int, seen: Seen, room: Room = in_memory
) -> tuple[np.ndarray, np.ndarray]:
    """Up to `count` images (H, W, C) as one array, uint8 or float32, and the numbers of those that could be read.

    Grey ones among colour ones get three equal channels; bytes among floats are divided by 255.

    Args:
        room: makes the array for a shape (N, H, W, C).

    Raises:
        DataError: an image has another size than the first, or all of them don't fit into the room.
    """
    stacked = np.empty((0, 0, 0, 0), np.uint8)
    kept: list[int] = []
    first = ""
    for index, (where, decode) in enumerate(items):
        seen.every.append(where)
        try:
            image = decode()
        except DataError as error:
            seen.broken[where] = str(error)
            continue
        if not kept:
            first, stacked = where, room((count, *image.shape))
        if image.shape[:2] != stacked.shape[1:3]:
            raise DataError(_other_size(first, stacked.shape[1:3], where, image.shape[:2]))
        if image.shape[2] != stacked.shape[3]:
            narrow = [where] if image.shape[2] < stacked.shape[3] else [seen.every[i - index - 1] for i in kept]
            seen.remarks.setdefault(WIDENED, []).extend(narrow)
            if image.shape[2] > stacked.shape[3]:
                if room is not in_memory:
                    raise DataError(
                        f"{first} is grey and {where} is in colour. Give channels=3 for colour or channels=1 for grey."
                    )
                stacked = np.repeat(stacked, image.shape[2], axis=3)
        if image.dtype != stacked.dtype:
            if room is not in_memory:
                raise DataError(
                    f"{where} has 16 bits or floats, but images that are kept on disk must have 8 "
                    "bits. Convert it, or leave out resident_images."
                )
            stacked, image = (_as_floats(array) for array in (stacked, image))
        stacked[len(kept)] = image
        kept.append(index)
    return stacked[: len(kept)], np.asarray(kept, int)


def _as_floats(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8:
        return array
    return np.divide(array, 255, out=in_memory(array.shape, np.float32) if array.ndim == 4 else None, dtype=np.float32)


def _other_size(first: str, size: tuple[int, ...], where: str, found: tuple[int, ...]) -> str:
    return (
        f"The images differ in size: {first} is {size[0]}x{size[1]}, {where} is {found[0]}x{found[1]}. "
        f"Give image_size=(height, width), e.g. image_size={min(size)}, to resize them."
    )
