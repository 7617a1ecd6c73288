"""An audit of a distilled set: what it is good for, beside real images by the same training, and where it is not.

The set is measured by its own protocol, from scratch, on other networks, and by published scores; beside it stand
random real images and coresets of the same number and, where that is another number, of the same bytes.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dd_jax import models
from dd_jax.applications.audit_plan import Trainings, least_seconds, of_scores
from dd_jax.applications.audit_result import ALL_DATA, BYTES, NETWORKS, OWN, SCRATCH, SET, Audit, Row
from dd_jax.applications.memories import FREE, images_of_bytes
from dd_jax.applications.records import Records
from dd_jax.errors import OptionError, check_at_least, unknown_name
from dd_jax.evaluation import Evaluation, dc_bench, dd_ranking, evaluate, iterate_baselines, storage_bytes
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled, is_only_one
from dd_jax.evaluation.embeddings import passes
from dd_jax.evaluation.lengths import Length, length_of
from dd_jax.evaluation.protocols import minibatches, scratch_protocol
from dd_jax.evaluation.result import concatenated
from dd_jax.evaluation.scores import label_robust_score
from dd_jax.inner import Training
from dd_jax.models import Model
from dd_jax.outcomes import outcome_of
from dd_jax.runs.estimates import duration
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.load_run import protocol_named
from dd_jax.runs.progress import note
from dd_jax.runs.report import amounts
from dd_jax.runs.scoring import bench_lengths, plain_bench, plain_ranking, ranking_lengths
from dd_jax.seeds import check_seed
from dd_jax.types import Dataset, DistilledData

RANDOM = "random real"
_OTHERS = {"image": ("mlp", "convnet:width=32,depth=2"), "node": ("sgc", "appnp")}  # networks, by what a set has
_SCORES = ("scores of DC-BENCH", "scores of DD-Ranking")
_PARTS = {"full": ALL_DATA, "hard": SET, "distilled": SET, "random_real": RANDOM}  # of a graph's score, by row
_SEED = 11_000_027  # of networks trained on real images of the same bytes


@dataclasses.dataclass(frozen=True)
class AuditOptions:
    """What a set is measured beside, and how often."""

    models: tuple[str, ...] | None = None
    """Other networks, with settings after a colon. None: an MLP and a ConvNet, or SGC and APPNP for graphs."""
    coresets: tuple[str, ...] = ("herding", "k-center", "k-means")
    """Sets of real images to measure besides random images and class means: any of `dd-jax baselines` that is a set."""
    num_nets: int = 5
    """Networks of each kind."""
    num_sets: int = 5
    """Random sets to spread the networks over."""
    epochs: int | None = None
    """Passes through the images, in place of the number of trainings from scratch."""
    scores: bool = True
    """Measure DC-BENCH's and DD-Ranking's scores, for a set of images."""
    rates: tuple[float, ...] = (0.01,)
    """Learning rates to choose from on validation, for DD-Ranking."""
    full_epochs: int | None = None
    """Passes through all training images, by Adam, for DD-Ranking. None: as many as show 150,000 images or more."""
    seed: int = 0
    """Seed of the random sets."""


def audit(
    distilled: DistilledData,
    model: Model,
    dataset: Dataset,
    options: AuditOptions | None = None,
    *,
    name: str = "the set",
    out: str | Path | None = None,
) -> Audit:
    """Measure a set beside real images in every way that it may be used in; the same call with `out` goes on.

    Args:
        model: the network that the set is for.
        name: what to call it.
        out: a directory for audit.json, a table and a page; None: all stays in memory.

    Raises:
        OptionError: for a set that is for pretrained networks or teaches something untrue, and for bad options.
        DataError: if set, network and data don't match.
        RunError: if `out` holds something else, or can't be written.
        KeyboardInterrupt: when asked to stop; what is measured is kept.

    Source: Zhao et al. 2021 (other networks), Cui et al. 2022 (DC-BENCH), Li et al. 2025 (DD-Ranking).
    """
    options = options or AuditOptions()
    _check(distilled, options)
    others = _OTHERS[distilled.unit] if options.models is None else options.models
    networks = {other: models.from_spec(other, dataset) for other in others}
    config = {
        "apply": "audit",
        "set": _digest(distilled),
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "model": {"name": model.name, **model.settings},
        "options": dataclasses.asdict(options),
    }
    with Records.open(out, config) as records, stop_requests() as stop:
        auditor = _Auditor(distilled, model, dataset, options, records, stop)
        auditor.tell_plan(networks)
        rows = tuple(row for part in auditor.parts(networks) for row in part)
        scores = auditor.scores(rows)
        found = Audit(
            name,
            f"{distilled.num_examples} {distilled.unit}s",
            dataset.name,
            {"name": model.name, **model.settings},
            distilled.protocol.name,
            storage_bytes(distilled),
            distilled.labels.ndim == 3,
            rows,
            scores,
            tuple(auditor.notes),
        )
        if records.path is not None:
            from dd_jax.applications.audit_page import write_audit

            write_audit(records.path, found)
    return found


def _check(distilled: DistilledData, options: AuditOptions) -> None:
    if distilled.protocol.pretrained or not outcome_of(distilled.protocol).truthful:
        raise OptionError(
            "An audit needs a set for randomly drawn networks that teaches the true classes, but "
            "this set is for pretrained networks or teaches something untrue. Compare it with its baselines "
            "by dd-jax evaluate --baselines instead."
        )
    check_at_least(1, options, "num_nets", "num_sets")
    check_at_least(1, options, *(n for n in ("epochs", "full_epochs") if getattr(options, n) is not None))
    check_seed(options.seed)
    for one in options.coresets:
        if one not in MAKERS:
            raise unknown_name("coreset", one, MAKERS)


def _digest(distilled: DistilledData) -> str:
    """A hash of what a set is made of."""
    digest = hashlib.sha256(repr((distilled.protocol, distilled.parameterisation.settings)).encode())
    for key, array in sorted(distilled.arrays.items()):
        digest.update(key.encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


class _Auditor:
    """The measurements of one set, each kept as soon as it is there."""

    def __init__(self, distilled: DistilledData, model: Model, dataset: Dataset, options: AuditOptions,
                 records: Records, stop: Callable[[], bool]) -> None:  # fmt: skip
        self.distilled, self.model, self.dataset = distilled, model, dataset
        self.options, self.records, self.stop = options, records, stop
        self.notes: list[str] = []
        self.scratch = scratch_protocol(distilled)
        self.rivals = (RANDOM, *options.coresets)

    def parts(self, networks: Mapping[str, Model]) -> Iterator[list[Row]]:
        """The rows of every part, in order."""
        yield self._beside_real(OWN, None if self.distilled.protocol.name != self.scratch else self.scratch)
        if self.distilled.protocol.from_scratch:
            self.notes.append(f"Its own protocol, {self.scratch!r}, is a training from scratch.")
        else:
            yield self._beside_real(SCRATCH, self.scratch)
        yield self._of_the_same_bytes()
        yield [row for name, network in networks.items() for row in self._on(name, network)]

    def tell_plan(self, networks: Mapping[str, Model]) -> None:
        """Say what is measured, and how long that takes at least where that is known."""
        if self.records.begun:
            note("A part of the audit is there. Measuring the rest.")
            return
        options, own = self.options, self.distilled
        given: dict[str, Any] = {"num_nets": options.num_nets, "epochs": options.epochs}
        beside = (SET, *self.rivals)
        alike = [Trainings(self.model, None if own.protocol.name != self.scratch else self.scratch, own.num_examples,
                           **given)] * len(beside)  # fmt: skip
        if not own.protocol.from_scratch:
            alike += [Trainings(self.model, self.scratch, own.num_examples, **given)] * len(beside)
        alike += [
            Trainings(one, self.scratch, own.num_examples, **given) for one in networks.values() for _ in range(2)
        ]
        nets = amounts.count(options.num_nets, "network")
        said = f"{len(alike)} measurements or more of {own.num_examples} {own.unit}s and real ones, {nets} each"
        if own.unit == "image" and self.model.kernel is None:
            num_real = len(self.dataset.train.labels)
            if options.scores:
                full = Training(epochs=options.full_epochs or passes(self.dataset), drop_last=False)
                rest = (num_real, options.num_nets, options.epochs, full, len(options.rates))
                alike += of_scores(self.model, own, *rest)
            least = least_seconds(alike, own, self.dataset)
            said += (
                f": at least {duration(least)} of training. Compiling, which takes seconds for each, and choosing step "
                "sizes for real images come on top"
            )
        else:
            said += ". How long they take is not known beforehand for graphs and for networks of infinite width"
        note(f"{said}.")

    def _how(self, protocol: str | None) -> str | Training | None:
        return protocol_named(protocol, self.options.epochs) if protocol is not None else None

    def _beside_real(self, part: str, protocol: str | None) -> list[Row]:
        """The set, random real images and coresets of the same number, by one protocol."""
        own = self.distilled
        how, count = self._how(protocol), own.num_examples
        given: dict[str, Any] = {"num_nets": self.options.num_nets, "protocol": how}

        def rival(name: str) -> Evaluation:
            several = {**given, "num_sets": self.options.num_sets, "seed": self.options.seed}
            return next(iterate_baselines(own, self.model, self.dataset, names=[name], **several))[1].evaluation

        rows = [
            self._row(part, SET, lambda: evaluate(own, self.model, self.dataset, num_curve_nets=0, **given), count,
                      storage_bytes(own))
        ]  # fmt: skip
        real_bytes = count * self._bytes_of_one()
        rows += [self._row(part, name, functools.partial(rival, name), count, real_bytes) for name in self.rivals]
        if own.parameterisation.kind.compare_all and part == OWN:
            size = self.dataset.size
            rows.append(
                self._row(part, ALL_DATA, lambda: rival(ALL_DATA), size,
                          size * self._bytes_of_one())
            )  # fmt: skip
        return rows

    def _of_the_same_bytes(self) -> list[Row]:
        """Real images of as many bytes as the set has, where these are another number of images."""
        num_bytes = storage_bytes(self.distilled)
        per_class = images_of_bytes(num_bytes, self.dataset)
        count, unit = per_class * self.dataset.num_classes, self.distilled.unit
        if count == self.distilled.num_examples:
            self.notes.append(f"In the {num_bytes:,} bytes of the set there is room for as many real {unit}s.")
            return []
        smallest = int(np.bincount(np.asarray(self.dataset.train.labels)).min())
        if per_class > smallest:
            self.notes.append(
                f"In the {num_bytes:,} bytes of the set there is room for {count} real {unit}s, more than "
                f"{self.dataset.name} has of its smallest class ({smallest} of a class)."
            )
            return []
        how = self._how(self.scratch)
        shape = SetShape(1, 1, per_class)

        def trained(name: str) -> Evaluation:
            sets = 1 if is_only_one(name, per_class) else self.options.num_sets
            nets = max(1, self.options.num_nets // sets)
            found = []
            for number in range(sets):
                images = MAKERS[name](self.dataset, per_class, self.options.seed + number)
                one = as_distilled(images, shape, 0.01, FREE, self.distilled.parameterisation)
                given: dict[str, Any] = {"num_nets": nets, "seed": _SEED + number, "num_curve_nets": 0}
                found.append(evaluate(one, self.model, self.dataset, protocol=how, **given))
            return concatenated(found)

        each = self._bytes_of_one()
        names = [name for name in self.rivals if not name.endswith("features")]
        return [self._row(BYTES, name, functools.partial(trained, name), count, count * each) for name in names]

    def _on(self, name: str, network: Model) -> Iterator[Row]:
        """The set and random real images on another network."""
        own, how = self.distilled, self._how(self.scratch)
        given: dict[str, Any] = {"num_nets": self.options.num_nets, "protocol": how}

        def rival() -> Evaluation:
            several = {**given, "num_sets": self.options.num_sets, "seed": self.options.seed}
            return next(iterate_baselines(own, network, self.dataset, names=[RANDOM], **several))[1].evaluation

        def ours() -> Evaluation:
            return evaluate(own, network, self.dataset, num_curve_nets=0, **given)

        count = own.num_examples
        yield self._row(NETWORKS, SET, ours, count, storage_bytes(own), name)
        yield self._row(NETWORKS, RANDOM, rival, count, count * self._bytes_of_one(), name)

    def scores(self, rows: tuple[Row, ...]) -> Mapping[str, Any]:
        """DC-BENCH's and DD-Ranking's scores; of a graph the part of them that needs no augmentation."""
        if not self.options.scores:
            self.notes.append("DC-BENCH and DD-Ranking were not measured.")
            return {}
        if self.distilled.unit != "image":
            by_row = {row.name: row for row in rows if row.part == OWN}
            full, ours, random = (by_row[name].spread.mean for name in (ALL_DATA, SET, RANDOM))
            self.notes.append(
                "DC-BENCH and the augmentation-robust score are about images; of DD-Ranking there is the label-robust "
                "score, by the protocol of the set."
            )
            score = label_robust_score(full, ours, ours, random)
            parts = {name: by_row[row].spread._asdict() for name, row in _PARTS.items()}
            lengths = {"small sets": by_row[SET].length, "all data": by_row[ALL_DATA].length}
            found = {"lrs": score, "hlr": full - ours, "ior": ours - random, **parts, "lengths": lengths}
            return {"dd-ranking": found}
        augments = ("none", "dsa_no_flip" if self.distilled.protocol.name.endswith("-digits") else "dsa")
        counts = {"num_nets": self.options.num_nets, "num_sets": self.options.num_sets}
        training = minibatches("dc")
        training = dataclasses.replace(training, epochs=self.options.epochs or training.epochs)

        def bench() -> dict[str, Any]:
            given: dict[str, Any] = {"augments": augments, "epochs": self.options.epochs, **counts}
            return plain_bench(dc_bench(self.distilled, self.model, self.dataset, others={}, **given))

        def ranking() -> dict[str, Any]:
            full = None if self.options.full_epochs is None else Training(epochs=self.options.full_epochs)
            given: dict[str, Any] = {"training": training, "full_training": full, **counts}
            given |= {"augment": augments[-1], "rates": self.options.rates}
            return plain_ranking(dd_ranking(self.distilled, self.model, self.dataset, **given))

        options, whole = self.options, passes(self.dataset)
        of_bench = bench_lengths(augments, self.distilled, options.epochs)
        of_ranking = ranking_lengths(self.distilled, options.epochs, Length(options.full_epochs or whole, whole))
        return {
            "dc-bench": {**self._kept("dc-bench", bench, _SCORES[0]), "lengths": of_bench},
            "dd-ranking": {**self._kept("dd-ranking", ranking, _SCORES[1]), "lengths": of_ranking},
        }

    def _bytes_of_one(self) -> int:
        return 4 * int(np.prod(self.dataset.image_shape)) + 4

    def _row(
        self, part: str, name: str, measure: Callable[[], Evaluation], count: int, num_bytes: int, network: str = ""
    ) -> Row:
        """A row of the audit, read where it is known."""
        key = "-".join(word.replace(" ", "_").replace(":", "_") for word in (part, network, name) if word)
        words = f"{part}: {name}" + (f" on {network}" if network else "")
        found = self._kept(key, lambda: {"accuracies": measure().accuracies.tolist()}, words)
        protocol = self.distilled.protocol.name if part == OWN else self.scratch
        length = length_of(protocol, self.distilled, count, self.options.epochs)
        return Row(part, name, network or self.model.name, tuple(found["accuracies"]), count, num_bytes, length)

    def _kept(self, key: str, measure: Callable[[], Mapping[str, Any]], words: str) -> Mapping[str, Any]:
        """What is measured, read where it is known; `words` say what it is while it is measured."""
        known = self.records.read(key, lambda found: found["found"] if found["key"] == key else None)
        if known is not None:
            return known
        if self.stop():
            raise KeyboardInterrupt(f"stopped; the same command continues ({self.records.path})")
        if words in _SCORES:
            note(f"  {words} ...")
        found = dict(measure())
        self.records.write(key, {"key": key, "found": found})
        if "accuracies" in found:
            note(f"  {words}: {100 * np.mean(found['accuracies']):.1f} %")
        return found
