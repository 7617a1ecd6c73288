"""Trajectory matching: its loss, its gradient by finite differences, its windows, and what experts are good for."""

import dataclasses

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from cut_runs import cut_and_whole
from steps import all_steps, arrays_of, assert_gradient_is_that_of_finite_differences, one_step
from trajectories import experts_of, random_experts, trained_experts

import dd_jax as dd
from dd_jax.errors import DataError, DataWarning, OptionError
from dd_jax.inner.trajectories import trajectory_distance
from dd_jax.methods import TrajectoryMatchingOptions, gradient_matching, trajectory_matching
from dd_jax.methods import expert_windows as module
from dd_jax.methods.expert_answers import expert_logits, known_images
from dd_jax.methods.expert_windows import expert_windows
from dd_jax.methods.trajectory_loss import inner_batches, trajectory_gradient, trajectory_loss
from dd_jax.methods.trajectory_matching import images_of
from dd_jax.methods.trajectory_options import last_start
from dd_jax.synthetic import Pixels, SoftLabelled, StepSized

SMALL = {"num_inner_steps": 3, "expert_epochs": 1, "max_start": 3, "augment": "none", "learning_rate": 10.0}
OPTIONS = TrajectoryMatchingOptions(**SMALL, remat="steps")


@pytest.fixture(scope="module")
def experts(model, tiny):
    return trained_experts(model, tiny)


@pytest.fixture(scope="module")
def window(experts):
    return tuple(jax.tree.map(lambda leaf: leaf[0], experts.read(0, [s])) for s in (0, 1))


def learnable_of(model, options, dtype=np.float32):
    """A generic point: images of noise, labels of noise if they are learnt, a step size."""
    draw = np.random.default_rng(1)
    count = model.num_classes * options.images_per_class
    height, width, channels = model.image_shape
    shape = (count, options.canvas_size * height, options.canvas_size * width, channels)
    images = Pixels(jnp.asarray(draw.normal(size=shape), dtype))
    if options.learn_labels:
        images = SoftLabelled(images, jnp.asarray(draw.normal(size=(count, model.num_classes)), dtype))
    return images_of(model, options), StepSized(images, jnp.asarray(-1.0, dtype))


@pytest.mark.parametrize("distance", ["whole", "layers"])
def test_the_distance_is_zero_at_the_target_and_one_at_the_start(window, distance):
    start, target = window
    each = distance == "layers"
    np.testing.assert_array_equal(trajectory_distance(target, start, target, each), 0)
    np.testing.assert_allclose(trajectory_distance(start, start, target, each), 1, rtol=1e-6)
    half = jax.tree.map(lambda a, b: (a + b) / 2, start, target)
    np.testing.assert_allclose(trajectory_distance(half, start, target, each), 0.25, rtol=1e-4)


def test_each_layer_counts_alike_and_one_that_did_not_move_not_at_all():
    start = {"a": {"kernel": jnp.zeros(4), "bias": jnp.zeros(2)}, "b": {"kernel": jnp.zeros(3)}, "c": jnp.ones(2)}
    target = {"a": {"kernel": jnp.ones(4), "bias": jnp.zeros(2)}, "b": {"kernel": jnp.full(3, 9.0)}, "c": jnp.ones(2)}
    now = {"a": target["a"], "b": {"kernel": jnp.full(3, 4.5)}, "c": jnp.ones(2)}
    np.testing.assert_allclose(trajectory_distance(now, start, target), 3 * 4.5**2 / (4 + 3 * 81), rtol=1e-6)
    found, gradient = jax.value_and_grad(lambda p: trajectory_distance(p, start, target, True))(now)
    np.testing.assert_allclose(found, (0 + 0.25) / 2, rtol=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_the_loss_without_inner_steps_is_exactly_one(model, window):
    none = dataclasses.replace(OPTIONS, num_inner_steps=0)
    synthetic, learnable = learnable_of(model, none)
    for gradient in ("exact", "first_order"):
        gradient_of = jax.jit(trajectory_gradient(model, synthetic, dataclasses.replace(none, gradient=gradient)))
        value, found = gradient_of(learnable, jax.random.key(0), *window)
        assert value == 1
        assert all((leaf == 0).all() for leaf in jax.tree.leaves(found))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"learn_labels": True, "distance": "layers", "augment": "dsa", "batch_size": 2},
        {"canvas_size": 2, "canvas_samples": 2, "remat": "none", "augment": "dsa", "batch_size": 4},
        {"remat": "none", "images_per_class": 2, "batch_size": 4, "augment": "flip_rotate"},
    ],
    ids=["plain", "labels, layers and DSA", "canvases", "minibatches"],
)
def test_the_gradient_is_that_of_finite_differences(model, window, changes):
    """In images, labels and step size, each in a direction of its own."""
    options = dataclasses.replace(OPTIONS, **changes)
    synthetic, learnable = learnable_of(model, options, np.float64)
    start, target = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), window)
    loss = jax.jit(lambda x: trajectory_loss(model, synthetic, options)(x, jax.random.key(3), start, target))
    assert_gradient_is_that_of_finite_differences(loss, learnable)


def test_a_step_by_hand(model, tiny, experts):
    """Inner steps, distance, a step of the images, and of the step size in the units that its rate is said in."""
    options = {**SMALL, "num_inner_steps": 2, "step_size_learning_rate": 1e-5}
    method = trajectory_matching(model, experts=experts, **options)
    state, arrays = method.init(jax.random.key(0), tiny, 5), arrays_of(method, tiny)
    after, info = one_step(method.step, jax.random.key(1), state, arrays)
    start, target = (jax.tree.map(lambda leaf: leaf[0, 0], part) for part in arrays.arrays.experts[:2])
    labels = jnp.arange(3)

    def loss(images, size):
        params = start
        for _ in range(2):
            gradient = jax.grad(lambda p: -jax.nn.log_softmax(model.apply(p, images))[jnp.arange(3), labels].mean())(
                params
            )
            params = jax.tree.map(lambda p, g: p - size * g, params, gradient)
        square = [sum(jnp.square(a - b).sum() for a, b in zip(*map(jax.tree.leaves, pair), strict=True))
                  for pair in ((params, target), (start, target))]  # fmt: skip
        return square[0] / square[1]

    value, (of_images, of_size) = jax.jit(jax.value_and_grad(loss, (0, 1)))(state.learnable.learnable.images, 0.01)
    np.testing.assert_allclose(info.loss, value, rtol=1e-5)
    moved = after.learnable.learnable.images - state.learnable.learnable.images
    np.testing.assert_allclose(moved, -10.0 * of_images, rtol=1e-3, atol=1e-5 * np.abs(moved).max())
    change = after.learnable.step_size - state.learnable.step_size
    np.testing.assert_allclose(change, -1e-5 * of_size, rtol=0.01)
    assert info.start == arrays.arrays.experts.number[0, 0]


def test_the_step_size_stays_positive_where_it_would_not_by_itself(model, tiny, experts):
    """It starts much too large, and its own step of descent would take it below zero."""
    given = {**SMALL, "init_step_size": 2.0, "step_size_learning_rate": 0.02}
    method = trajectory_matching(model, experts=experts, **given)
    state, arrays = method.init(jax.random.key(0), tiny, 20), arrays_of(method, tiny)
    np.testing.assert_allclose(state.learnable.step_size, 2.0, rtol=1e-5)
    pair = jax.tree.map(lambda leaf: leaf[0, 0], arrays.arrays.experts)
    gradient_of = jax.jit(trajectory_gradient(model, images_of(model, OPTIONS), OPTIONS))
    gradient = gradient_of(state.learnable, jax.random.key(0), pair.start, pair.target)[1].raw_step_size
    assert 2.0 - 0.02 * gradient / -np.expm1(-2.0) < 0
    after, info = one_step(method.step, jax.random.key(1), state, arrays)
    assert 0 < info.step_size < 1
    np.testing.assert_array_equal(method.distilled(after).step_sizes, info.step_size[None])


def test_a_step_above_the_threshold_changes_nothing_but_the_count(model, tiny, experts):
    method = trajectory_matching(model, experts=experts, **SMALL, max_loss=1e-3)
    state, arrays = method.init(jax.random.key(0), tiny, 5), arrays_of(method, tiny)
    after, info = one_step(method.step, jax.random.key(1), state, arrays)
    assert info.loss > 1e-3
    assert info.updated == 0
    assert after.outer.step == 1
    before = state._replace(outer=state.outer._replace(step=after.outer.step))
    jax.tree.map(np.testing.assert_array_equal, after, before)
    above = arrays._replace(numbers={**arrays.numbers, "max_loss": jnp.asarray(1e3)})
    after, info = one_step(method.step, jax.random.key(1), state, above)
    assert info.updated == 1
    assert np.abs(after.learnable.learnable.images - state.learnable.learnable.images).max() > 0


def test_minibatches_go_through_the_whole_set_pass_by_pass(model, tiny):
    options = dataclasses.replace(OPTIONS, images_per_class=4, batch_size=5)
    synthetic, learnable = learnable_of(model, options)
    marked = jnp.broadcast_to(jnp.arange(12.0)[:, None, None, None], (12, 4, 4, 1))
    learnable = learnable._replace(learnable=learnable.learnable._replace(images=marked))
    batch_of, key = inner_batches(synthetic, options), jax.random.key(5)
    batches = [batch_of(learnable, key, jnp.int32(t)) for t in range(4)]
    seen = [np.asarray(batch.images[:, 0, 0, 0]) for batch in batches]
    for batch, numbers in zip(batches, seen, strict=True):
        np.testing.assert_array_equal(batch.labels, numbers // 4)
    for one in (seen[:2], seen[2:]):
        assert len(np.unique(np.concatenate(one))) == 10, "no image twice in a pass"
    assert set(np.concatenate(seen[:2])) != set(np.concatenate(seen[2:])), "another two are left out"


def test_windows_are_pairs_of_snapshots_the_same_however_many_a_window_has(experts):
    options = dataclasses.replace(OPTIONS, num_inits=2, expert_epochs=2, min_start=1, max_start=3)
    found = expert_windows(experts, options, 6)(7, 1)
    assert found.number.shape == (6, 2)
    assert set(found.number.ravel()) == {1, 2}
    whole = [experts.read(e, range(5)) for e in range(2)]
    seen = set()
    for step in range(6):
        for start in range(2):
            number = found.number[step, start]
            kernels = [leaf["Dense_0"]["kernel"][step, start] for leaf in (found.start, found.target)]
            mine = [e for e in range(2) if np.array_equal(whole[e]["Dense_0"]["kernel"][number], kernels[0])]
            assert len(mine) == 1
            np.testing.assert_array_equal(whole[mine[0]]["Dense_0"]["kernel"][number + 2], kernels[1])
            seen.add(mine[0])
    assert seen == {0, 1}
    single = expert_windows(experts, options, 1)(7, 9)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[3:4], b), found, single)
    other = expert_windows(experts, options, 6)(8, 1)
    assert not np.array_equal(found.start["Dense_0"]["kernel"], other.start["Dense_0"]["kernel"])


def test_the_range_of_starts_grows_where_asked_for():
    options = dataclasses.replace(OPTIONS, min_start=0, max_start=20, first_max_start=10, growth_steps=1000)
    assert [last_start(options, step) for step in (0, 99, 100, 500, 999, 1000, 9999)] == [10, 10, 11, 15, 19, 20, 20]
    assert last_start(dataclasses.replace(options, first_max_start=None), 0) == 20


def test_a_run_reads_the_starts_of_its_steps_and_goes_on_with_them_where_it_was_cut(
    model, tiny, experts, tmp_path, monkeypatch
):
    """In windows of three steps, cut after the fourth; the range of starts grows over the run."""
    monkeypatch.setattr(module, "_MOST_STEPS", 3)
    given = {"first_max_start": 1, "growth_steps": 8, "num_inits": 2, "protocol": "dc"}
    method = trajectory_matching(model, experts=experts, **SMALL, **given)
    assert method.feed.window == 3
    options = {"num_outer_steps": 9, "seed": 5, "eval_every": 4, "num_eval_nets": 1, "show_progress": False}
    cut, whole = cut_and_whole(method, tiny, tmp_path, 4, **options)
    for field, array in whole.distilled.arrays.items():
        np.testing.assert_array_equal(cut.distilled.arrays[field], array)
    found = [row["start"] for row in whole.history if "start" in row]
    expected = expert_windows(experts, dataclasses.replace(OPTIONS, **given), 9)(5, 0).number.mean(1)
    np.testing.assert_allclose(found, expected)
    assert found[0] == 0
    assert max(found) > 0.5


def last_answers(model, experts, images):
    """Logits of images by each expert at its end."""
    ends = [jax.tree.map(lambda leaf: leaf[0], experts.read(e, [4])) for e in range(len(experts.accuracies))]
    return np.stack([model.apply(params, images) for params in ends])


def test_learnt_labels_start_as_answers_of_experts_that_are_right_where_asked_for(model, tiny, experts):
    given = {**SMALL, "learn_labels": True, "init_images": "real"}
    method = trajectory_matching(model, experts=experts, **given, init_labels="expert")
    state = method.init(jax.random.key(0), tiny, 5)
    distilled, hard = method.distilled(state), np.arange(3)
    answers = last_answers(model, experts, distilled.images[0])
    for image in range(3):
        mine = answers[:, image]
        right = mine[mine.argmax(-1) == hard[image]]
        expected = jax.nn.softmax((right if len(right) else mine).mean(0))
        np.testing.assert_allclose(distilled.labels[0, image], expected, rtol=1e-4)
    certain = trajectory_matching(model, experts=experts, **given)
    labels = certain.distilled(certain.init(jax.random.key(0), tiny, 5)).labels[0]
    np.testing.assert_allclose(labels[hard, hard], 0.9, rtol=1e-5)


def test_answers_of_experts_that_are_wrong_do_not_count(model, tiny, experts):
    """Labels that one of two experts, both or neither gives."""
    images = tiny.train.images
    answers = last_answers(model, experts, images)
    named = answers.argmax(-1)
    neither = 3 - named[0] - named[1] if (named[0] != named[1]).all() else (named[0] + 1) % 3
    for labels in (named[0], named[1], neither):
        found = expert_logits(model, experts, images, jnp.asarray(labels))
        right = named == labels
        for image in range(len(labels)):
            mine = answers[right[:, image], image] if right[:, image].any() else answers[:, image]
            np.testing.assert_allclose(found[image], mine.mean(0), rtol=1e-4, atol=1e-5)
    assert (named[0] != named[1]).any(), "else this compares nothing"


def test_images_start_as_such_that_an_expert_knows_where_asked_for(model, tiny, experts):
    """A class of which it knows too few keeps all of its own, and that is said."""
    right = last_answers(model, experts, tiny.train.images)[0].argmax(-1) == tiny.train.labels
    assert 0 < right.mean() < 1
    known = np.bincount(np.asarray(tiny.train.labels)[right], minlength=3)
    found = known_images(model, experts, tiny, int(known.min())).train
    np.testing.assert_array_equal(found.images, tiny.train.images[np.flatnonzero(right)])
    rare = int(known.argmin())
    with pytest.warns(DataWarning, match=f"fewer than {known.min() + 1} images of"):
        found = known_images(model, experts, tiny, int(known.min()) + 1).train
    assert (np.asarray(found.labels) == rare).sum() == (np.asarray(tiny.train.labels) == rare).sum()
    method = trajectory_matching(model, experts=experts, **SMALL, init_images="real", init_correct=True)
    images = method.distilled(method.init(jax.random.key(0), tiny, 5)).images[0]
    rows = [int(np.argmin([np.abs(image - one).max() for one in tiny.train.images])) for image in images]
    assert right[np.asarray(rows)].all()


def test_labels_have_a_momentum_of_their_own(model, tiny, experts):
    """The second move of each part is momentum times its first one and its gradient."""
    given = {**SMALL, "learn_labels": True, "momentum": 0.25, "label_momentum": 0.75}
    method = trajectory_matching(model, experts=experts, **given)
    options = TrajectoryMatchingOptions(**given, remat="steps")
    gradient_of = jax.jit(trajectory_gradient(model, images_of(model, options), options))
    states, arrays = [method.init(jax.random.key(0), tiny, 5)], arrays_of(method, tiny)
    gradients = []
    for step in range(2):
        pair = jax.tree.map(lambda leaf, step=step: leaf[step, 0], arrays.arrays.experts)
        gradients.append(gradient_of(states[-1].learnable, jax.random.key(0), pair.start, pair.target)[1].learnable)
        states.append(one_step(method.step, jax.random.key(1), states[-1], arrays)[0])
    parts = [state.learnable.learnable for state in states]
    for part, rate, momentum in (("learnable", 10.0, 0.25), ("label_logits", 5.0, 0.75)):
        values = [jax.tree.leaves(getattr(one, part))[0] for one in parts]
        first, second = (jax.tree.leaves(getattr(one, part))[0] for one in gradients)
        expected = -rate * (momentum * first + second)
        np.testing.assert_allclose(values[2] - values[1], expected, rtol=2e-3, atol=2e-3 * np.abs(expected).max())


def test_several_starts_are_averaged(model, tiny, experts):
    options = {**SMALL, "num_inits": 3}
    method = trajectory_matching(model, experts=experts, **options)
    state, arrays = method.init(jax.random.key(0), tiny, 5), arrays_of(method, tiny)
    state = state._replace(outer=state.outer._replace(step=jnp.int32(1)))
    _, info = one_step(method.step, jax.random.key(1), state, arrays)
    loss = jax.jit(trajectory_loss(model, images_of(model, OPTIONS), OPTIONS))
    pairs = [jax.tree.map(lambda leaf, i=i: leaf[1, i], arrays.arrays.experts) for i in range(3)]
    each = [loss(state.learnable, jax.random.key(9), pair.start, pair.target) for pair in pairs]  # no draws: any key
    np.testing.assert_allclose(info.loss, np.mean(each), rtol=1e-5)
    assert np.ptp(each) > 1e-3


def accuracy(method, dataset, num_steps):
    """Accuracy of the set on test before and after so many steps, and the losses."""
    state, arrays = method.init(jax.random.key(0), dataset, num_steps), arrays_of(method, dataset)
    keys = jax.random.split(jax.random.key(1), num_steps)
    training = dd.Training(epochs=100, batch_size=256, learning_rate=0.1, schedule="constant", optimiser="sgd",
                           drop_last=False)  # fmt: skip

    def judged(state):
        given = {"num_nets": 5, "protocol": training, "num_curve_nets": 0}
        return dd.evaluate(method.distilled(state), method.model, dataset, **given).mean

    after, infos = all_steps(method.step, keys, state, arrays)
    return judged(state), judged(after), np.asarray(infos.loss)


@pytest.mark.usefixtures("optimised")
def test_trained_experts_help_and_untrained_ones_do_not(digits, digits_mlp):
    given = {"num_inner_steps": 10, "expert_epochs": 1, "max_start": 3, "augment": "none", "init_images": "real",
             "init_step_size": 0.1, "step_size_learning_rate": 1e-3, "learning_rate": 10.0}  # fmt: skip
    trained = trained_experts(digits_mlp, digits, count=4)
    method = trajectory_matching(digits_mlp, experts=trained, **given)
    before, after, losses = accuracy(method, digits, 200)
    assert losses[-64:].mean() < 0.8 * losses[:64].mean()
    assert after > before + 0.2
    untrained = random_experts(digits_mlp, digits, count=4)
    before, after, losses = accuracy(trajectory_matching(digits_mlp, experts=untrained, **given), digits, 200)
    assert losses[-64:].mean() > 0.95
    assert after < before + 0.03


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_start": 5}, "the experts arrays-mlp have snapshots 0 to 4"),
        ({"min_start": 3}, r"min_start \(3\) must be below max_start \(3\)"),
        ({"first_max_start": 4}, "first_max_start"),
        ({"batch_size": 4}, "from 1 to the 3 images"),
        ({"num_inner_steps": 0}, "num_inner_steps"),
        ({"gradient": "exakt"}, "Did you mean 'exact'"),
        ({"distance": "layer"}, "Did you mean 'layers'"),
        ({"augment": "rand_augment"}, "Unknown augment"),
        ({"init_labels": "expert"}, "learn_labels"),
        ({"init_correct": True, "init_images": "noise"}, "init_correct"),
        ({"learn_labels": True, "label_momentum": 1.0}, "label_momentum"),
        ({"max_loss": -1.0}, "max_loss must be positive"),
        ({"init_step_size": 0.0}, "init_step_size"),
        ({"step_size_learning_rate": 0.0}, "step_size_learning_rate"),
        ({"lerning_rate": 1.0}, "Did you mean 'learning_rate'"),
    ],
)
def test_options_that_make_no_sense_are_refused(model, experts, changes, words, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        trajectory_matching(model, experts=experts, **{**SMALL, **changes})


def test_experts_that_do_not_fit_are_refused(model, tiny, experts, digits, digits_mlp):
    with pytest.raises(OptionError, match=r"got no experts\. Make experts with dd-jax pretrain --snapshots"):
        trajectory_matching(model, **SMALL)
    with pytest.raises(OptionError, match="use trajectory_matching"):
        gradient_matching(model, experts=experts)
    with pytest.raises(DataError, match="another architecture"):
        trajectory_matching(digits_mlp, experts=experts, **SMALL)
    other = experts_of(experts.read(0, range(5)) and jax.tree.map(lambda leaf: leaf[None], experts.read(0, range(5))),
                       model, dataclasses.replace(tiny, fingerprint="other"))  # fmt: skip
    with pytest.raises(DataError, match="trained on another dataset"):
        trajectory_matching(model, experts=other, **SMALL).arrays(tiny)
