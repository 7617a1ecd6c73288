"""Sets of real images beside a distilled one: how they are made, trained on, and chosen between on validation."""

import dataclasses
import functools
from typing import Any, NamedTuple

import numpy as np

from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled, is_only_one
from dd_jax.evaluation.embeddings import trained_features
from dd_jax.evaluation.evaluate import evaluate
from dd_jax.evaluation.protocols import PROTOCOLS, training_of
from dd_jax.evaluation.result import Evaluation, concatenated
from dd_jax.inner import Regression, Training
from dd_jax.models import Model
from dd_jax.outcomes import Outcome, Values, outcome_of
from dd_jax.types import Dataset, DistilledData, Pretrained, Protocol

STEP_SIZES = (0.003, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CANDIDATE_NETS = 5  # networks that one random set is tried on
MOMENTA = (0.0, 0.5, 0.9)  # where the steps that are compared with have momentum
SELECTION_SEED = 4_000_037  # networks that choices are made with: neither trained with nor reported on

_TEST_SEED = 1_000_003  # networks that results are measured with: those of `evaluate`
_NEXT_SET = 7919  # between the seeds of two sets
_SELECTION_NETS = 5  # pretrained networks that choices are made with ...
_SIZE_SETS = 3  # ... and sets that the step size is, where each is tried on all of them
_SIZE_NETS = 10  # networks that a step size is tried on, those from scratch spread over the sets

# From scratch: sets of real images have no order, and aren't for one network.
_FREE: dict[str, Any] = {"init": "random", "order": "random", "rule": "sgd"}


class Step(NamedTuple):
    """What each step on a set of real images is: its size and momentum."""

    size: float
    momentum: float = 0.0


@dataclasses.dataclass(frozen=True, eq=False)
class Contest:
    """What sets of real images are compared with, and by which rules.

    Attributes:
        protocol: how networks are trained on the sets.
        pretrained: what they start from, if not at random.
        num_nets: networks of a result.
        num_sets: random sets of one kind.
        same_bytes: whether the sets have as many bytes as the distilled one, in place of as many images.
        made: sets that were made, kept.
    """

    distilled: DistilledData
    model: Model
    dataset: Dataset
    protocol: str | Training | Regression
    pretrained: Pretrained | None
    num_nets: int
    num_sets: int
    seed: int
    same_bytes: bool = False
    made: dict[tuple[str, int], list[Any]] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def outcome(self) -> Outcome:
        """What success means for the sets."""
        return outcome_of(self.distilled.protocol)

    @functools.cached_property
    def shape(self) -> SetShape:
        """The shape of the sets."""
        if self.same_bytes:
            return SetShape.of_bytes(self.distilled, self.dataset)
        return SetShape.of(self.distilled, self.dataset.num_classes)

    @functools.cached_property
    def training(self) -> Training | Regression | None:
        """The training from scratch that the protocol means; None for learnt steps."""
        return training_of(self.protocol, self.distilled)

    @functools.cached_property
    def own(self) -> Protocol:
        """How the sets are used."""
        free = {} if self.training is None else _FREE
        return dataclasses.replace(self.distilled.protocol, **free)

    @functools.cached_property
    def leaves_size_open(self) -> bool:
        """Whether a step size is to be chosen: a training from scratch may have one."""
        training = PROTOCOLS[self.protocol] if self.training and isinstance(self.protocol, str) else self.protocol
        return self.training is None or (isinstance(training, Training) and training.learning_rate is None)

    @functools.cached_property
    def features(self) -> np.ndarray:
        """Features of the training images, by a network that was trained on them."""
        return trained_features(self.model, self.dataset, self.seed)

    @functools.cached_property
    def before(self) -> Values:
        """What is measured on validation before any step."""
        return measured_before(self, _SELECTION_NETS, "validation").values


def measured_before(contest: Contest, num_nets: int, split: str = "test") -> Evaluation:
    """The networks as they start."""
    return evaluate(
        contest.distilled,
        contest.model,
        contest.dataset,
        num_nets=num_nets,
        num_epochs=0,
        split=split,
        pretrained=contest.pretrained,
        part="held_out" if split == "test" else "selection",
        num_curve_nets=0,
    )


def sets(contest: Contest, name: str, count: int) -> list[Any]:
    """`count` sets of a name in `MAKERS`, or the only one that there is: images (K, M, H, W, C)."""
    count = 1 if is_only_one(name, contest.shape.per_class) else count
    if (name, count) not in contest.made:
        vectors = {"vectors": contest.features} if name.endswith("features") else {}
        contest.made[name, count] = [
            MAKERS[name](contest.dataset, contest.shape.per_class, contest.seed + i, **vectors) for i in range(count)
        ]
    return contest.made[name, count]


def trained(contest: Contest, candidates: list[Any], step: Step, split: str, num_nets: int | None = None) -> Evaluation:
    """Networks trained on each of the candidates, as one evaluation.

    Args:
        num_nets: spread over the candidates or, of pretrained networks, for each of them; None for those of a result.
    """
    choosing, form = split == "validation", contest.distilled.parameterisation
    num_nets = num_nets or contest.num_nets
    per_set = max(1, num_nets // len(candidates))
    if contest.pretrained is not None:
        per_set = _SELECTION_NETS if choosing else num_nets
    return concatenated(
        [
            evaluate(
                as_distilled(images, contest.shape, step.size, contest.own, form, step.momentum),
                contest.model,
                contest.dataset,
                num_nets=per_set,
                split=split,
                seed=(SELECTION_SEED if choosing else _TEST_SEED) + _NEXT_SET * i,
                pretrained=contest.pretrained,
                part="selection" if choosing else "held_out",
                num_curve_nets=0,
                protocol=contest.protocol,
            )
            for i, images in enumerate(candidates)
        ]
    )


def merit(contest: Contest, candidates: list[Any], step: Step, num_nets: int) -> float:
    """What candidates are worth on validation."""
    found = trained(contest, candidates, step, "validation", num_nets)
    return contest.outcome.merit(found.values, lambda: contest.before)


def _steps(contest: Contest) -> list[Step]:
    """The steps that are chosen of."""
    momenta = MOMENTA if contest.own.rule == "momentum" else (0.0,)
    return [Step(size, momentum) for momentum in momenta for size in STEP_SIZES]


def best_step(contest: Contest, candidates: list[Any]) -> Step:
    """The step with which candidates are worth most on validation."""
    if not contest.leaves_size_open:
        return Step(STEP_SIZES[0])  # not used
    few = candidates if contest.pretrained is None else candidates[:_SIZE_SETS]
    worth = {step: merit(contest, few, step, _SIZE_NETS) for step in _steps(contest)}
    return max(worth, key=lambda step: worth[step])


def trainings(contest: Contest, name: str, candidates: int) -> int:
    """How many networks are trained on sets of a name: to choose the step, and for the result.

    Args:
        candidates: random sets that the best is chosen of.
    """

    def on(num_sets: int, num_nets: int, choosing: bool) -> int:
        if contest.pretrained is not None:
            return num_sets * (_SELECTION_NETS if choosing else num_nets)
        return num_sets * (1 if contest.own.init == "fixed" else max(1, num_nets // num_sets))

    best = name == "best of random"
    num_sets = contest.num_sets if best or not is_only_one(name, contest.shape.per_class) else 1
    few = num_sets if contest.pretrained is None else min(num_sets, _SIZE_SETS)
    count = len(_steps(contest)) * on(few, _SIZE_NETS, True) if contest.leaves_size_open else 0
    if best:
        return count + candidates * on(1, CANDIDATE_NETS, True) + on(1, contest.num_nets, False)
    return count + on(num_sets, contest.num_nets, False)
