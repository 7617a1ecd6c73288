"""A distilled set on other networks and under other augmentations, each time beside random real images (DC-BENCH)."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from dd_jax.errors import OptionError
from dd_jax.evaluation.baselines import iterate_baselines
from dd_jax.evaluation.evaluate import evaluate
from dd_jax.evaluation.protocols import minibatches, with_augment
from dd_jax.evaluation.result import Evaluation
from dd_jax.inner import Regression, Training
from dd_jax.models import Model
from dd_jax.types import Dataset, DistilledData

_CHOOSING_SEED = 5_000_011  # of networks that an augmentation is chosen with; they are not reported


class Compared(NamedTuple):
    """A distilled set and as many random real images, used in the same way; both on the test split."""

    distilled: Evaluation
    random_real: Evaluation


@dataclasses.dataclass(frozen=True)
class Transfer:
    """A set on several networks.

    Attributes:
        results: by the name of the network.
        num_bytes: what the set takes to store, see `storage_bytes`.
    """

    results: Mapping[str, Compared]
    num_bytes: int

    @property
    def mean(self) -> float:
        """Mean over the networks of the accuracies of the distilled set, as a fraction: the transfer average."""
        return float(np.mean([found.distilled.mean for found in self.results.values()]))

    @property
    def random_mean(self) -> float:
        """The same of random real images."""
        return float(np.mean([found.random_real.mean for found in self.results.values()]))


@dataclasses.dataclass(frozen=True)
class DCBench:
    """What DC-BENCH tells of a set.

    Attributes:
        results: by augmentation.
        chosen: the one that is best on validation.
        transfer: on the other networks, under that one; None where there are none.
        num_bytes: as of `Transfer`.
    """

    results: Mapping[str, Compared]
    chosen: str
    transfer: Transfer | None
    num_bytes: int

    @property
    def best(self) -> float:
        """Accuracy on test under the augmentation that is best on validation, as a fraction."""
        return self.results[self.chosen].distilled.mean

    @property
    def average(self) -> float:
        """Mean accuracy on test over the augmentations."""
        return float(np.mean([found.distilled.mean for found in self.results.values()]))

    @property
    def random_average(self) -> float:
        """The same of random real images."""
        return float(np.mean([found.random_real.mean for found in self.results.values()]))


def storage_bytes(distilled: DistilledData) -> int:
    """Bytes of a set as it is in memory: learnt arrays, labels (hard or soft) and step sizes.

    For images that are made of others, such as several from each stored one, only the stored ones count. A graph counts
    its features and its adjacency, or the weights of the perceptron that makes the adjacency.
    """
    return sum(array.size * array.dtype.itemsize for array in distilled.arrays.values())


def compared(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    protocol: str | Training | Regression | None = None,
    num_nets: int = 5,
    num_sets: int = 5,
    seed: int = 0,
) -> Compared:
    """The set and `num_sets` random sets of its size, each kind on `num_nets` networks, by the same protocol.

    Args:
        protocol: as for `evaluate`. Raises what that raises.
    """
    own = evaluate(distilled, model, dataset, num_nets=num_nets, num_curve_nets=0, protocol=protocol)
    options: dict[str, Any] = {"num_nets": num_nets, "num_sets": num_sets, "seed": seed, "protocol": protocol}
    found = dict(iterate_baselines(distilled, model, dataset, names=["random real"], **options))
    return Compared(own, found["random real"].evaluation)


def cross_architecture(
    distilled: DistilledData,
    models: Mapping[str, Model],
    dataset: Dataset,
    *,
    protocol: str | Training | Regression | None = None,
    num_nets: int = 5,
    num_sets: int = 5,
    seed: int = 0,
) -> Transfer:
    """Measure a distilled set on several networks, each beside random real images under the same protocol.

    Args:
        models: networks, by their names in the result.
        protocol: as for `evaluate`. None: the set's own.
        num_nets, num_sets: networks of each kind, and random sets that they are spread over.

    Raises:
        OptionError: without a network, and what `evaluate` raises.

    Source: Zhao et al. 2021, table 2 (cross-architecture generalisation).
    """
    if not models:
        raise OptionError(
            'models is empty. Give at least one network by name, such as {"lenet": dd.models.lenet(data)}.'
        )
    results = {
        name: compared(distilled, model, dataset, protocol, num_nets, num_sets, seed) for name, model in models.items()
    }
    return Transfer(results, storage_bytes(distilled))


def dc_bench(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    others: Mapping[str, Model] | None = None,
    augments: Sequence[str] = ("none", "dsa", "auto_augment", "rand_augment", "imagenet"),
    epochs: int | None = None,
    num_nets: int = 5,
    num_sets: int = 5,
    seed: int = 0,
) -> DCBench:
    """Best and average accuracy of a set over augmentations, and its transfer to other networks.

    Networks are trained from scratch: 300 epochs without augmentation (the protocol "dc"), 1,000 with one ("dc-bench").

    Args:
        others: networks for the transfer average, by name; they are trained under the augmentation that is best on
            validation for `model`. DC-BENCH's own best is the best on test.
        augments: as for `Training`; by default those of DC-BENCH. Digits want "dsa_no_flip" in place of "dsa", and no
            "imagenet", which mirrors them. DC-BENCH draws a policy's changes once for a whole minibatch, here each
            image has its own; and it takes another AutoAugment for Tiny ImageNet. Its correlation of architecture
            search is not among the scores.
        epochs: in place of both numbers.
        num_nets, num_sets: as for `cross_architecture`.

    Raises:
        OptionError: for an unknown augmentation or none, and what `evaluate` raises.

    Source: Cui et al. 2022, *DC-BENCH*, sections 3 and 4, and the released evaluator.
    """
    if not augments:
        raise OptionError('augments is empty. Give at least "none".')
    trainings = {augment: _training(augment, epochs) for augment in augments}
    scores = {
        augment: evaluate(
            distilled,
            model,
            dataset,
            num_nets=num_nets,
            split="validation",
            seed=_CHOOSING_SEED,
            num_curve_nets=0,
            protocol=training,
        ).mean
        for augment, training in trainings.items()
        if len(trainings) > 1
    }
    chosen = max(scores, key=lambda augment: scores[augment]) if scores else augments[0]
    results = {
        augment: compared(distilled, model, dataset, training, num_nets, num_sets, seed)
        for augment, training in trainings.items()
    }
    options: dict[str, Any] = {"protocol": trainings[chosen], "num_nets": num_nets, "num_sets": num_sets, "seed": seed}
    transfer = cross_architecture(distilled, others, dataset, **options) if others else None
    return DCBench(results, chosen, transfer, storage_bytes(distilled))


def _training(augment: str, epochs: int | None) -> Training:
    base = with_augment(minibatches("dc" if augment == "none" else "dc-bench"), augment)
    return base if epochs is None else dataclasses.replace(base, epochs=epochs)
