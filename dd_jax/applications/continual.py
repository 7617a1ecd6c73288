"""Continual learning: classes come in tasks, and what is over is remembered by a distilled set.

After each task its data become a distilled set, and a network is trained on the sets of all tasks so far. Beside it:
real images of the same bytes, a reservoir, joint training on all real data so far (the upper bound) and training on the
data of one task after another (the lower bound).
"""

import contextlib
import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from dd_jax import models
from dd_jax.applications.continual_result import DISTILLED, FINE_TUNING, JOINT, Continual, Course
from dd_jax.applications.memories import (
    RESERVOIR,
    Kept,
    as_set,
    bytes_of_image,
    images_of_bytes,
    joined,
    kept_of_real,
    kept_of_set,
    reservoirs,
)
from dd_jax.applications.records import Records
from dd_jax.applications.streams import Stream, stream_of
from dd_jax.errors import OptionError, check_at_least, check_choices, unknown_name
from dd_jax.evaluation import PROTOCOLS, training_of
from dd_jax.evaluation.coresets import MAKERS
from dd_jax.evaluation.lengths import Length, plain_words
from dd_jax.evaluation.measure import Starts, as_it_is, in_chunks, train_all
from dd_jax.evaluation.protocols import misuse, scratch_protocol
from dd_jax.evaluation.training import plan_course
from dd_jax.inner import Training, keys_of, steps_per_epoch
from dd_jax.methods import BpttOptions, bptt, check_networks, make_method
from dd_jax.models import Model
from dd_jax.runs.experiment import DEFAULT_MODEL, Experiment
from dd_jax.runs.experts import pretrain_experts
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.loop import distill
from dd_jax.runs.networks import Pretraining, pretraining
from dd_jax.runs.progress import note
from dd_jax.seeds import check_seed
from dd_jax.types import Dataset, DistilledData, Experts, Networks

# (dataset of a task, network for it, seed, run directory or None) -> its distilled set; resumes in the directory. Where
# bases are shared, with before=the set of the task before, or None.
Distil: TypeAlias = Callable[..., DistilledData]

_SEED, _FULL_SEED = 8_000_009, 9_000_011  # of networks trained on memories, and on real data
_OF_STAGE = 104_729  # between the seeds of fresh networks after two tasks
_FULL_TRAINING = Training(epochs=5, batch_size=64, learning_rate=0.01, optimiser="sgd", drop_last=False)


@dataclasses.dataclass(frozen=True)
class ContinualOptions:
    """How classes come, what is remembered, and how networks are trained."""

    num_tasks: int = 5
    """Number of tasks; the classes are shared out evenly."""
    num_orders: int = 5
    """Number of random orders of the classes."""
    scenario: Literal["class", "task"] = "class"
    """"class": a network must tell all classes so far from each other. "task": it is told the task, and must tell only
    the classes of that task apart."""
    shared_bases: bool = False
    """Keep one memory of bases that grows: the images of a task mix the bases of all tasks so far and some new ones, in
    the room of the task. For sets of bases, such as those of --method rtp."""
    learner: Literal["fresh", "running"] = "fresh"
    """Network that is trained on the memory after each task: "fresh" (drawn at random) or "running" (the one of the
    last task)."""
    memories: tuple[str, ...] = ("random real", "herding", "k-means", RESERVOIR)
    """Memories to compare with distilled sets, in as many bytes: any sets of real images, and "reservoir"."""
    num_nets: int = 3
    """Networks for each order."""
    protocol: str | None = None
    """Training of networks on the memory. None: the protocol of the sets if that trains from scratch, else "dc"."""
    epochs: int | None = None
    """Passes through the memory, in place of the protocol's number."""
    full_training: Training = _FULL_TRAINING
    """Training of networks on real data."""
    num_real: int | None = None
    """Training images of each class. None: as many as the smallest class has."""
    seed: int = 0
    """Seed of all random draws: orders, images and networks."""


class Way(NamedTuple):
    """A way to remember. stages: what networks are trained on after each task; running: whether they go on."""

    stages: Callable[[], Iterator[Kept]]
    running: bool
    real: bool


def distilling(experiment: Experiment, shared_bases: bool = False) -> Distil:
    """How an experiment distils the data of a task: by its method, for as many outer steps.

    Experts are trained on the task, as the preset that the experiment names says.

    Raises:
        OptionError: for pretrained networks, for experts that are no preset, and where bases are to be shared for a
            method that has none.
    """
    own = experiment.method
    if shared_bases and not (isinstance(own, BpttOptions) and own.images == "bases"):
        raise OptionError(
            "Only bases can be shared between tasks, but this method learns none. Use --method rtp, "
            "or bptt with --images bases."
        )
    if experiment.pretrained:
        raise OptionError("Pretrained networks know all classes, but each task has only some. Leave out pretrained.")
    wanted = None if experiment.experts is None else pretraining(experiment.experts)
    check_networks(experiment.method, *(() if wanted is None else ("experts",)))
    if wanted is not None and not wanted.snapshots:
        raise OptionError(
            f"The experts of a task need snapshots of their training, but {experiment.experts} "
            "has none. Use a preset of experts with snapshots (dd-jax info lists them)."
        )

    def distil(
        task: Dataset, model: Model, seed: int, out: Path | None, before: DistilledData | None = None
    ) -> DistilledData:
        with contextlib.ExitStack() as stack:
            experts = None
            if wanted is not None:
                folder = stack.enter_context(tempfile.TemporaryDirectory()) if out is None else f"{out}-experts"
                experts = _experts(wanted, task, model, seed, Path(folder))
            if before is None:
                method = make_method(model, own, experts=experts)
            else:
                assert isinstance(own, BpttOptions)
                method = bptt(model, own, shared=jnp.asarray(before.learnt["bases"]))
            run = distill(
                method,
                task,
                num_outer_steps=experiment.num_outer_steps,
                seed=seed,
                out=out,
                eval_every=experiment.eval_every,
                num_eval_nets=experiment.num_eval_nets,
                devices=experiment.devices,
                max_rollbacks=experiment.max_rollbacks,
                patience=experiment.patience,
                show_progress=False,
            )
        return run.distilled

    return distil


def _experts(wanted: Pretraining, task: Dataset, model: Model, seed: int, folder: Path) -> Experts:
    """Networks all along their training on a task; those that are there are read."""
    steps = steps_per_epoch(wanted.training, len(task.train.labels))
    return pretrain_experts(
        model,
        task,
        num_experts=wanted.num_nets,
        training=wanted.training,
        every=None if wanted.every is None else math.gcd(wanted.every, steps),
        dtype=wanted.dtype,
        out=folder,
        seed=seed,
        show_progress=False,
    )


def learn_continually(
    dataset: Dataset,
    distil: Distil | Experiment,
    model: str | None = None,
    options: ContinualOptions | None = None,
    *,
    out: str | Path | None = None,
    record: Mapping[str, Any] | None = None,
) -> Continual:
    """Learn the classes of a dataset task by task, from distilled sets of those that are over, and from what is beside.

    Args:
        distil: how the data of a task become a set: an experiment, of which the method, its steps and validations, and
            a preset of experts count, see `distilling`; or a function of the task's dataset, a network for it, a seed
            and a run directory.
        model: the network, with settings after a colon; None: that of the experiment.
        out: a directory; the same call with the same directory goes on where it was cut short, between tasks and within
            the distilling of one. The result, a table and a page are written there. None: all stays in memory.
        record: further entries that tell this from other calls, for a `distil` that is a function.

    Raises:
        DataError, OptionError: for a dataset or options that make no sense.
        RunError: if `out` holds something else, or can't be written.
        KeyboardInterrupt: when asked to stop; what is finished is kept.

    Source: protocols and measures of van de Ven & Tolias 2019, Chaudhry et al. 2018, Lopez-Paz & Ranzato 2017;
    distilled memories of Zhao & Bilen 2023, section 4.3, and Deng & Russakovsky 2022.
    """
    options = options or ContinualOptions()
    _check(options)
    if isinstance(distil, Experiment):
        model = model or distil.model
        own = {name: getattr(distil, name) for name in ("num_outer_steps", "eval_every", "num_eval_nets", "experts")}
        record = {"method": dataclasses.asdict(distil.method), **own, **(record or {})}
        distil = distilling(distil, options.shared_bases)
    name = model or DEFAULT_MODEL
    config = {
        "apply": "continual",
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint},
        "model": name,
        "options": dataclasses.asdict(options),
        **(record or {}),
    }
    found: dict[str, list[tuple[np.ndarray, int]]] = {}
    streams = [
        stream_of(dataset, options.num_tasks, i, options.seed, options.num_real) for i in range(options.num_orders)
    ]
    with Records.open(out, config) as records, stop_requests() as stop:
        for order, stream in enumerate(streams):
            learner = _Learner(stream, order, name, distil, options, records, stop)
            for way in learner.ways:
                found.setdefault(way, []).append(learner.course(way))
                note(
                    f"order {order + 1} of {options.num_orders}, {way}: {100 * np.mean(found[way][-1][0][:, -1]):.1f} %"
                )
        courses = (Course(way, np.stack([a for a, _ in mine]), [b for _, b in mine]) for way, mine in found.items())
        orders = tuple(stream.order for stream in streams)
        continual = Continual(tuple(courses), options.scenario, orders, dataset.class_names, _in_words(options))
        if records.path is not None:
            from dd_jax.applications.continual_page import write_continual

            write_continual(records.path, continual, dataset.name)
    return continual


def _in_words(options: ContinualOptions) -> str:
    """How networks are trained on memories, and on real data."""
    own = PROTOCOLS.get(options.protocol or "")
    if isinstance(own, Training) and own.steps is None:
        by = f"{options.protocol!r}, {Length(options.epochs or own.epochs, own.epochs)}"
    else:
        by = "the protocol of the sets, or 'dc'," if options.protocol is None else repr(options.protocol)
        by += "" if options.epochs is None else f" for {Length(options.epochs, options.epochs)} in place of its number"
    full = plain_words(options.full_training, options.full_training.batch_size)
    return f"Networks are trained on memories by {by}; on real data by {full}."


def _check(options: ContinualOptions) -> None:
    check_choices(options)
    check_at_least(1, options, "num_orders", "num_nets")
    check_seed(options.seed)
    for name in ("num_real", "epochs"):
        if getattr(options, name) is not None:
            check_at_least(1, options, name)
    for name in options.memories:
        if name not in (*MAKERS, RESERVOIR):
            raise unknown_name("memory", name, (*MAKERS, RESERVOIR))


class _Learner:
    """Networks that learn one stream, in every way."""

    def __init__(self, stream: Stream, order: int, model: str, distil: Distil, options: ContinualOptions,
                 records: Records, stop: Callable[[], bool]) -> None:  # fmt: skip
        self.stream, self.order, self.distil, self.options = stream, order, distil, options
        self.records, self.stop = records, stop
        self.model, self.task_model = (models.from_spec(model, data) for data in (stream.dataset, stream.tasks[0]))
        running = options.learner == "running"
        self.ways = {
            DISTILLED: Way(self._distilled, running, False),
            **{memory: Way(functools.partial(self._real, memory), running, False) for memory in options.memories},
            JOINT: Way(self._joint, False, True),
            FINE_TUNING: Way(self._one_by_one, True, True),
        }
        self.sets: list[DistilledData] = []

    def course(self, name: str) -> tuple[np.ndarray, int]:
        """Accuracies (networks, T, T) of a way, and the bytes that it keeps in the end; read where they are known."""
        way, tasks = self.ways[name], len(self.stream.tasks)
        known = [self._known(name, after) for after in range(tasks)]
        if None in known:
            # Networks that go on must be trained from the first task on; fresh ones only where they are missing.
            networks: Networks | None = None
            for after, kept in enumerate(way.stages()):
                if known[after] is not None and not way.running:
                    continue
                if self.stop():
                    raise KeyboardInterrupt(f"stopped; the same command continues ({self.records.path})")
                networks = self._trained(kept, after, way, networks if way.running else None)
                known[after] = {"accuracies": self._accuracies(networks, after), "bytes": kept.num_bytes}
                self.records.write(self._item(name, after), {"way": name, "order": self.order, **known[after]})
        matrix = np.full((self.options.num_nets, tasks, tasks), np.nan)
        for after, row in enumerate(known):
            matrix[:, after, : after + 1] = row["accuracies"]
        return matrix, known[-1]["bytes"]

    def _item(self, name: str, after: int) -> str:
        return f"order-{self.order}-{name.replace(' ', '-')}-after-{after}"

    def _known(self, name: str, after: int) -> Any:
        """What is known of networks after a task, or None."""
        shape = (self.options.num_nets, after + 1)

        def checked(record: Any) -> Any:
            own = (record["way"], record["order"]) == (name, self.order)
            return record if own and np.shape(record["accuracies"]) == shape and record["bytes"] > 0 else None

        return self.records.read(self._item(name, after), checked)

    # What networks are trained on after each task.

    def _distilled(self) -> Iterator[Kept]:
        parts: list[Kept] = []
        for number in range(len(self.stream.tasks)):
            parts.append(self._kept(number))
            yield joined(parts)

    def _kept(self, number: int) -> Kept:
        """The distilled set of a task as what is kept of it."""
        distilled = self._set(number)
        before = self.sets[number - 1] if self.options.shared_bases and number else None
        return kept_of_set(distilled, number * self.stream.classes_per_task, self._classes, before)

    def _set(self, number: int) -> DistilledData:
        """The distilled set of a task."""
        while len(self.sets) <= number:
            task, path = len(self.sets), self.records.path
            out = None if path is None else path / "distilled" / f"order-{self.order}-task-{task}"
            seed = self.options.seed + self.order * len(self.stream.tasks) + task
            before = {"before": self.sets[-1] if self.sets else None} if self.options.shared_bases else {}
            self.sets.append(self.distil(self.stream.tasks[task], self.task_model, seed, out, **before))
            if self.order == task == 0 and (problem := misuse(self.sets[0])):
                note(f"Note: {problem} Memories are trained on in minibatches.")
        return self.sets[number]

    def _task_bytes(self) -> list[int]:
        """What the distilled set of each task takes to store."""
        known = [self._known(DISTILLED, after) for after in range(len(self.stream.tasks))]
        if None in known:
            return [self._kept(t).num_bytes for t in range(len(self.stream.tasks))]
        return np.diff([0, *(row["bytes"] for row in known)]).tolist()

    def _real(self, memory: str) -> Iterator[Kept]:
        whole, size = self.stream.dataset, self.stream.classes_per_task
        counts = [images_of_bytes(num_bytes, whole, size) for num_bytes in self._task_bytes()]
        if memory == RESERVOIR:
            capacity = max(1, round(sum(self._task_bytes()) / bytes_of_image(whole)))
            yield from reservoirs(whole, len(self.stream.tasks), capacity, self.options.seed + self.order)
            return
        parts: list[Kept] = []
        for number, (task, count) in enumerate(zip(self.stream.tasks, counts, strict=True)):
            seed = self.options.seed + self.order * len(counts) + number
            parts.append(kept_of_real(memory, task, self.task_model, count, number * size, seed))
            yield joined(parts)

    def _joint(self) -> Iterator[Kept]:
        each = len(self.stream.dataset.train.labels) // len(self.stream.tasks)
        for number in range(len(self.stream.tasks)):
            yield self._data(slice(0, (number + 1) * each))

    def _one_by_one(self) -> Iterator[Kept]:
        each = len(self.stream.dataset.train.labels) // len(self.stream.tasks)
        for number in range(len(self.stream.tasks)):
            yield self._data(slice(number * each, (number + 1) * each))

    def _data(self, part: slice) -> Kept:
        images, labels = (np.asarray(array[part]) for array in self.stream.dataset.train)
        return Kept(images, labels, len(labels) * bytes_of_image(self.stream.dataset))

    @property
    def _classes(self) -> int:
        return self.stream.dataset.num_classes

    # Networks.

    def _trained(self, kept: Kept, after: int, way: Way, networks: Networks | None) -> Networks:
        """Networks after training on what is kept, from random weights or from those that there are."""
        memory = as_set(kept, self.stream.dataset.transform)
        training = self.options.full_training if way.real else self._training(memory)
        course = plan_course(self.model, memory, training, None)
        numbers = np.arange(self.options.num_nets)
        base = (_FULL_SEED if way.real else _SEED) + self.options.seed + self.order
        keys = keys_of(base + _OF_STAGE * after, numbers)
        if networks is None:
            return train_all(self.model.init, self.model, Starts(len(numbers), lambda n: 2 * (keys[n],)), course)

        def at(mine: np.ndarray) -> tuple[Any, jax.Array]:
            return jax.tree.map(lambda leaf: leaf[mine], networks), keys[mine]

        return train_all(as_it_is, self.model, Starts(len(numbers), at), course)

    def _training(self, memory: DistilledData) -> Training:
        protocol = self.options.protocol
        if protocol is None:
            protocol = scratch_protocol(self._set(0))
        like = self._set(0) if protocol.startswith("mtt") else memory  # which takes the learnt step size
        found = training_of(protocol, like, self.options.epochs)
        if not isinstance(found, Training):
            raise OptionError(
                "Networks are trained from scratch on the memories, in minibatches, but the "
                f'protocol is {protocol!r}. Use "dc" or "dsa".'
            )
        return found

    def _accuracies(self, networks: Networks, after: int) -> list[list[float]]:
        """(networks, tasks so far) on test."""
        logits = np.asarray(_logits(self.model.apply, networks, in_chunks(self.stream.dataset.test, self.model)[0]))
        logits = logits.reshape(len(logits), -1, self._classes)[:, : len(self.stream.dataset.test.labels)]
        return accuracies_of(logits, self.stream, after, self.options.scenario).tolist()


def accuracies_of(logits: np.ndarray, stream: Stream, after: int, scenario: str) -> np.ndarray:
    """Accuracy on each task up to number `after`, (networks, after + 1), of logits (networks, N, K) on the test split.

    Args:
        scenario: "class": among all classes so far; "task": among those of the image's own task.
    """
    labels, tasks, size = np.asarray(stream.dataset.test.labels), stream.task_of_test, stream.classes_per_task
    found = []
    for task in range(after + 1):
        mine = tasks == task
        first, last = (0, (after + 1) * size) if scenario == "class" else (task * size, (task + 1) * size)
        answers = first + logits[:, mine, first:last].argmax(-1)
        found.append((answers == labels[mine]).mean(-1))
    return np.stack(found, -1)


@functools.partial(jax.jit, static_argnums=0)
def _logits(apply: Any, networks: Networks, chunks: jax.Array) -> jax.Array:
    """(networks, chunks, images of a chunk, K)."""
    return lax.map(lambda params: lax.map(lambda images: apply(params, images), chunks), networks)
