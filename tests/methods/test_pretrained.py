"""Distilling for pretrained networks, and attacks: the objective, its gradient, what is drawn, what is measured."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation import evaluate_networks
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.inner import Training, cross_entropy, init_distribution, pretrained_init
from dd_jax.methods.sampling import minibatch
from dd_jax.methods.unrolled import RealAndNetworks, outer_loss, protocol_of, unrolled
from dd_jax.outcomes import outcome_of
from dd_jax.synthetic import step_batches
from dd_jax.types import Batch, Protocol

SMALL = {"num_batches": 2, "num_epochs": 2, "batch_size": 12, "init_step_size": 0.1, "init_images": "noise"}
ATTACK = {"attack_class": 2, "target_class": 7}


@pytest.fixture(scope="module")
def nets(tmp_path_factory, digits, digits_mlp) -> dd.Pretrained:
    path = tmp_path_factory.mktemp("nets") / "digits.safetensors"
    training = Training(epochs=20, batch_size=64, learning_rate=3e-3)
    return dd.pretrain(digits_mlp, digits, num_nets=4, num_held_out=3, training=training, out=path, show_progress=False)


def test_every_network_is_drawn_about_as_often(nets):
    networks = nets.read("train", 0, 9)
    keys = jax.random.split(jax.random.key(0), 400)
    drawn = np.asarray(jax.jit(jax.vmap(pretrained_init, (0, None)))(keys, networks)["Dense_0"]["kernel"])[:, 0, 0]
    mine = np.asarray(networks["Dense_0"]["kernel"])[:, 0, 0]
    counts = [(drawn == value).sum() for value in mine]
    assert sum(counts) == 400
    assert min(counts) > 60


def test_a_fixed_init_is_the_network_of_that_number(nets, digits, digits_mlp):
    method = unrolled(digits_mlp, pretrained=nets, init="fixed", init_seed=2, **SMALL)
    arrays = method.arrays(digits).arrays
    assert isinstance(arrays, RealAndNetworks)
    expected = jax.tree.map(lambda leaf: leaf[2], nets.read("train", 0, 9))
    jax.tree.map(np.testing.assert_array_equal, pretrained_init(jax.random.key(3), arrays.networks), expected)
    with pytest.raises(OptionError, match="one of 4"):
        unrolled(digits_mlp, pretrained=nets, init="fixed", init_seed=4, **SMALL).arrays(digits)


@pytest.mark.parametrize("attack", [None, (2, 7)])
def test_hypergradient_equals_finite_differences(nets, digits, digits_mlp, x64, attack):
    networks = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), nets.read("train", 0, 9))
    protocol = Protocol(pretrained=nets.fingerprint, attack=attack)
    synthetic = step_batches(10, 2, 2, init_images="noise", init_step_size=0.1)
    objective = outer_loss(digits_mlp, init_distribution(digits_mlp, protocol), synthetic)
    learnable = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), synthetic.init(jax.random.key(0), digits))
    real = Batch(jnp.asarray(digits.train.images[:30], jnp.float64), digits.train.labels[:30])

    @jax.jit
    def loss(learnable):
        told = real._replace(labels=outcome_of(protocol).relabel(real.labels))
        return objective(learnable, jax.random.key(1), told, networks)

    gradient = jax.jit(jax.grad(loss))(learnable)
    direction = jax.tree.map(lambda leaf: jax.random.normal(jax.random.key(7), leaf.shape, leaf.dtype), learnable)
    along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: float((g * d).sum()), gradient, direction)))
    step = 1e-5
    ends = [loss(jax.tree.map(lambda x, d, s=s: x + s * step * d, learnable, direction)) for s in (1, -1)]
    assert along == pytest.approx(float(ends[0] - ends[1]) / (2 * step), rel=1e-6)


def test_an_attack_changes_the_labels_of_one_class_and_nothing_else(nets, digits, digits_mlp):
    """One step of zero size: the outer loss is the cross-entropy of the network itself, with class 2 labelled 7."""
    method = unrolled(digits_mlp, pretrained=nets, init="fixed", **SMALL | {"init_step_size": 1e-9}, **ATTACK)
    state = method.init(jax.random.key(0), digits, 1)
    key = jax.random.key(4)
    _, info = jax.jit(method.step)(key, state, method.arrays(digits))
    batch = minibatch(jax.random.split(jax.random.split(key, 1)[0])[1], digits.train, 12)
    labels = np.where(batch.labels == 2, 7, batch.labels)
    params = jax.tree.map(lambda leaf: leaf[0], nets.read("train", 0, 9))
    expected = cross_entropy(digits_mlp.apply(params, batch.images), jnp.asarray(labels))
    np.testing.assert_allclose(info.loss, expected, rtol=1e-4)
    assert method.distilled(state).protocol.attack == (2, 7)


@pytest.mark.parametrize(("whose", "label"), [("target", 7), ("own", 2)])
def test_images_of_the_attacked_class_carry_its_target_or_their_own_label(digits, digits_mlp, whose, label):
    options = SMALL | {"init_images": "mean", "images_per_class": 2}
    method = unrolled(digits_mlp, attack_labels=whose, **options, **ATTACK)
    plain = unrolled(digits_mlp, **options)
    states = [one.init(jax.random.key(0), digits, 1) for one in (method, plain)]
    jax.tree.map(np.testing.assert_array_equal, states[0].learnable, states[1].learnable)
    expected = np.repeat([0, 1, label, 3, 4, 5, 6, 7, 8, 9], 2)
    for labels in method.distilled(states[0]).labels:
        np.testing.assert_array_equal(labels, expected)
    _, info = jax.jit(method.step)(jax.random.key(1), states[0], method.arrays(digits))
    _, other = jax.jit(plain.step)(jax.random.key(1), states[1], plain.arrays(digits))
    assert float(info.loss) != float(other.loss)


def test_images_of_the_attacked_class_count_as_often_as_is_said(nets, digits, digits_mlp):
    """The mean over all the real images is a weighted one."""
    method = unrolled(digits_mlp, pretrained=nets, init="fixed", attack_weight=3, **SMALL, **ATTACK)
    plain = unrolled(digits_mlp, pretrained=nets, init="fixed", **SMALL, **ATTACK)
    once, thrice = (np.asarray(one.arrays(digits).arrays.real.labels) for one in (plain, method))
    np.testing.assert_array_equal(np.bincount(thrice), np.bincount(once) * np.where(np.arange(10) == 2, 3, 1))
    images = method.arrays(digits).arrays.real.images
    np.testing.assert_array_equal(np.unique(np.asarray(images[thrice == 2]), axis=0),
                                  np.unique(np.asarray(digits.train.images[once == 2]), axis=0))  # fmt: skip


def test_inner_steps_see_the_labels_that_are_told(digits):
    synthetic = step_batches(10, num_batches=2, relabelled=(2, 7))
    learnable = synthetic.init(jax.random.key(0), digits)
    batch = synthetic.batch(learnable, jax.random.key(1), jnp.int32(1))
    np.testing.assert_array_equal(batch.labels, [0, 1, 7, 3, 4, 5, 6, 7, 8, 9])
    np.testing.assert_array_equal(synthetic.decode(learnable).labels, [batch.labels] * 2)


def test_relabelling_without_attack_is_the_identity():
    for labels in (jnp.array([0, 1, 2]), np.array([0, 1, 2], np.int32)):
        assert outcome_of(Protocol()).relabel(labels) is labels
        relabelled = outcome_of(Protocol(attack=(1, 0))).relabel(labels)
        np.testing.assert_array_equal(relabelled, [0, 0, 2])
        assert type(relabelled) is type(labels)
        assert relabelled.dtype == np.int32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"attack_class": 1}, "belong together"),
        ({"attack_class": 3, "target_class": 3}, "two different classes"),
        ({"attack_class": 3, "target_class": 10}, "from 0 to 9"),
        ({"attack_class": -1, "target_class": 1}, "from 0 to 9"),
        ({**ATTACK, "attack_weight": 0}, "attack_weight must be at least 1, but is 0"),
    ],
)
def test_senseless_attacks_are_refused(digits_mlp, options, words):
    with pytest.raises(OptionError, match=words):
        unrolled(digits_mlp, **options)


def test_what_an_attack_did_is_counted(nets, digits, digits_mlp):
    networks = nets.read("held_out", 0, 9)
    found = evaluate_networks(networks, digits_mlp, digits, attack=(2, 7))
    labels = np.asarray(digits.test.labels)
    for i in range(3):
        params = jax.tree.map(lambda leaf, i=i: leaf[i], networks)
        taken = np.asarray(digits_mlp.apply(params, digits.test.images).argmax(-1))
        assert found.accuracies[i] == pytest.approx((taken == labels).mean())
        assert found.measures["success"][i] == pytest.approx((taken[labels == 2] == 7).mean())
        assert found.measures["others"][i] == pytest.approx((taken == labels)[labels != 2].mean())
        assert found.measures["fooled"][i] == pytest.approx((taken == np.where(labels == 2, 7, labels)).mean())
    assert found.score == pytest.approx(found.measures["fooled"].mean())
    assert set(evaluate_networks(networks, digits_mlp, digits).values) == {"accuracies"}
    with pytest.raises(AttributeError, match=r"found.measures\['success'\]"):
        _ = found.attacked


def test_no_steps_are_the_networks_as_they_are(nets, digits, digits_mlp):
    protocol = protocol_of(dd.methods.UnrolledOptions(), nets)
    shape = SetShape(1, 1, 1)
    distilled = as_distilled(mean_images(digits, 1), shape, 0.1, protocol)
    found = dd.evaluate(distilled, digits_mlp, digits, num_epochs=0, pretrained=nets)
    np.testing.assert_allclose(found.accuracies, nets.accuracies["held_out"], atol=1e-6)
    assert found.n == 3
    chosen = dd.evaluate(distilled, digits_mlp, digits, num_epochs=0, pretrained=nets, part="train", num_nets=2)
    np.testing.assert_allclose(chosen.accuracies, nets.accuracies["train"][:2], atol=1e-6)


def test_a_set_for_pretrained_networks_asks_for_them(nets, digits, digits_mlp):
    distilled = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, Protocol(pretrained=nets.fingerprint))
    with pytest.raises(DataError, match="Give them as pretrained"):
        dd.evaluate(distilled, digits_mlp, digits)
    with pytest.raises(DataError, match="as params"):
        dd.train_on(distilled, digits_mlp, jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf[1], nets.read("held_out", 0, 9))
    trained = dd.train_on(distilled, digits_mlp, params=params)
    images, labels = distilled.images[0], distilled.labels[0]
    gradient = jax.grad(lambda p: cross_entropy(digits_mlp.apply(p, images), labels))(params)
    expected = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), trained, expected)


def test_real_images_of_an_attack_carry_the_target_label(digits):
    distilled = as_distilled(mean_images(digits, 4), SetShape(2, 1, 2), 0.1, Protocol(attack=(2, 7)))
    labels = np.repeat(np.arange(10), 2)
    labels[4:6] = 7
    np.testing.assert_array_equal(distilled.labels, [labels, labels])


def test_baselines_of_pretrained_networks(nets, digits, digits_mlp, monkeypatch):
    module = sys.modules["dd_jax.evaluation.contest"]
    monkeypatch.setattr(module, "STEP_SIZES", (0.01, 0.3))
    protocol = Protocol(pretrained=nets.fingerprint)
    distilled = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, protocol)
    found = dd.baselines(distilled, digits_mlp, digits, pretrained=nets, num_sets=2, num_candidates=2)
    assert next(iter(found)) == "no steps"
    assert list(found)[-1] == "full training set"
    np.testing.assert_allclose(found["no steps"].evaluation.accuracies, nets.accuracies["held_out"], atol=1e-6)
    assert found["full training set"].evaluation.mean > found["no steps"].evaluation.mean
    assert found["random real"].evaluation.n == 6, "every set on every held-out network"
    attack = dataclasses.replace(distilled, protocol=dataclasses.replace(protocol, attack=(2, 7)))
    names = [name for name, _ in dd.evaluation.iterate_baselines(
        attack, digits_mlp, digits, pretrained=nets, num_sets=1, num_candidates=1)]  # fmt: skip
    assert names == ["no steps", "random real", "best of random", "class mean", "k-means"]


@pytest.mark.slow
def test_an_attack_on_held_out_networks_succeeds_where_real_images_fail(nets, digits, digits_mlp):
    method = unrolled(
        digits_mlp, pretrained=nets, num_batches=1, num_epochs=1, images_per_class=2, num_inits=2, batch_size=256,
        init_images="mean", init_step_size=0.1, learning_rate=0.05, **ATTACK,
    )  # fmt: skip
    run = dd.distill(method, digits, num_outer_steps=600, num_eval_nets=4, show_progress=False)
    found = dd.evaluate(run.distilled, digits_mlp, digits, pretrained=nets)
    before = evaluate_networks(nets.read("held_out", 0, 9), digits_mlp, digits, attack=(2, 7))
    assert found.measures["success"].mean() > before.measures["success"].mean() + 0.5
    assert found.measures["others"].mean() > before.measures["others"].mean() - 0.15
