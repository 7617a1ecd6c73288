"""Pretrained networks by name: how they are made, and where they are kept.

The settings of the paper (names ending in -paper) are those of the released code of Wang et al. 2018, docs/advanced.md,
"Recommended settings to train pre-trained weights"; but that validation images are kept apart and that what doesn't
fill a last minibatch is left out, so that an epoch of MNIST is 52 updates and not 59.
"""

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import jax

from dd_jax import models
from dd_jax.data import load_dataset
from dd_jax.errors import DataError, RunError, unknown_name
from dd_jax.inner import Training
from dd_jax.models import parse_model
from dd_jax.runs.directory import refuse_difference
from dd_jax.runs.files import plain
from dd_jax.runs.pretrain import pretrain, training_record
from dd_jax.runs.pretrained import load_pretrained
from dd_jax.runs.progress import note
from dd_jax.types import Pretrained

FOLDER = Path("nets")

_SMOKE = "-smoke"


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """Networks to be trained: on what, which, how many, how."""

    dataset: str = "mnist"
    """What the networks are trained on: as for `dd-jax distill`."""
    image_size: int | None = None
    """Resize the images to this side while reading."""
    channels: Literal[1, 3] | None = None
    """Make the images grey (1) or colour (3)."""
    skip_broken: bool = False
    """Leave out images that can't be read, and say so."""
    model: str = "lenet"
    """Network, with settings after a colon."""
    num_nets: int = 200
    """Networks to distil with."""
    num_held_out: int = 20
    """Others, to judge on."""
    training: Training = dataclasses.field(default_factory=Training)
    """How they are trained."""
    seed: int = 0
    """Of their weights and minibatches."""
    out: str | None = None
    """File; the same command with the same file continues, or adds networks. None: nets/DATASET-MODEL.safetensors."""
    devices: int | None = None
    """Devices that train networks at the same time; None: all there are."""


def _paper(wanted: Pretraining, epochs: int, decay_epochs: int, learning_rate: float) -> Pretraining:
    training = Training(epochs, 1024, learning_rate, 0.5, "step", decay_epochs, wanted.training.augment)
    return dataclasses.replace(wanted, num_nets=2000, num_held_out=200, training=training)


_DIGITS = Pretraining("digits", model="mlp:hidden=(64,)", num_nets=20, training=Training(epochs=30, batch_size=32))
_USPS = Pretraining("usps", image_size=28, num_nets=100, training=Training(epochs=20))
_SVHN = Pretraining("svhn", training=Training(epochs=5))
_CIFAR10 = Pretraining("cifar10", model="alexcifarnet", training=Training(epochs=15, augment="crop_flip"))

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
}


def pretraining(name: str) -> Pretraining:
    """The networks called `name`, or a few barely trained ones for NAME-smoke; OptionError for an unknown name."""
    known = name.removesuffix(_SMOKE)
    if known not in PRETRAININGS:
        raise unknown_name("preset of networks", known, PRETRAININGS)
    wanted = dataclasses.replace(PRETRAININGS[known], out=str(FOLDER / f"{name}.safetensors"))
    if known == name:
        return wanted
    training = dataclasses.replace(wanted.training, epochs=1)
    return dataclasses.replace(wanted, num_nets=1, num_held_out=1, training=training)


def smoke_networks(networks: str | None) -> str | None:
    """What a smoke run takes in place of `networks`: a file as it is, of a preset a few networks."""
    return f"{networks}{_SMOKE}" if networks in PRETRAININGS else networks


def run_pretraining(wanted: Pretraining) -> Pretrained:
    """Train the networks, or what is left of them, and keep them in their file.

    Raises what `load_dataset` and `pretrain` raise.
    """
    name, settings = parse_model(wanted.model)
    data = load_dataset(
        wanted.dataset, image_size=wanted.image_size, channels=wanted.channels, skip_broken=wanted.skip_broken
    )
    model = models.make(name, data, **settings)
    out = wanted.out or str(FOLDER / f"{file_name(wanted.dataset)}-{name}.safetensors")
    note(
        f"Training {wanted.num_nets} + {wanted.num_held_out} networks {model.name} ({models.num_params(model):,} "
        f"parameters each) for {wanted.training.epochs} epochs on {len(data.train.labels):,} images of {data.name}, "
        f"into {out}"
    )
    return pretrain(
        model,
        data,
        num_nets=wanted.num_nets,
        num_held_out=wanted.num_held_out,
        training=wanted.training,
        seed=wanted.seed,
        out=out,
        devices=wanted.devices,
    )


def networks_file(networks: str, make: bool = True) -> Path:
    """The file that `networks` means: its path, or that of a preset's networks, which are made where they are missing.

    make: whether to make them.
    Raises what `run_pretraining` raises; RunError if a preset's file holds other networks, or too few; DataError if
    they are missing and not to be made here; OptionError if there is neither such a file nor such a preset.
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
    if made.is_file():
        _refuse_others(made, wanted)
    elif make and jax.process_count() == 1:
        note(f"The networks {networks} are not there yet: making them.")
        run_pretraining(wanted)
    else:
        raise DataError(f"{made} is missing. Make it first: dd-jax pretrain --preset {networks}")
    return made


def file_name(dataset: str) -> str:
    """What a dataset is called in names of files: "folder:/data/birds" is "birds", "mnist:3.0.1" "mnist-3.0.1"."""
    kind, _, rest = dataset.partition(":")
    rest = rest.removesuffix("/inductive")
    return Path(rest).stem if kind in ("folder", "graph", "npz", "usps") and rest else re.sub(r"[:/]", "-", dataset)


def _refuse_others(file: Path, wanted: Pretraining) -> None:
    """Raise RunError unless `file` holds the networks of a preset, and as many, so that a name means one thing."""
    found = load_pretrained(file)
    name, settings = parse_model(wanted.model)
    there = training_record(found.training.get("training", {}))
    there |= {"seed": found.training.get("seed"), "model": found.model}
    asked = {**training_record(dataclasses.asdict(wanted.training)), "seed": wanted.seed, "model": name}
    there["dataset"], asked["dataset"] = found.training.get("dataset", {}).get("name"), wanted.dataset
    there |= {key: found.settings.get(key) for key in settings}
    asked |= plain(settings)
    few = [part for part, count in (("train", wanted.num_nets), ("held_out", wanted.num_held_out))
           if len(found.accuracies[part]) < count]  # fmt: skip
    remedy = "Move it away, or name the file itself, to use what is in it."
    refuse_difference(there, asked, f"{file} holds other networks than the preset of that name", remedy)
    if few:
        raise RunError(
            f"{file} has {len(found.accuracies['train'])} + {len(found.accuracies['held_out'])} networks, the preset "
            f"{wanted.num_nets} + {wanted.num_held_out}. Train the others with dd-jax pretrain --preset {file.stem}, "
            "or name the file itself, to use what is in it."
        )
