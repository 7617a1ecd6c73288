"""Ways of using a distilled set: as learnt, in random order, from scratch; and that it says what it isn't made for."""

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.transforms import fit_transform, to_model
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, random_images
from dd_jax.evaluation.protocols import misuse, training_of
from dd_jax.inner import fit, gradient_descent, unroll
from dd_jax.synthetic import batch_of_step
from dd_jax.types import Batch, Protocol

QUICK = dd.Training(epochs=5, batch_size=16, learning_rate=0.1, optimiser="sgd", drop_last=False)


@pytest.fixture(scope="module")
def distilled(digits) -> dd.DistilledData:
    """Forty random images in two batches, gone through three times."""
    images = random_images(digits, 4, seed=0)
    found = as_distilled(images, SetShape(2, 3, 2), 0.3, Protocol())
    sizes = jnp.linspace(0.5, 0.1, 6)
    return dataclasses.replace(found, step_sizes=sizes, transform=digits.transform, class_names=digits.class_names)


def batches_of_steps(images, labels, order, key, steps):
    return jax.vmap(lambda t: batch_of_step(images, labels, order, key, t))(steps)


def with_protocol(distilled, **changes):
    return dataclasses.replace(distilled, protocol=dataclasses.replace(distilled.protocol, **changes))


def test_random_order_goes_through_all_images_in_each_epoch():
    images, labels = jnp.arange(12.0).reshape(3, 4, 1, 1, 1), jnp.arange(12).reshape(3, 4)
    seen = batches_of_steps(images, labels, "random", jax.random.key(0), jnp.arange(9))
    assert seen.labels.shape == (9, 4)
    np.testing.assert_array_equal(seen.images[..., 0, 0, 0], seen.labels)
    epochs = np.asarray(seen.labels).reshape(3, 12)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(12), (3, 1)))
    assert len(np.unique(epochs, axis=0)) == 3
    fixed = batches_of_steps(images, labels, "fixed", jax.random.key(0), jnp.arange(9))
    np.testing.assert_array_equal(fixed.labels, np.tile(labels, (3, 1)))


def test_train_on_in_random_order_is_a_plain_loop_over_drawn_batches(distilled, digits_mlp):
    shuffled = with_protocol(distilled, order="random")
    key = jax.random.key(4)

    @jax.jit
    def by_hand(key):
        order = jax.random.fold_in(key, 1)
        batches = batches_of_steps(distilled.images, distilled.labels, "random", order, jnp.arange(6))
        return unroll(digits_mlp.apply, digits_mlp.init(key), batches, gradient_descent(distilled.step_sizes))

    expected = by_hand(key)
    found = dd.train_on(shuffled, digits_mlp, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), found, expected)
    other = dd.train_on(shuffled, digits_mlp, jax.random.key(5))
    assert not np.allclose(jax.tree.leaves(other)[0], jax.tree.leaves(found)[0])


@pytest.mark.filterwarnings("ignore::dd_jax.ProtocolWarning")
def test_from_scratch_is_fit_on_all_images(distilled, digits, digits_mlp):
    key = jax.random.key(2)
    pool = Batch(distilled.images.reshape(40, 8, 8, 1), distilled.labels.reshape(40))

    @jax.jit
    def by_hand(key):
        return fit(digits_mlp.apply, digits_mlp.init(key), jax.random.fold_in(key, 1), pool, QUICK)

    expected = by_hand(key)
    found = dd.train_on(distilled, digits_mlp, key, protocol=QUICK)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5), found, expected)
    evaluation = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=2, protocol=QUICK)
    np.testing.assert_array_equal(evaluation.curve_steps, 3 * np.arange(6))  # forty images are three minibatches
    np.testing.assert_array_equal(evaluation.curve[:, -1], evaluation.accuracies)
    untrained = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_epochs=0, protocol=QUICK)
    np.testing.assert_array_equal(evaluation.curve[:, 0], untrained.accuracies)
    assert evaluation.mean > untrained.mean + 0.2


@pytest.mark.filterwarnings("ignore::dd_jax.ProtocolWarning")
@pytest.mark.parametrize("name", [name for name, how in dd.PROTOCOLS.items() if isinstance(how, dd.Training)])
def test_every_preset_trains(distilled, digits, digits_mlp, name):
    epochs = 1000 if name.startswith("frepo") else 150  # Adam's steps are small
    model = dd.models.mlp(digits, hidden=(128,)) if name == "kip-nn" else digits_mlp  # which is for wide networks
    found = dd.evaluate(distilled, model, digits, num_nets=1, num_epochs=epochs, protocol=name, num_curve_nets=0)
    untrained = dd.evaluate(distilled, model, digits, num_nets=1, num_epochs=0, num_curve_nets=0)
    assert found.mean > untrained.mean + 0.1


def test_presets_are_those_of_the_papers(distilled):
    dc, dsa, mtt, idc = (training_of(name, distilled) for name in ("dc", "dsa", "mtt", "idc"))
    assert (dc.epochs, dc.batch_size, dc.learning_rate, dc.momentum, dc.weight_decay) == (300, 256, 0.01, 0.9, 5e-4)
    assert (dsa.epochs, dsa.augment) == (1000, "dsa")
    assert mtt.learning_rate == pytest.approx(0.3)  # the mean of the learnt step sizes
    assert (idc.drops, idc.drop_factor, idc.cutmix) == ((2 / 3, 5 / 6), 0.2, True)
    digits = training_of("idc-digits", distilled)
    assert (digits.drops, digits.drop_factor, digits.batch_size) == (idc.drops, idc.drop_factor, idc.batch_size)
    assert (digits.augment, digits.cutmix) == ("dsa_no_flip", False), "mirrored digits are others"
    assert training_of("dc", distilled, 7).epochs == 7
    assert training_of("as-distilled", distilled) is None
    with pytest.raises(OptionError, match="dsa"):
        training_of("dsaa", distilled)


def test_epochs_too_few_for_an_average_of_weights_are_told(distilled):
    with pytest.warns(
        dd.ProtocolWarning, match="100 epochs of this set are 100 gradient steps, .* still 61% the untrained"
    ):
        training_of("frepo", distilled, 100)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training_of("frepo", distilled, 1000)
        training_of("dc", distilled, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [({}, "2 batches in a fixed order"), ({"init": "fixed"}, "one known network"), ({"pretrained": "x"}, "pretrained")],
)
def test_a_set_says_what_it_is_not_made_for(distilled, digits, digits_mlp, changes, words):
    specific = with_protocol(distilled, **changes)
    assert words in misuse(specific)
    if not specific.protocol.pretrained:
        with pytest.warns(dd.ProtocolWarning, match=words):
            dd.train_on(specific, digits_mlp, jax.random.key(0), protocol=QUICK)
        with pytest.warns(dd.ProtocolWarning, match=words):
            dd.evaluate(specific, digits_mlp, digits, num_nets=1, protocol=QUICK)


def test_an_order_free_set_may_be_used_from_scratch(distilled, digits_mlp):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dd.train_on(with_protocol(distilled, order="random"), digits_mlp, jax.random.key(0), protocol=QUICK)
        dd.train_on(distilled, digits_mlp, jax.random.key(0))


def test_a_set_that_names_a_protocol_is_used_by_it(monkeypatch, distilled, digits, digits_mlp):
    monkeypatch.setitem(dd.PROTOCOLS, "dc", QUICK)
    one_batch = dataclasses.replace(
        distilled,
        learnt={"images": distilled.images.reshape(1, 40, 8, 8, 1)},
        labels=distilled.labels.reshape(1, 40),
        step_sizes=jnp.array([0.3]),
        protocol=Protocol("dc", order="random"),
    )
    unnamed = with_protocol(one_batch, name="as-distilled")
    few = {"num_nets": 2, "num_curve_nets": 0}
    by_default = dd.evaluate(one_batch, digits_mlp, digits, **few)
    np.testing.assert_array_equal(
        by_default.accuracies, dd.evaluate(unnamed, digits_mlp, digits, protocol="dc", **few).accuracies
    )
    assert by_default.mean > dd.evaluate(unnamed, digits_mlp, digits, **few).mean + 0.1
    trained = [dd.train_on(one_batch, digits_mlp, jax.random.key(0), **options) for options in ({}, {"protocol": "dc"})]
    jax.tree.map(np.testing.assert_array_equal, *trained)
    named = {"names": ["class mean"], "num_nets": 2}
    found, expected = (
        dd.baselines(data, digits_mlp, digits, **named, **options)["class mean"]
        for data, options in ((one_batch, {}), (unnamed, {"protocol": "dc"}))
    )
    np.testing.assert_array_equal(found.evaluation.accuracies, expected.evaluation.accuracies)
    assert not found.chosen, "the protocol's rate is not chosen"


def test_a_set_without_learnt_steps_says_so(distilled, digits, digits_mlp):
    named = with_protocol(distilled, name="dc", order="random")
    assert not misuse(named)
    with pytest.warns(
        dd.ProtocolWarning, match="no learnt steps, because it was made for training from scratch by the .*'dc'"
    ):
        found = dd.evaluate(named, digits_mlp, digits, num_nets=2, protocol="as-distilled")
    same = dd.evaluate(with_protocol(distilled, order="random"), digits_mlp, digits, num_nets=2)
    np.testing.assert_array_equal(found.accuracies, same.accuracies)


def test_a_set_for_one_network_trains_random_ones_from_scratch(distilled, digits_mlp):
    fixed = with_protocol(distilled, init="fixed", order="random")
    with pytest.warns(dd.ProtocolWarning):
        one, other = (dd.train_on(fixed, digits_mlp, jax.random.key(i), protocol=QUICK) for i in (0, 1))
    assert not np.allclose(jax.tree.leaves(one)[0], jax.tree.leaves(other)[0])


def test_real_images_are_brought_to_the_space_of_the_set(distilled, digits, digits_mlp):
    """The mistake that every earlier system's users made: other preprocessing than that of the distilled images."""
    raw = dd.load_dataset("digits")
    pixels = dd.to_pixels(digits.transform, digits.test.images)
    plain = fit_transform("identity", np.zeros((1, 8, 8, 1)))
    other = dataclasses.replace(raw, transform=plain, test=digits.test._replace(images=pixels))
    expected = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=0)
    found = dd.evaluate(distilled, digits_mlp, other, num_nets=2, num_curve_nets=0)
    np.testing.assert_allclose(found.accuracies, expected.accuracies, atol=0.01)
    naive = dataclasses.replace(distilled, transform=None)  # of an unknown space: taken as it is
    assert dd.evaluate(naive, digits_mlp, other, num_nets=2, num_curve_nets=0).mean < expected.mean - 0.1
    np.testing.assert_allclose(to_model(digits.transform, pixels), digits.test.images, atol=1e-5)


def test_classes_in_another_order_are_refused(distilled, digits, digits_mlp):
    names = digits.class_names[1:] + digits.class_names[:1]
    with pytest.raises(DataError, match="another order"):
        dd.evaluate(distilled, digits_mlp, dataclasses.replace(digits, class_names=names), num_nets=1)


def test_accuracy_after_every_step(distilled, digits, digits_mlp):
    steps = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=2, curve="steps")
    epochs = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=2)
    np.testing.assert_array_equal(steps.curve_steps, np.arange(7))
    np.testing.assert_array_equal(epochs.curve_steps, [0, 2, 4, 6])
    np.testing.assert_array_equal(steps.curve[:, ::2], epochs.curve)


def test_confusion_adds_up(distilled, digits, digits_mlp):
    found = dd.evaluate(distilled, digits_mlp, digits, num_nets=3, num_curve_nets=1)
    assert found.confusion.shape == (10, 10)
    np.testing.assert_allclose(found.confusion.sum(1), 1)
    np.testing.assert_allclose(np.diagonal(found.confusion), found.per_class)
    params = dd.train_on(distilled, digits_mlp, jax.random.fold_in(jax.random.key(1_000_003), 0))
    answers = np.asarray(digits_mlp.apply(params, digits.test.images).argmax(-1))
    true = np.asarray(digits.test.labels)
    table = np.array([[np.mean(answers[true == i] == j) for j in range(10)] for i in range(10)])
    one = dd.evaluate(distilled, digits_mlp, digits, num_nets=1, num_curve_nets=0)
    np.testing.assert_allclose(one.confusion, table, atol=0.03)


def test_too_many_classes_have_no_table(monkeypatch, distilled, digits, digits_mlp):
    module = __import__("dd_jax.evaluation.measure", fromlist=["CONFUSION_CLASSES"])
    expected = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=1)
    monkeypatch.setattr(module, "CONFUSION_CLASSES", 9)
    found = dd.evaluate(distilled, digits_mlp, digits, num_nets=2, num_curve_nets=1)
    assert found.confusion is None
    np.testing.assert_allclose(found.per_class, expected.per_class)


def test_the_best_accuracy_along_the_training_is_there_beside_the_last(distilled, digits, digits_mlp):
    quick = dataclasses.replace(QUICK, epochs=20, learning_rate=0.5)
    scratch = with_protocol(distilled, order="random")
    found = dd.evaluate(scratch, digits_mlp, digits, num_nets=3, num_curve_nets=2, protocol=quick)
    assert found.best.shape == (2,)
    np.testing.assert_allclose(found.best, [max(row) for row in found.curve])
    np.testing.assert_allclose(found.curve[:, -1], found.accuracies[:2])
    assert (found.best >= found.accuracies[:2]).all()
    assert dd.evaluate(scratch, digits_mlp, digits, num_nets=1, num_curve_nets=0, protocol=quick).best.shape == (0,)
