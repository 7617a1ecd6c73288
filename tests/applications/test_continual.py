"""Continual learning: what matrices mean, what memories hold, and that it goes on where it was cut short."""

import dataclasses
import json

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.applications import ContinualOptions, learn_continually
from dd_jax.applications import continual as module
from dd_jax.applications.continual import accuracies_of
from dd_jax.applications.continual_result import (
    DISTILLED,
    FINE_TUNING,
    JOINT,
    MEASURES,
    Continual,
    Course,
    average_accuracy,
    backward_transfer,
    forgetting,
    incremental_accuracy,
)
from dd_jax.applications.memories import RESERVOIR, bytes_of_image, joined, kept_of_real, kept_of_set, reservoirs
from dd_jax.applications.streams import stream_of
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.methods import BpttOptions, DistributionMatchingOptions, TrajectoryMatchingOptions
from dd_jax.runs.experiment import Experiment

NET = "mlp:hidden=(4,)"
OPTIONS = ContinualOptions(
    num_tasks=2,
    num_orders=1,
    num_nets=2,
    memories=("random real", RESERVOIR),
    epochs=2,
    num_real=10,
    full_training=dd.Training(epochs=1, batch_size=50),
)


def means(task, model, seed, out):
    """In place of a distilled set: two class means of each class, or soft labels of them."""
    del model, seed, out
    made = as_distilled(mean_images(task, 2), SetShape(1, 1, 2), 0.01, dd.Protocol("dc", order="random"))
    return dataclasses.replace(made, transform=task.transform, class_names=task.class_names)


# Matrices.

NEVER_FORGETS = np.array([[0.9, np.nan, np.nan], [0.9, 0.8, np.nan], [0.9, 0.8, 0.7]])
FORGETS = np.array([[1.0, np.nan, np.nan], [0.6, 0.9, np.nan], [0.7, 0.3, 0.8]])


def test_a_network_that_never_forgets():
    assert forgetting(NEVER_FORGETS) == backward_transfer(NEVER_FORGETS) == 0
    assert average_accuracy(NEVER_FORGETS) == pytest.approx(0.8)
    assert forgetting(np.ones((1, 1))) == backward_transfer(np.ones((1, 1))) == 0


def test_a_network_that_forgets():
    assert average_accuracy(FORGETS) == pytest.approx(0.6)
    assert incremental_accuracy(FORGETS) == pytest.approx((1.0 + 0.75 + 0.6) / 3)
    assert forgetting(FORGETS) == pytest.approx((0.3 + 0.6) / 2)
    assert backward_transfer(FORGETS) == pytest.approx((-0.3 - 0.6) / 2)
    better = FORGETS.copy()
    better[1, 0] = 1.1  # it was at its best between
    assert forgetting(better) == pytest.approx((0.4 + 0.6) / 2)
    assert backward_transfer(better) == backward_transfer(FORGETS)


def test_memories_are_compared_order_by_order():
    rise = np.array([0.0, 0.1])
    ours, theirs = (NEVER_FORGETS + shift[:, None, None, None] for shift in (rise, rise - 0.2))
    matrices = {DISTILLED: ours, "herding": theirs, JOINT: ours + 0.1, FINE_TUNING: theirs}
    courses = tuple(Course(name, array, [1, 1]) for name, array in matrices.items())
    found = Continual(courses, "class", ((0, 1, 2), (2, 1, 0)), ("a", "b", "c"))
    assert found.beyond("herding").mean == pytest.approx(0.2)
    assert found.beyond("herding").std == pytest.approx(0)
    assert found.course(DISTILLED).measure("average accuracy").std == pytest.approx(0.05)
    assert "above it by more than the standard deviation" in found.sentences()[1]
    one = Continual(
        tuple(Course(name, array[:1], [1]) for name, array in matrices.items()), "task", ((0, 1),), ("a", "b")
    )
    assert "±" not in "".join(one.sentences())
    assert "+20.0 points from herding in the same bytes, in one order" in one.sentences()[1]


def test_the_trainings_are_named_with_their_epochs():
    def said(**changes):
        return module._in_words(ContinualOptions(**changes))

    full = "; on real data by gradient descent, 5 epochs."
    assert said(protocol="dc", epochs=3) == f"Networks are trained on memories by 'dc', cut to 3 of 300 epochs{full}"
    assert said(protocol="dc") == f"Networks are trained on memories by 'dc', 300 epochs{full}"
    assert "by the protocol of the sets, or 'dc', for 3 epochs in place of its number" in said(epochs=3)


# Streams.


def test_a_stream_has_every_class_once_and_as_many_images_of_each(digits):
    stream = stream_of(digits, 5, order=3, num_real=20)
    assert sorted(stream.order) == list(range(10))
    assert stream.dataset.class_names == tuple(digits.class_names[c] for c in stream.order)
    assert np.bincount(stream.dataset.train.labels).tolist() == 10 * [20]
    assert len(stream.dataset.test.labels) == len(digits.test.labels)
    for number, task in enumerate(stream.tasks):
        first = 2 * number
        assert task.class_names == stream.dataset.class_names[first : first + 2]
        assert task.train.images.shape == stream.tasks[0].train.images.shape
        assert task.validation.images.shape == stream.tasks[0].validation.images.shape
        of_class = np.asarray(digits.test.images)[np.asarray(digits.test.labels) == stream.order[first + 1]]
        np.testing.assert_array_equal(task.test.images[task.test.labels == 1], of_class)
    assert len({task.fingerprint for task in (*stream.tasks, *stream_of(digits, 5, 4, num_real=20).tasks)}) == 10
    with pytest.raises(OptionError, match="divide the 10 classes"):
        stream_of(digits, 3, order=0)


def test_the_same_images_whatever_the_order(digits):
    """So that orders differ in the order alone."""
    one, other = (stream_of(digits, 2, order, num_real=5) for order in (1, 2))
    for name in digits.class_names:
        images = [
            s.dataset.train.images[s.dataset.train.labels == s.dataset.class_names.index(name)] for s in (one, other)
        ]
        np.testing.assert_array_equal(*images)


def test_a_task_that_is_known_is_easier(digits):
    """Logits that know the class within each task, and are largest in the first task always."""
    stream = stream_of(digits, 5, order=0, num_real=5)
    labels = np.asarray(stream.dataset.test.labels)
    logits = 0.5 * np.eye(10)[labels] + np.repeat([1.0, 0, 0, 0, 0], 2)
    by_class, by_task = (accuracies_of(logits[None], stream, 4, scenario) for scenario in ("class", "task"))
    np.testing.assert_array_equal(by_task, np.ones((1, 5)))
    np.testing.assert_array_equal(by_class, [[1, 0, 0, 0, 0]])
    # After the first task the others aren't asked for, and their logits don't count.
    assert accuracies_of((logits + 9 * (np.arange(10) > 1))[None], stream, 0, "class").tolist() == [[1.0]]


# Memories.


def test_what_is_kept_of_a_task_has_the_labels_of_the_stream(digits):
    stream = stream_of(digits, 5, order=0, num_real=10)
    made = means(stream.tasks[2], None, 0, None)
    kept = kept_of_set(made, 4, 10)
    assert kept.labels.tolist() == [4, 4, 5, 5]
    assert kept.num_bytes == dd.storage_bytes(made)
    soft = np.array([[[0.9, 0.1], [0.8, 0.2], [0.3, 0.7], [0.0, 1.0]]], np.float32)
    whole = kept_of_set(dataclasses.replace(made, labels=soft), 4, 10).labels
    np.testing.assert_array_equal(whole[:, 4:6], soft[0])
    assert whole.sum() == pytest.approx(4)
    real = kept_of_real("random real", stream.tasks[2], None, 2, 4, 0)
    assert real.labels.tolist() == [4, 4, 5, 5]
    assert real.num_bytes == 4 * (64 * 4 + 4) == 4 * bytes_of_image(digits)
    assert joined([kept, real]).num_bytes == kept.num_bytes + real.num_bytes


def test_a_reservoir_is_a_uniform_sample_of_what_has_come(digits):
    stream = stream_of(digits, 5, order=0, num_real=20)
    after = reservoirs(stream.dataset, 5, 50, seed=0)
    assert [len(kept.labels) for kept in after] == [40, 50, 50, 50, 50]
    assert [kept.labels.max() // 2 for kept in after] == list(range(5))
    for kept in after:
        assert len(np.unique(kept.images, axis=0)) == len(kept.images)
        assert kept.num_bytes == len(kept.labels) * bytes_of_image(digits)
    shares = np.mean(
        [np.bincount(reservoirs(stream.dataset, 5, 50, seed=s)[-1].labels // 2, minlength=5) for s in range(100)], 0
    )
    np.testing.assert_allclose(shares, 10, atol=1.2)  # four standard errors


# Whole courses.


def same(one: Continual, other: Continual) -> bool:
    return all(
        a.name == b.name and a.num_bytes == b.num_bytes and np.array_equal(a.accuracies, b.accuracies, equal_nan=True)
        for a, b in zip(one.courses, other.courses, strict=True)
    )


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("continual") / "cl"
    return learn_continually(digits, means, NET, OPTIONS, out=out), out


@pytest.mark.slow
def test_every_way_is_measured_and_told(whole):
    found, out = whole
    assert [course.name for course in found.courses] == [DISTILLED, *OPTIONS.memories, JOINT, FINE_TUNING]
    for course in found.courses:
        assert course.accuracies.shape == (1, 2, 2, 2)
        below = np.tril(np.ones((2, 2), bool))
        assert np.isfinite(course.accuracies[0, :, below]).all()
        assert np.isnan(course.accuracies[0, :, ~below]).all()
    # A step size more than the labels: a real set of the same bytes has as many images, and none fits besides.
    ours, real, reservoir = (course.num_bytes[0] for course in found.memories)
    assert ours - 8 == real == reservoir == 20 * 260
    written = json.loads((out / "results.json").read_text())
    assert written["says"] == found.sentences()
    assert set(MEASURES) <= set(written["courses"][DISTILLED])
    assert len((out / "accuracies.csv").read_text().splitlines()) == 1 + 5 * 2 * 3
    assert (out / "report.html").read_text().count("<svg") == 1 + 5


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["fresh", "running"])
def test_a_course_that_was_cut_short_gives_the_same_bits(learner, digits, tmp_path, monkeypatch, capsys):
    options = dataclasses.replace(OPTIONS, learner=learner, memories=("random real",))
    straight = learn_continually(digits, means, NET, options)
    trained = []

    def cut(self, *args, train=module._Learner._trained):
        trained.append(args)
        if len(trained) == 4:  # the second task of the second way
            raise KeyboardInterrupt
        return train(self, *args)

    monkeypatch.setattr(module._Learner, "_trained", cut)
    with pytest.raises(KeyboardInterrupt):
        learn_continually(digits, means, NET, options, out=tmp_path)
    kept = sorted((tmp_path / "items").glob("*.json"))
    assert len(kept) == 3
    kept[0].write_text(kept[0].read_text().replace("1", "2", 1))
    capsys.readouterr()
    assert same(straight, learn_continually(digits, means, NET, options, out=tmp_path))
    assert "damaged" in capsys.readouterr().err
    before = len(trained)
    assert same(straight, learn_continually(digits, means, NET, options, out=tmp_path))
    assert len(trained) == before


@pytest.mark.slow
def test_a_kill_within_the_distilling_of_a_task(digits, tmp_path, monkeypatch):
    method = DistributionMatchingOptions(images_per_class=1, batch_size=8, protocol="dc", augment="none")
    experiment = Experiment(model=NET, method=method, num_outer_steps=4, eval_every=2, num_eval_nets=1)
    options = dataclasses.replace(OPTIONS, memories=(), scenario="task")
    straight = learn_continually(digits, experiment, options=options)

    def killed(seen):
        if seen.step == 2 and len(list((tmp_path / "distilled").iterdir())) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "distill", lambda *args, **kw: dd.distill(*args, **kw, callback=killed))
        with pytest.raises(KeyboardInterrupt):
            learn_continually(digits, experiment, options=options, out=tmp_path)
    assert (tmp_path / "distilled" / "order-0-task-1" / "checkpoints").is_dir()
    assert same(straight, learn_continually(digits, experiment, options=options, out=tmp_path))


@pytest.mark.slow
def test_experts_are_trained_on_each_task(digits, tmp_path):
    method = TrajectoryMatchingOptions(
        num_inner_steps=2, expert_epochs=1, max_start=1, augment="none", protocol="mtt-plain"
    )
    experiment = Experiment(
        model=NET, method=method, num_outer_steps=1, num_eval_nets=1, experts="digits-experts-smoke"
    )
    found = learn_continually(digits, experiment, options=dataclasses.replace(OPTIONS, memories=()), out=tmp_path)
    assert np.isfinite(found.course(DISTILLED).matrices[:, -1]).all()
    for task in range(2):
        experts = dd.load_experts(tmp_path / "distilled" / f"order-0-task-{task}-experts")
        assert experts.num_classes == 5
        assert len(experts.accuracies) == 1


@pytest.mark.slow
def test_from_the_command_line(tmp_path, capsys):
    words = ["--method", "dm", "--dataset", "digits", "--model", NET, "--images-per-class", "1"]
    words += ["--num-outer-steps", "1", "--num-eval-nets", "1", "--num-tasks", "2", "--num-orders", "1"]
    words += ["--num-nets", "2", "--epochs", "2", "--num-real", "10", "--memories", "herding"]
    words += ["--full-training.epochs", "1"]
    assert main(["apply", "continual", *words, "--out", str(tmp_path / "o")]) == 0
    assert "2 tasks of digits, class-incremental" in capsys.readouterr().out
    assert (tmp_path / "o" / "report.html").is_file()


@pytest.mark.slow
def test_shared_bases_are_one_memory_that_grows(digits, tmp_path):
    """The second task adds bases to those of the first, which stay, and both are stored once."""
    method = BpttOptions(
        images="bases", num_bases=3, made_per_class=1, downscale=1, num_inner_steps=2, batch_size=10, init_images="real"
    )
    experiment = Experiment(model=NET, method=method, num_outer_steps=2, eval_every=2, num_eval_nets=1)
    options = dataclasses.replace(OPTIONS, memories=(), shared_bases=True)
    found = learn_continually(digits, experiment, options=options, out=tmp_path)
    first, second = (dd.load_distilled(tmp_path / "distilled" / f"order-0-task-{task}") for task in range(2))
    assert first.learnt["bases"].shape == (3, 8, 8, 1)
    assert second.learnt["bases"].shape == (6, 8, 8, 1)
    assert second.learnt["coefficients"].shape == (5, 6)
    np.testing.assert_array_equal(second.learnt["bases"][:3], first.learnt["bases"])
    once = 4 * (6 * 64 + 5 * 3 + 5 * 6)  # bases; coefficients of three of them, and of six
    beside = sum(dd.storage_bytes(one) - one.learnt["bases"].nbytes - one.learnt["coefficients"].nbytes for one in
                 (first, second))  # fmt: skip
    assert found.course(DISTILLED).num_bytes == [once + beside]
    assert same(found, learn_continually(digits, experiment, options=options))
    with pytest.raises(OptionError, match="Only bases can be shared"):
        learn_continually(digits, Experiment(method=DistributionMatchingOptions()), options=options)


def test_what_makes_no_sense_is_refused(digits, monkeypatch):
    def refused(words, distil=means, **changes):
        with pytest.raises(OptionError, match=words):
            learn_continually(digits, distil, NET, dataclasses.replace(OPTIONS, **changes))

    refused("num_orders must be at least 1", num_orders=0)
    refused("Unknown scenario", scenario="domain")
    refused("Unknown memory 'herdin'", memories=("herdin",))
    refused("in minibatches", protocol="as-distilled")
    refused("know all classes, but each task has only some", distil=Experiment(pretrained="nets/x.safetensors"))
    monkeypatch.setattr("jax.process_count", lambda: 2)
    refused("one process")
