"""How long an audit takes at least, counted before it starts from the images that its networks are trained on."""

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

from dd_jax.evaluation.protocols import training_of
from dd_jax.inner import Training
from dd_jax.inner.fit import in_epochs, steps_per_epoch
from dd_jax.models import Model
from dd_jax.runs.counted import flops_per_image, rate_of
from dd_jax.runs.scoring import ranked_kinds
from dd_jax.types import Dataset, DistilledData


class Trainings(NamedTuple):
    """Networks that are trained alike.

    Attributes:
        how: as `evaluate` takes a protocol.
        size: real or distilled images that each is trained on.
        num_nets: how many there are.
        epochs: in place of the training's own.
    """

    model: Model
    how: str | Training | None
    size: int
    num_nets: int
    epochs: int | None = None


def images_seen(one: Trainings, distilled: DistilledData) -> int:
    """Images that each of the networks sees: a batch of the set in a learnt step, 0 in a regression."""
    training = training_of(one.how, distilled, one.epochs)
    if training is None:
        return int(distilled.step_sizes.size) * int(distilled.labels.shape[1])
    if not isinstance(training, Training):
        return 0
    training = in_epochs(training, one.size)
    a_pass = steps_per_epoch(training, one.size) * min(training.batch_size, one.size)
    return training.epochs * min(one.size, a_pass)


def least_seconds(planned: Sequence[Trainings], distilled: DistilledData, dataset: Dataset) -> float:
    """Seconds of the gradients of all these trainings, at the rate that the first network's reach here just now.

    Compiling, choosing step sizes for real images and measuring come on top.
    """
    rate, _ = rate_of(planned[0].model, dataset)
    models = {id(one.model): one.model for one in planned}
    flops = {key: flops_per_image(model, dataset) for key, model in models.items()}
    return sum(one.num_nets * images_seen(one, distilled) * flops[id(one.model)] for one in planned) / rate


def of_scores(
    model: Model, distilled: DistilledData, num_real: int, num_nets: int, epochs: int | None, full: Training, rates: int
) -> list[Trainings]:
    """The trainings of DC-BENCH and DD-Ranking: the set and random images, plain and augmented, and on all real images.

    Args:
        num_real: real training images.
        full: the training on all of them.
        rates: learning rates that DD-Ranking chooses from.
    """
    short = Trainings(model, "dc", distilled.num_examples, num_nets, epochs)
    judged = ranked_kinds(distilled) * (rates + 1 if rates > 1 else 1)
    chosen = 2 * 2 * 2  # two sets, two augmentations, on validation and on test
    whole = Trainings(model, dataclasses.replace(full, steps=None), num_real, num_nets)
    return [whole, short._replace(num_nets=num_nets * (judged + chosen))]
