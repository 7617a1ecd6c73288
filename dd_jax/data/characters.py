"""Which datasets are of digits or letters, which must not be mirrored: most of them would be other signs, or none."""

import re

CHARACTERS = ("digits", "emnist", "kmnist", "mnist", "mnist_corrupted", "svhn", "svhn_cropped", "usps")

_IN_PLACES = ("npz", "folder")  # sources whose path may end in such a name


def of_characters(name: str) -> bool:
    """Whether a dataset is of digits or letters, as far as its name tells, which is one that `load_dataset` takes."""
    kind, _, path = name.partition(":")
    word = (
        re.split(r"[/\\]", path.rstrip("/\\"))[-1].partition(".")[0] if kind in _IN_PLACES else kind.partition("/")[0]
    )
    return word.lower().replace("-", "_") in CHARACTERS
