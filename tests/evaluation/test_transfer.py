"""Other networks and other augmentations: the same protocol for the set and for random images beside it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import transfer
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.evaluation.embeddings import trained_networks

SHORT = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=20, learning_rate=0.1)


@pytest.fixture(scope="module")
def means(digits):
    found = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, dd.Protocol("dc", order="random"))
    return dataclasses.replace(found, transform=digits.transform, class_names=digits.class_names)


def test_each_network_has_the_set_and_random_images_under_one_protocol(means, digits, digits_mlp):
    models = {"narrow": digits_mlp, "deep": dd.models.mlp(digits, hidden=(16, 16))}
    found = dd.cross_architecture(means, models, digits, protocol=SHORT, num_nets=4, num_sets=2)
    assert list(found.results) == ["narrow", "deep"]
    for name, model in models.items():
        own, random = found.results[name]
        again = dd.evaluate(means, model, digits, num_nets=4, protocol=SHORT)
        np.testing.assert_array_equal(own.accuracies, again.accuracies)
        assert (own.n, random.n, own.split, random.split) == (4, 4, "test", "test")
        assert own.mean > random.mean
    of_each = [compared.distilled.mean for compared in found.results.values()]
    assert found.mean == pytest.approx(np.mean(of_each))
    assert found.random_mean < found.mean
    assert found.num_bytes == dd.storage_bytes(means)


def scripted(calls, score):
    """An `evaluate` that trains nothing: it answers by `score`(augment, split)."""

    def evaluate(distilled, model, dataset, *, protocol, split="test", num_nets, num_curve_nets, seed=0):
        calls.append((model.settings["hidden"], protocol.augment, protocol.epochs, split, seed))
        accuracy = score(protocol.augment, split)
        return dd.Evaluation(np.full(num_nets, accuracy), np.full(10, accuracy), np.zeros((0, 1)), split)

    return evaluate


@pytest.fixture
def script(monkeypatch):
    def start(calls, score):
        monkeypatch.setattr(transfer, "evaluate", scripted(calls, score))
        baseline = transfer.evaluate

        def random(distilled, model, dataset, *, names, num_nets, num_sets, seed, protocol):
            assert names == ["random real"]
            found = baseline(distilled, model, dataset, protocol=protocol, num_nets=num_nets, num_curve_nets=0)
            less = dataclasses.replace(found, accuracies=found.accuracies / 2)
            return iter([("random real", dd.evaluation.Baseline(less, {}))])

        monkeypatch.setattr(transfer, "iterate_baselines", random)

    return start


def test_the_best_augmentation_is_validations_and_the_average_is_over_all(script, means, digits, digits_mlp):
    calls = []
    accuracies = {("none", "validation"): 0.5, ("dsa", "validation"): 0.6, ("none", "test"): 0.8, ("dsa", "test"): 0.4}
    script(calls, lambda augment, split: accuracies[augment, split])
    wide = dd.models.mlp(digits, hidden=(32,))
    found = dd.dc_bench(means, digits_mlp, digits, others={"wide": wide}, augments=("none", "dsa"), num_nets=2)
    assert found.chosen == "dsa"
    assert found.best == pytest.approx(0.4), "what test gives for validation's choice"
    assert found.average == pytest.approx(0.6)
    assert found.random_average == pytest.approx(0.3)
    assert found.transfer.mean == pytest.approx(0.4)
    assert found.transfer.random_mean == pytest.approx(0.2)
    assert {augment for hidden, augment, *_ in calls if hidden == [32]} == {"dsa"}
    epochs = {(augment, number) for _, augment, number, *_ in calls}
    assert epochs == {("none", 300), ("dsa", 1000)}, "as the released evaluator"
    seeds = [{seed for *_, split, seed in calls if split == part} for part in ("validation", "test")]
    assert not seeds[0] & seeds[1], "networks that choose are not those that are reported"


def test_a_single_augmentation_needs_no_choice(script, means, digits, digits_mlp):
    calls = []
    script(calls, lambda augment, split: 0.5)
    found = dd.dc_bench(means, digits_mlp, digits, augments=("none",), epochs=7)
    assert {(number, split) for _, _, number, split, _ in calls} == {(7, "test")}
    assert (found.chosen, found.transfer) == ("none", None)


def test_measured_on_digits(means, digits, digits_mlp):
    found = dd.dc_bench(means, digits_mlp, digits, augments=("none", "flip_rotate"), epochs=20, num_nets=2, num_sets=2)
    assert set(found.results) == {"none", "flip_rotate"}
    assert 0 <= found.random_average <= 1
    assert min(c.distilled.mean for c in found.results.values()) <= found.average <= found.best + 0.5
    assert found.num_bytes == 4 * (640 + 10 + 1)


@pytest.mark.slow
def test_measured_under_policies(means, digits, digits_mlp):
    augments = ("auto_augment", "rand_augment", "imagenet")
    found = dd.dc_bench(means, digits_mlp, digits, augments=augments, epochs=5, num_nets=1, num_sets=1)
    assert tuple(found.results) == augments
    accuracies = {name: own.mean for name, (own, _) in found.results.items()}
    assert found.average == pytest.approx(np.mean(list(accuracies.values())))
    assert len(set(accuracies.values())) == 3, "each trains in its own way"
    assert {random.n for _, random in found.results.values()} == {1}


def test_a_set_without_a_transform_is_in_the_model_space_of_the_data(means, digits, digits_mlp):
    training = dataclasses.replace(SHORT, augment="auto_augment", epochs=40)
    bare = dataclasses.replace(means, transform=None)
    options = {"num_nets": 2, "protocol": training, "num_curve_nets": 0}
    found, known = (dd.evaluate(distilled, digits_mlp, digits, **options) for distilled in (bare, means))
    np.testing.assert_array_equal(found.accuracies, known.accuracies)
    assert found.mean > 0.4, "it learns"
    with pytest.raises(OptionError, match="'auto_augment' works on pixels"):
        dd.train_on(bare, digits_mlp, protocol=training)
    params = dd.train_on(means, digits_mlp, protocol=training)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_all_of_the_data_can_be_trained_on_under_a_policy(digits, digits_mlp):
    training = dd.Training(epochs=3, batch_size=32, learning_rate=0.01, augment="rand_augment", drop_last=False)
    networks = trained_networks(digits_mlp, digits, 2, training=training)
    assert dd.evaluation.evaluate_networks(networks, digits_mlp, digits).mean > 0.3


def test_the_default_augmentations_are_those_of_dc_bench(script, means, digits, digits_mlp):
    calls = []
    script(calls, lambda augment, split: 0.5)
    found = dd.dc_bench(means, digits_mlp, digits)
    assert tuple(found.results) == ("none", "dsa", "auto_augment", "rand_augment", "imagenet")
    assert {number for _, augment, number, *_ in calls if augment != "none"} == {1000}


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_storage_counts_images_labels_and_step_sizes(means, labels):
    soft = dataclasses.replace(means, labels=jnp.full((1, 10, 10), 0.1))
    assert dd.storage_bytes(soft if labels == "soft" else means) == 4 * (640 + (100 if labels == "soft" else 10) + 1)


@pytest.mark.parametrize(
    ("measure", "words"),
    [
        (lambda *a: dd.dc_bench(*a, augments=()), "augments is empty"),
        (lambda *a: dd.dc_bench(*a, augments=("none", "dssa")), "Did you mean 'dsa'"),
        (lambda d, m, data: dd.cross_architecture(d, {}, data), "models is empty. Give at least one network"),
        (lambda d, m, data: dd.cross_architecture(d, {"a": m}, data, protocol="dcc"), "Unknown protocol 'dcc'"),
    ],
)
def test_bad_options_are_refused(means, digits, digits_mlp, measure, words):
    with pytest.raises(OptionError, match=words):
        measure(means, digits_mlp, digits)
