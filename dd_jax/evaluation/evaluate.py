"""Train fresh networks on a distilled set by its protocol, or another one, and measure them on real data."""

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp

from dd_jax.data.transforms import same_transform, to_model, to_pixels
from dd_jax.errors import DataError, unknown_name, values_at_least
from dd_jax.evaluation.measure import SPLITS, Starts, Wanted, as_it_is, measure, train_one
from dd_jax.evaluation.protocols import ProtocolWarning, misuse, training_of
from dd_jax.evaluation.result import Evaluation
from dd_jax.evaluation.training import plan_course
from dd_jax.inner import (
    INITS,
    Regression,
    Training,
    draw_network,
    keys_of,
    networks_of,
)
from dd_jax.models import Model, check_fits, check_pretrained
from dd_jax.outcomes import outcome_of
from dd_jax.seeds import check_seed, key_of_seed
from dd_jax.types import Batch, Dataset, DistilledData, Networks, Params, Pretrained, Protocol


def evaluate(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    num_nets: int = 200,
    num_epochs: int | None = None,
    split: str = "test",
    seed: int = 1_000_003,
    init: str | None = None,
    pretrained: Pretrained | None = None,
    part: str = "held_out",
    num_curve_nets: int = 20,
    devices: int | None = None,
    protocol: str | Training | Regression | None = None,
    curve: Literal["epochs", "steps"] = "epochs",
) -> Evaluation:
    """Train networks on a distilled set, with the learnt steps or in another way, and measure them on real data.

    The real images are brought to the model space of the distilled set, if they are in another.

    Args:
        num_nets: number of networks; for pretrained networks at most as many as there are.
        num_epochs: passes through the images. None: as many as were learnt, or as the protocol has. 0: the networks
            as they start. Epochs beyond the learnt ones repeat the step sizes of the last.
        seed: seed of the held-out initialisations. The default is far from the seeds of distillations.
        init: "random" or "fixed" in place of the set's own; a fixed init is one network, so n = 1.
        pretrained, part: networks to start from, for a set that is for pretrained networks, and the part to take:
            "held_out", "selection" or "train".
        num_curve_nets, curve: networks whose accuracy is also taken before training and after each learnt epoch or each
            learnt step; at some 20 moments of a training from scratch.
        devices: number of devices that train networks at the same time. None: all of them.
        protocol: "as-distilled" (the learnt steps), a name in `dd_jax.PROTOCOLS`, or a `Training`: networks then start
            at random; None for the set's own. A `ProtocolWarning` says where the set isn't made for that. By kernel
            regression (a `Regression`, "kip") there is one infinitely wide network, so n = 1.

    Raises:
        DataError: if model, networks and data don't match.
        OptionError: for a bad option.

    Source: Wang et al. 2018, section 4 (200 held-out networks).
    """
    values_at_least(1, num_nets=num_nets)
    values_at_least(0, num_epochs=num_epochs)
    seed = check_seed(seed)
    check_fits(model, distilled.shape_of_images, dataset.num_classes, "distilled set")
    training = training_of(protocol, distilled, num_epochs)
    _warn(distilled, training is not None)
    own = _used_as(distilled.protocol, training, init)
    make, starts = _starts(model, own, num_nets, seed, pretrained, part)
    chosen_by = None
    if isinstance(training, Training) and training.keep == "best" and len(dataset.validation.labels):
        chosen_by = real_for(distilled, dataset, "validation").validation
    if distilled.transform is None:  # in the model space of the dataset, as sets of real images are
        distilled = dataclasses.replace(distilled, transform=dataset.transform)
    course = plan_course(model, distilled, training, num_epochs, curve == "steps", chosen_by)
    real = real_for(distilled, dataset, split)
    return measure(make, model, starts, course, real, Wanted(split, outcome_of(own), num_curve_nets, devices))


def evaluate_networks(
    networks: Networks,
    model: Model,
    dataset: Dataset,
    *,
    split: str = "test",
    devices: int | None = None,
    **outcome: Any,
) -> Evaluation:
    """Measure networks (params with a leading axis) as they are, on a split of real data.

    Raises as `evaluate` does.

    Args:
        outcome: the fields of a `Protocol` that say what success means, for networks that were trained on sets of it.
    """
    wanted = Wanted(split, outcome_of(Protocol(**outcome)), devices=devices)
    return measure(as_it_is, model, _given(networks, 0), None, dataset, wanted)


def train_on(
    distilled: DistilledData,
    model: Model,
    key: jax.Array | None = None,
    *,
    params: Params | None = None,
    num_epochs: int | None = None,
    protocol: str | Training | Regression | None = None,
) -> Params:
    """Train one network on `distilled`, and return its parameters.

    There is no validation split here, so a training that keeps the best network keeps the last one.
    Images must be brought to the model space of the set before the network sees them: `dd_jax.to_model(
    distilled.transform, pixels)`.

    Args:
        key: draws the initial network, the order of the images and their augmentation, as far as these are random; a
            set distilled for one fixed network uses that one, whatever the key, unless the protocol is another than its
            own.
        params: the network to start from instead; needed where the set is for pretrained networks.
        num_epochs: in place of the protocol's own.
        protocol: "as-distilled", a name in `dd_jax.PROTOCOLS`, or a `Training`; None for the set's own. A
            `ProtocolWarning` says where a set isn't made for that.

    Raises:
        DataError: if the network was built for other images or classes, or has to be given.
        OptionError: for an unknown protocol.
    """
    check_fits(model, distilled.shape_of_images, len(distilled.class_names) or model.num_classes, "distilled set")
    training = training_of(protocol, distilled, num_epochs)
    _warn(distilled, training is not None)
    if params is None:
        if distilled.protocol.pretrained:
            raise DataError("The set is for pretrained networks. Give the network to start from as params.")
        if key is None or (distilled.protocol.init == "fixed" and training is None):
            key = key_of_seed(distilled.protocol.init_seed)
        params = draw_network(model, key)
    course = plan_course(model, distilled, training, num_epochs)
    return train_one(model, course, params, jax.random.key(0) if key is None else key)


def real_for(distilled: DistilledData, dataset: Dataset, split: str) -> Dataset:
    """The dataset with the images of a split in the model space of the distilled set."""
    names, own = distilled.class_names, dataset.class_names
    if names and names != own and sorted(names) == sorted(own):
        raise DataError(
            f"{dataset.name} has the classes of the distilled set in another order: "
            f"{', '.join(own[:5])} … in the set, {', '.join(names[:5])} … in the dataset. Load "
            "the dataset with its classes in the order of the set."
        )
    if distilled.transform is None or same_transform(distilled.transform, dataset.transform) or split not in SPLITS:
        return dataset
    real: Batch = getattr(dataset, split)
    images = to_model(distilled.transform, to_pixels(dataset.transform, real.images))
    changes: dict[str, Any] = {split: real._replace(images=images), "transform": distilled.transform}
    return dataclasses.replace(dataset, **changes)


def _used_as(protocol: Protocol, training: Training | Regression | None, init: str | None) -> Protocol:
    """The protocol of a set whose networks are trained in another way, or start elsewhere."""
    if training is not None:
        protocol = dataclasses.replace(protocol, init="fixed" if isinstance(training, Regression) else "random")
    return dataclasses.replace(protocol, init=init or protocol.init)


def _warn(distilled: DistilledData, from_scratch: bool) -> None:
    if problem := misuse(distilled, from_scratch):
        warnings.warn(problem, ProtocolWarning, stacklevel=3)


def _starts(model, protocol, num_nets, seed, pretrained, part) -> tuple[Callable[[Any], Params], Starts]:
    """What networks start from and the keys of their training, and how the former become parameters."""
    if protocol.init not in INITS:
        raise unknown_name("init", protocol.init, INITS)
    if pretrained is None:
        if protocol.pretrained:
            raise DataError(
                "The set is for pretrained networks, but none were given. Give them as "
                "pretrained; dd_jax.load_pretrained reads their file."
            )
        if protocol.init == "fixed":
            key = key_of_seed(protocol.init_seed)[None]
            return model.init, Starts(1, lambda numbers: 2 * (jnp.broadcast_to(key, numbers.shape),))
        return model.init, Starts(num_nets, lambda numbers: 2 * (keys_of(seed, numbers),))
    check_pretrained(pretrained, model)
    if protocol.init == "fixed" and protocol.pretrained not in ("", pretrained.fingerprint):
        raise DataError(
            f"The set is for one known network (fingerprint {protocol.pretrained}), which is not "
            f"in {pretrained.name} (fingerprint {pretrained.fingerprint}). Give the networks that "
            "it was learnt with, or init='random'."
        )
    return as_it_is, _given(networks_of(pretrained, protocol, part, num_nets), seed)


def _given(networks: Networks, seed: int) -> Starts:
    """Networks that are there already."""
    count = jax.tree.leaves(networks)[0].shape[0]
    return Starts(count, lambda numbers: (jax.tree.map(lambda leaf: leaf[numbers], networks), keys_of(seed, numbers)))
