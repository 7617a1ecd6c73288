"""What an audit found, and what it says in words."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from dd_jax.evaluation.lengths import Length
from dd_jax.evaluation.protocols import PLAIN
from dd_jax.outcomes.spread import Spread, difference, percent, sample, spread_of
from dd_jax.types import AS_DISTILLED

OWN, SCRATCH, BYTES, NETWORKS = "own protocol", "from scratch", "same bytes", "other networks"  # parts, in order
SET = "the set"
ALL_DATA = "full training set"


class Row(NamedTuple):
    """Networks trained on something, in one part of an audit.

    Attributes:
        name: what they were trained on.
        accuracies: on test, one for each network.
        size: images or nodes that they were trained on.
        num_bytes: that these take to store.
        length: of their training.
    """

    part: str
    name: str
    network: str
    accuracies: tuple[float, ...]
    size: int
    num_bytes: int
    length: Length

    @property
    def spread(self) -> Spread:
        """Over the networks."""
        return spread_of(self.accuracies)


@dataclasses.dataclass(frozen=True)
class Audit:
    """A set beside real images.

    Attributes:
        name, size: of the set, in words.
        model: the network that the set is for, by name and settings.
        protocol: its own.
        num_bytes: that it takes to store, labels included.
        soft: whether its labels are soft.
        rows: all that was measured.
        scores: "dc-bench" and "dd-ranking", as far as they were measured, each with the "lengths" of its trainings.
        notes: what was left out, and why.
    """

    name: str
    size: str
    dataset: str
    model: Mapping[str, Any]
    protocol: str
    num_bytes: int
    soft: bool
    rows: tuple[Row, ...]
    scores: Mapping[str, Any]
    notes: tuple[str, ...]

    def part(self, name: str) -> list[Row]:
        """The rows of a part, in order."""
        return [row for row in self.rows if row.part == name]

    @property
    def shortened(self) -> list[str]:
        """Trainings with another number of epochs than their protocols have, each once, in words."""
        found = {f"{row.part}: {row.length}": None for row in self.rows if row.length.changed}
        of_scores = {
            f"{name}, {kind}: {length}": None
            for name, score in self.scores.items()
            for kind, length in score.get("lengths", {}).items()
            if length.changed
        }
        return [*found, *of_scores]

    @property
    def good_for(self) -> list[str]:
        """Uses in which the set is better than all real images of the same number, or of the same bytes."""
        return [use for use, better in self._uses() if better]

    @property
    def no_better_for(self) -> list[str]:
        """Uses in which some real images do as well or better, as far as can be told."""
        return [use for use, better in self._uses() if not better]

    def _uses(self) -> list[tuple[str, bool]]:
        found = []
        own, scratch = (next((row for row in self.part(part) if row.name == SET), None) for part in (OWN, SCRATCH))
        for part, ours in ((OWN, own), (SCRATCH, scratch), (BYTES, scratch or own)):
            rivals = _rivals(self.part(part))
            if ours is not None and rivals:
                use = f"training {ours.network} {self._by(part, (rivals if part == BYTES else [ours])[0].length)}"
                found.append((use, all(_better(ours.spread, rival.spread) for rival in rivals)))
        for network, (ours, rival) in self._networks().items():
            use = f"training another network, {network} ({self._scratch(ours.length)})"
            found.append((use, _better(ours.spread, rival.spread)))
        return found

    def _networks(self) -> dict[str, tuple[Row, Row]]:
        """The set and random real images on each other network."""
        rows = self.part(NETWORKS)
        return {ours.network: (ours, rival) for ours, rival in zip(rows[::2], rows[1::2], strict=True)}

    def sentences(self) -> list[str]:
        """What the set is good for, and where it is not better than real images."""
        said = []
        for part in (OWN, SCRATCH):
            rows = self.part(part)
            if rows:
                said.append(_beside(rows[0], _rivals(rows), self._by(part, rows[0].length)))
        same_bytes = self.part(BYTES)
        if same_bytes:
            ours = (self.part(SCRATCH) or self.part(OWN))[0]
            best = max(same_bytes, key=lambda row: row.spread.mean)
            said.append(
                f"In as many bytes ({self.num_bytes:,}) there is room for {best.size} real ones, of which the best "
                f"({best.name}, {self._scratch(best.length)}) give {percent(best.spread)}: "
                f"{_verdict(ours.spread, best.spread)}."
            )
        networks = self._networks()
        if networks:
            better = [n for n, (ours, rival) in networks.items() if _better(ours.spread, rival.spread)]
            rest = [n for n in networks if n not in better]
            length = next(iter(networks.values()))[0].length
            first = f"better than random real ones on {_listed(better)}" if better else ""
            second = f"not better than random real ones on {_listed(rest)}" if rest else ""
            told = "; ".join(part for part in (first, second) if part)
            said.append(f"On other networks ({self._scratch(length)}) it is {told}.")
        said += [self._in_short()]
        return said

    def _by(self, part: str, length: Length) -> str:
        """How networks were trained in a part, with how long."""
        if part == OWN:
            name = "" if self.protocol == AS_DISTILLED else f"{self.protocol!r}, "
            return f"by its own protocol ({name}{length})"
        return f"{'from scratch' if part == SCRATCH else 'in the same bytes'} ({self._scratch(length)})"

    def _scratch(self, length: Length) -> str:
        """The training from scratch, with how long it was."""
        name = PLAIN if self.protocol == AS_DISTILLED else self.protocol
        return f"{name!r}, {length}"

    def _in_short(self) -> str:
        good = _listed(self.good_for)
        if not self.good_for:
            return "In short: real images do as well, or better, in everything that was measured."
        rest = f"Not better than real ones for {_listed(self.no_better_for)}." if self.no_better_for else ""
        return f"In short: good for {good}. {rest}".strip()


def _rivals(rows: Sequence[Row]) -> list[Row]:
    """Real images of the same number."""
    return [row for row in rows if row.name not in (SET, ALL_DATA)]


def _beside(ours: Row, rivals: Sequence[Row], how: str) -> str:
    best = max(rivals, key=lambda row: row.spread.mean)
    random = next((row for row in rivals if row.name == "random real"), best)
    also = "" if best is random else f", the best of the others ({best.name}) {percent(best.spread)}"
    return (
        f"{how[0].upper()}{how[1:]}, it gives {percent(ours.spread)} ({ours.network}, {sample(ours.spread)}); as many "
        f"random real ones give {percent(random.spread)}{also}: {_verdict(ours.spread, best.spread)}."
    )


def _better(ours: Spread, theirs: Spread) -> bool:
    gap = difference(ours, theirs)
    return gap.points > 0 and gap.real


def _verdict(ours: Spread, theirs: Spread) -> str:
    gap = difference(ours, theirs)
    if gap.noise is not None and not gap.real:
        return f"a difference of {gap.points:+.1f} points, within the noise of ± {gap.noise:.1f}"
    chance = ", with one network of each, so that nobody knows how much of it is chance" if gap.noise is None else ""
    return f"{abs(gap.points):.1f} points {'more' if gap.points > 0 else 'less'}{chance}"


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else "nothing"
