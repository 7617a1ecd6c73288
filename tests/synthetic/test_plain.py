"""Sets of plain images, out of arrays and out of other sets."""

import dataclasses
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError
from dd_jax.parameterisation import PLAIN, Parameterisation
from dd_jax.synthetic import MULTI_FORMATION, as_plain

IMAGES, LABELS = np.zeros((6, 4, 4, 1)), np.arange(6) % 3


def test_a_set_without_steps_is_one_batch_for_training_from_scratch():
    found = dd.distilled_from_arrays(IMAGES, LABELS, class_names=("a", "b", "c"))
    assert (found.images.shape, found.labels.shape, found.num_batches) == ((1, 6, 4, 4, 1), (1, 6), 1)
    assert (found.images.dtype, found.labels.dtype) == (jnp.float32, jnp.int32)
    assert (found.protocol.name, found.protocol.from_scratch) == ("dc", True)
    assert (found.class_names, found.transform.kind) == (("a", "b", "c"), "identity")


@pytest.mark.parametrize(("sizes", "expected"), [(0.2, [0.2, 0.2]), ([0.1, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, 0.4])])
def test_a_set_with_steps_is_for_these(sizes, expected):
    found = dd.distilled_from_arrays(IMAGES.reshape(2, 3, 4, 4, 1), LABELS.reshape(2, 3), step_sizes=sizes)
    np.testing.assert_allclose(found.step_sizes, expected)
    assert (found.num_batches, found.num_epochs, found.protocol) == (2, len(expected) // 2, dd.Protocol())


def test_it_is_saved_trained_on_and_measured(tmp_path, digits, digits_mlp):
    means = np.stack([np.asarray(digits.train.images)[np.asarray(digits.train.labels) == k].mean(0) for k in range(10)])
    made = dd.distilled_from_arrays(means, np.arange(10), step_sizes=[0.5] * 20, transform=digits.transform)
    dd.save_distilled(tmp_path, made, {})
    found = dd.evaluate(dd.load_distilled(tmp_path), digits_mlp, digits, num_nets=2)
    assert found.mean > 0.7


@pytest.mark.parametrize(
    ("images", "labels", "options", "words"),
    [
        (IMAGES[0], LABELS, {}, r"images should be \(N, H, W, C\) or \(S, B, H, W, C\), but are \(4, 4, 1\)"),
        (IMAGES[:0], LABELS[:0], {}, "images are empty"),
        (np.uint8(IMAGES), LABELS, {}, "but are uint8. Convert bytes with dd_jax.to_model"),
        (IMAGES, LABELS[:5], {}, r"labels should be integers \(1, 6\), or soft labels .* but are int64 \(1, 5\)"),
        (IMAGES, LABELS * 0.5, {}, r"but are float64 \(1, 6\)"),
        (IMAGES, LABELS - 1, {}, "but are from -1 to 1"),
        (IMAGES, LABELS, {"class_names": ("a", "b")}, "labels should be from 0 to 1, but are from 0 to 2"),
        (IMAGES, LABELS, {"step_sizes": [0.1, -0.1]}, "step_sizes should be positive"),
        (IMAGES.reshape(2, 3, 4, 4, 1), LABELS.reshape(2, 3), {"step_sizes": [0.1] * 3}, "T a multiple of 2"),
    ],
)
def test_arrays_that_do_not_fit_together_are_explained(images, labels, options, words):
    with pytest.raises(DataError, match=words):
        dd.distilled_from_arrays(images, labels, **options)


def test_one_array_in_place_of_learnt_ones_is_explained():
    with pytest.raises(TypeError, match="distilled_from_arrays"):
        dd.DistilledData(jnp.zeros((1, 2, 4, 4, 1)), jnp.zeros((1, 2), jnp.int32), jnp.ones(1))


def test_what_images_have_become_is_said(digits_mlp):
    made = dd.distilled_from_arrays(IMAGES, LABELS)
    with pytest.raises(TypeError, match=r'by name: learnt=\{"images": \.\.\.\}'):
        dataclasses.replace(made, images=made.images)
    again = pickle.loads(pickle.dumps(made))
    np.testing.assert_array_equal(again.images, made.images)
    assert dataclasses.replace(made, learnt={"images": made.images + 1}).images.max() == 1


def test_several_images_of_a_stored_one_become_plain_ones():
    stored = jax.random.normal(jax.random.key(0), (2, 4, 4, 1))
    form = Parameterisation.of(MULTI_FORMATION, formation="single", factor=2)
    labels = jnp.repeat(jnp.arange(2, dtype=jnp.int32), 4)[None]
    made = dd.DistilledData({"stored": stored}, labels, jnp.ones(1), parameterisation=form)
    assert made.shape_of_images.shape == made.images.shape
    plain = as_plain(made)
    assert plain.parameterisation == PLAIN
    np.testing.assert_array_equal(plain.images, made.images)
    assert as_plain(plain) is plain


@pytest.mark.parametrize("other", [{"factor": 2.0}, {"factor": True}, {"factor": 3}, {"formation": "multi"}])
def test_parameterisations_are_equal_by_value(other):
    settings = {"factor": 2, "formation": "single"}
    one = Parameterisation.of(MULTI_FORMATION, **settings)
    assert one == Parameterisation.of(MULTI_FORMATION, **dict(reversed(settings.items())))
    assert hash(one) == hash(Parameterisation.of(MULTI_FORMATION, **settings))
    assert one != Parameterisation.of(MULTI_FORMATION, **{**settings, **other})


@pytest.mark.parametrize(
    ("learnt", "settings", "words"),
    [
        ({"images": np.zeros((2, 4, 4, 1))}, {"factor": 2, "formation": "single"}, "stored images should be"),
        ({"stored": np.zeros((1, 2, 4, 4, 1))}, {"factor": 2, "formation": "single"}, "stored images should be"),
        ({"stored": np.zeros((2, 4, 4, 1))}, {"factor": 5, "formation": "single"}, "a number from 1 to 4, found 5"),
        ({"stored": np.zeros((2, 4, 4, 1))}, {"factor": True, "formation": "single"}, "a number from 1 to 4"),
        (
            {"stored": np.zeros((2, 4, 4, 1))},
            {"factor": 2, "formation": "twice"},
            "one of single, multi, found 'twice'",
        ),
    ],
)
def test_what_is_no_multi_formation_is_not_saved(learnt, settings, words, tmp_path):
    form = Parameterisation.of(MULTI_FORMATION, **settings)
    labels, sizes = jnp.zeros((1, 8), jnp.int32), jnp.ones(1)
    made = dd.DistilledData(learnt, labels, sizes, dd.Transform("identity", {}), parameterisation=form)
    with pytest.raises(DataError, match=words):
        dd.save_distilled(tmp_path, made, {})
