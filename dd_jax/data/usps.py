"""The USPS digits in the files that libsvm publishes: 7,291 and 2,007 grey images of 16x16.

Source: Hull, "A database for handwritten text recognition research", IEEE TPAMI 16(5), 1994; the files are at
https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass.html#usps.
"""

import shlex
from pathlib import Path

import numpy as np

from dd_jax.data.arrays import Pair, RawData
from dd_jax.data.tfds_find import data_dir
from dd_jax.errors import DataError

URL = "https://www.csie.ntu.edu.tw/~cjlin/libsvmtools/datasets/multiclass/"
FILES = {"train": "usps.bz2", "test": "usps.t.bz2"}
SIDE = 16
NUM_CLASSES = 10  # libsvm's label is the digit + 1
SLACK = 1e-3  # the published values are rounded to three decimals


def read_usps(folder: Path | None = None) -> RawData:
    """The published train and test split; images (N, 16, 16) float32 in [0, 1], pixel = (value + 1) / 2.

    Args:
        folder: holds both files; by default `usps` inside or beside TFDS_DATA_DIR.

    Raises:
        DataError: the files are not there (the message says how to fetch them), damaged, or not USPS.
    """
    home = data_dir().absolute()
    folders = [home / "usps", home.parent / "usps"] if folder is None else [folder]
    found = next((place for place in folders if all((place / file).is_file() for file in FILES.values())), None)
    if found is None:
        raise _not_there(folders)
    pairs = {part: _read_file(found / file) for part, file in FILES.items()}
    return RawData(**pairs, class_names=tuple(map(str, range(NUM_CLASSES))))


def _read_file(path: Path) -> Pair:
    from sklearn.datasets import load_svmlight_file

    try:
        values, labels = load_svmlight_file(str(path), zero_based=False)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged or not in libsvm format: {error}. Fetch it again from {URL}.") from error
    if values.shape[1] != SIDE**2:
        raise DataError(
            f"{path} should have {SIDE**2} values for each image ({SIDE}x{SIDE}), but has "
            f"{values.shape[1]}. Fetch it again from {URL}."
        )
    strange = labels[~np.isin(labels, np.arange(1, NUM_CLASSES + 1))]
    if strange.size:
        raise DataError(
            f"{path} should have labels 1 to {NUM_CLASSES} (the digit + 1), but has {strange[0]:g}. "
            f"Fetch it again from {URL}."
        )
    dense = values.toarray()
    outside = dense[~(np.abs(dense) <= 1 + SLACK)]
    if outside.size:
        raise DataError(f"{path} should have values in [-1, 1], but has {outside[0]:g}. Fetch it again from {URL}.")
    pixels = np.clip((dense + 1) / 2, 0, 1).astype(np.float32)
    return pixels.reshape(-1, SIDE, SIDE), labels.astype(np.int32) - 1


def _not_there(folders: list[Path]) -> DataError:
    looked = " and ".join(map(str, folders))
    to = shlex.quote(str(folders[0]))
    fetch = "".join(f"    curl -fL -o {to}/{file} {URL}{file}\n" for file in FILES.values())
    return DataError(
        f"USPS is not there: looked for {' with '.join(FILES.values())} in {looked}. Fetch both files, once:\n"
        f"    mkdir -p {to}\n{fetch}"
        'If they are somewhere else, name their folder: "usps:PATH".'
    )
