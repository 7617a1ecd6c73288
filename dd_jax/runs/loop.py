"""The host loop: dispatch outer steps, select on validation, checkpoint, record, resume."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from dd_jax.errors import DDJaxError, DivergedError, values_at_least
from dd_jax.evaluation import Evaluation, evaluate
from dd_jax.inner import on_one, replicate
from dd_jax.methods import Method
from dd_jax.models import check_fits
from dd_jax.outcomes.spread import known_to
from dd_jax.renamed import renamed
from dd_jax.runs.directory import RunDirectory, append_metrics, open_run, read_metrics, truncate_metrics
from dd_jax.runs.dispatch import Pace, first_non_finite, mesh_for, run_steps, start_state
from dd_jax.runs.estimates import check_memory, peak_memory
from dd_jax.runs.feeds import Arrays
from dd_jax.runs.interrupts import stop_requests
from dd_jax.runs.metrics import rollback_metrics, training_metrics, validation_metrics
from dd_jax.runs.pictures import save_frame
from dd_jax.runs.places import whole_file, whole_reading
from dd_jax.runs.processes import agree, lost_processes, on_first
from dd_jax.runs.progress import note, progress
from dd_jax.runs.provenance import provenance
from dd_jax.runs.rollback import FACTOR, MAX_ROLLBACKS, Good, collapsed, good_state, with_smaller_rate
from dd_jax.runs.tensorboard import TensorBoard, check_tensorboard, open_tensorboard
from dd_jax.runs.warm_start import learnt_by
from dd_jax.seeds import check_seed, key_of_seed
from dd_jax.storage import checkpoint
from dd_jax.storage.artefact import holds, save_distilled
from dd_jax.synthetic import too_few_real
from dd_jax.types import Dataset, DistilledData

_VALIDATION_SEED = 2_000_003  # networks that the best set is selected with; never trained with nor reported on
_CHECKPOINT_SECONDS = 60.0  # between two checkpoints at most, beyond the one after each validation
_FEW_IMAGES = 100  # of a validation split, below which accuracies are known to ± 10 points at worst
_ROWS = 200  # lines of training metrics that a run writes, about


@dataclasses.dataclass(frozen=True)
class Run:
    """A finished run. distilled: the set that was best on validation; validation: its score there, which is accuracy
    unless the set is for another outcome.

    Attributes:
        history: the rows of the metrics.
        seconds: time spent distilling, over all the sessions of the run.
        memory: peak in bytes, as far as it was recorded.
        out: the run directory, or None.
    """

    distilled: DistilledData
    validation: float
    history: list[dict[str, Any]]
    seconds: float
    out: Path | None

    @property
    def memory(self) -> int | None:
        return max((row["memory"] for row in self.history if "memory" in row), default=None)


class Validated(NamedTuple):
    """What a callback of `distill` sees, after each validation.

    Attributes:
        step: outer steps done, of `num_outer_steps`.
        info: what the last outer step reports, such as its loss; empty before the first one.
        validation: score of the set as it now is.
        best: the highest score so far.
        distilled: the set as it now is.
    """

    step: int
    num_outer_steps: int
    info: Mapping[str, float]
    validation: float
    best: float
    distilled: DistilledData


class RunInterrupted(KeyboardInterrupt):
    """The user asked for an end; `run` is what there is so far."""

    def __init__(self, message: str, run: Run):
        super().__init__(message)
        self.run = run


class Best(NamedTuple):
    """The distilled set with the highest accuracy on validation so far; among equal ones the last."""

    arrays: dict[str, jax.Array]
    accuracy: jax.Array
    step: jax.Array


class Progress(NamedTuple):
    """What a checkpoint holds. state: the method's; good: where to go back to; seconds: time spent so far."""

    state: Any
    best: Best
    good: Good
    seconds: jax.Array


@renamed(num_steps="num_outer_steps", data="dataset")
def distill(
    method: Method,
    dataset: Dataset,
    *,
    num_outer_steps: int,
    seed: int = 0,
    out: str | Path | None = None,
    eval_every: int | None = None,
    num_eval_nets: int = 10,
    show_progress: bool = True,
    record: Mapping[str, Any] | None = None,
    devices: int | None = None,
    max_rollbacks: int = MAX_ROLLBACKS,
    tensorboard: bool = False,
    patience: int | None = None,
    callback: Callable[[Validated], bool | None] | None = None,
    start_from: str | Path | None = None,
) -> Run:
    """Run `num_outer_steps` of `method` on `dataset` and return the distilled set that was best on validation.

    Args:
        out: the run directory. The same call with the same `out` continues an interrupted run to the same bits, and
            returns at once if the run is finished. A start that fails leaves nothing there. None: keep everything in
            memory.
        seed: from 0 to 2**63 - 1; each gives a run of its own.
        eval_every: outer steps between two validations. None: twenty validations over the run.
        num_eval_nets: networks to train at each validation.
        record: further entries for the recorded configuration. A run resumes only if they are the same.
        devices: number of devices that share the work of an outer step. None: as many as make it faster. The results
            are equal up to float rounding.
        max_rollbacks: how often a run may return to its last good state and halve its outer learning rate, if its
            loss is no longer finite or its validation accuracy has collapsed.
        tensorboard: also write metrics and pictures for TensorBoard into `out`; needs dd-jax[tensorboard].
        patience: validations in a row without a better set before the run ends. None: it runs to the last outer step.
        callback: called after each validation, when everything is saved. If it returns True the run ends there, and the
            same call continues from there. All of several processes call it.
        start_from: the directory of another run, which had learnt what this one starts from, in place of `init_images`
            and the like: images, labels, step sizes. The optimiser and its schedule begin anew.

    Raises:
        DataError: if data and model don't match.
        OptionError: with advice, if an outer step can't fit into memory.
        DivergedError: if it diverges once more (the last good checkpoint stays).
        RunError: if `out` holds another configuration or can't be written, or `start_from` holds no such run.
        RunInterrupted: on Ctrl-C, after a checkpoint.
    """
    values_at_least(0, num_outer_steps=num_outer_steps, max_rollbacks=max_rollbacks)
    values_at_least(1, num_eval_nets=num_eval_nets, eval_every=eval_every, patience=patience)
    seed = check_seed(seed)
    check_fits(method.model, dataset.train, dataset.num_classes)
    if tensorboard:
        check_tensorboard()
    eval_every = eval_every or max(1, num_outer_steps // 20)
    options = (num_outer_steps, seed, eval_every, num_eval_nets, max_rollbacks, patience, record, start_from)
    config = asked_config(method, dataset, *options)
    with contextlib.ExitStack() as stack:
        stack.enter_context(lost_processes())
        mesh = mesh_for(method, devices)
        directory = None
        if out is not None:
            reading = None if "source" in config else whole_reading(dataset.reading)
            directory = on_first(lambda: stack.enter_context(open_run(out, config, reading)))
        loop = _Loop(method, dataset, num_outer_steps, seed, eval_every, num_eval_nets, max_rollbacks, directory, mesh)
        loop.patience, loop.callback = patience, callback
        stack.callback(loop.arrays.close)
        stop = stack.enter_context(stop_requests())
        loop.restore(start_from)
        if tensorboard and directory is not None:
            loop.tensorboard = stack.enter_context(open_tensorboard(directory.path / "tensorboard", loop.step))
        loop.run(stack.enter_context(progress(num_outer_steps, loop.step, show_progress)), stop)
        return loop.result()


def run_config(method: Method, dataset: Dataset) -> dict[str, Any]:
    """What tells one run from another, as plain values."""
    return {
        "method": {"name": method.name, **method.hyperparameters},
        "model": {"name": method.model.name, **method.model.settings},
        "dataset": {"name": dataset.name, "fingerprint": dataset.fingerprint, **_streamed(dataset)},
    }


def asked_config(
    method: Method,
    dataset: Dataset,
    num_outer_steps: int,
    seed: int,
    eval_every: int | None,
    num_eval_nets: int,
    max_rollbacks: int,
    patience: int | None,
    record: Mapping[str, Any] | None = None,
    start_from: str | Path | None = None,
) -> dict[str, Any]:
    """The configuration of a run: what `distill`, whose arguments these are, records and compares."""
    return {
        **run_config(method, dataset),
        "num_outer_steps": num_outer_steps,
        "seed": seed,
        "eval_every": eval_every or max(1, num_outer_steps // 20),
        "num_eval_nets": num_eval_nets,
        "max_rollbacks": max_rollbacks,
        **({} if patience is None else {"patience": patience}),  # which runs from before didn't have
        **({} if start_from is None else {"start_from": whole_file(str(start_from))}),
        **(record or {}),
    }


def _streamed(dataset: Dataset) -> dict[str, int]:
    """How a training split that isn't all in memory is read; nothing for one that is."""
    if dataset.stream is None:
        return {}
    return {"resident_images": len(dataset.train.labels), "steps_of_a_part": dataset.stream.window}


class _Loop:
    """The state of the host loop; everything that a checkpoint must bring back is in `progress`."""

    def __init__(
        self,
        method,
        dataset,
        num_outer_steps,
        seed,
        eval_every,
        num_eval_nets,
        max_rollbacks,
        directory: RunDirectory | None,
        mesh,
    ):
        self.method, self.dataset, self.directory, self.mesh = method, dataset, directory, mesh
        self.max_rollbacks, self.seed = max_rollbacks, seed
        self.num_outer_steps, self.eval_every, self.num_eval_nets = num_outer_steps, eval_every, num_eval_nets
        init_key, self.key = jax.random.split(key_of_seed(seed))
        state = start_state(method, init_key, dataset, num_outer_steps, mesh)
        best = Best(_arrays(method.distilled(on_one(state))), jnp.float32(-1), jnp.int32(0))
        self.progress = Progress(state, best, good_state(on_one(state), 0, 0), jnp.float32(0))
        self.key = replicate(self.key, mesh)
        self.arrays = Arrays(method, dataset, seed, num_outer_steps, mesh)
        self.step, self.validated = 0, False
        self.history: list[dict[str, Any]] = []
        self.pending: list[Any] = []  # infos of the steps since the last row of metrics
        self.saved_at = self.clock = time.monotonic()
        self.before = 0.0
        self.tensorboard: TensorBoard | None = None
        self.patience: int | None = None
        self.callback: Callable[[Validated], bool | None] | None = None
        self.ended = False  # by the callback

    def restore(self, start_from: str | Path | None) -> None:
        """Go on where the newest intact checkpoint is, if there is one; else from what another run has learnt."""
        on_first(self._read_checkpoint)
        self.step, found = agree(self.step, bool(self.history))
        if found:
            self.progress = self.progress._replace(state=replicate(self.progress.state, self.mesh))
        if found and jax.process_count() > 1:
            shared = {name: on_one(replicate(getattr(self.progress, name), self.mesh)) for name in ("best", "good")}
            self.progress = self.progress._replace(**shared)
        self.validated = bool(found)
        if found:
            on_first(self._mend_set)
            return
        if start_from is not None:
            self._start_from(start_from)
        self._tell_few()

    def _start_from(self, run: str | Path) -> None:
        state = on_one(self.progress.state)
        named = run_config(self.method, self.dataset)["dataset"]

        def read() -> None:
            nonlocal state
            learnable, notes = learnt_by(run, state, named)
            for line in notes:
                note(line)
            state = state._replace(learnable=learnable)

        on_first(read)
        best = self.progress.best._replace(arrays=_arrays(self.method.distilled(state)))
        self.progress = Progress(replicate(state, self.mesh), best, good_state(state, 0, 0), jnp.float32(0))

    def _tell_few(self) -> None:
        """Say where a class has more images than there are real ones, and where few images choose the set."""
        images = len(self.dataset.validation.labels)
        if 0 < images < _FEW_IMAGES and self.num_outer_steps:
            known = f"± {100 * known_to(0.5, images):.0f} points at worst"
            there = f"{images} image{'s' if images > 1 else ''}"
            note(
                f"Note: The validation split has {there}, so an accuracy on it is only known to {known}. Which "
                "set is kept may be chance."
            )
        labels = self.progress.best.arrays["labels"]
        if labels.ndim == 2 and self.dataset.stream is None:
            real = np.asarray(self.dataset.train.labels)
            if repeats := too_few_real(np.asarray(labels), real, self.dataset.class_names):
                note(f"Note: {repeats}")

    def _mend_set(self) -> None:
        """Write the set again if it isn't what the checkpoint says: a kill came between them, or it was damaged."""
        if self.directory is None:
            return
        folder, best = self.directory.distilled, self.best()
        if not holds(folder, best, outer_steps_done=self.step):
            save_distilled(folder, best, self._provenance())

    def _read_checkpoint(self) -> None:
        if self.directory is None:
            return
        for line in self.directory.notes:
            note(line)
        template = self.progress._replace(state=on_one(self.progress.state))
        restored = checkpoint.restore_latest(self.directory.checkpoints, template)
        self.step = restored.step if restored else -1
        truncate_metrics(self.directory, self.step, int(restored.tree.good.rollbacks) if restored else 0)
        self.step = max(self.step, 0)
        if restored is None:
            return
        self.progress, self.before = restored.tree, float(restored.tree.seconds)
        self.history = read_metrics(self.directory.metrics_path)
        for line in restored.notes:
            note(line)
        note(f"Resuming {self.directory.path} at step {self.step} of {self.num_outer_steps}.")

    def run(self, show: Callable[..., None], stop: Callable[[], bool]) -> None:
        """Outer steps until the end, or until asked to stop."""
        if self.step < self.num_outer_steps:
            first = self.arrays.at(self.step)
            ahead = self.arrays.window_bytes
            check_memory(self.method, self.mesh, self.key, self.progress.state, first, ahead)
        pace = Pace()
        if not self.validated:
            self.validate(show)
        while self.step < self.num_outer_steps and not self.ends_early():
            to_validation = self.eval_every - self.step % self.eval_every
            left = self.arrays.left(self.step) or to_validation
            count = pace.start(min(to_validation, left, self.num_outer_steps - self.step))
            count, stopping, saving = agree(count, stop(), time.monotonic() - self.saved_at > _CHECKPOINT_SECONDS)
            if stopping:
                self.save()
                raise RunInterrupted(self._stopped(), self.result())
            numbers = replicate((jnp.int32(self.step), jnp.int32(count)), self.mesh)
            arrays = self.read_arrays()
            state, infos = run_steps(self.method.step, self.mesh, self.key, self.progress.state, arrays, *numbers)
            del arrays
            infos = jax.tree.map(lambda leaf, count=count: np.asarray(leaf)[:count], infos)
            self.progress = self.progress._replace(state=state)
            pace.done(count)
            bad = first_non_finite(infos, count)
            if bad is not None:
                # At the first step after a good state its outer rate hasn't changed anything yet.
                futile = self.step + bad == int(self.progress.good.step)
                self.go_back(self.step + bad + 1, "The outer loss or its gradient is not finite", futile)
                continue
            self.step += count
            self.pending.append(infos)
            show(self.step, **self._shown(infos))
            if self.step % self.eval_every == 0 or self.step == self.num_outer_steps:
                self.validate(show)
            elif saving:
                self.save()

    def ends_early(self) -> bool:
        """Whether the callback has ended the run, or no better set was found for as long as there is patience."""
        since_best = self.step - self._best_since()
        if self.patience is not None and since_best >= self.patience * self.eval_every:
            note(f"Ended at outer step {self.step}: the last {self.patience} validations found no better set.")
            return True
        return self.ended

    def _best_since(self) -> int:
        """The step at which the highest accuracy was first reached: sets after it that are as good are not better."""
        best = self.progress.best
        as_good = [row["step"] for row in self.history if np.float32(row.get("validation", -1)) >= best.accuracy]
        return min([*as_good, int(best.step)])

    def read_arrays(self) -> Any:
        """The arrays of the next step; where they can't be read, what is done so far is saved first."""
        try:
            return self.arrays.at(self.step)
        except (DDJaxError, OSError):
            if self.pending:
                self.save()
            raise

    def validate(self, show: Callable[..., None]) -> None:
        """Evaluate on validation, keep the set if it is the best so far, and checkpoint."""
        distilled = self.method.distilled(on_one(self.progress.state))
        found = evaluate(
            distilled,
            self.method.model,
            self.dataset,
            num_nets=self.num_eval_nets,
            split="validation" if len(self.dataset.validation.labels) else "train",
            seed=_VALIDATION_SEED,
            pretrained=self.method.pretrained,
            part="selection",
            num_curve_nets=0,
        )
        best = float(self.progress.best.accuracy)
        if collapsed(found, best, self.dataset.num_classes):
            self.go_back(self.step, f"Validation accuracy fell from {best:.1%} to {found.score:.1%}")
            return
        if np.float32(found.score) >= best:
            arrays = Best(_arrays(distilled), jnp.float32(found.score), jnp.int32(self.step))
            self.progress = self.progress._replace(best=arrays)
        good = good_state(on_one(self.progress.state), self.step, int(self.progress.good.rollbacks))
        self.progress = self.progress._replace(good=good)
        show(self.step, validation=found.score, memory=peak_memory())
        info = self._last_info()
        self.save(found, distilled)
        if self.callback is not None:
            best = float(self.progress.best.accuracy)
            seen = Validated(self.step, self.num_outer_steps, info, found.score, best, self._whole(distilled))
            self.ended = bool(self.callback(seen))

    def go_back(self, step: int, why: str, futile: bool = False) -> None:
        """Go on from the last good state with a smaller outer rate; DivergedError if that can't help any more."""
        good = self.progress.good
        first = int(good.step)
        if futile or self.method.scale_learning_rate is None or good.rollbacks >= self.max_rollbacks:
            self._stop_diverged(step, why)
        assert self.method.scale_learning_rate is not None
        good = with_smaller_rate(good, self.method.scale_learning_rate)
        rate = FACTOR ** int(good.rollbacks)
        text = f"{why} at outer step {step}: back to step {first}, with {rate:g} of the outer learning rate."
        note(text)
        state = replicate(jax.tree.map(jnp.asarray, good.state), self.mesh)
        self.progress = self.progress._replace(state=state, good=good)
        self.step, self.pending = first, []
        self.history = [row for row in self.history if row["step"] <= first]
        on_first(lambda: self._drop_after(first))
        self.save(event=rollback_metrics(first, int(good.rollbacks), text))

    def _drop_after(self, step: int) -> None:
        """Remove what was written after `step`; the checkpoints first, as they want the metrics up to them."""
        if self.directory is not None:
            checkpoint.drop_after(self.directory.checkpoints, step)
            truncate_metrics(self.directory, step, int(self.progress.good.rollbacks))

    def save(
        self,
        found: Evaluation | None = None,
        validated: DistilledData | None = None,
        event: Mapping[str, Any] | None = None,
    ) -> None:
        """Write metrics, checkpoint and artefact, in an order that any kill leaves consistent."""
        rows = training_metrics(self.step, self.pending, max(1, self.num_outer_steps // _ROWS))
        self.pending = []
        if found is not None:
            rows.append(validation_metrics(self.step, found, self.seconds, peak_memory()))
        if event is not None:
            rows.append(dict(event))
        self.history += rows
        self.progress = self.progress._replace(seconds=jnp.float32(self.seconds))
        on_first(lambda: self._write(rows, validated))
        self.saved_at = time.monotonic()

    def _write(self, rows: list[dict[str, Any]], validated: DistilledData | None) -> None:
        if self.directory is not None:
            if validated is not None:
                save_frame(self.directory.figures / "evolution", self.step, self._whole(validated))
                if self.tensorboard is not None:
                    self.tensorboard.picture(self.step, self._whole(validated))
            append_metrics(self.directory, rows)
            if self.tensorboard is not None:
                self.tensorboard.metrics(rows)
            checkpoint.save(self.directory.checkpoints, self.step, self.progress)
            save_distilled(self.directory.distilled, self.best(), self._provenance())

    @property
    def seconds(self) -> float:
        return self.before + time.monotonic() - self.clock

    def best(self) -> DistilledData:
        """The best set so far, with everything that a user of it needs."""
        template = self.method.distilled(on_one(self.progress.state))
        return self._whole(template.with_arrays(self.progress.best.arrays))

    def _whole(self, distilled: DistilledData) -> DistilledData:
        """A set with everything that a user of it needs."""
        return dataclasses.replace(distilled, transform=self.dataset.transform, class_names=self.dataset.class_names)

    def _last_info(self) -> dict[str, float]:
        """The numbers that the last outer step reports."""
        if not self.pending:
            return {}
        last = self.pending[-1]._asdict()
        return {name: float(values[-1]) for name, values in last.items() if np.ndim(values) == 1}

    def _shown(self, infos: Any) -> dict[str, float]:
        """What the progress display tells of the last of these steps."""
        names = [name for name in self.method.shown if hasattr(infos, name)]
        return {name: float(getattr(infos, name)[-1]) for name in names}

    def result(self) -> Run:
        out = self.directory.path if self.directory else None
        best = self.progress.best
        return Run(self.best(), float(best.accuracy), self.history, float(self.progress.seconds), out)

    def _stop_diverged(self, step: int, why: str) -> NoReturn:
        kept = f" The checkpoints before it are intact in {self.directory.path}." if self.directory else ""
        done = int(self.progress.good.rollbacks)
        tried = f", after {done} rollbacks with half the outer learning rate each" if done else ""
        raise DivergedError(
            f"{why} at outer step {step}{tried}.{kept} Try {self.method.advice.diverged}.",
            step,
            self.best() if float(self.progress.best.accuracy) >= 0 else None,
        )

    def _stopped(self) -> str:
        where = f"; the same command continues it ({self.directory.path})" if self.directory else ""
        return f"Stopped at outer step {self.step} of {self.num_outer_steps}{where}."

    def _nets(self) -> int:
        """Networks at a validation: fewer than asked for where the init is fixed, or few are kept to choose by."""
        validations = [row["validation_nets"] for row in self.history if "validation_nets" in row]
        return validations[-1] if validations else self.num_eval_nets

    def _provenance(self) -> dict[str, Any]:
        best = self.progress.best
        return {
            **run_config(self.method, self.dataset),
            "validation": {"accuracy": float(best.accuracy), "nets": self._nets(), "step": int(best.step)},
            "split_sizes": {part: len(getattr(self.dataset, part).labels) for part in ("validation", "test")},
            "outer_steps_done": self.step,
            "outer_seed": self.seed,
            "rollbacks": int(self.progress.good.rollbacks),
            "made_with": provenance(),
        }


def _arrays(distilled: DistilledData) -> dict[str, jax.Array]:
    """The learnt arrays, in buffers of their own: those of the state are donated at the next step."""
    return {name: jnp.array(array, copy=True) for name, array in distilled.arrays.items()}
