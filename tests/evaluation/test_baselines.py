"""Baselines: the sets are what they are called, and the test split is read once."""

import dataclasses
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import BASELINES, Evaluation, contest, coresets
from dd_jax.parameterisation import Parameterisation
from dd_jax.types import DistilledData, Protocol

module = importlib.import_module("dd_jax.evaluation.baselines")  # its name in the package is the function's


@pytest.fixture(scope="module")
def distilled() -> DistilledData:
    """The shape of a set for the digits: two batches of one image per class, once."""
    labels = jnp.tile(jnp.arange(10, dtype=jnp.int32), (2, 1))
    return DistilledData({"images": jnp.zeros((2, 10, 8, 8, 1))}, labels, jnp.full(2, 0.1))


@pytest.fixture(scope="module")
def train(digits):
    return tuple(map(np.asarray, digits.train))


def test_class_means_are_the_hand_computed_ones(digits, train):
    found = coresets.mean_images(digits, 3)
    images, labels = train
    assert found.shape == (10, 3, 8, 8, 1)
    for c in range(10):
        np.testing.assert_allclose(found[c], images[labels == c].mean(0)[None].repeat(3, 0), rtol=1e-4, atol=1e-5)


def test_one_centre_per_class_is_the_class_mean(digits):
    one = coresets.kmeans_images(digits, 1, seed=0)
    np.testing.assert_allclose(one, coresets.mean_images(digits, 1), rtol=1e-4, atol=1e-4)


def test_centres_are_means_of_their_clusters(digits, train):
    images, labels = train
    centres = coresets.kmeans_images(digits, 3, seed=0)[4].reshape(3, -1)
    mine = images[labels == 4].reshape(-1, 64)
    nearest = ((mine[:, None] - centres[None]) ** 2).sum(-1).argmin(1)
    for i in range(3):
        np.testing.assert_allclose(centres[i], mine[nearest == i].mean(0), rtol=0.02, atol=0.02)


def test_random_sets_follow_the_seed_and_hold_training_images_of_their_class(digits, train):
    images, labels = train
    known = {image.tobytes(): int(c) for image, c in zip(images, labels, strict=True)}
    one, again, other = (coresets.random_images(digits, 4, seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)
    for c in range(10):
        assert [known[image.tobytes()] for image in one[c]] == [c] * 4
    assert len({image.tobytes() for image in one.reshape(40, -1)}) == 40


def test_more_images_per_class_than_there_are():
    generator = np.random.default_rng(0)
    images, labels = generator.uniform(size=(12, 4, 4, 1)), np.repeat(np.arange(3), 4)
    data = dd.dataset_from_arrays(images, labels, test=(images, labels), validation=(images, labels))
    for make in (coresets.random_images, coresets.kmeans_images, coresets.mean_images):
        found = make(data, 9, 0)
        assert found.shape == (3, 9, 4, 4, 1)
        assert found.dtype == np.float32
        assert np.isfinite(found).all()
    times = np.unique(coresets.random_images(data, 9, 0)[0].reshape(9, -1), axis=0, return_counts=True)[1]
    assert sorted(times) == [2, 2, 2, 3], "every image twice before any comes a third time"


def test_as_distilled_puts_the_classes_in_order(digits):
    shape = coresets.SetShape(num_batches=2, num_epochs=3, images_per_class=2)
    images = np.arange(10 * 4.0).reshape(10, 4, 1, 1, 1) * np.ones((1, 1, 8, 8, 1))
    found = coresets.as_distilled(images, shape, 0.3, Protocol(init="fixed"))
    assert found.images.shape == (2, 20, 8, 8, 1)
    np.testing.assert_array_equal(found.images[..., 0, 0, 0].astype(int) // 4, found.labels)
    assert len(np.unique(found.images[..., 0, 0, 0])) == 40
    np.testing.assert_allclose(found.step_sizes, np.full(6, 0.3))
    assert found.protocol.init == "fixed"
    assert coresets.SetShape.of(found, 10) == shape


@pytest.mark.parametrize(("k", "p"), [(1, 1), (1, 2), (3, 2), (5, 1)])
def test_neighbours_are_brute_force(digits, k, p):
    images = coresets.random_images(digits, 2, 0)
    known, labels = images.reshape(20, -1), np.repeat(np.arange(10), 2)
    queries = np.asarray(digits.test.images).reshape(-1, 64)
    distances = (abs(queries[:, None] - known[None]) ** p).sum(-1)
    votes = np.eye(10)[labels[np.argsort(distances, axis=1, kind="stable")[:, :k]]].sum(1)
    right = votes.argmax(1) == np.asarray(digits.test.labels)  # of equally many votes the lowest class wins
    ordered = np.sort(distances, axis=1)
    clear = ordered[:, k] - ordered[:, k - 1] > 1e-4  # pixels are whole numbers: many distances are equal
    assert clear.mean() > 0.8
    np.testing.assert_array_equal(module._hits(coresets.as_vectors(images, 2), digits.test, k, p)[clear], right[clear])


@pytest.fixture
def small(monkeypatch):
    """Two step sizes to choose from instead of eight."""
    monkeypatch.setattr(contest, "STEP_SIZES", (0.02, 0.2))


@pytest.mark.usefixtures("small")
def test_all_on_digits(distilled, digits, digits_mlp):
    found = dd.baselines(distilled, digits_mlp, digits, num_nets=4, num_sets=2, num_candidates=3)
    assert tuple(found) == BASELINES
    for name, (evaluation, chosen) in found.items():
        assert evaluation.split == "test"
        counts = np.bincount(digits.test.labels, minlength=10)
        np.testing.assert_allclose(evaluation.per_class @ counts / counts.sum(), evaluation.mean, rtol=1e-5)
        assert set(chosen) == {"k", "p"} if name.startswith("k-NN") else chosen["step_size"] in (0.02, 0.2)
        assert evaluation.n == (2 if name.startswith("k-NN") else 4)
    assert found["k-NN k-means"].evaluation.mean > 0.7, "two centres per class do well on digits"
    again = dd.baselines(distilled, digits_mlp, digits, names=["random real"], num_nets=4, num_sets=2)
    np.testing.assert_array_equal(
        again["random real"].evaluation.accuracies, found["random real"].evaluation.accuracies
    )


def scripted(calls, score):
    """An `evaluate` that trains nothing: it records what it is asked and answers by `score`(images, size, split)."""

    def evaluate(distilled, model, dataset, *, num_nets, split, seed, pretrained, part, num_curve_nets, protocol):
        assert (pretrained, protocol) == (None, "as-distilled")
        calls.append((split, seed, num_nets, float(distilled.step_sizes[0])))
        accuracy = score(np.asarray(distilled.images), float(distilled.step_sizes[0]), split)
        return Evaluation(np.full(num_nets, accuracy), np.full(10, accuracy), np.zeros((0, 2)), split)

    return evaluate


@pytest.mark.parametrize("name", ["random real", "best of random", "class mean", "k-means"])
def test_the_test_split_is_read_once_per_reported_set(monkeypatch, distilled, digits, digits_mlp, name):
    calls = []
    monkeypatch.setattr(contest, "evaluate", scripted(calls, lambda images, size, split: 0.5))
    found = dd.baselines(distilled, digits_mlp, digits, names=[name], num_nets=6, num_sets=3, num_candidates=4)
    splits = [split for split, *_ in calls]
    reported = 1 if name in ("best of random", "class mean") else 3
    assert splits == ["validation"] * (len(splits) - reported) + ["test"] * reported
    assert found[name].evaluation.n == 6
    seeds = {split: {seed for s, seed, *_ in calls if s == split} for split in ("validation", "test")}
    assert not seeds["validation"] & seeds["test"], "networks that choose are not those that are reported"


def test_neighbours_read_the_test_split_once_per_set(monkeypatch, distilled, digits, digits_mlp):
    splits, hits = [], module._hits

    def recorded(vectors, split, k, p):
        splits.append("test" if split is digits.test else "validation")
        return hits(vectors, split, k, p)

    monkeypatch.setattr(module, "_hits", recorded)
    found = dd.baselines(distilled, digits_mlp, digits, names=["k-NN random"], num_sets=2)["k-NN random"]
    assert splits == ["validation"] * 12 + ["test"] * 2
    sets = [coresets.as_vectors(coresets.random_images(digits, 2, seed), 2) for seed in (0, 1)]
    scores = {
        (k, p): np.mean([hits(vectors, digits.validation, k, p).mean() for vectors in sets])
        for k in (1, 3, 5) for p in (1, 2)
    }  # fmt: skip
    assert scores[found.chosen["k"], found.chosen["p"]] == max(scores.values())


def test_choices_are_validations_and_not_tests(monkeypatch, distilled, digits, digits_mlp):
    candidates = [coresets.random_images(digits, 2, seed) for seed in range(4)]
    sums = [float(images.sum()) for images in candidates]

    def score(images, size, split):
        which = int(np.argmin(abs(np.array(sums) - images.sum())))
        good = {"validation": (2, 0.05), "test": (1, 0.5)}[split]
        return 0.3 + 0.2 * (which == good[0]) + 0.1 * (abs(size - good[1]) < 1e-6)

    monkeypatch.setattr(contest, "evaluate", scripted([], score))
    found = dd.baselines(distilled, digits_mlp, digits, names=["best of random"], num_candidates=4)["best of random"]
    assert found.chosen == {"step_size": 0.05, "set": 2, "of": 4}
    assert found.evaluation.mean == pytest.approx(0.3), "what test gives for validation's choice"


@pytest.mark.usefixtures("small")
def test_best_of_random_is_the_best_on_validation(distilled, digits, digits_mlp):
    found = dd.baselines(distilled, digits_mlp, digits, names=["best of random"], num_nets=2, num_sets=2,
                         num_candidates=3)["best of random"]  # fmt: skip
    scores = [
        dd.evaluate(
            coresets.as_distilled(images, coresets.SetShape(2, 1, 1), found.chosen["step_size"], distilled.protocol),
            digits_mlp, digits, num_nets=5, split="validation", seed=contest.SELECTION_SEED, num_curve_nets=0,
        ).mean
        for images in (coresets.random_images(digits, 2, seed) for seed in range(3))
    ]  # fmt: skip
    assert scores[found.chosen["set"]] == max(scores)


def test_unknown_name_is_refused_before_anything_is_computed(monkeypatch, distilled, digits, digits_mlp):
    calls = []
    monkeypatch.setattr(contest, "evaluate", scripted(calls, lambda *_: 0.5))
    with pytest.raises(OptionError, match=r"baseline 'k-meens'\. Did you mean 'k-means'"):
        dd.baselines(distilled, digits_mlp, digits, names=["class mean", "k-meens"])
    assert calls == []


def test_real_images_of_the_same_bytes_stand_beside_images_that_are_made_of_something_else(digits, digits_mlp):
    """Forty images of 5 bases and 200 coefficients: 520 numbers, those of 8 images, one of each class at least."""
    synthetic = dd.synthetic.bases(10, (8, 8, 1), made_per_class=4, downscale=1, num_bases=5, init_images="noise")
    made = synthetic.decode(synthetic.init(jax.random.key(0), digits))
    made = dataclasses.replace(made, protocol=Protocol("dc", order="random"))
    assert coresets.SetShape.of(made, 10).images_per_class == 4
    assert coresets.SetShape.of_bytes(made, digits).images_per_class == 1
    planned = module.networks_to_train(made, digits_mlp, digits, num_nets=4)
    assert tuple(planned) == (*BASELINES, "random real, same bytes", "k-means, same bytes")
    assert module.same_bytes_note(made, digits).endswith("40 images has the bytes of 10 real ones.")
    training = dd.Training(epochs=2, learning_rate=0.1, optimiser="sgd")
    few, same = (
        dd.baselines(one, digits_mlp, digits, names=[name], num_nets=4, num_sets=2, protocol=training)[name].evaluation
        for one, name in ((made, "random real, same bytes"), (plain(digits), "random real"))
    )
    np.testing.assert_array_equal(few.accuracies, same.accuracies)
    assert [item.endswith("same bytes") for item in module.networks_to_train(plain(digits), digits_mlp, digits)] == [
        False
    ] * len(BASELINES)


def plain(digits) -> DistilledData:
    """Ten real images, one of each class."""
    return coresets.as_distilled(
        coresets.random_images(digits, 1, 0), coresets.SetShape(1, 1, 1), 0.01, Protocol("dc", order="random")
    )


def test_a_share_of_bytes_is_one_of_unequal_classes_too(digits):
    labels = jnp.repeat(jnp.arange(10), jnp.array([4, 4, 4, 4, 4, 2, 2, 2, 2, 2]))[None]
    made = dd.synthetic.PARAMETERISATIONS["bases"]
    learnt = {"bases": jnp.zeros((15, 4, 4, 1)), "coefficients": jnp.zeros((30, 15))}
    form = Parameterisation.of(made, height=8, width=8)
    found = DistilledData(learnt, labels, jnp.full(1, 0.1), parameterisation=form)
    # 690 numbers are those of 10.8 images of 64, for 30.
    assert coresets.SetShape.of_bytes(found, digits).images_per_class == 1
    twice = dataclasses.replace(found, learnt={**learnt, "bases": jnp.zeros((15, 8, 8, 1))})
    # 1,410 numbers are those of 22 images, 0.73 of each.
    assert coresets.SetShape.of_bytes(twice, digits).images_per_class == (3,) * 5 + (1,) * 5
