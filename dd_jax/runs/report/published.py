"""What the papers report, to stand beside what is measured here: test accuracy in per cent."""

from collections.abc import Mapping, Sequence

_COUNTS = (1, 10, 50)  # images of each class, of most tables


def _row(values: Sequence[float | None], counts: Sequence[int] = _COUNTS) -> dict[int, float]:
    return {count: value for count, value in zip(counts, values, strict=True) if value is not None}


# Dataset, what names the method's runs (the first of its `words`) -> images of each class -> accuracy.
PUBLISHED: Mapping[tuple[str, str], Mapping[int, float]] = {
    # Wang et al. 2018, table 1: LeNet and AlexCifarNet, the learnt steps.
    ("mnist", "fixed"): {1: 96.6},
    ("mnist", "random"): {10: 79.5},
    ("cifar10", "fixed"): {10: 54.0},
    ("cifar10", "random"): {10: 36.8},
    # Zhao et al. 2021 and Zhao & Bilen 2021, the tables of their released code: ConvNet, depth 3, width 128.
    ("mnist", "dc"): _row((91.7, 97.4, 98.8)),
    ("fashion_mnist", "dc"): _row((70.5, 82.3, 83.6)),
    ("svhn", "dc"): _row((31.2, 76.1, 82.3)),
    ("cifar10", "dc"): _row((28.3, 44.9, 53.9)),
    ("cifar100", "dc"): _row((12.8, 25.2, None)),
    ("mnist", "dsa"): _row((88.7, 97.8, 99.2)),
    ("fashion_mnist", "dsa"): _row((70.6, 84.6, 88.7)),
    ("svhn", "dsa"): _row((27.5, 79.2, 84.4)),
    ("cifar10", "dsa"): _row((28.8, 52.1, 60.6)),
    ("cifar100", "dsa"): _row((13.9, 32.3, None)),
    # Zhao & Bilen 2023.
    ("cifar10", "dm"): _row((26.0, 48.9, 63.0)),
    ("cifar100", "dm"): _row((11.4, 29.7, 43.6)),
    # Kim et al. 2022, the table of the released code: factor 2.
    ("mnist", "idc"): _row((94.2, 98.4, 99.1)),
    ("fashion_mnist", "idc"): _row((81.0, 86.0, 86.2)),
    ("svhn", "idc"): _row((68.5, 87.5, 90.1)),
    ("cifar10", "idc"): _row((50.6, 67.5, 74.5)),
    ("cifar100", "idc"): _row((45.1, 49.0), (10, 20)),
    # Nguyen et al. 2021 (the second paper): kernels of networks with three convolutions and pooling, ZCA for CIFAR.
    ("mnist", "kip"): _row((97.3, 99.1, 99.5)),
    ("cifar10", "kip"): _row((64.7, 75.6, 80.6)),
    # Zhou et al. 2022: ConvNet, ZCA.
    ("cifar10", "frepo"): _row((46.8, 65.5, 71.7)),
    # Lee et al. 2022: without and with siamese augmentation.
    ("cifar10", "dcc"): _row((32.9, 49.4, 61.6)),
    ("cifar100", "dcc"): _row((13.3, 30.6, None)),
    ("cifar10", "dsac"): _row((34.0, 54.5, 64.2)),
    ("cifar100", "dsac"): _row((14.6, 33.5, 39.3)),
}


def published(dataset: str, label: str, images_per_class: int) -> float | None:
    """What the paper of a method reports, or None where it reports nothing.

    Args:
        label: the first of the words that name the method's runs, such as "dc".
    """
    name = dataset.partition(":")[0].removesuffix("_cropped")  # of TFDS: a version, and its name for SVHN
    return PUBLISHED.get((name, label), {}).get(images_per_class)
