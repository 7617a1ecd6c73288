"""DD-Ranking's scores are bounded, made of fractions, and measured from what they say."""

import dataclasses
import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import augmentation_robust_score, label_robust_score, scores
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.evaluation.scores import hard_label_recovery, improvement_over_random, robust_score

SHORT = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=20)


@pytest.fixture(scope="module")
def means(digits):
    """The class means, a set for the protocol dc."""
    found = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, dd.Protocol("dc", order="random"))
    return dataclasses.replace(found, transform=digits.transform, class_names=digits.class_names)


@pytest.fixture(scope="module")
def found(means, digits, digits_mlp):
    return dd.dd_ranking(
        means, digits_mlp, digits, augment="flip_rotate", training=SHORT, rates=(0.1,), num_nets=4, num_sets=2
    )


@pytest.mark.parametrize(
    ("difference", "score"), [(-1.0, 0), (0.0, (1 - 1 / math.e) / (math.e - 1 / math.e)), (1.0, 1)]
)
def test_scores_at_the_ends_and_in_the_middle(difference, score):
    assert robust_score(difference) == pytest.approx(score)
    assert robust_score(0.0) == pytest.approx(0.2689, abs=1e-4)


def test_a_score_grows_and_stays_between_zero_and_one():
    values = [robust_score(float(x)) for x in np.linspace(-1, 1, 101)]
    assert all(a < b for a, b in itertools.pairwise(values))
    assert (min(values), max(values)) == (pytest.approx(0), pytest.approx(1))


def test_the_best_and_the_worst_sets_there_can_be():
    """Best: as good as all data with hard labels, and random images teach nothing; worst: the other way round."""
    assert label_robust_score(full=0.0, distilled_hard=1.0, distilled=1.0, random=0.0) == pytest.approx(1)
    assert label_robust_score(full=1.0, distilled_hard=0.0, distilled=0.0, random=1.0) == pytest.approx(0)
    assert augmentation_robust_score(1.0, 0.0, 1.0, 0.0) == pytest.approx(1)
    assert augmentation_robust_score(0.0, 1.0, 0.0, 1.0) == pytest.approx(0)
    assert label_robust_score(0.8, 0.8, 0.5, 0.5) == pytest.approx(robust_score(0.0))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_weights_are_between_the_two_parts(weight):
    alpha = weight * (0.7 - 0.4) - (1 - weight) * (0.9 - 0.6)
    assert label_robust_score(0.9, 0.6, 0.7, 0.4, weight) == pytest.approx(robust_score(alpha))
    beta = weight * (0.8 - 0.5) + (1 - weight) * (0.7 - 0.6)
    assert augmentation_robust_score(0.8, 0.5, 0.7, 0.6, weight) == pytest.approx(robust_score(beta))


@pytest.mark.parametrize(
    "compute",
    [
        lambda: label_robust_score(84.8, 53.0, 53.0, 31.0),
        lambda: augmentation_robust_score(0.5, 0.4, 53.0, 31.0),
        lambda: hard_label_recovery(0.9, -0.1),
        lambda: improvement_over_random(float("nan"), 0.1),
        lambda: label_robust_score(0.9, 0.6, 0.7, 0.4, weight=2.0),
        lambda: robust_score(5.0),
    ],
)
def test_per_cent_and_other_numbers_that_are_no_fractions_are_refused(compute):
    with pytest.raises(OptionError, match="fractions"):
        compute()


def test_scores_are_those_of_the_accuracies_that_were_measured(found):
    assert found.hlr == pytest.approx(found.full.mean - found.hard.mean)
    assert found.ior == pytest.approx(found.distilled.mean - found.random_real.mean)
    assert found.lrs == pytest.approx(robust_score(0.5 * found.ior - 0.5 * found.hlr))
    augmented = found.distilled_augmented.mean - found.random_augmented.mean
    assert found.ars == pytest.approx(robust_score(0.5 * augmented + 0.5 * found.ior))
    assert 0 < found.lrs < 1
    assert 0 < found.ars < 1


def test_everything_is_measured_on_test_with_as_many_networks(found, means):
    parts = ("full", "hard", "distilled", "random_real", "distilled_augmented", "random_augmented")
    for name in parts:
        evaluation = getattr(found, name)
        assert (evaluation.split, evaluation.n) == ("test", 4)
    assert found.full.mean > 0.9 > found.distilled.mean > found.random_real.mean
    assert found.num_bytes == dd.storage_bytes(means) == 4 * (10 * 64 + 10 + 1)
    assert set(found.rates.values()) == {0.1}


def test_with_hard_labels_both_kinds_of_label_are_one(found):
    np.testing.assert_array_equal(found.hard.accuracies, found.distilled.accuracies)


def test_soft_labels_are_hardened_for_hlr_and_given_to_random_images_too(means, digits, digits_mlp, monkeypatch):
    soft = dataclasses.replace(means, labels=0.6 * jnp.eye(10)[None] + 0.04)
    seen, evaluate = [], scores.evaluate

    def watched(distilled, *arguments, **options):
        seen.append(distilled)
        return evaluate(distilled, *arguments, **options)

    monkeypatch.setattr(scores, "evaluate", watched)
    options = {"training": dataclasses.replace(SHORT, epochs=2), "augment": "none", "num_nets": 1, "num_sets": 1}
    found = dd.dd_ranking(soft, digits_mlp, digits, rates=(0.1,), **options)
    own, hard, random, *_ = seen if seen[0].labels.ndim == 3 else (seen[1], seen[0], *seen[2:])
    np.testing.assert_array_equal(hard.labels, means.labels)
    np.testing.assert_array_equal(own.labels, soft.labels)
    assert random.labels.shape == (1, 10, 10)
    np.testing.assert_allclose(random.labels.sum(-1), 1, rtol=1e-5)
    assert (random.labels[0].argmax(-1) == means.labels[0]).mean() > 0.8, "the teacher knows the digits"
    assert found.num_bytes == 4 * (10 * 64 + 10 * 10 + 1)


def test_rates_are_chosen_on_validation(means, digits, digits_mlp, monkeypatch):
    splits, evaluate = [], scores.evaluate

    def scripted(distilled, model, dataset, *, split, protocol, **options):
        splits.append(split)
        found = evaluate(distilled, model, dataset, split=split, protocol=protocol, num_epochs=0, **options)
        good = {"validation": 0.2, "test": 0.4}[split]
        return dataclasses.replace(found, accuracies=np.full(found.n, 0.9 if protocol.learning_rate == good else 0.1))

    monkeypatch.setattr(scores, "evaluate", scripted)
    found = dd.dd_ranking(
        means, digits_mlp, digits, rates=(0.1, 0.2, 0.4), training=SHORT, augment="none", num_nets=1, num_sets=1
    )
    assert set(found.rates.values()) == {0.2}
    assert found.distilled.mean == pytest.approx(0.1), "what test gives for validation's choice"
    assert splits == 4 * [*3 * ["validation"], "test"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rates": ()}, "one learning rate, one network"),
        ({"num_sets": 0}, "num_sets=0"),
        ({"augment": "dsaa"}, "Did you mean 'dsa'"),
        ({"label_weight": 50.0}, "fractions"),
    ],
)
def test_bad_options_are_refused_before_anything_is_trained(means, digits, digits_mlp, monkeypatch, options, words):
    monkeypatch.setattr(scores, "trained_networks", lambda *_: pytest.fail("trained"))
    with pytest.raises(OptionError, match=words):
        dd.dd_ranking(means, digits_mlp, digits, **options)
