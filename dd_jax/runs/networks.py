"""Pretrained networks by name: how they are made, and where they are kept.

The settings of the paper (names ending in -paper) are those of the released code of Wang et al. 2018, docs/advanced.md,
"Recommended settings to train pre-trained weights"; but that validation images are kept apart and that what doesn't
fill a last minibatch is left out, so that an epoch of MNIST is 52 updates and not 59.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import jax

from dd_jax import models
from dd_jax.data import load_dataset
from dd_jax.errors import DataError, OptionError, RunError, unknown_name
from dd_jax.inner import Training
from dd_jax.models import Model, parse_model
from dd_jax.runs.directory import refuse_difference
from dd_jax.runs.experts import EXPERT_TRAINING, pretrain_experts
from dd_jax.runs.pretrain import pretrain, training_record
from dd_jax.runs.progress import note
from dd_jax.storage.expert_files import INDEX, load_experts, read_index
from dd_jax.storage.files import plain
from dd_jax.storage.pretrained import load_pretrained
from dd_jax.types import Experts, Pretrained

FOLDER = Path("nets")

# Subsets of ImageNet that are read from class folders; "imagenette" is prepared by TFDS.
FOLDER_SUBSETS = ("imagewoof", "imagefruit", "imageyellow", "imagemeow", "imagesquawk")

_SMOKE = "-smoke"


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Networks to be trained: on what, which, how many, how."""

    dataset: str = "mnist"
    """Dataset to train the networks on, as for `dd-jax distill`."""
    image_size: int | None = None
    """Resize the images to this side while reading."""
    channels: Literal[1, 3] | None = None
    """Make the images grey (1) or colour (3)."""
    zca: bool = False
    """Whiten the images by ZCA, instead of standardising them."""
    skip_broken: bool = False
    """Leave out images that can't be read, and say so."""
    model: str = "lenet"
    """Network, with settings after a colon."""
    num_nets: int = 200
    """Networks to distil with."""
    num_held_out: int = 20
    """Further networks to judge sets on. None with --snapshots."""
    snapshots: bool = False
    """Keep each network before its training and after every epoch, in a folder. These are the experts of
    `trajectory-matching`."""
    every: int | None = None
    """Gradient steps between two snapshots, a divisor of the steps of an epoch. None: an epoch."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of stored weights, with --snapshots. "bfloat16" takes half the room, and rounds the weights."""
    training: Training = dataclasses.field(default_factory=Training)
    """Training of the networks."""
    seed: int = 0
    """Seed of the networks' weights and minibatches."""
    out: str | None = None
    """File, or folder with --snapshots. The same command with the same file continues, or adds networks. None:
    nets/DATASET-MODEL.safetensors, or nets/DATASET-MODEL-experts."""
    devices: int | None = None
    """Devices that train networks at the same time. None: all of them."""


def _paper(wanted: Pretraining, epochs: int, decay_epochs: int, learning_rate: float) -> Pretraining:
    training = Training(epochs, 1024, learning_rate, 0.5, "step", decay_epochs, wanted.training.augment)
    return dataclasses.replace(wanted, num_nets=2000, num_held_out=200, training=training)


_DIGITS = Pretraining("digits", model="mlp:hidden=(64,)", num_nets=20, training=Training(epochs=30, batch_size=32))
_USPS = Pretraining("usps", image_size=28, num_nets=100, training=Training(epochs=20))
_SVHN = Pretraining("svhn", training=Training(epochs=5))
_CIFAR10 = Pretraining("cifar10", model="alexcifarnet", training=Training(epochs=15, augment="crop_flip"))

# Experts of trajectory matching: many networks all along their training. Those of the papers are those of the released
# code of Cazenavette et al. 2022.
_EXPERTS_DIGITS = Pretraining(
    "digits",
    model="mlp:hidden=(64,)",
    num_nets=10,
    snapshots=True,
    training=dataclasses.replace(EXPERT_TRAINING, epochs=8, batch_size=32, learning_rate=0.1, augment="none"),
)
# For canvases: a ConvNet, which sees textures, trained on digits that are moved about.
_EXPERTS_DIGITS_CONVNET = dataclasses.replace(
    _EXPERTS_DIGITS,
    model="convnet:width=16,depth=2",
    num_nets=4,
    training=dataclasses.replace(EXPERT_TRAINING, epochs=6, batch_size=32, learning_rate=0.02, augment="dsa_no_flip"),
)
# Every eighth of an epoch: what an expert does in two of these, twenty steps on a hundred images can do as well.
_EXPERTS_MNIST = dataclasses.replace(
    _EXPERTS_DIGITS,
    dataset="mnist",
    model="mlp:hidden=(64,64)",
    every=27,
    training=dataclasses.replace(EXPERT_TRAINING, epochs=2, batch_size=250, learning_rate=0.02, augment="none"),
)
_EXPERTS_MNIST_CONVNET = dataclasses.replace(
    _EXPERTS_MNIST,
    model="convnet:width=16,depth=3",
    num_nets=6,
    every=54,
    training=dataclasses.replace(_EXPERTS_MNIST.training, augment="dsa_no_flip"),
)
_EXPERTS_CIFAR10 = Pretraining(
    "cifar10",
    model="convnet:width=32,depth=3",
    num_nets=4,
    snapshots=True,
    training=dataclasses.replace(EXPERT_TRAINING, epochs=6),
)


# Du et al. 2023 (FTD), which DATM takes its experts from: towards flat optima, by GSAM.
def _towards_flat(experts: Pretraining, epochs: int | None = None) -> Pretraining:
    epochs = epochs or experts.training.epochs
    training = dataclasses.replace(experts.training, sam_rho=0.01, gsam_alpha=0.3, epochs=epochs)
    return dataclasses.replace(experts, training=training)


_CONVNET3, _CONVNET4, _CONVNET5 = (f"convnet:width=128,depth={depth}" for depth in (3, 4, 5))


def _experts_paper(dataset: str, model: str = _CONVNET3, zca: bool = False, size: int | None = None) -> Pretraining:
    return Pretraining(
        dataset, image_size=size, model=model, zca=zca, num_nets=100, snapshots=True, training=EXPERT_TRAINING
    )


_CIFAR10_ZCA, _CIFAR100_ZCA, _TINY_ZCA = (
    _experts_paper("cifar10", zca=True),
    _experts_paper("cifar100", zca=True),
    _experts_paper("folder:tiny-imagenet", _CONVNET4, zca=True, size=64),
)

PRETRAININGS: Mapping[str, Pretraining] = {
    "digits-mlp": _DIGITS,
    "mnist-lenet": Pretraining(),
    "usps-lenet": _USPS,
    "svhn-lenet": _SVHN,
    "cifar10-alexcifarnet": _CIFAR10,
    "mnist-lenet-paper": _paper(Pretraining(), 40, 20, 2e-4),
    "usps-lenet-paper": _paper(_USPS, 130, 40, 2e-4),
    "svhn-lenet-paper": _paper(_SVHN, 65, 20, 2e-4),
    "cifar10-alexcifarnet-paper": _paper(_CIFAR10, 50, 7, 1e-3),
    "digits-experts": _EXPERTS_DIGITS,
    "digits-convnet-experts": _EXPERTS_DIGITS_CONVNET,
    "mnist-experts": _EXPERTS_MNIST,
    "cifar10-experts": _EXPERTS_CIFAR10,
    "cifar10-experts-paper": _experts_paper("cifar10"),
    "cifar10-zca-experts-paper": _CIFAR10_ZCA,
    "cifar100-experts-paper": _experts_paper("cifar100"),
    "cifar100-zca-experts-paper": _CIFAR100_ZCA,
    "tiny-imagenet-experts-paper": _experts_paper("folder:tiny-imagenet", _CONVNET4, size=64),
    "imagenette-experts-paper": _experts_paper("imagenette/320px", _CONVNET5, size=128),
    **{f"{subset}-experts-paper": _experts_paper(f"folder:{subset}", _CONVNET5, size=128) for subset in FOLDER_SUBSETS},
    "squawk-experts-paper": _experts_paper("folder:imagesquawk", _CONVNET5, size=256),
    "mnist-convnet-experts": _EXPERTS_MNIST_CONVNET,
    "digits-ftd-experts": _towards_flat(_EXPERTS_DIGITS),
    "mnist-ftd-experts": _towards_flat(_EXPERTS_MNIST),
    "cifar10-ftd-experts": _towards_flat(_EXPERTS_CIFAR10),
    "cifar10-zca-ftd-experts-paper": _towards_flat(_CIFAR10_ZCA, epochs=100),
    "cifar100-zca-ftd-experts-paper": _towards_flat(_CIFAR100_ZCA, epochs=100),
    "tiny-imagenet-zca-ftd-experts-paper": _towards_flat(_TINY_ZCA, epochs=100),
}


def pretraining(name: str) -> Pretraining:
    """The networks called `name`, or a few barely trained ones for NAME-smoke; OptionError for an unknown name."""
    known = name.removesuffix(_SMOKE)
    if known not in PRETRAININGS:
        raise unknown_name("preset of networks", known, PRETRAININGS, "dd-jax info says what they are.")
    ending = "" if PRETRAININGS[known].snapshots else ".safetensors"
    wanted = dataclasses.replace(PRETRAININGS[known], out=str(FOLDER / f"{name}{ending}"))
    if known == name:
        return wanted
    training = dataclasses.replace(wanted.training, epochs=1)
    return dataclasses.replace(wanted, num_nets=1, num_held_out=1, training=training)


def smoke_networks(networks: str | None) -> str | None:
    """What a smoke run takes in place of `networks`: a file as it is, of a preset a few networks."""
    return f"{networks}{_SMOKE}" if networks in PRETRAININGS else networks


def run_pretraining(wanted: Pretraining) -> Pretrained | Experts:
    """Train the networks, or what is left of them, and keep them in their file, or in their folder.

    Raises what `load_dataset`, `pretrain` and `pretrain_experts` raise; OptionError for options of snapshots alone.
    """
    if not wanted.snapshots and (wanted.every, wanted.dtype) != (None, "float32"):
        raise OptionError("--every and --dtype are for experts. Add --snapshots, or leave them out.")
    name = parse_model(wanted.model)[0]
    form: dict[str, Any] = {"image_size": wanted.image_size, "channels": wanted.channels, "zca": wanted.zca}
    data = load_dataset(wanted.dataset, skip_broken=wanted.skip_broken, **form)
    model = models.from_spec(wanted.model, data)
    stem = str(FOLDER / f"{file_name(wanted.dataset)}-{name.rpartition(':')[2]}")
    out = wanted.out or (f"{stem}-experts" if wanted.snapshots else f"{stem}.safetensors")
    held_out = "" if wanted.snapshots else f" + {wanted.num_held_out}"
    note(
        f"Training {wanted.num_nets}{held_out} networks {model.name} ({models.num_params(model):,} parameters each) "
        f"for {wanted.training.epochs} epochs on {len(data.train.labels):,} images of {data.name}, into {out}"
    )
    given: dict[str, Any] = {"training": wanted.training, "seed": wanted.seed, "out": out, "devices": wanted.devices}
    if wanted.snapshots:
        return pretrain_experts(
            model, data, num_experts=wanted.num_nets, every=wanted.every, dtype=wanted.dtype, **given
        )
    return pretrain(model, data, num_nets=wanted.num_nets, num_held_out=wanted.num_held_out, **given)


def load_networks(path: Path, model: Model | None = None) -> Pretrained | Experts:
    """What a file of networks, or a folder of experts, holds; raises what reading either raises."""
    return load_experts(path) if path.is_dir() else load_pretrained(path, model)


def networks_file(networks: str, make: bool = True) -> Path:
    """The file, or folder of experts, that `networks` means: its path, or that of a preset, made where it is missing.

    Raises what `run_pretraining` raises; RunError if a preset's file holds other networks, or too few; DataError if
    they are missing and not to be made here; OptionError if there is neither such a file nor such a preset.

    Args:
        make: whether to make them.
    """
    path = Path(networks).expanduser()
    if path.exists():
        return path
    if networks.removesuffix(_SMOKE) not in PRETRAININGS:
        if "/" in networks or "." in networks:
            return path  # whoever reads it will say that it isn't there
        raise unknown_name("file or preset of pretrained networks", networks, PRETRAININGS)
    wanted = pretraining(networks)
    made = Path(str(wanted.out))
    if made.is_file() or (made / INDEX).is_file():
        _refuse_others(made, wanted, make)
    elif make and jax.process_count() == 1:
        note(f"The networks {networks} are not made yet. Making them.")
        run_pretraining(wanted)
    else:
        raise DataError(f"{made} is missing. Make it first with dd-jax pretrain --preset {networks}")
    return made


def file_name(dataset: str) -> str:
    """What a dataset is called in names of files: "folder:/data/birds" is "birds", "mnist:3.0.1" "mnist-3.0.1"."""
    kind, _, rest = dataset.partition(":")
    rest = rest.removesuffix("/inductive")
    return Path(rest).stem if kind in ("folder", "graph", "npz", "usps") and rest else re.sub(r"[:/]", "-", dataset)


def _refuse_others(file: Path, wanted: Pretraining, make: bool) -> None:
    """Raise RunError unless `file` holds the networks of a preset, and as many, so that a name means one thing.

    Args:
        make: whether experts that are missing, as their training was cut short, may be trained here.
    """
    if wanted.snapshots and make and len(read_index(file)["experts"]) < wanted.num_nets:
        note(f"The experts {file.name} are not complete yet. Training the others.")
        run_pretraining(wanted)
    found = load_networks(file)
    name, settings = parse_model(wanted.model)
    there = training_record(found.training.get("training", {}))
    there |= {"seed": found.training.get("seed"), "model": found.model}
    asked = {**training_record(dataclasses.asdict(wanted.training)), "seed": wanted.seed, "model": name}
    there["dataset"], asked["dataset"] = found.training.get("dataset", {}).get("name"), wanted.dataset
    there |= {key: found.settings.get(key) for key in settings}
    asked |= plain(settings)
    remedy = "Move it away, or name the file itself, to use what is in it."
    refuse_difference(there, asked, f"{file} holds other networks than the preset of that name", remedy)
    if isinstance(found, Experts):
        has, needs = [len(found.accuracies)], [wanted.num_nets]
    else:
        has, needs = [len(a) for a in found.accuracies.values()], [wanted.num_nets, wanted.num_held_out]
    if any(there < wanted for there, wanted in zip(has, needs, strict=True)):
        raise RunError(
            f"The preset needs {' + '.join(map(str, needs))} networks, but {file} has "
            f"{' + '.join(map(str, has))}. Train the others with dd-jax pretrain --preset {file.stem}, or name "
            "the file itself to use what it has."
        )
