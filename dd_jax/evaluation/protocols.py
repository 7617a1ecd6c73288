"""How networks are trained on a distilled set: by the learnt steps, from scratch in minibatches, or in closed form."""

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

from dd_jax.errors import unknown_name
from dd_jax.inner import AUGMENTS, Regression, Training, steps_per_epoch
from dd_jax.types import AS_DISTILLED, DistilledData

_DC = Training(
    epochs=300,
    batch_size=256,
    learning_rate=0.01,
    schedule="drops",
    drops=(0.5,),
    drop_factor=0.1,
    optimiser="sgd",
    momentum=0.9,
    weight_decay=5e-4,
    drop_last=False,
)
_DSA = dataclasses.replace(_DC, epochs=1000, augment="dsa")
_RTP = dataclasses.replace(_DC, batch_size=640, schedule="constant", weight_decay=0.0)
_FREPO = Training(
    steps=1000,
    batch_size=500,
    learning_rate=3e-4,
    loss="squared",
    schedule="constant",
    augment="dsa",
    average=0.995,
    drop_last=False,
)
_RAT_BPTT = Training(
    epochs=1000,
    batch_size=256,
    learning_rate=1e-3,
    schedule="constant",
    drop_last=False,
)

PLAIN = "dc"  # the training from scratch of a set that has none of its own

PROTOCOLS: Mapping[str, Training | Regression] = {
    # Zhao et al. 2021 (20 networks). Their own augmentation for MNIST is left out.
    "dc": _DC,
    # Zhao & Bilen 2021 and 2023 (DM); 20 networks. Digits aren't mirrored.
    "dsa": _DSA,
    "dsa-digits": dataclasses.replace(_DSA, augment="dsa_no_flip"),
    # Cazenavette et al. 2022, and TESLA (5 networks): at the learnt step size. Digits
    # aren't mirrored, and sets that are learnt without augmentation are trained on without.
    "mtt": dataclasses.replace(_DSA, learning_rate=None),
    "mtt-digits": dataclasses.replace(_DSA, learning_rate=None, augment="dsa_no_flip"),
    "mtt-plain": dataclasses.replace(_DSA, learning_rate=None, augment="none"),
    # Guo et al. 2024 (5 networks): the network is a moving average. Of the decays in the released settings the smaller
    # one: with the other, 0.9995, three fifths of the average are still the untrained network after 1,000 steps.
    "datm": dataclasses.replace(_DSA, learning_rate=None, batch_size=128, average=0.995),
    "datm-plain": dataclasses.replace(_DSA, learning_rate=None, batch_size=128, average=0.995, augment="none"),
    # Kim et al. 2022. Digits, as in the released code for several images out of one, are neither mirrored nor mixed.
    "idc": dataclasses.replace(
        _DC, epochs=1000, batch_size=64, drops=(2 / 3, 5 / 6), drop_factor=0.2, augment="crop_flip", cutmix=True
    ),
    # Jin et al. 2022 (10 networks on graphs): all nodes at once, Adam, and the best of the validations.
    "gcond": Training(
        epochs=600,
        batch_size=4096,  # all nodes that a distilled graph may have
        learning_rate=0.01,
        schedule="drops",
        weight_decay=5e-4,
        drop_last=False,
        dropout=0.5,
        keep="best",
    ),
    "idc-digits": dataclasses.replace(
        _DSA, batch_size=64, drops=(2 / 3, 5 / 6), drop_factor=0.2, augment="dsa_no_flip"
    ),
    # Cui et al. 2022, with an augmentation (5 networks); without one it is "dc".
    "dc-bench": dataclasses.replace(_DC, epochs=1000),
    # Nguyen et al. 2021: infinitely wide networks; and finite ones, 1,024 wide (released notebook). Narrow ones learn
    # hardly anything at such a rate.
    "kip": Regression(1e-6),
    "kip-nn": Training(
        steps=5000,
        batch_size=100,
        learning_rate=0.3,
        relative=True,
        loss="squared",
        schedule="constant",
        optimiser="sgd",
        momentum=0.9,
        drop_last=False,
    ),
    # Zhou et al. 2022 (5 networks); 1,000 steps in all cases but some of CIFAR-100's and larger sets'. In the released
    # code neither MNIST nor Fashion-MNIST is mirrored.
    "frepo": _FREPO,
    "frepo-digits": dataclasses.replace(_FREPO, augment="dsa_no_flip"),
    # Deng & Russakovsky 2022 (10 networks); sets that are learnt without augmentation are trained on without.
    "rtp": dataclasses.replace(_RTP, augment="flip_rotate"),
    "rtp-plain": _RTP,
    # Feng et al. 2024, RaT-BPTT (8 networks); theirs is the best of 300, 600, 1,000 and 3,000 epochs.
    "rat-bptt": dataclasses.replace(_RAT_BPTT, augment="flip_rotate"),
    "rat-bptt-plain": _RAT_BPTT,
}


class ProtocolWarning(UserWarning):
    """A distilled set is used in another way than it was made for."""


def training_of(
    protocol: str | Training | Regression | None, distilled: DistilledData, num_epochs: int | None = None
) -> Training | Regression | None:
    """What a protocol means for a set; None: its learnt steps.

    Args:
        protocol: "as-distilled", a name in `PROTOCOLS`, or a training or regression of one's own; None for the set's
            own.
        num_epochs: in place of the training's own, unless it is 0. A `ProtocolWarning` says where so few leave most of
            an average of weights where the network started.

    Raises:
        OptionError: for an unknown name.
    """
    if protocol is None:
        protocol = distilled.protocol.name
    if protocol == AS_DISTILLED:
        return None
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise unknown_name("protocol", protocol, (AS_DISTILLED, *PROTOCOLS))
        protocol = PROTOCOLS[protocol]
    if isinstance(protocol, Regression):
        return protocol
    if protocol.learning_rate is None:
        protocol = dataclasses.replace(protocol, learning_rate=float(distilled.step_sizes.mean()))
    if not num_epochs:
        return protocol
    steps = num_epochs * steps_per_epoch(protocol, distilled.num_examples)
    untrained = protocol.average**steps
    if untrained > 0.5:
        warnings.warn(
            f"{num_epochs} epochs of this set are {steps} gradient steps, and the protocol's average of weights then "
            f"is still {untrained:.0%} the untrained network. Use more epochs, or none to have the protocol's own.",
            ProtocolWarning,
            stacklevel=3,
        )
    return dataclasses.replace(protocol, epochs=num_epochs, steps=None)


def minibatches(name: str) -> Training:
    """The training in minibatches called `name` in `PROTOCOLS`; OptionError for an unknown one."""
    known = {name: protocol for name, protocol in PROTOCOLS.items() if isinstance(protocol, Training)}
    if name not in known:
        raise unknown_name("training in minibatches", name, known)
    return known[name]


def with_augment(training: Training, augment: str) -> Training:
    """The training with another augmentation; OptionError for an unknown one."""
    if augment not in AUGMENTS:
        raise unknown_name("augment", augment, AUGMENTS)
    changes: Any = {"augment": augment}
    return dataclasses.replace(training, **changes)


def scratch_protocol(distilled: DistilledData) -> str:
    """The training from scratch of a set: its own, or `PLAIN`."""
    return distilled.protocol.name if distilled.protocol.from_scratch else PLAIN


def misuse(distilled: DistilledData, from_scratch: bool = True) -> str:
    """What a set isn't made for, as a sentence; empty where it may be.

    Args:
        from_scratch: whether it is trained on with minibatches, or by its own steps.
    """
    own = distilled.protocol
    if not from_scratch:
        if not own.from_scratch:
            return ""
        return (
            "The distilled set has no learnt steps, because it was made for training from scratch by the protocol "
            f'{own.name!r}. The step size of "as-distilled" was not learnt here, and may be a bad one.'
        )
    reasons = []
    if own.init == "fixed":
        reasons.append("for one known network")
    if own.pretrained:
        reasons.append("for pretrained networks")
    if own.order == "fixed" and distilled.num_batches > 1:
        reasons.append(f"as {distilled.num_batches} batches in a fixed order")
    if not reasons:
        return ""
    return (
        f"The distilled set was learnt {' and '.join(reasons)}, with its own step sizes. Networks that train on it in "
        'another way may do much worse. The protocol "as-distilled" uses it as it was learnt. To make a set for '
        'shuffled minibatches, learn it with order="random".'
    )
