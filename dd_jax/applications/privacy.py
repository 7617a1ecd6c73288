"""Privacy: what networks that were trained on a distilled set tell of the real images that it was distilled from.

In each of several worlds a random half of the candidates are distilled, and networks are trained on the set. From what
these say of every candidate an adversary guesses who was in that half. Beside it: as many random real images, a larger
random subset, and all images of the half.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dd_jax import models
from dd_jax.applications.continual import Distil, distilling
from dd_jax.applications.membership import ADVERSARIES, Leak, confidences, halves, leak
from dd_jax.applications.privacy_result import ALL, DISTILLED, RANDOM, SUBSET, Copies, Privacy, Way
from dd_jax.applications.ranking import LEVEL, Interval
from dd_jax.applications.records import Records
from dd_jax.errors import DataError, OptionError, check_at_least
from dd_jax.evaluation import training_of
from dd_jax.evaluation.lengths import length_of, plain_words
from dd_jax.evaluation.protocols import scratch_protocol
from dd_jax.inner import TRAINING_NUMBERS, Training, draw_networks, fit, in_epochs, keys_of, map_over, nets_at_once
from dd_jax.models import Model
from dd_jax.runs.experiment import DEFAULT_MODEL, Experiment
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.progress import note
from dd_jax.seeds import check_seed
from dd_jax.storage.files import hash_json
from dd_jax.types import Batch, Dataset, DistilledData, see_each_other
from dd_jax.values import with_numbers, without_numbers

_SEED = 13_000_027  # of networks
_CHUNK = 500  # images at a time
_DIGITS = 16  # of a fingerprint
_FULL_TRAINING = Training(epochs=50, batch_size=64, drop_last=False)


@dataclasses.dataclass(frozen=True)
class PrivacyOptions:
    """Who may be a member, and how networks are trained."""

    num_worlds: int = 16
    """Number of worlds, even and at least six. Each distils another random half of the candidates."""
    num_members: int = 100
    """Real images of each class that are members in a world. There are twice as many candidates."""
    num_nets: int = 1
    """Networks of each world. An adversary sees the mean of their confidences."""
    num_subset: int | None = None
    """Images of each class in the larger random subset. None: a quarter of the members."""
    protocol: str | None = None
    """Training of networks on a set and on as many random images. None: the protocol of the sets if that trains from
    scratch, else "dc"."""
    epochs: int | None = None
    """Passes through the set, in place of the protocol's number."""
    full_training: Training = _FULL_TRAINING
    """Training of networks on the subset and on all members."""
    seed: int = 0
    """Seed of all random draws: candidates, halves, images, networks and distillations."""


class World(NamedTuple):
    """A world: its members as a dataset, and their numbers among the candidates."""

    dataset: Dataset
    members: np.ndarray


def measure_privacy(
    dataset: Dataset,
    distil: Distil | Experiment,
    model: str | None = None,
    options: PrivacyOptions | None = None,
    *,
    out: str | Path | None = None,
    record: Mapping[str, Any] | None = None,
) -> Privacy:
    """Membership inference against networks trained on distilled sets, and copies of real images in the sets.

    Args:
        distil: how the members of a world become a set: an experiment, of which the method, its steps and validations
            count; or a function of the world's dataset, a network for it, a seed and a run directory.
        model: the network, with settings after a colon; None: that of the experiment.
        out: a directory for results.json, a table and a page; the same call with it goes on where it was cut short,
            between worlds and within the distilling of one. None: all stays in memory.
        record: further entries that tell this from other calls, for a `distil` that is a function.

    Raises:
        DataError, OptionError: for a dataset or options that make no sense.
        RunError: if `out` holds something else, or can't be written.
        KeyboardInterrupt: when asked to stop; what is finished is kept.

    Source: Yeom et al. 2018 (loss threshold); Carlini et al. 2022 (LiRA; true positives at few false ones).
    """
    options = options or PrivacyOptions()
    _check(dataset, options)
    if isinstance(distil, Experiment):
        model = model or distil.model
        own = {name: getattr(distil, name) for name in ("num_outer_steps", "eval_every", "num_eval_nets", "experts")}
        record = {"method": dataclasses.asdict(distil.method), **own, **(record or {})}
        distil = distilling(distil)
    name = model or DEFAULT_MODEL
    config = {
        "apply": "privacy",
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "model": name,
        "options": dataclasses.asdict(options),
        **(record or {}),
    }
    with Records.open(out, config) as records, stop_requests() as stop:
        found = _Study(dataset, name, distil, options, records, stop).result()
        if records.path is not None:
            from dd_jax.applications.privacy_page import write_privacy

            write_privacy(records.path, found)
    return found


def _check(dataset: Dataset, options: PrivacyOptions) -> None:
    check_at_least(1, options, "num_members", "num_nets")
    check_seed(options.seed)
    if see_each_other(dataset.train.images) or dataset.stream is not None:
        raise DataError(
            f"Members and others must be images that are all in memory, but {dataset.name} is a graph "
            "or is read in parts. Use a dataset of images, without resident_images."
        )
    fewest = int(np.bincount(np.asarray(dataset.train.labels), minlength=dataset.num_classes).min())
    if 2 * options.num_members > fewest:
        raise OptionError(
            f"num_members={options.num_members} needs {2 * options.num_members} training images "
            f"of each class, for members and others, but the smallest class of {dataset.name} has "
            f"{fewest}. Lower num_members."
        )
    if options.num_subset is not None and not 1 <= options.num_subset <= options.num_members:
        raise OptionError(f"num_subset must be from 1 to {options.num_members}, but is {options.num_subset}.")


class _Study:
    """The worlds of a study, and what networks say in them."""

    def __init__(self, dataset: Dataset, model: str, distil: Distil, options: PrivacyOptions, records: Records,
                 stop: Callable[[], bool]) -> None:  # fmt: skip
        self.dataset, self.distil, self.options, self.records, self.stop = dataset, distil, options, records, stop
        self.candidates = self._candidates()
        self.labels = np.asarray(self.candidates.labels)
        self.members = halves(self.labels, options.num_worlds, options.seed)
        self.worlds = [self._world(number) for number in range(options.num_worlds)]
        self.model: Model = models.from_spec(model, self.worlds[0].dataset)
        self.sets: dict[int, DistilledData] = {}

    def result(self) -> Privacy:
        """All that is found, way by way."""
        ways = []
        for name in (DISTILLED, RANDOM, SUBSET, ALL):
            found = self._confidences(name)
            leaks: dict[str, Leak] = {}
            for adversary, rule in ADVERSARIES.items():
                leaks[adversary] = leak(rule(found["confidences"], self.members), self.members, self.options.seed)
            size = int(found["count"])
            ways.append(Way(name, size, tuple(found["accuracies"]), leaks, self._told(name, size)))
            note(f"{name}: AUC {', '.join(f'{key} {one.auc}' for key, one in leaks.items())}")
        return Privacy(
            self.dataset.name, self.model.name, self.options.num_worlds, len(self.labels), tuple(ways), self._copies()
        )

    def _candidates(self) -> Batch:
        """Training images that may be members, as many of each class."""
        labels = np.asarray(self.dataset.train.labels)
        generator = np.random.default_rng((self.options.seed, 10))
        chosen = [
            generator.permutation(np.flatnonzero(labels == c))[: 2 * self.options.num_members]
            for c in range(self.dataset.num_classes)
        ]
        rows = np.sort(np.concatenate(chosen))
        return Batch(self.dataset.train.images[rows], self.dataset.train.labels[rows])

    def _world(self, number: int) -> World:
        rows = np.flatnonzero(self.members[number])
        train = Batch(self.candidates.images[rows], self.candidates.labels[rows])
        mark = hash_json([self.dataset.fingerprint, dataclasses.asdict(self.options), number])[:_DIGITS]
        named = f"{self.dataset.name}, world {number}"
        changed = {"train": train, "fingerprint": mark, "num_train": None, "name": named}
        return World(dataclasses.replace(self.dataset, **changed), rows)  # type: ignore[arg-type]

    def _set(self, number: int) -> DistilledData:
        """The distilled set of a world."""
        if number not in self.sets:
            out = None if self.records.path is None else self.records.path / "distilled" / f"world-{number}"
            world = self.worlds[number].dataset
            self.sets[number] = self.distil(world, self.model, self.options.seed + number, out)
            if self.stop():
                raise KeyboardInterrupt(f"stopped; the same command continues ({self.records.path})")
        return self.sets[number]

    def _confidences(self, name: str) -> Mapping[str, Any]:
        """What networks of a way say of every candidate in every world, (W, N); read where it is known."""
        shape = self.members.shape

        def checked(kept: Any) -> Any:
            whole = np.asarray(kept["confidences"], float)
            fits = kept["way"] == name and whole.shape == shape and np.isfinite(whole).all()
            return {**kept, "confidences": whole} if fits and len(kept["accuracies"]) == shape[0] else None

        key = name.replace(" ", "-")
        if (known := self.records.read(key, checked)) is not None:
            return known
        batch, training = self._given(name)
        if self.stop():
            raise KeyboardInterrupt(f"stopped; the same command continues ({self.records.path})")
        logits, right = self._logits(batch, training)
        found = {
            "way": name,
            "count": batch.labels.shape[1],
            "confidences": np.asarray(confidences(logits, self.labels)).mean(1),
            "accuracies": right.mean(1).tolist(),
        }
        self.records.write(key, found)
        return found

    def _given(self, name: str) -> tuple[Batch, Training]:
        """What networks are trained on in every world, with a leading axis, and how."""
        sets = [self._set(number) for number in range(len(self.worlds))]
        if name == DISTILLED:
            images = jnp.stack([one.images.reshape(-1, *one.images.shape[2:]) for one in sets])
            labels = jnp.stack([one.labels.reshape(-1, *one.labels.shape[2:]) for one in sets])
            return Batch(images, labels), self._training(sets[0])
        per_class = {
            RANDOM: max(1, sets[0].num_examples // self.dataset.num_classes),
            SUBSET: self.options.num_subset or max(1, self.options.num_members // 4),
            ALL: self.options.num_members,
        }[name]
        rows = np.stack([self._some(number, min(per_class, self.options.num_members)) for number in range(len(sets))])
        batch = Batch(self.candidates.images[rows], self.candidates.labels[rows])
        return batch, self._training(sets[0]) if name == RANDOM else self.options.full_training

    def _some(self, number: int, per_class: int) -> np.ndarray:
        """Random members of a world, by their numbers."""
        generator, mine = np.random.default_rng((self.options.seed, number, 12)), self.worlds[number].members
        of_class = [mine[self.labels[mine] == c] for c in range(self.dataset.num_classes)]
        return np.concatenate([generator.permutation(one)[:per_class] for one in of_class])

    def _told(self, name: str, size: int) -> str:
        """The training of networks of a way on `size` images, in words."""
        if name in (DISTILLED, RANDOM):
            own = self._set(0)
            protocol = self._protocol(own)
            return f"{protocol!r}, {length_of(protocol, own, size, self.options.epochs)}"
        return plain_words(self.options.full_training, size)

    def _protocol(self, distilled: DistilledData) -> str:
        return self.options.protocol or scratch_protocol(distilled)

    def _training(self, distilled: DistilledData) -> Training:
        protocol = self._protocol(distilled)
        found = training_of(protocol, distilled, self.options.epochs)
        if not isinstance(found, Training):
            raise OptionError(
                f'Networks are trained from scratch in minibatches, but the protocol is {protocol!r}. Use "dc".'
            )
        return found

    def _logits(self, batch: Batch, training: Training) -> tuple[np.ndarray, np.ndarray]:
        """Logits (W, nets, N, K) of the candidates; and what share of the test images is right, (W, nets)."""
        worlds, nets = len(self.worlds), self.options.num_nets
        keys = keys_of(_SEED + self.options.seed, np.arange(worlds * nets))
        networks = draw_networks(self.model, keys)
        known, numbers = without_numbers(in_epochs(training, batch.labels.shape[1]), TRAINING_NUMBERS)
        which = jnp.repeat(jnp.arange(worlds), nets)
        trained = _train_all(self.model.apply, known, numbers, keys, networks, which, batch)
        logits, tested = (_answers(self.model.apply, trained, part.images) for part in
                          (self.candidates, self.dataset.test))  # fmt: skip
        right = (np.asarray(tested).argmax(-1) == np.asarray(self.dataset.test.labels)).mean(-1)
        return np.asarray(logits).reshape(worlds, nets, *logits.shape[1:]), right.reshape(worlds, nets)

    def _copies(self) -> Copies:
        """The candidates nearest to every distilled image, and how near they are."""
        real = np.asarray(self.candidates.images, np.float64).reshape(len(self.labels), -1)
        among = np.sqrt(np.median(_squares(real, real, apart=True).min(1)))
        nearest, inside = [], []
        for number in range(len(self.worlds)):
            images = np.asarray(self._set(number).images, np.float64).reshape(self._set(number).num_examples, -1)
            squares = _squares(images, real)
            nearest.append(np.sqrt(squares.min(1)) / among)
            inside.append(self.members[number][squares.argmin(1)])
        return Copies(_share(np.concatenate(inside)), tuple(np.sort(np.concatenate(nearest)).tolist()))


def _squares(images: np.ndarray, real: np.ndarray, apart: bool = False) -> np.ndarray:
    """Squared distances (M, N); of images from themselves infinite where they are `apart`."""
    found = (images**2).sum(1)[:, None] - 2 * images @ real.T + (real**2).sum(1)[None]
    found = np.maximum(found, 0.0)
    if apart:
        np.fill_diagonal(found, np.inf)
    return found


def _share(inside: np.ndarray) -> Interval:
    """The share of what is true, with Wilson's interval."""
    from scipy.stats import norm

    n, p, z = len(inside), float(inside.mean()), float(norm.ppf((1 + LEVEL) / 2))
    middle, half = (p + z * z / (2 * n)), z * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Interval(p, float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n)))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train_all(apply, training, numbers, keys, networks, which, batch):
    """Networks, each trained on the images of its world: all at once under vmap on an accelerator."""
    known = with_numbers(training, numbers)

    def one(item):
        key, params, world = item
        return fit(apply, params, key, Batch(batch.images[world], batch.labels[world]), known)

    at_once = nets_at_once(jax.tree.map(lambda leaf: leaf[0], networks))
    return map_over(one, (keys, networks, which), at_once)


@functools.partial(jax.jit, static_argnums=0)
def _answers(apply, networks, images):
    """Logits (networks, N, K)."""
    size = min(_CHUNK, images.shape[0])
    missing = -images.shape[0] % size
    chunks = jnp.pad(images, ((0, missing), (0, 0), (0, 0), (0, 0))).reshape(-1, size, *images.shape[1:])

    def one(params):
        logits = lax.map(lambda chunk: apply(params, chunk), chunks)
        return logits.reshape(-1, logits.shape[-1])[: images.shape[0]]

    return lax.map(one, networks)
