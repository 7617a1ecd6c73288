"""DD-Ranking's scores: how much of an accuracy is the images', and not that of labels or augmentation.

All accuracies are fractions. With per cent the exponential leaves [0, 1] at once, so what isn't a fraction is refused.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, random_images
from dd_jax.evaluation.embeddings import trained_networks
from dd_jax.evaluation.evaluate import evaluate, evaluate_networks
from dd_jax.evaluation.protocols import minibatches, with_augment
from dd_jax.evaluation.result import Evaluation, concatenated
from dd_jax.evaluation.transfer import storage_bytes
from dd_jax.inner import Training
from dd_jax.models import Model
from dd_jax.seeds import check_seed
from dd_jax.types import Dataset, DistilledData, Networks, Protocol

RATES = (0.001, 0.005, 0.01, 0.05, 0.1)  # that DD-Ranking searches

_SEED, _CHOOSING_SEED = 1_000_003, 5_000_011


def robust_score(difference: float) -> float:
    """(e^x - e^-1) / (e - e^-1): from -1 to 0, from 0 to 0.269, from 1 to 1.

    Raises:
        OptionError: for an x outside of [-1, 1]: accuracies are fractions here.
    """
    if not -1 <= difference <= 1:
        raise OptionError(f"A score takes a difference of two fractions, from -1 to 1, but found {difference}.")
    return (math.exp(difference) - math.exp(-1)) / (math.e - math.exp(-1))


def hard_label_recovery(full: float, distilled_hard: float) -> float:
    """HLR: what is missing to the full training set, with hard labels on both sides; the smaller the better.

    Raises:
        OptionError: for accuracies that are no fractions.
    """
    return _fraction(full) - _fraction(distilled_hard)


def improvement_over_random(distilled: float, random: float) -> float:
    """IOR: what a set has over random real images by the same protocol, with the same kind of labels.

    Raises as `hard_label_recovery` does.
    """
    return _fraction(distilled) - _fraction(random)


def label_robust_score(
    full: float, distilled_hard: float, distilled: float, random: float, weight: float = 0.5
) -> float:
    """LRS: `robust_score` of alpha = w IOR - (1 - w) HLR.

    Args:
        full, distilled_hard: accuracies with hard labels.
        distilled, random: with the set's own kind of labels.
        weight: w. Raises OptionError for accuracies or a weight that are no fractions.

    Source: Li et al. 2025, *DD-Ranking*, with accuracies as fractions, as its formula needs them.
    """
    improvement = improvement_over_random(distilled, random)
    recovery = hard_label_recovery(full, distilled_hard)
    return robust_score(_fraction(weight) * improvement - (1 - weight) * recovery)


def augmentation_robust_score(
    distilled_augmented: float, random_augmented: float, distilled: float, random: float, weight: float = 0.5
) -> float:
    """ARS: `robust_score` of beta = g IOR with augmentation + (1 - g) IOR without.

    Args:
        weight: g. Raises and source as of `label_robust_score`.
    """
    augmented = improvement_over_random(distilled_augmented, random_augmented)
    return robust_score(_fraction(weight) * augmented + (1 - weight) * improvement_over_random(distilled, random))


@dataclasses.dataclass(frozen=True)
class DDRanking:
    """What the two scores are made of, on the test split, and the scores.

    Attributes:
        full: networks trained on the whole training split.
        hard: on the set with hard labels.
        distilled, random_real: with the set's own kind of labels, without augmentation.
        distilled_augmented, random_augmented: with it.
        rates: the learning rates that validation chose.
        num_bytes: what the set takes to store, labels included.
        label_weight, augment_weight: w and g.
    """

    full: Evaluation
    hard: Evaluation
    distilled: Evaluation
    random_real: Evaluation
    distilled_augmented: Evaluation
    random_augmented: Evaluation
    rates: dict[str, float]
    num_bytes: int
    label_weight: float = 0.5
    augment_weight: float = 0.5

    @property
    def hlr(self) -> float:
        """What is missing to the full training set, as a fraction."""
        return hard_label_recovery(self.full.mean, self.hard.mean)

    @property
    def ior(self) -> float:
        """What the set has over random real images, as a fraction."""
        return improvement_over_random(self.distilled.mean, self.random_real.mean)

    @property
    def lrs(self) -> float:
        """The label-robust score, in [0, 1]."""
        accuracies = self.full.mean, self.hard.mean, self.distilled.mean, self.random_real.mean
        return label_robust_score(*accuracies, self.label_weight)

    @property
    def ars(self) -> float:
        """The augmentation-robust score, in [0, 1]."""
        augmented = self.distilled_augmented.mean, self.random_augmented.mean
        return augmentation_robust_score(*augmented, self.distilled.mean, self.random_real.mean, self.augment_weight)


def dd_ranking(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    *,
    augment: str = "dsa",
    training: Training | None = None,
    full_training: Training | None = None,
    rates: Sequence[float] = RATES,
    num_nets: int = 5,
    num_sets: int = 5,
    label_weight: float = 0.5,
    augment_weight: float = 0.5,
    seed: int = 0,
) -> DDRanking:
    """Measure what DD-Ranking's scores need: the set, with hard and with its own labels, random real images, all data.

    Random real images have hard labels, and where the set's are soft, those of a network trained on the whole training
    split. DD-Ranking's IOR may have augmentation; here it hasn't, so that LRS is about labels and ARS about that.

    Args:
        augment: as for `Training`; digits want "dsa_no_flip".
        training: from scratch on the small sets; None for "dc" (300 epochs of SGD). Its augmentation is not used.
        full_training: on the whole training split; None for Adam over 150,000 images or more.
        rates: learning rates, of which validation chooses for each kind of set and augmentation; each is compiled anew.
        num_nets, num_sets: networks of each kind, and random sets that they are spread over.

    Raises:
        OptionError: for a bad option, and what `evaluate` raises.

    Source: Li et al. 2025, *DD-Ranking*, and the released code (its learning rates; 300 epochs; 5 networks).
    """
    if not rates or num_nets < 1 or num_sets < 1:
        raise OptionError(
            "dd_ranking needs at least one learning rate, one network and one random set, but "
            f"found rates={tuple(rates)}, num_nets={num_nets}, num_sets={num_sets}."
        )
    seed = check_seed(seed)
    training = training or minibatches("dc")
    _check_weights(label_weight, augment_weight)
    plain, changed = (with_augment(dataclasses.replace(training, cutmix=False), kind) for kind in ("none", augment))
    networks = trained_networks(model, dataset, num_nets, seed, full_training)
    randoms = _random_sets(distilled, model, dataset, networks, num_sets, seed)
    soft = distilled.labels.ndim == 3
    hard = dataclasses.replace(distilled, labels=jnp.argmax(distilled.labels, -1)) if soft else distilled

    chosen: dict[str, float] = {}

    def judged(name: str, sets: list[DistilledData], how: Training) -> Evaluation:
        per_set = max(1, num_nets // len(sets))

        def measured(rate: float, split: str, first_seed: int) -> Evaluation:
            options: dict[str, Any] = {"num_nets": per_set, "split": split, "num_curve_nets": 0}
            protocol = dataclasses.replace(how, learning_rate=rate)
            return concatenated(
                [
                    evaluate(one, model, dataset, seed=first_seed + 7919 * i, protocol=protocol, **options)
                    for i, one in enumerate(sets)
                ]
            )

        scores = {rate: measured(rate, "validation", _CHOOSING_SEED).mean for rate in rates if len(rates) > 1}
        chosen[name] = max(scores, key=lambda rate: scores[rate]) if scores else rates[0]
        return measured(chosen[name], "test", _SEED)

    own = judged("distilled", [distilled], plain)
    return DDRanking(
        full=evaluate_networks(networks, model, dataset),
        hard=judged("hard", [hard], plain) if soft else own,
        distilled=own,
        random_real=judged("random_real", randoms, plain),
        distilled_augmented=judged("distilled_augmented", [distilled], changed),
        random_augmented=judged("random_augmented", randoms, changed),
        rates=chosen,
        num_bytes=storage_bytes(distilled),
        label_weight=label_weight,
        augment_weight=augment_weight,
    )


def _random_sets(
    distilled: DistilledData, model: Model, dataset: Dataset, networks: Networks, count: int, seed: int
) -> list[DistilledData]:
    """Sets of random real images of the shape of a distilled one; with soft labels, those of the first network."""
    shape = SetShape.of(distilled, dataset.num_classes)
    protocol = Protocol(name="dc", order="random")
    made = [
        as_distilled(random_images(dataset, shape.per_class, seed + i), shape, 0.01, protocol) for i in range(count)
    ]
    made = [dataclasses.replace(one, transform=dataset.transform, class_names=dataset.class_names) for one in made]
    if distilled.labels.ndim < 3:
        return made
    teacher = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), networks)

    def told(images: jax.Array) -> jax.Array:
        flat = images.reshape(-1, *images.shape[2:])
        return jax.nn.softmax(model.apply(teacher, flat)).reshape(*images.shape[:2], -1)

    return [dataclasses.replace(one, labels=told(one.images)) for one in made]


def _check_weights(*weights: float) -> None:
    """Before anything is computed."""
    for weight in weights:
        _fraction(weight)


def _fraction(value: float) -> float:
    if not (np.isfinite(value) and 0 <= value <= 1):
        raise OptionError(
            f"Accuracies and weights should be fractions from 0 to 1, but found {value}. Divide per cent by 100."
        )
    return float(value)
