"""One name, one dataset: where `load_dataset` decides which source to read."""

import dataclasses
import functools
import os
from pathlib import Path

from dd_jax.data.arrays import RawData, dataset_from_arrays
from dd_jax.data.cache import cache_folder, mapped, source_key
from dd_jax.data.digits import read_digits, read_digits_graph
from dd_jax.data.folder import read_folder
from dd_jax.data.graph_file import read_graph_file
from dd_jax.data.graphs import graph_from_arrays
from dd_jax.data.images import ImageSize, as_channels, as_size
from dd_jax.data.npz import read_npz
from dd_jax.data.planetoid import CLASSES as GRAPHS
from dd_jax.data.planetoid import read_planetoid
from dd_jax.data.shape import to_shape
from dd_jax.data.telling import tell
from dd_jax.data.tfds_sets import read_tfds
from dd_jax.data.usps import read_usps
from dd_jax.errors import OptionError
from dd_jax.types import Dataset, Transform

DIGITS_GRAPH = "digits-graph"
INDUCTIVE = "/inductive"  # behind the name of a graph


def load_dataset(
    name: str,
    *,
    validation_fraction: float = 0.1,
    split_seed: int = 0,
    transform: str | Transform = "standardise",
    zca: bool = False,
    cache_dir: str | os.PathLike[str] | None = None,
    image_size: ImageSize = None,
    channels: int | None = None,
    skip_broken: bool = False,
    resident_images: int | None = None,
) -> Dataset:
    """Load a real dataset in model space, on the default device.

    Published splits are kept. A missing validation split is taken from train, stratified by class. If there is neither
    a test nor a validation split, 20 % become the test split too. A validation split without a test split is the test
    split.

    The name is one of:

    - "digits": scikit-learn's 8 x 8 digits, always there.
    - "mnist", "cifar10", "emnist/letters", "mnist:3.0.1": an image set that TFDS has prepared on this machine, in
      TFDS_DATA_DIR or else in ~/tensorflow_datasets. "svhn", "cub200" and "voc2007" are other names of
      "svhn_cropped", "caltech_birds2011" and "voc/2007". In an object-detection set every annotated object is one
      cropped image; its published train and validation splits are one, and it needs `image_size`.
    - "usps": the files usps.bz2 and usps.t.bz2 of libsvm in the folder `usps` inside or beside TFDS_DATA_DIR;
      "usps:PATH" in another folder.
    - "folder:PATH": one folder of images per class, or PATH/train, PATH/test and PATH/validation with such folders, in
      any usual spelling.
    - "npz:PATH": arrays `images` and `labels`, optionally `test_images` and `test_labels`, `validation_images` and
      `validation_labels`, `class_names`. The names of Keras and MedMNIST files, and others like them, are understood.
    - "cora", "citeseer", "pubmed": the nodes of a citation graph with their published splits, out of the files ind.* of
      Planetoid in the folder `planetoid` inside or beside TFDS_DATA_DIR; "planetoid:PATH/cora" in another folder.
    - "digits-graph": scikit-learn's digits, each joined to the five most like it, always there.
    - "graph:PATH": your own graph, an npz file with `features`, `edges`, `labels`, `train`, `validation` and `test` as
      `graph_from_arrays` takes them, under these names or others in use (x, edge_index, y, train_mask).

    With "/inductive" behind the name of a graph, training doesn't see the nodes of validation and test. Options about
    images or splitting are refused for graphs.

    Args:
        name: what to load, as above.
        validation_fraction: share of each training class carved for validation; 0 leaves it empty.
        split_seed: chooses the carved images.
        transform: "standardise", "zca", "zca-kip" or "identity" (see `fit_transform`), or a fitted transform. It is
            fitted to the training split, and the other splits are transformed by it.
        zca: ZCA whitening: the same as transform="zca".
        cache_dir: where decoded TFDS sets are kept; by default dd_jax/datasets in the user's cache folder.
        image_size: resize all images to this side, or (H, W), whatever their aspect ratio; bicubic.
        channels: 1 makes all images grey (ITU-R 601 luma), 3 RGB (grey ones have three equal channels).
        skip_broken: leave out image files, and images of TFDS sets, that can't be read. Otherwise an error names them.
        resident_images: number of training images in memory at a time, if all of them would be too many; see
            `dataset_from_arrays`. Those of TFDS and of folders are decoded once, into files in `cache_dir`; the other
            sources are in memory while they are read.

    Warns:
        DataWarning: something was left out, converted or guessed, such as pages of a file or splits of other names.

    Raises:
        DataError: the data is missing, not prepared, damaged or of the wrong kind; the message says what to do.
        OptionError: an unknown name or a senseless option.
    """
    kind, _, path = name.partition(":")
    if is_graph(name):
        return _graph(name, path, image_size, channels, resident_images)
    on_disk = resident_images is not None
    if kind == "folder":
        read = functools.partial(read_folder, Path(path).expanduser(), image_size, channels, skip_broken)
        raw = _folder_on_disk(Path(path).expanduser(), read, cache_dir) if on_disk else read()
    elif kind in ("npz", "usps") or name == "digits":
        size, channels = as_size(image_size), as_channels(channels)
        raw = to_shape(_read_arrays(kind, path), size, channels, any_range=transform == "identity")
    else:
        raw = read_tfds(name, image_size, cache_dir, channels, skip_broken, on_disk)
    for line in raw.notes:
        tell(line)
    dataset = dataset_from_arrays(
        *raw.train,
        name=name,
        test=raw.test,
        validation=raw.validation,
        class_names=raw.class_names,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        transform=transform,
        zca=zca,
        resident_images=resident_images,
    )
    if not dataset.reading:  # by a transform of the user's own, which isn't among plain values
        return dataset
    form = {"name": name, "image_size": image_size, "channels": channels, "skip_broken": skip_broken}
    return dataclasses.replace(dataset, reading={**form, **dataset.reading})


def is_graph(name: str) -> bool:
    """Whether `load_dataset` reads a graph under this name."""
    return name.partition(":")[0] in ("planetoid", "graph") or name.partition("/")[0] in (DIGITS_GRAPH, *GRAPHS)


def _graph(name: str, path: str, image_size: ImageSize, channels: int | None, resident_images: int | None) -> Dataset:
    if (image_size, channels, resident_images) != (None, None, None):
        raise OptionError(
            f"{name} is a graph, whose nodes have features in place of pixels. Leave out "
            "image_size, channels and resident_images."
        )
    if name.partition("/")[0] == DIGITS_GRAPH:
        read = read_digits_graph()
    elif name.startswith("graph:"):
        read = read_graph_file(Path(path.removesuffix(INDUCTIVE)).expanduser())
    elif path:
        place = Path(path.removesuffix(INDUCTIVE)).expanduser()
        read = read_planetoid(place.name, place.parent)
    else:
        read = read_planetoid(name.removesuffix(INDUCTIVE))
    dataset = graph_from_arrays(**read, name=name, inductive=name.endswith(INDUCTIVE))
    return dataclasses.replace(dataset, reading={"name": name})


def _folder_on_disk(path: Path, read: functools.partial[RawData], cache_dir: str | os.PathLike[str] | None) -> RawData:
    """A folder of images, decoded into a file."""
    files = [file for file in path.rglob("*") if file.is_file()]
    key = source_key(files, str(path.absolute()), *read.args[1:])
    return mapped(cache_folder(cache_dir) / f"{path.absolute().name}-{key}", lambda room: read(room=room))


def _read_arrays(kind: str, path: str) -> RawData:
    if kind == "npz":
        return read_npz(Path(path).expanduser())
    if kind == "usps":
        return read_usps(Path(path).expanduser() if path else None)
    return read_digits()
