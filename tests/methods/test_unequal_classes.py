"""Sets with unequal numbers of images of the classes: what starts, what is learnt, and what is compared with."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.cli.options import parse_experiment
from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import MAKERS, SetShape, as_distilled, as_vectors
from dd_jax.inner import batch_loss, distance_named
from dd_jax.methods.distribution_matching import feature_distance
from dd_jax.methods.matched_gradients import class_wise, collective
from dd_jax.methods.matching import (
    MatchingOptions,
    class_weights,
    padded_by_class,
    set_by_class,
    stored_images,
    weighted_by_class,
)
from dd_jax.synthetic import class_counts, counts_word, initial_images, share_images
from dd_jax.synthetic.initial import IMAGE_INITS, kmeans_centres
from dd_jax.synthetic.pixels import class_labels
from dd_jax.types import Batch

COUNTS = (3, 1, 2)
FORMS = [{}, {"factor": 2}, {"canvas_size": 2, "canvas_samples": 2}]


@pytest.fixture(scope="module")
def three():
    """Three classes of 60, 30 and 12 training images."""
    digits = dd.load_dataset("digits")
    images, labels = np.asarray(digits.train.images), np.asarray(digits.train.labels)
    chosen = np.concatenate([np.flatnonzero(labels == c)[:n] for c, n in ((0, 60), (1, 30), (2, 12))])
    pixels = np.asarray(dd.to_pixels(digits.transform, images[chosen]))
    return dd.dataset_from_arrays(pixels, labels[chosen], test=(pixels[::2], labels[chosen][::2]))


@pytest.fixture(scope="module")
def network(three):
    return dd.models.mlp(three, hidden=(6,))


def test_counts_are_one_number_or_one_for_each_class():
    assert class_counts(2, 3).tolist() == [2, 2, 2]
    assert class_labels(3, COUNTS).tolist() == [0, 0, 0, 1, 2, 2]
    assert class_labels(3, COUNTS, 2).tolist() == [0] * 6 + [1] * 2 + [2] * 4
    assert (counts_word(7), counts_word(COUNTS)) == ("ipc7", "images6")
    with pytest.raises(OptionError, match="one for each of the 3 classes, but has 2: 1, 2"):
        class_counts((1, 2), 3)
    with pytest.raises(OptionError, match="at least 1, but is 1, 0"):
        class_counts((1, 0, 1), 3)


def test_a_total_is_shared(three):
    real = np.bincount(np.asarray(three.train.labels))
    assert share_images(10, three) == (4, 3, 3)
    assert share_images(11, three) == (4, 4, 3)
    assert share_images(3, three, True) == (1, 1, 1)
    for total in (4, 10, 17, 50):
        shares = np.array(share_images(total, three, True))
        assert shares.sum() == total
        assert (np.abs(shares - np.maximum(total * real / real.sum(), 1)) < 1.5).all()
        assert (np.diff(shares) <= 0).all()
    with pytest.raises(OptionError, match="at least one image of each of the 3"):
        share_images(2, three)


@pytest.mark.parametrize("kind", IMAGE_INITS)
def test_images_start_as_those_of_their_class(kind, three):
    labels = class_labels(3, COUNTS)
    found = np.asarray(initial_images(jax.random.key(0), three, labels, 2, kind))
    assert found.shape == (2, 6, 8, 8, 1)
    if kind in ("real", "herding"):
        train, of = np.asarray(three.train.images), np.asarray(three.train.labels)
        for image, c in zip(found.reshape(12, -1), np.tile(labels, 2), strict=True):
            mine = train[of == c].reshape((of == c).sum(), -1)
            assert (np.abs(mine - image).max(1) == 0).any()
    if kind == "kmeans":
        centres = kmeans_centres(three.train, 3, (6, 2, 4), int(jax.random.key_data(jax.random.key(0))[-1]))
        first = found[:, :3].reshape(6, -1)
        assert np.allclose(np.sort(first, 0), np.sort(centres[0].reshape(6, -1), 0))


@pytest.mark.parametrize("form", FORMS)
def test_padded_classes_have_the_means_of_their_images(form, three, network):
    """The mean of each class by its weights is the mean over the images of that class in the set."""
    options = MatchingOptions(images_per_class=COUNTS, init_images="real", **form)
    synthetic = stored_images(network, options)
    learnable, key = synthetic.init(jax.random.key(1), three), jax.random.key(2)
    padded, weights = padded_by_class(synthetic, COUNTS, 3)(learnable, key)
    images = padded.images
    whole = synthetic.batch(learnable, key, jnp.int32(0))
    assert np.allclose(weights.sum(1), 1)
    for c in range(3):
        expected = whole.images[np.asarray(whole.labels) == c].mean(0)
        assert np.allclose(jnp.einsum("m,mhwc->hwc", weights[c], images[c]), expected, atol=1e-5)


def test_equal_counts_are_the_mean_that_they_were(three, network):
    options = MatchingOptions(images_per_class=2, init_images="real")
    synthetic = stored_images(network, options)
    learnable, key = synthetic.init(jax.random.key(1), three), jax.random.key(2)
    mine, (padded, weights) = (
        set_by_class(synthetic, 3)(learnable, key),
        padded_by_class(synthetic, (2, 2, 2), 3)(learnable, key),
    )
    images = padded.images
    assert np.array_equal(mine.images, images)
    params, keys = network.init(key), jax.random.split(key, 3)
    args = (network.features, params, images, jnp.ones((3, 4, 8, 8, 1)), keys, "none")
    assert np.allclose(feature_distance(*args), feature_distance(*args, weights=weights), rtol=1e-5)


def test_the_gradient_of_unequal_classes_is_that_of_finite_differences(three, x64):
    model = dd.models.mlp(three, hidden=(3,))
    params = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), model.init(jax.random.key(0)))
    real = jax.random.normal(jax.random.key(1), (3, 2, 8, 8, 1), jnp.float64)
    images = jax.random.normal(jax.random.key(2), (3, 3, 8, 8, 1), jnp.float64)
    weights = jnp.asarray(class_weights(COUNTS, 3), jnp.float64)

    keys = jax.random.split(jax.random.key(3), 3)

    def loss(images):
        return feature_distance(model.features, params, jnp.asarray(images), real, keys, "none", weights=weights)

    check_grads(loss, (images,), order=1, modes=["rev"], eps=1e-4, rtol=1e-5)
    gradient = np.asarray(jax.grad(loss)(images))
    assert np.abs(gradient[1, 1:]).max() == np.abs(gradient[2, 2:]).max() == 0
    assert np.abs(gradient[1, 0]).max() > 0


@pytest.mark.parametrize(
    "name", ["unrolled", "distribution_matching", "gradient_matching", "frepo", "kernel_inducing_points"]
)
def test_methods_take_counts(name, three, network):
    model = dd.models.infinite_mlp(three) if name == "kernel_inducing_points" else network
    small = dict(dd.methods.METHODS[name].small) | ({"num_batches": 2} if name == "unrolled" else {})
    method = getattr(dd.methods, name)(model, images_per_class=list(COUNTS), **small)
    assert method.summary.startswith(f"{12 if name == 'unrolled' else 6} images")
    run = dd.distill(method, three, num_outer_steps=2, num_eval_nets=1, show_progress=False)
    assert run.distilled.num_examples == (12 if name == "unrolled" else 6)
    start = method.distilled(method.init(jax.random.key(0), three, 2))
    assert np.abs(run.distilled.images - start.images).max() > 0


def test_trajectories_take_counts(three, tmp_path):
    model = dd.models.mlp(three, hidden=(6,))
    training = dd.Training(epochs=2, batch_size=16, optimiser="sgd", schedule="constant", learning_rate=0.1)
    experts = dd.pretrain_experts(model, three, num_experts=1, training=training, out=tmp_path / "experts")
    method = dd.methods.trajectory_matching(
        model, experts=experts, images_per_class=COUNTS, num_inner_steps=2, expert_epochs=1, max_start=1
    )
    run = dd.distill(method, three, num_outer_steps=2, num_eval_nets=1, show_progress=False)
    assert np.asarray(run.distilled.labels).tolist() == [[0, 0, 0, 1, 2, 2]]


def test_a_method_that_cannot_says_which_can(three, network):
    with pytest.raises(OptionError, match=r"3, 1, 2. Give one number, or use unrolled, distribution_matching"):
        dd.methods.bptt(network, images_per_class=COUNTS)
    with pytest.raises(OptionError, match="match_images is one number for all classes"):
        dd.methods.gradient_matching(network, images_per_class=COUNTS, match_images=1)
    assert dd.methods.gradient_matching(network, images_per_class=[2, 2, 2]).summary.startswith("6 images")


def test_the_gradient_of_a_class_is_that_of_its_own_images(three, network):
    """Matched class by class, padded classes give the losses that each class gives alone, and so do all together."""
    options = MatchingOptions(images_per_class=COUNTS, init_images="real", factor=2)
    synthetic, keys = stored_images(network, options), jax.random.split(jax.random.key(5), 4)
    learnable, params = synthetic.init(keys[0], three), network.init(keys[1])
    padded = weighted_by_class(synthetic, COUNTS, 3)(learnable, keys[2])
    whole = synthetic.batch(learnable, keys[2], jnp.int32(0))
    real = Batch(jax.random.normal(keys[3], (3, 4, 8, 8, 1)), jnp.broadcast_to(jnp.arange(3)[:, None], (3, 4)))
    changes = jax.random.split(keys[0], 3)
    loss = class_wise(network.apply, distance_named("mse"))
    alone = 0.0
    for c in range(3):
        mine = Batch(*(leaf[np.asarray(whole.labels) == c][None] for leaf in whole))
        alone += loss(params, mine, Batch(*(leaf[c][None] for leaf in real)), changes[c][None])
    assert np.allclose(loss(params, padded, real, changes), alone, rtol=1e-4)
    of_class = [Batch(*(leaf[np.asarray(whole.labels) == c] for leaf in whole)) for c in range(3)]
    mean = jax.tree.map(lambda *g: sum(g) / 3, *(jax.grad(batch_loss(network.apply))(params, one) for one in of_class))
    theirs = jax.grad(batch_loss(network.apply))(params, Batch(*(leaf.reshape(-1, *leaf.shape[2:]) for leaf in real)))
    together = collective(network.apply, distance_named("mse"))(params, padded, real, changes)
    assert np.allclose(together, distance_named("mse")(jax.tree.leaves(theirs), jax.tree.leaves(mean)), rtol=1e-4)


def test_real_images_to_compare_with_have_the_same_counts(three):
    shape = SetShape(2, 1, COUNTS)
    for name, make in MAKERS.items():
        vectors = {} if "features" not in name else {"vectors": np.asarray(three.train.images).reshape(-1, 64)}
        images = make(three, shape.per_class, 0, **vectors)
        distilled = as_distilled(images, shape, 0.1, dd.Protocol())
        assert np.asarray(distilled.labels).tolist() == 2 * [[0, 0, 0, 1, 2, 2]]
        assert SetShape.of(distilled, 3) == shape
        flat, labels = as_vectors(images, shape.per_class)
        assert np.bincount(labels).tolist() == [6, 2, 4]
        mine = np.asarray(distilled.images).reshape(12, -1)[np.asarray(distilled.labels).ravel() == 2]
        assert sorted(map(tuple, mine)) == sorted(map(tuple, flat[labels == 2]))


def test_the_command_shares_a_total(tmp_path, capsys):
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1, 2], (60, 30, 12))
    np.savez(tmp_path / "three.npz", images=rng.integers(0, 255, (102, 8, 8, 1), np.uint8), labels=labels)
    argv = ["distill", "--smoke", "--dataset", f"npz:{tmp_path / 'three.npz'}", "--num-batches", "1"]
    more = ["--num-images", "10", "--class-shares", "proportional", "--baselines", "--num-nets", "1"]
    assert main([*argv, *more, "--out", str(tmp_path / "b")]) == 0
    assert "Images of each class: 6, 3, 1." in capsys.readouterr().err
    config = json.loads((tmp_path / "b" / "config.json").read_text())["config"]
    assert config["method"]["images_per_class"] == [6, 3, 1]
    assert main(["evaluate", str(tmp_path / "b"), "--num-nets", "1"]) == 0
    assert main(["report", str(tmp_path / "b")]) == 0
    assert main(["export", str(tmp_path / "b")]) == 0
    assert parse_experiment(["--images-per-class", "5", "2", "1"], "", "").method.images_per_class == (5, 2, 1)
    assert main([*argv, "--num-images", "2", "--out", str(tmp_path / "d")]) == 2
    assert "at least one image of each of the 3 classes" in capsys.readouterr().err
