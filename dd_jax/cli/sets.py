"""The commands on distilled sets from elsewhere, and on several sets."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro

from dd_jax.cli.options import parse
from dd_jax.errors import OptionError
from dd_jax.storage.imports import ImportOptions


@dataclasses.dataclass(frozen=True)
class Import(ImportOptions):
    """Make a distilled set that others released one of this library's. Nothing in the files is run."""

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """The files, as the format has them."""
    format: str = ""
    """"gcond" (features and adjacency), "dc" (DC, DSA, DM), "mtt" (and TESLA), "idc", "frepo" or "npz"."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder for the set; what is there is replaced."""
    preprocessing: str | None = None
    """How real images become what the networks see: "dataset" as --dataset and --zca have it, "identity" for pixels in
    [0, 1], or the mean and deviation that released code has for "mnist", "fashion_mnist", "svhn", "cifar10", "cifar100"
    or "tiny_imagenet". Files of the format idc hold pixels, all others what networks see. Needed for images."""
    dataset: str | None = None
    """What it was distilled from, as for `dd-jax distill`: gives names of classes, and labels of a released graph."""
    zca: bool = False
    """Whiten the images of the dataset by ZCA, for --preprocessing dataset."""
    image_size: int | None = None
    """Resize the images of the dataset to this side."""
    channels: Literal[1, 3] | None = None
    """Make the images of the dataset grey (1) or colour (3)."""


def import_set(argv: Sequence[str]) -> None:
    """dd-jax import FILE ...: a released set as an artefact."""
    from dd_jax.data import load_dataset
    from dd_jax.evaluation import storage_bytes
    from dd_jax.storage import import_distilled, save_distilled
    from dd_jax.storage.released import FORMATS

    options = parse(Import, argv, "dd-jax import")
    if not options.files or not options.format or options.out is None:
        raise OptionError(
            f"Name the files, their format ({', '.join(FORMATS)}) and where the set is to go: "
            "dd-jax import FILE [FILE ...] --format gcond --dataset cora -o FOLDER."
        )
    form = {"zca": options.zca, "image_size": options.image_size, "channels": options.channels}
    data = None if options.dataset is None else load_dataset(options.dataset, **form)
    given = {field.name: getattr(options, field.name) for field in dataclasses.fields(ImportOptions)}
    distilled = import_distilled(options.files, options.format, data, **given)
    files = [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()} for path in options.files]
    about = {} if data is None else {"dataset": {"name": data.name, "fingerprint": data.fingerprint}}
    said = {name: value for name, value in given.items() if value is not None}
    save_distilled(options.out, distilled, {"imported": {"format": options.format, "files": files, **said}, **about})
    soft = "soft labels" if distilled.labels.ndim == 3 else "labels"
    print(
        f"{options.out}: {distilled.num_examples} {distilled.unit}s with {soft}, {storage_bytes(distilled):,} bytes, "
        f"transform {getattr(distilled.transform, 'kind', None)!r}, protocol {distilled.protocol.name!r}."
    )
