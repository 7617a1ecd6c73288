"""Finding a prepared TFDS set on disk by its name, without asking TFDS to build, download or import it."""

import fnmatch
import json
import os
import re
from pathlib import Path

from dd_jax.data.missing import install_command
from dd_jax.errors import DataError, OptionError, unknown_name

NAME = re.compile(r"(?P<set>[a-z0-9_]+)(/(?P<config>[^:/]+))?(:(?P<version>[\d.*]+))?")
VERSION = re.compile(r"\d+\.\d+\.\d+")
KNOWN = (
    "beans", "caltech101", "caltech_birds2011", "cars196", "cats_vs_dogs", "cifar10", "cifar100", "emnist", "eurosat",
    "fashion_mnist", "food101", "imagenet2012", "imagenet_resized", "imagenette", "kmnist", "mnist",
    "oxford_flowers102", "oxford_iiit_pet", "patch_camelyon", "places365_small", "quickdraw_bitmap", "resisc45",
    "stanford_dogs", "stl10", "svhn_cropped", "tf_flowers", "voc",
)  # fmt: skip
ALIASES = {"cub200": "caltech_birds2011", "svhn": "svhn_cropped", "voc2007": "voc/2007"}  # as papers call them
OTHER_NAMES = (
    "citeseer", "cora", "digits", "digits-graph", "folder:PATH", "graph:PATH", "npz:PATH", "planetoid:PATH/NAME",
    "pubmed", "usps", "usps:PATH",
)  # fmt: skip


def data_dir() -> Path:
    """Where TFDS keeps prepared sets: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    return Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepare_command(name: str) -> str:
    """The shell command that downloads a set and writes it so that it can be read without TensorFlow."""
    builder = f"tfds.builder('{name}', file_format='array_record')"
    return f'python -c "import tensorflow_datasets as tfds; {builder}.download_and_prepare()"'


def tfds_name(name: str) -> str:
    """The name that TFDS has for a set: "svhn" is "svhn_cropped", "voc2007:5.*" is "voc/2007:5.*"."""
    base, colon, version = name.partition(":")
    return ALIASES.get(base, base) + colon + version


def find_prepared(name: str) -> Path:
    """The folder of a prepared set: the newest version that matches its name, NAME[/CONFIG][:VERSION].

    Raises:
        DataError: not prepared here, or several configurations are and none was named.
        OptionError: no such set.
    """
    match = NAME.fullmatch(name)
    if match is None:
        raise _no_such_set(name)
    base = data_dir() / match["set"]
    folder = base / match["config"] if match["config"] else _default_config(base)
    versions = _versions(folder)
    wanted = [version for version in versions if fnmatch.fnmatchcase(version, match["version"] or "*")]
    if wanted:
        return folder / wanted[-1]
    if not base.is_dir() and not _is_set(match["set"]):
        raise _no_such_set(name)
    raise _not_prepared(name, folder, versions)


def _versions(folder: Path) -> list[str]:
    found = [
        path.parent.name
        for path in folder.glob("*/dataset_info.json")
        if VERSION.fullmatch(path.parent.name) and path.with_name("features.json").is_file()
    ]
    return sorted(found, key=lambda version: tuple(map(int, version.split("."))))


def _default_config(base: Path) -> Path:
    if _versions(base) or not base.is_dir():
        return base
    configs = [path for path in sorted(base.iterdir()) if _versions(path)]
    metadata = base / ".config" / "metadata.json"  # TFDS writes the default configuration here
    if metadata.is_file():
        default = base / str(json.loads(metadata.read_text(encoding="utf-8")).get("default_config_name"))
        if default in configs:
            return default
    if len(configs) > 1:
        named = ", ".join(f"{base.name}/{config.name}" for config in configs)
        raise DataError(f"Several configurations of {base.name} are prepared. Name one of them: {named}.")
    return configs[0] if configs else base


def _is_set(name: str) -> bool:
    if name in KNOWN:
        return True
    import tensorflow_datasets as tfds

    return name in tfds.list_builders(with_community_datasets=False)


def _no_such_set(name: str) -> OptionError:
    normal = name.lower().replace("-", "_")
    if normal != name and normal.partition(":")[0].partition("/")[0] in (*KNOWN, *ALIASES, *OTHER_NAMES):
        return OptionError(f"Unknown dataset {name!r}. Did you mean {normal!r}?")
    return unknown_name("dataset", name, (*KNOWN, *ALIASES, *OTHER_NAMES))


def _not_prepared(name: str, folder: Path, versions: list[str]) -> DataError:
    there = f" (versions there: {', '.join(versions)})" if versions else ""
    return DataError(
        f"The dataset {name!r} is not prepared: looked in {folder}{there}. Prepare it once, with TensorFlow:\n"
        f"    {install_command('prepare')}\n"
        f"    {prepare_command(name)}\n"
        "If it is prepared somewhere else, set TFDS_DATA_DIR to the folder that contains "
        f"{name.partition(':')[0].partition('/')[0]!r}."
    )
