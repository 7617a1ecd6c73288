"""Coresets as baselines: real images chosen by their pixels, or by what a trained network sees in them."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import BASELINES, CORESETS, baseline_names, coresets
from dd_jax.evaluation.embeddings import trained_features, trained_networks
from dd_jax.synthetic import herd
from dd_jax.types import DistilledData, Protocol

module = importlib.import_module("dd_jax.evaluation.contest")


@pytest.fixture(scope="module")
def distilled() -> DistilledData:
    labels = jnp.tile(jnp.arange(10, dtype=jnp.int32), (2, 1))
    return DistilledData({"images": jnp.zeros((2, 10, 8, 8, 1))}, labels, jnp.full(2, 0.1))


@pytest.fixture(scope="module")
def features(digits, digits_mlp):
    return trained_features(digits_mlp, digits)


@pytest.mark.parametrize("make", [coresets.herding_images, coresets.kcenter_images, coresets.central_images])
@pytest.mark.parametrize("seen", ["pixels", "features"])
def test_coresets_are_training_images_of_their_class(make, seen, digits, features):
    images, labels = map(np.asarray, digits.train)
    known = {image.tobytes(): int(c) for image, c in zip(images, labels, strict=True)}
    found = make(digits, 3, 0, vectors=features if seen == "features" else None)
    assert found.shape == (10, 3, 8, 8, 1)
    for c in range(10):
        assert [known[image.tobytes()] for image in found[c]] == [c] * 3
        assert len({image.tobytes() for image in found[c]}) == 3


def test_features_choose_other_images_than_pixels(digits, features):
    images, labels = map(np.asarray, digits.train)
    found = coresets.herding_images(digits, 4, vectors=features)
    assert not np.array_equal(found, coresets.herding_images(digits, 4))
    mine = np.flatnonzero(labels == 7)
    np.testing.assert_array_equal(found[7], images[mine[herd(features[mine], 4)]])


def test_the_network_whose_features_count_has_learnt_the_training_split(digits, digits_mlp, features):
    networks = trained_networks(digits_mlp, digits, 2)
    one, other = (jax.tree.map(lambda leaf, i=i: leaf[i], networks) for i in range(2))
    assert (digits_mlp.apply(one, digits.test.images).argmax(-1) == digits.test.labels).mean() > 0.9
    np.testing.assert_allclose(features, digits_mlp.features(one, digits.train.images), rtol=1e-3, atol=1e-3)
    assert not np.allclose(jax.tree.leaves(one)[0], jax.tree.leaves(other)[0])


def test_they_are_in_no_table_unless_they_are_named(distilled):
    assert not set(CORESETS) & set(BASELINES)
    assert baseline_names(distilled.protocol) == BASELINES
    assert set(CORESETS) <= set(coresets.MAKERS)


def test_named_ones_are_measured_as_the_others_are(monkeypatch, distilled, digits, digits_mlp):
    monkeypatch.setattr(module, "STEP_SIZES", (0.02, 0.2))
    found = dd.baselines(distilled, digits_mlp, digits, names=CORESETS, num_nets=4, num_sets=2)
    assert tuple(found) == CORESETS
    for evaluation, chosen in found.values():
        assert (evaluation.split, evaluation.n) == ("test", 4)
        assert chosen["step_size"] in (0.02, 0.2)
        assert evaluation.mean > 0.12, "two steps teach a little"


def test_the_network_is_trained_once_and_only_where_it_is_needed(monkeypatch, distilled, digits, digits_mlp, features):
    calls = []
    monkeypatch.setattr(module, "trained_features", lambda *arguments: calls.append(arguments) or features)
    monkeypatch.setattr(module, "STEP_SIZES", (0.1,))
    options = {"num_nets": 1, "num_sets": 1}
    dd.baselines(distilled, digits_mlp, digits, names=["herding", "k-center"], **options)
    assert calls == []
    dd.baselines(distilled, digits_mlp, digits, names=["herding features", "k-means features"], **options)
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("name", "per_class", "only_one"),
    [
        ("random real", 1, False),
        ("class mean", 5, True),
        ("k-means", 1, True),
        ("k-means", 2, False),
        ("k-means features", 1, True),
        ("k-means features", 2, False),
        ("herding features", 9, True),
        ("k-center", 9, True),
    ],
)
def test_whether_there_is_only_one_such_set(digits, features, name, per_class, only_one):
    vectors = {"vectors": features} if name.endswith("features") else {}
    one, other = (coresets.MAKERS[name](digits, per_class, seed, **vectors) for seed in (0, 3))
    assert coresets.is_only_one(name, per_class) == only_one
    np.testing.assert_allclose(one, other, atol=1e-5) if only_one else None
    assert only_one or not np.allclose(one, other, atol=1e-5)


def test_of_an_attack_they_are_poisoned_too(digits, digits_mlp):
    labels = jnp.arange(10, dtype=jnp.int32)[None]
    images = {"images": jnp.zeros((1, 10, 8, 8, 1))}
    attack = DistilledData(images, labels, jnp.full(1, 0.1), protocol=Protocol(attack=(0, 1)))
    found = dd.baselines(attack, digits_mlp, digits, names=["herding"], num_nets=2, num_sets=1)["herding"]
    assert set(found.evaluation.measures) == {"success", "others", "fooled"}


def test_a_network_without_features_is_refused(digits, distilled):
    def init(key):
        return jax.random.normal(key, (64, 10)) / 8

    model = dd.models.from_functions(init, lambda params, images: images.reshape(len(images), -1) @ params, digits)
    with pytest.raises(OptionError, match="method needs features"):
        dd.baselines(distilled, model, digits, names=["herding features"], num_nets=1)


def test_unknown_names_are_compared_with_coresets_too(distilled, digits, digits_mlp):
    with pytest.raises(OptionError, match="Did you mean 'herding features'"):
        dd.baselines(distilled, digits_mlp, digits, names=["herding feature"])
