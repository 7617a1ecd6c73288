"""Telling members of a training set from others by what networks say of them: scores, ROC curves, intervals.

Networks are trained in worlds that come in pairs: of all candidates one half are members of the first world of a pair,
the other half of the second one. So every candidate is a member in exactly one world of each pair.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from dd_jax.applications.ranking import LEVEL, Interval
from dd_jax.errors import OptionError
from dd_jax.outcomes.nested import enlarged

NUM_RESAMPLES = 400
RATES = (0.001, 0.01)  # of false positives, at which true ones are told

Scores = Float[np.ndarray, "worlds candidates"]
Members = Bool[np.ndarray, "worlds candidates"]


class Leak(NamedTuple):
    """What an adversary tells of membership, with bootstrap intervals over the pairs of worlds.

    Attributes:
        auc: area under the ROC curve: 0.5 by guessing.
        rates: true positive rate at each of `RATES`.
        curve: (2, P) false and true positive rates of the ROC curve, thinned out.
        num_others: non-members in all worlds together.
    """

    auc: Interval
    rates: tuple[Interval, ...]
    curve: Float[np.ndarray, "2 points"]
    num_others: int

    def is_told(self, rate: float) -> bool:
        """Whether at least one non-member may be taken for a member at a false positive rate."""
        return allowed(rate, self.num_others) >= 1


def halves(labels: Int[np.ndarray, " candidates"], num_worlds: int, seed: int) -> Members:
    """Who is a member where: (W, N), of each class exactly one half in every world, and the other half in its partner.

    Raises:
        OptionError: for an odd number of worlds or fewer than six, or a class with an odd number of candidates.
    """
    if num_worlds < 6 or num_worlds % 2:
        raise OptionError(f"num_worlds must be even and at least 6, because worlds come in pairs, but is {num_worlds}.")
    generator = np.random.default_rng((seed, 11))
    members = np.zeros((num_worlds, len(labels)), bool)
    for first in range(0, num_worlds, 2):
        for c in np.unique(labels):
            mine = generator.permutation(np.flatnonzero(labels == c))
            if len(mine) % 2:
                raise OptionError(
                    f"Each class needs an even number of candidates, to be halved, but class {c} has {len(mine)}."
                )
            members[first, mine[: len(mine) // 2]] = True
        members[first + 1] = ~members[first]
    return members


def confidences(logits: Float[np.ndarray, "... classes"], labels: Int[np.ndarray, " candidates"]) -> np.ndarray:
    """Log p / (1 - p) of the true class, (..., N): near a normal distribution, and in the order of the loss.

    Source: Carlini et al. 2022, section 5.
    """
    logits = np.asarray(logits, np.float64)
    own = np.take_along_axis(logits, np.broadcast_to(labels, logits.shape[:-1])[..., None], -1)[..., 0]
    others = np.where(np.eye(logits.shape[-1], dtype=bool)[labels], -np.inf, logits)
    top = others.max(-1)
    return own - top - np.log(np.exp(others - top[..., None]).sum(-1))


def likelihood_ratios(found: Scores, members: Members) -> Scores:
    """LiRA: log N(x; in) - log N(x; out) of each candidate and world, by the worlds of all other pairs.

    Means are those of the candidate in the worlds where it is a member, and where it is not; standard deviations are
    shared by all candidates, as there are few worlds. The world itself and its partner are left out, so that as many
    worlds stand on both sides: without leakage the ratios of a world then say nothing of who was a member in it. Over
    all worlds at once the same candidate in two of them is left, one in N of the comparisons of a ROC curve.

    Source: Carlini et al. 2022, algorithm 1 (online) with fixed variance.
    """
    ratios = np.zeros_like(found)
    for first in range(0, len(found), 2):
        rest = np.delete(np.arange(len(found)), [first, first + 1])
        inside, outside = (_moments(found[rest], chosen) for chosen in (members[rest], ~members[rest]))
        for world in (first, first + 1):
            ratios[world] = _log_density(found[world], *inside) - _log_density(found[world], *outside)
    return ratios


def leak(scores: Scores, members: Members, seed: int = 0) -> Leak:
    """How well scores tell members, over all worlds and candidates.

    The interval is that of a bootstrap over the pairs of worlds, widened because these are few, see `enlarged`.
    """
    pairs = len(scores) // 2
    drawn = np.random.default_rng((seed, pairs)).integers(0, pairs, (NUM_RESAMPLES, pairs))
    worlds = np.stack([2 * drawn, 2 * drawn + 1], -1).reshape(NUM_RESAMPLES, -1)
    measures = np.array([_measures(scores[chosen], members[chosen]) for chosen in worlds])
    values = np.array(_measures(scores, members))
    wider = values + (np.quantile(measures, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0) - values) * enlarged(
        pairs, LEVEL
    )
    low, high = np.clip(wider, 0, 1)
    intervals = [Interval(*map(float, ends)) for ends in zip(values, low, high, strict=True)]
    false, true = roc(scores, members)
    points = np.unique(np.concatenate([np.geomspace(1, len(false), 200).astype(int) - 1, [len(false) - 1]]))
    curve = np.stack([false[points], true[points]])
    return Leak(intervals[0], tuple(intervals[1:]), curve, int((~members).sum()))


def allowed(rate: float, num_others: int) -> float:
    """Non-members that a false positive rate allows to be taken for members; rounded, as 0.001 of 1,000 are one."""
    return round(rate * num_others, 9)


def roc(scores: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates (P,) of all thresholds, from the highest one; equal scores are one threshold."""
    order = np.argsort(-scores, axis=None, kind="stable")
    values, hits = scores.ravel()[order], members.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(values)), len(values) - 1)
    true, false = np.cumsum(hits)[last], np.cumsum(~hits)[last]
    return np.append(0, false / max(1, false[-1])), np.append(0, true / max(1, true[-1]))


def area(false: np.ndarray, true: np.ndarray) -> float:
    """The area under a ROC curve."""
    return float(np.trapezoid(true, false))


def rate_at(false: np.ndarray, true: np.ndarray, most: float) -> float:
    """The highest true positive rate with at most so many false ones."""
    return float(true[np.searchsorted(false, most, side="right") - 1])


def _measures(scores: np.ndarray, members: np.ndarray) -> list[float]:
    curve = roc(scores, members)
    return [area(*curve), *(rate_at(*curve, rate) for rate in RATES)]


def _moments(found: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, float]:
    """The mean of each candidate where it was chosen, and the standard deviation of all from these."""
    counts = chosen.sum(0)
    means = np.where(chosen, found, 0).sum(0) / counts
    squares = np.where(chosen, (found - means) ** 2, 0).sum()
    return means, float(np.sqrt(squares / max(1, (counts - 1).sum()) + 1e-12))


def _log_density(x: np.ndarray, mean: np.ndarray, std: float) -> np.ndarray:
    return -0.5 * ((x - mean) / std) ** 2 - np.log(std)


Rule = Callable[[Scores, Members], Scores]


def by_loss(found: Scores, members: Members) -> Scores:
    """The higher the confidence in the true class, the likelier a member (Yeom et al. 2018)."""
    del members
    return found


ADVERSARIES: dict[str, Rule] = {"loss threshold": by_loss, "LiRA": likelihood_ratios}
