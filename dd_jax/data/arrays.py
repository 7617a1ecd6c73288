"""A Dataset out of plain arrays: checked, split, transformed, fingerprinted and put on the device."""

import dataclasses
import functools
import hashlib
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.data import checks
from dd_jax.data.labels import ClassNames, as_class_names, as_labels
from dd_jax.data.rows import Rows
from dd_jax.data.splits import TEST_STREAM, VALIDATION_STREAM, carve
from dd_jax.data.streaming import PART_STEPS, part_counts, read_part
from dd_jax.data.telling import listed, tell
from dd_jax.data.transforms import WHITE, chosen, fit_transform, to_model
from dd_jax.errors import DataError, OptionError
from dd_jax.types import Batch, Dataset, Feed, Transform

Pair: TypeAlias = tuple[Any, Any]  # images and their labels
PIXELS = np.divide(np.arange(WHITE + 1), WHITE, dtype=np.float32)  # of the uint8 values 0 to 255
FINGERPRINT_DIGITS = 16  # hexadecimal; 64 bits tell any collection of datasets apart


class RawData(NamedTuple):
    """What a source read: pairs of images (N, H, W, C) and labels (N,), before splitting and transforming.

    Attributes:
        notes: what was left out, converted or guessed, one sentence each.
    """

    train: Pair
    test: Pair | None = None
    validation: Pair | None = None
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def with_test(raw: RawData) -> RawData:
    """A validation split without a test split as the test split, as no other part of the set could be."""
    if raw.test is not None or raw.validation is None:
        return raw
    return raw._replace(test=raw.validation, validation=None)


def dataset_from_arrays(
    images: Any,
    labels: Any,
    *,
    name: str = "arrays",
    test: Pair | None = None,
    validation: Pair | None = None,
    class_names: ClassNames | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.2,
    split_seed: int = 0,
    transform: str | Transform = "standardise",
    zca: bool = False,
    resident_images: int | None = None,
) -> Dataset:
    """A dataset in model space on the default device, out of pixel arrays.

    Missing splits are taken from the training arrays: first the test split, then validation. They are stratified by
    class, and always the same for the same seed. The transform is fitted to the remaining images.

    Args:
        images: (N, H, W) or (N, H, W, C); uint8 (divided by 255), bool, or floats in [0, 1]. With
            transform="identity" floats of any range are kept as they are.
        labels: (N,) integer classes counted from 0.
        test, validation: pairs (images, labels) like the first two.
        class_names: one per class, text or UTF-8 bytes, or a mapping from classes to names; by default "0", "1", ...
        validation_fraction: share of each class taken for validation if `validation` is not given; 0 leaves
            validation empty, and nothing to choose sets by.
        test_fraction: the same for the test split; must be above 0.
        split_seed: chooses the carved images.
        transform: a kind to fit ("standardise", "zca", "zca-kip", "identity"; see `fit_transform`) or a fitted
            transform.
        zca: ZCA whitening: the same as transform="zca".
        resident_images: number of training images in memory at a time, if all of them would be too many. Outer steps
            read one stratified part after another, and `Dataset.train` is the first. None: keep all of them. The
            images must be uint8, and may be memory-mapped: numpy.load(path, mmap_mode="r").

    Warns:
        DataWarning: the images are so dark that they may be on another scale, or a split has no image of a class.

    Raises:
        DataError: the arrays can't be used as they are; the message says which, where and what to do.
        OptionError: an unknown transform, or a fraction outside [0, 1).
    """
    transform = chosen(transform, zca)
    asked = {"validation_fraction": validation_fraction, "split_seed": split_seed, "resident_images": resident_images}
    any_range = transform == "identity"
    raw_images = checks.as_images(images, "train images", any_range=any_range)
    raw_labels = as_labels(labels, len(raw_images), "train labels")
    pixels = raw_images if resident_images is None else _on_disk(raw_images)
    names = as_class_names(class_names, raw_labels)
    if not any_range:
        checks.tell_scale(raw_images, "train images")
    if test is None and not test_fraction > 0:
        raise OptionError(f"Without a test pair test_fraction must be above 0, but is {test_fraction}.")

    parts: dict[str, Pair] = {}
    rest: Pair = pixels, raw_labels
    for part, pair, fraction, number in (
        ("test", test, test_fraction, TEST_STREAM),
        ("validation", validation, validation_fraction, VALIDATION_STREAM),
    ):
        if pair is None:
            rest, parts[part] = _carved(rest, fraction, split_seed, number, part)
        else:
            parts[part] = _checked(pair, part, raw_images, len(names), any_range)
    parts["train"] = rest
    for part in ("validation", "test"):
        _tell_absent(parts[part][1], names, part)

    fitted = transform if isinstance(transform, Transform) else fit_transform(transform, rest[0])
    fingerprint = _fingerprint(parts, names, fitted, isinstance(transform, str))
    stream: Feed | None = None
    if resident_images is not None:
        stream = _stream(*rest, len(names), resident_images)
        parts["train"] = stream.read(split_seed, 0)
    batches = {part: _batch(fitted, *pair) for part, pair in parts.items()}
    return Dataset(
        name=name,
        class_names=names,
        transform=fitted,
        fingerprint=fingerprint,
        stream=stream,
        num_train=None if stream is None else len(rest[1]),
        reading={**asked, "transform": transform} if isinstance(transform, str) else {},
        **batches,
    )


def describe(dataset: Dataset) -> dict[str, Any]:
    """Shapes and counts of a dataset as plain Python values, ready for JSON."""
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.test}
    counts = {part: np.bincount(batch.labels, minlength=dataset.num_classes) for part, batch in splits.items()}
    return {
        "name": dataset.name,
        "fingerprint": dataset.fingerprint,
        "image_shape": list(dataset.image_shape),
        "num_classes": dataset.num_classes,
        "class_names": list(dataset.class_names),
        "transform": dataset.transform.kind,
        "splits": {
            part: {
                "num_images": len(batch.labels),
                "images_per_class": dict(zip(dataset.class_names, counts[part].tolist(), strict=True)),
            }
            for part, batch in splits.items()
        },
    }


def _on_disk(images: np.ndarray) -> Rows:
    if images.dtype != np.uint8:
        raise DataError(
            f"Images that are not all in memory must be uint8, but are {images.dtype}. Convert them, "
            "or leave out resident_images."
        )
    return Rows(images)


def _stream(images: Rows, labels: np.ndarray, num_classes: int, resident_images: int) -> Feed:
    counts = part_counts(labels, num_classes, resident_images)

    def join(dataset: Dataset, part: Pair) -> Dataset:
        return dataclasses.replace(dataset, train=_batch(dataset.transform, *part))

    return Feed(PART_STEPS, functools.partial(read_part, images, labels, counts), join)


def _carved(pair: Pair, fraction: float, seed: int, stream: int, part: str) -> tuple[Pair, Pair]:
    images, labels = pair
    rest, carved = carve(labels, fraction, seed, stream)
    if fraction > 0 and not carved.size:
        raise DataError(
            f"Can't take a {part} split from the training images: every class has a single image. "
            f"Give {part}=(images, labels)."
        )
    kept = images.chosen(rest) if isinstance(images, Rows) else images[rest]
    return (kept, labels[rest]), (images[carved], labels[carved])


def _checked(pair: Pair, part: str, train: np.ndarray, num_classes: int, any_range: bool) -> Pair:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{part} should be a pair (images, labels), but is a {type(pair).__name__}.")
    images = checks.as_images(pair[0], f"{part} images", any_range=any_range)
    labels = as_labels(pair[1], len(images), f"{part} labels")
    checks.check_alike(images, labels, train, num_classes, part)
    return images, labels


def _tell_absent(labels: np.ndarray, names: tuple[str, ...], part: str) -> None:
    """Tell of which classes a split has no image; of an empty one there is nothing to tell."""
    absent = [
        repr(name) for name, count in zip(names, np.bincount(labels, minlength=len(names)), strict=True) if not count
    ]
    if absent and len(labels):
        tell(f"The {part} split has no images of {len(absent)} of the {len(names)} classes: {listed(absent)}.")


def _batch(transform: Transform, images: np.ndarray, labels: np.ndarray) -> Batch:
    """One split on the device, where bytes become floats: of a large set there is never a second float copy."""
    return Batch(_model_images(transform, jnp.array(images), jnp.asarray(PIXELS)), jnp.array(labels))


@jax.jit
def _model_images(transform: Transform, images: jax.Array, table: jax.Array) -> jax.Array:
    """Bytes are looked up rather than divided, as XLA's quotients differ from NumPy's in the last bit."""
    is_bytes = images.dtype == jnp.uint8
    return to_model(transform, table.at[images].get(mode="promise_in_bounds") if is_bytes else images)


def _fingerprint(
    parts: dict[str, Pair], class_names: tuple[str, ...], transform: Transform, is_fitted_here: bool
) -> str:
    """Of what is fitted here the kind says all: eigenvectors differ in the last bits from one machine to another."""
    digest = hashlib.sha256(repr((class_names, transform.kind)).encode())
    named = {f"{part}_{what}": array for part, pair in parts.items() for what, array in zip("xy", pair, strict=True)}
    arrays = {} if is_fitted_here and transform.kind.startswith("zca") else transform.arrays
    for key, array in sorted({**named, **arrays}.items()):
        values = array if isinstance(array, Rows) else np.ascontiguousarray(array)
        digest.update(repr((key, values.dtype.str, values.shape)).encode())
        for chunk in values.chunks() if isinstance(values, Rows) else (values,):
            digest.update(chunk)
    return digest.hexdigest()[:FINGERPRINT_DIGITS]
