"""Architecture search: many small networks trained on a distilled set, and how well that ranks them.

Every candidate is trained on the distilled set, on as many bytes of real images, and for as short a time on real data;
a sample of them is trained on real data in full, which is what the rankings are held against. Candidates whose weights
have the same shapes are one program, see `convnet_family`, and on an accelerator one vmap.
"""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.applications.memories import FREE, images_of_bytes
from dd_jax.applications.records import Records
from dd_jax.applications.search_result import EARLY, FULL, RANDOM, Search, Taken, summarise
from dd_jax.applications.search_space import Candidate, SearchSpace, candidates, drawn, members_of
from dd_jax.errors import DataError, OptionError, check_at_least
from dd_jax.evaluation import evaluate_networks, storage_bytes, training_of
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled, is_only_one
from dd_jax.evaluation.evaluate import real_for
from dd_jax.evaluation.lengths import length_of, plain_words
from dd_jax.evaluation.measure import Starts, train_all
from dd_jax.evaluation.protocols import misuse, scratch_protocol
from dd_jax.evaluation.training import Course, plan_course
from dd_jax.inner import Training, in_epochs, keys_of, steps_per_epoch
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.progress import note, progress
from dd_jax.seeds import check_seed
from dd_jax.storage.files import hash_arrays
from dd_jax.types import Dataset, DistilledData, see_each_other

CORESETS = (RANDOM, "herding", "k-means")

_SHORT_SEED, _FULL_SEED = 6_000_011, 7_000_003  # networks trained on few images, and on real data in full
_NEXT_SET = 7919  # between the seeds of two random sets
_FULL_TRAINING = Training(epochs=10, learning_rate=0.01, optimiser="sgd", weight_decay=5e-4, drop_last=False)


@dataclasses.dataclass(frozen=True)
class SearchOptions:
    """What is searched, and how networks are trained."""

    space: SearchSpace = dataclasses.field(default_factory=SearchSpace)
    """A grid of ConvNets."""
    models: tuple[str, ...] = ()
    """Networks in place of the grid, by their names and settings, such as "mlp:hidden=(64,)"."""
    num_candidates: int | None = None
    """Number of candidates, drawn at random. None: all of them."""
    num_sample: int | None = None
    """Candidates to train on real data in full as well, drawn at random. None: all of them."""
    protocol: str | None = None
    """Training of networks on the distilled set and on as many real images. None: the set's own protocol if that trains
    from scratch, else "dc"."""
    epochs: int | None = None
    """Passes through the few images, in place of the protocol's number."""
    full_training: Training = _FULL_TRAINING
    """Training of networks on real data."""
    num_real: int | None = None
    """Real training images, drawn at random. None: all of them."""
    num_nets: int = 2
    """Networks of each candidate to train on a set. Each network gets other random images."""
    num_full_nets: int = 2
    """Networks of each candidate in the sample to train on real data. From two on, the result says how well they
    agree."""
    seed: int = 0
    """Seed of all random draws: candidates, the sample, real images and networks."""


class Way(NamedTuple):
    """A way to train candidates.

    Attributes:
        sets: the images: one set for all networks of a candidate, or one for each.
        training: on these.
        dataset: what networks are measured on, in the model space of the sets.
        num_nets: of each candidate.
        seed: of the networks.
        splits: that are measured.
    """

    sets: Sequence[DistilledData]
    training: Training
    dataset: Dataset
    num_nets: int
    seed: int
    splits: tuple[str, ...] = ("validation",)


def search_architectures(
    sets: Mapping[str, DistilledData] | DistilledData,
    dataset: Dataset,
    options: SearchOptions | None = None,
    *,
    out: str | Path | None = None,
    distilling_seconds: Mapping[str, float] | None = None,
    show_progress: bool = True,
) -> Search:
    """Rank networks by what they learn from distilled sets, and hold the rankings against training on real data.

    Networks are chosen on validation; the test split tells what the chosen ones are worth after full training.

    Args:
        sets: distilled sets by name, or one. Sets of real images have the bytes of the first.
        out: a directory; the same call with the same directory goes on after the last finished candidate. The result,
            a table of all candidates and a page are written there. None: everything stays in memory.
        distilling_seconds: what making a set took, by its name, where that is known.

    Raises:
        DataError: for graphs, and for sets that don't fit the dataset.
        OptionError: for options that make no sense.
        RunError: if `out` holds another search, or can't be written.
        KeyboardInterrupt: when asked to stop; what is finished is kept.

    Source: Zhao et al. 2021, section 4.4 (the grid, the sets beside it); Such et al. 2020; Cui et al. 2022.
    """
    sets = {"distilled": sets} if isinstance(sets, DistilledData) else dict(sets)
    options = options or SearchOptions()
    _check(sets, dataset, options)
    found = candidates(drawn(options.models or options.space.models(), options.num_candidates, options.seed), dataset)
    sample = _sample(len(found), options)
    ways = _ways(sets, dataset, options)
    config = {
        "apply": "nas",
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "sets": {name: hash_arrays(distilled.arrays) for name, distilled in sets.items()},
        "options": {**dataclasses.asdict(options), "training": dataclasses.asdict(ways[next(iter(sets))].training)},
    }
    with Records.open(out, config) as records, stop_requests() as stop:
        crew = _Crew(found, ways, records, stop)
        with progress(len(found), enabled=show_progress) as show:
            crew.train_all(sample, show)
        taken = crew.taken()
        chosen = {int(np.argmax(taken[name].validation.mean(1))) for name in ways if name != FULL}
        crew.train_in_full(sorted(chosen - set(sample)))
        search = summarise(
            [(candidate.name, candidate.num_params) for candidate in found],
            crew.taken(),
            tuple(sets),
            {name: storage_bytes(distilled) for name, distilled in sets.items()},
            distilling_seconds or {},
            options.seed,
        )
        search = dataclasses.replace(search, training=_in_words(next(iter(sets.values())), ways[FULL], options))
        if records.path is not None:
            from dd_jax.applications.search_page import write_search

            write_search(records.path, search, dataset.name)
    return search


def _check(sets: Mapping[str, DistilledData], dataset: Dataset, options: SearchOptions) -> None:
    check_at_least(1, options, "num_nets", "num_full_nets")
    check_seed(options.seed)
    for name in ("num_candidates", "num_sample", "num_real", "epochs"):
        if getattr(options, name) is not None:
            check_at_least(1, options, name)
    if not sets:
        raise OptionError('sets is empty. Give at least one distilled set, by name, such as {"mine": distilled}.')
    if taken := set(sets) & {FULL, EARLY, *CORESETS}:
        raise OptionError(
            f"The name {sorted(taken)[0]!r} belongs to a row that the search adds itself. Give the set another name."
        )
    if see_each_other(dataset.train.images):
        raise DataError(
            f"Architectures are searched on images, but {dataset.name} is a graph. Use a dataset of images."
        )
    if dataset.stream is not None:
        raise OptionError("The search needs all real images in memory. Leave out resident_images.")
    if not len(dataset.validation.labels):
        raise DataError(
            f"Architectures are chosen on the validation split, but that of {dataset.name} is empty. "
            "Load the dataset with a validation_fraction above 0."
        )
    for name, distilled in sets.items():
        if tuple(distilled.shape_of_images.shape[2:]) != tuple(dataset.image_shape):
            raise DataError(
                f"The set {name} has images of shape "
                f"{tuple(distilled.shape_of_images.shape[2:])}, but those of {dataset.name} have "
                f"{tuple(dataset.image_shape)}. Load the dataset with the image_size and channels "
                "of the set."
            )


def _sample(count: int, options: SearchOptions) -> list[int]:
    """Numbers of the candidates that are trained on real data in full."""
    wanted = count if options.num_sample is None else options.num_sample
    if min(wanted, count) < 3:
        raise OptionError(
            "A ranking needs at least 3 candidates that are trained on real data, but found "
            f"{min(wanted, count)}. Raise num_sample or num_candidates."
        )
    order = np.random.default_rng((options.seed, count, 1)).permutation(count)
    return sorted(order[:wanted].tolist())


def _ways(sets: Mapping[str, DistilledData], dataset: Dataset, options: SearchOptions) -> dict[str, Way]:
    """All ways to train candidates, by name, the full training last."""
    first = next(iter(sets.values()))
    training = _training(first, options)
    short: dict[str, Any] = {"training": training, "num_nets": options.num_nets, "seed": _SHORT_SEED + options.seed}
    ways = {}
    for name, distilled in sets.items():
        if problem := misuse(distilled):
            note(f"Note: {problem}")
        ways[name] = Way([distilled], dataset=real_for(distilled, dataset, "validation"), **short)
    per_class = images_of_bytes(storage_bytes(first), dataset)
    for name in CORESETS:
        count = 1 if is_only_one(name, per_class) else options.num_nets
        made = [_coreset(name, dataset, per_class, options.seed + _NEXT_SET * i) for i in range(count)]
        ways[name] = Way(made, dataset=dataset, **short)
    real = _real(dataset, options.num_real, options.seed)
    full = in_epochs(options.full_training, real.num_examples)
    seen = steps_per_epoch(training, first.num_examples) * min(training.batch_size, first.num_examples)
    early, passes = real, round(seen * training.epochs / real.num_examples)
    if passes < 1:
        early, passes = _real(dataset, seen * training.epochs, options.seed), 1
    stopped = dataclasses.replace(full, epochs=passes)
    ways[EARLY] = Way([early], dataset=dataset, **{**short, "training": stopped})
    both = ("validation", "test")
    ways[FULL] = Way([real], full, dataset, options.num_full_nets, _FULL_SEED + options.seed, both)
    return ways


def _protocol(distilled: DistilledData, options: SearchOptions) -> str:
    return options.protocol or scratch_protocol(distilled)


def _in_words(distilled: DistilledData, full: Way, options: SearchOptions) -> str:
    """How candidates are trained on sets, and in full."""
    protocol = _protocol(distilled, options)
    length = length_of(protocol, distilled, distilled.num_examples, options.epochs)
    in_full = plain_words(full.training, full.sets[0].num_examples)
    return f"Candidates are trained on sets by {protocol!r}, {length}; on real data in full by {in_full}."


def _training(distilled: DistilledData, options: SearchOptions) -> Training:
    """How networks are trained on the distilled set, and on all that is compared with it."""
    protocol = _protocol(distilled, options)
    found = training_of(protocol, distilled, options.epochs)
    if not isinstance(found, Training):
        raise OptionError(
            "Candidates are trained from scratch in minibatches, so that all sets are used "
            f'alike, but the protocol is {protocol!r}. Use "dc" or "dsa".'
        )
    return in_epochs(found, distilled.num_examples)


def _coreset(name: str, dataset: Dataset, per_class: int, seed: int) -> DistilledData:
    made = as_distilled(MAKERS[name](dataset, per_class, seed), SetShape(1, 1, per_class), 0.01, FREE)
    return dataclasses.replace(made, transform=dataset.transform)


def _real(dataset: Dataset, count: int | None, seed: int) -> DistilledData:
    """Training images as a set, `count` of them drawn at random."""
    images, labels = dataset.train
    if count is not None and count < len(labels):
        chosen = np.sort(np.random.default_rng((seed, count, 2)).permutation(len(labels))[:count])
        images, labels = images[chosen], labels[chosen]
    sizes = jnp.full((1,), 0.01, jnp.float32)  # not used
    return DistilledData({"images": images[None]}, labels[None], sizes, dataset.transform, protocol=FREE)


class _Crew:
    """Trains the candidates, those of one program one after another, or at the same time on an accelerator."""

    def __init__(
        self, found: Sequence[Candidate], ways: Mapping[str, Way], records: Records, stop: Callable[[], bool]
    ) -> None:
        self.found, self.ways, self.records, self.stop = found, ways, records, stop
        self.kept: list[dict[str, Any]] = [records.read(i, self._problem(i)) or {} for i in range(len(found))]
        self.compiled: set[Any] = set()
        self.courses: dict[Any, Course] = {}

    def train_all(self, sample: Sequence[int], show: Callable[..., None]) -> None:
        """What is missing of every candidate: in full of those in the sample."""
        done = sum(not self._missing(i, sample) for i in range(len(self.found)))
        if done:
            note(f"{done} of {len(self.found)} candidates were trained before. Training the others.")
        show(done)
        for group in self._groups():
            wanted = [i for i in group if self._missing(i, sample)]
            for name in self.ways if wanted else ():
                self._train([i for i in wanted if name in self._missing(i, sample)], name)
            for i in wanted:
                self._keep(i)
            done += len(wanted)
            show(done)

    def train_in_full(self, numbers: Sequence[int]) -> None:
        """On real data, those of the candidates that aren't yet."""
        for i in numbers:
            if FULL not in self.kept[i]:
                self._train([i], FULL)
                self._keep(i)

    def taken(self) -> dict[str, Taken]:
        """What all candidates have reached in each way; NaN where they were not trained in it."""
        return {name: self._taken(name) for name in self.ways}

    def _taken(self, name: str) -> Taken:
        way = self.ways[name]
        absent = dict.fromkeys(("validation", "test"), [float("nan")] * way.num_nets)
        rows = [kept.get(name, {**absent, "seconds": float("nan"), "compiling": 0.0}) for kept in self.kept]
        validation, test = (np.asarray([row.get(s, absent[s]) for row in rows], float) for s in ("validation", "test"))
        seconds, compiling = (np.asarray([row[key] for row in rows], float) for key in ("seconds", "compiling"))
        return Taken(validation, test, seconds, compiling)

    def _groups(self) -> list[list[int]]:
        """Numbers of candidates that are trained together, those of one program next to each other."""
        families: dict[Any, list[int]] = {}
        for i, candidate in enumerate(self.found):
            families.setdefault(candidate.family.init, []).append(i)
        groups = [[mine] if _together() else [[i] for i in mine] for mine in families.values()]
        return [group for of_family in groups for group in of_family]

    def _missing(self, number: int, sample: Sequence[int]) -> list[str]:
        wanted = [name for name in self.ways if name != FULL or number in sample]
        return [name for name in wanted if name not in self.kept[number]]

    def _keep(self, number: int) -> None:
        self.records.write(number, {"candidate": self.found[number].name, "ways": self.kept[number]})

    def _problem(self, number: int) -> Callable[[Any], dict[str, Any] | None]:
        """What a record of a candidate holds, or None if it isn't one of this search."""

        def checked(record: Any) -> dict[str, Any] | None:
            if record.get("candidate") != self.found[number].name:
                return None
            ways = record["ways"]
            fits = all(len(row["validation"]) == self.ways[name].num_nets for name, row in ways.items())
            return ways if fits else None

        return checked

    def _train(self, numbers: Sequence[int], name: str) -> None:
        """Candidates of one family, in one way."""
        if not numbers:
            return
        way, family = self.ways[name], self.found[numbers[0]].family
        each = 1 if len(way.sets) == 1 else len(way.sets)
        found: dict[str, list[np.ndarray]] = {split: [] for split in way.splits}
        seconds = compiling = 0.0
        for index in range(each):
            if self.stop():
                raise KeyboardInterrupt(f"stopped; the same command continues ({self.records.path})")
            nets = np.arange(way.num_nets)[index::each]
            course = self._course(name, index)
            starts = _starts([self.found[i] for i in numbers], nets, way.seed)
            compiling += self._compile(family, starts, course, way)
            begun = time.monotonic()
            networks = train_all(members_of(family), family, starts, course)
            for split in way.splits:
                measured = evaluate_networks(networks, family, way.dataset, split=split)
                found[split].append(measured.accuracies.reshape(len(numbers), len(nets)))
            seconds += time.monotonic() - begun
        for position, number in enumerate(numbers):
            self.kept[number][name] = {
                **{split: np.concatenate([part[position] for part in found[split]]).tolist() for split in way.splits},
                "seconds": seconds / len(numbers),
                "compiling": compiling / len(numbers),
            }

    def _course(self, name: str, index: int) -> Course:
        way = self.ways[name]
        if (name, index) not in self.courses:
            any_model = self.found[0].family
            self.courses[name, index] = plan_course(any_model, way.sets[index], way.training, None)
        return self.courses[name, index]

    def _compile(self, family: Any, starts: Starts, course: Course, way: Way) -> float:
        """Compile what is not compiled yet, by no epochs of a training; seconds that it took."""
        shapes = tuple(jax.tree.leaves(jax.tree.map(jnp.shape, dict(course.arrays.learnt)), is_leaf=_is_shape))
        alone = not _together() and jax.device_count() == 1  # then networks take turns, however many
        program = family.init, course.plan, shapes, alone or starts.num_nets, way.splits
        if program in self.compiled:
            return 0.0
        self.compiled.add(program)
        begun = time.monotonic()
        nothing = course._replace(whole=[np.zeros(2, np.int32)])
        networks = train_all(members_of(family), family, starts, nothing)
        for split in way.splits:
            evaluate_networks(networks, family, way.dataset, split=split)
        return time.monotonic() - begun


def _together() -> bool:
    """Whether networks are trained at the same time, and not one after another."""
    return jax.default_backend() != "cpu"


def _is_shape(value: Any) -> bool:
    return isinstance(value, tuple)


def _starts(found: Sequence[Candidate], nets: np.ndarray, seed: int) -> Starts:
    """The networks with these numbers of each of the candidates, one candidate after another."""
    keys = keys_of(seed, np.tile(nets, len(found)))
    choices = [dict(candidate.choice) for candidate in found for _ in nets]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *choices) if choices[0] else {}

    def at(numbers: np.ndarray) -> tuple[Any, jax.Array]:
        return (jax.tree.map(lambda leaf: leaf[numbers], stacked), keys[numbers]), keys[numbers]

    return Starts(len(choices), at)
