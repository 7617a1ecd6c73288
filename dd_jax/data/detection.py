"""Object-detection sets as classification sets: every annotated object is one image, the crop of its box.

So the released code of Wang et al. 2018 uses PASCAL VOC 2007 (datasets/pascal_voc.py): the boxes of all objects,
difficult ones too, are cropped and resized, and train is the published train and validation splits together.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from dd_jax.data.arrays import Pair
from dd_jax.data.images import open_image, resized, to_array
from dd_jax.data.stack import Item, Seen, stack_images
from dd_jax.errors import DataError

OBJECTS, BOX, LABEL = "objects", "bbox", "label"  # the feature names of TFDS detection sets
SUGGESTED_SIZE = 224  # AlexNet's input in Wang et al. 2018


def object_labels(features: Any, name: str) -> Any:
    """The ClassLabel feature of the objects in a detection set; None when it is no such set.

    Raises:
        DataError: its boxes are not (ymin, xmin, ymax, xmax) relative to the image.
    """
    import tensorflow_datasets as tfds

    objects = features.get(OBJECTS)
    if not isinstance(objects, tfds.features.Sequence) or not isinstance(objects.feature, tfds.features.FeaturesDict):
        return None
    inner = dict(objects.feature.items())
    box, label = inner.get(BOX), inner.get(LABEL)
    if not isinstance(box, tfds.features.BBoxFeature) or not isinstance(label, tfds.features.ClassLabel):
        return None
    if getattr(box.bbox_format, "value", "REL_YXYX") != "REL_YXYX":  # old sets name no format and mean this one
        raise DataError(f"{name}: the boxes are in format {box.bbox_format.value}; expected REL_YXYX.")
    return label


def read_crops(
    source: Any, image_key: str, where: str, size: tuple[int, int] | None, channels: int | None, seen: Seen
) -> Pair:
    """The objects of one split as uint8 (N, *size, C) and their labels (N,); none when nothing is annotated.

    Raises:
        DataError: no size is given.
    """
    if size is None:
        raise DataError(
            f"{where} is a detection set. Every object becomes one image, and objects differ in "
            f"size. Give image_size=(height, width), such as image_size={SUGGESTED_SIZE}, to "
            "resize them."
        )
    labels = np.concatenate([np.asarray(record[OBJECTS][LABEL], np.int32) for record in _records(source)])

    def crops() -> Iterator[Item]:
        for index, record in enumerate(_records(source)):
            place = f"{where} image {index}"
            opened = functools.cache(lambda r=record, p=place: open_image(r[image_key], p, channels or 3, seen.remarks))
            yield from ((place, functools.partial(_crop, opened, box, size)) for box in record[OBJECTS][BOX])

    images, kept = stack_images(crops(), len(labels), seen)
    return images, labels[kept]


def _crop(opened: Callable[[], Any], box: Any, size: tuple[int, int] | None) -> np.ndarray:
    image = opened()
    return to_array(resized(image.crop(pixel_box(box, *image.size)), size))


def pixel_box(box: Any, width: int, height: int) -> tuple[int, int, int, int]:
    """(ymin, xmin, ymax, xmax) in [0, 1] as pillow's (left, upper, right, lower): inside, at least one pixel wide."""
    ymin, xmin, ymax, xmax = map(float, box)
    left, right = _interval(xmin, xmax, width)
    upper, lower = _interval(ymin, ymax, height)
    return left, upper, right, lower


def join_trainval(pairs: dict[str, Pair]) -> dict[str, Pair]:
    """Train and validation as one split, where there is a test split besides."""
    if not {"train", "validation", "test"} <= pairs.keys():
        return pairs
    images, labels = (np.concatenate(arrays) for arrays in zip(pairs["train"], pairs["validation"], strict=True))
    return {"train": (images, labels), "test": pairs["test"]}


def _records(source: Any) -> Iterator[Any]:
    return (source[index] for index in range(len(source)))


def _interval(low: float, high: float, length: int) -> tuple[int, int]:
    start = min(max(round(low * length), 0), length - 1)
    return start, min(max(round(high * length), start + 1), length)
