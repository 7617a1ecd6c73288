"""The unrolled method: one outer step is what it says, its schedules, its options, and it learns."""

import json

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from jax import lax
from steps import all_steps, one_step

from dd_jax.errors import OptionError
from dd_jax.inner import init_distribution
from dd_jax.methods import UnrolledOptions, outer_adam, unrolled
from dd_jax.methods.outer import smooth
from dd_jax.methods.sampling import minibatch
from dd_jax.methods.unrolled import outer_loss
from dd_jax.synthetic import step_batches
from dd_jax.types import Protocol

SMALL = {"num_batches": 2, "num_epochs": 2, "batch_size": 12, "init_step_size": 0.1, "init_images": "noise"}


def first_step(model, data, seed=1, **options):
    method = unrolled(model, **{**SMALL, **options})
    state = method.init(jax.random.key(0), data, 10)
    return state, *one_step(method.step, jax.random.key(seed), state, method.arrays(data))


def hypergradient(state, b1=0.9):
    """What Adam was given in the first step, from its first moment."""
    return jax.tree.map(lambda leaf: leaf / (1 - b1), state.outer.adam[1].mu)


def assert_close(found, expected, rtol=1e-5):
    """To `rtol` of the largest entry of each leaf."""
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol * float(abs(b).max()))


def test_vmap_and_map_over_inits_give_the_same_step(model, tiny):
    _, by_vmap, info_vmap = first_step(model, tiny, over_inits="vmap", num_inits=3)
    _, by_map, info_map = first_step(model, tiny, over_inits="map", num_inits=3)
    assert_close(hypergradient(by_vmap), hypergradient(by_map))
    assert_close(by_vmap.learnable, by_map.learnable)
    assert_close(info_vmap, info_map)


def test_hypergradient_is_the_mean_over_inits(model, tiny):
    before, after, info = first_step(model, tiny, num_inits=3, clip_norm=None)
    objective = outer_loss(model, init_distribution(model, Protocol()), step_batches(3, 2, 2), remat="none")

    @jax.jit
    def single(key):
        init_key, data_key = jax.random.split(key)
        return jax.value_and_grad(objective)(before.learnable, init_key, minibatch(data_key, tiny.train, 12))

    losses, gradients = zip(*map(single, jax.random.split(jax.random.key(1), 3)), strict=True)
    mean = jax.tree.map(lambda *leaves: sum(leaves) / 3, *gradients)
    assert_close(hypergradient(after), mean)
    np.testing.assert_allclose(info.loss, np.mean(losses), rtol=1e-5)
    norm = np.sqrt(sum(float((leaf.astype(np.float64) ** 2).sum()) for leaf in map(np.asarray, jax.tree.leaves(mean))))
    np.testing.assert_allclose(info.hypergradient_norm, norm, rtol=1e-5)
    assert len({float(loss) for loss in losses}) == 3, "every initialisation has its own network and images"


def test_fixed_init_ignores_num_inits(model, tiny):
    one, seven = (first_step(model, tiny, init="fixed", num_inits=n)[1:] for n in (1, 7))
    jax.tree.map(np.testing.assert_array_equal, one, seven)


def test_fixed_init_is_one_network_whatever_the_key(model):
    start = init_distribution(model, Protocol(init="fixed", init_seed=5))
    jax.tree.map(np.testing.assert_array_equal, start(jax.random.key(1)), start(jax.random.key(2)))
    jax.tree.map(np.testing.assert_array_equal, start(jax.random.key(1)), model.init(jax.random.key(5)))


def test_remat_does_not_change_the_step(model, tiny):
    plain, remat = (first_step(model, tiny, remat=choice)[1:] for choice in ("none", "nested"))
    assert_close(hypergradient(plain[0]), hypergradient(remat[0]))
    assert_close(plain[1], remat[1])


def test_labels_that_are_learnt_start_as_nearly_certain_shares_of_the_classes_and_move(model, tiny):
    before, after, _ = first_step(model, tiny, learn_labels=True, label_rate=0.5, learning_rate=0.1)
    method = unrolled(model, **SMALL, learn_labels=True)
    start, found = method.distilled(before).labels, method.distilled(after).labels
    assert found.shape == (2, 3, 3)
    np.testing.assert_allclose(start, np.broadcast_to(0.85 * np.eye(3) + 0.05, (2, 3, 3)), rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    moved = np.abs(after.learnable.label_logits - before.learnable.label_logits)
    np.testing.assert_allclose(moved, 0.05, rtol=1e-2, err_msg="the first step of Adam, of half the rate")


def test_the_same_key_gives_the_same_bits_and_another_does_not(model, tiny):
    method = unrolled(model, **SMALL)
    state, arrays = method.init(jax.random.key(0), tiny, 10), method.arrays(tiny)
    one, again, other = (one_step(method.step, jax.random.key(seed), state, arrays) for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, one, again)
    assert float(one[1].loss) != float(other[1].loss)


@pytest.mark.parametrize("kind", ["noise", "real", "mean"])
def test_the_second_step_does_not_recompile(model, tiny, kind):
    method = unrolled(model, **{**SMALL, "init_images": kind})
    state, before = method.init(jax.random.key(0), tiny, 10), one_step._cache_size()
    for i in range(3):
        state, _ = one_step(method.step, jax.random.key(i), state, method.arrays(tiny))
    assert one_step._cache_size() <= before + 1


def test_distilled_is_what_was_learnt(model, tiny):
    method = unrolled(model, **SMALL, init="fixed", init_seed=4)
    state = method.init(jax.random.key(0), tiny, 10)
    distilled = method.distilled(state)
    np.testing.assert_array_equal(distilled.images, state.learnable.images)
    np.testing.assert_allclose(distilled.step_sizes, 0.1 * 10.0 ** -(np.arange(4) / 3), rtol=1e-5)
    np.testing.assert_array_equal(distilled.labels, [[0, 1, 2]] * 2)
    assert distilled.protocol == Protocol("as-distilled", "fixed", 4)


def test_clipping_scales_the_hypergradient_to_the_norm(model, tiny):
    _, free, info_free = first_step(model, tiny, clip_norm=None)
    _, clipped, info = first_step(model, tiny, clip_norm=1e-3)
    np.testing.assert_allclose(info.hypergradient_norm, info_free.hypergradient_norm, rtol=1e-5)
    assert info.hypergradient_norm > 1e-3
    scaled = jax.tree.map(lambda leaf: leaf * (1e-3 / info.hypergradient_norm), hypergradient(free))
    assert_close(hypergradient(clipped), scaled)
    _, loose, _ = first_step(model, tiny, clip_norm=1e6)
    assert_close(hypergradient(loose), hypergradient(free))


def rates(num_taken: int, planned: int, **options) -> np.ndarray:
    """How far each step goes when the hypergradient is always one: Adam's direction is one, so this is the rate."""
    optimiser = outer_adam(0.1, **options)

    def step(carry, _):
        learnable, state = carry
        moved, state = optimiser.update(jnp.ones(()), state, jnp.zeros(()))
        return (learnable, state), -moved

    return np.asarray(lax.scan(step, (jnp.zeros(()), optimiser.init(jnp.zeros(()), planned)), length=num_taken)[1])


def test_cosine_schedule_falls_to_zero_and_stays():
    expected = 0.1 * 0.5 * (1 + np.cos(np.pi * np.minimum(np.arange(25) / 20, 1)))
    np.testing.assert_allclose(rates(25, 20, schedule="cosine"), expected, rtol=1e-4, atol=1e-7)


def test_step_schedule_halves():
    expected = 0.1 * 0.5 ** (np.arange(12) // 5)
    np.testing.assert_allclose(rates(12, 12, schedule="step", decay_every=5), expected, rtol=1e-4)
    expected = 0.1 * 0.1 ** (np.arange(6) // 3)
    np.testing.assert_allclose(rates(6, 6, schedule="step", decay_every=3, decay_factor=0.1), expected, rtol=1e-4)


def test_constant_schedule():
    np.testing.assert_allclose(rates(5, 2, schedule="constant"), np.full(5, 0.1), rtol=1e-4)


def test_outer_adam_is_adam():
    """Kingma & Ba 2015, Algorithm 1, by hand."""
    gradients = np.random.default_rng(0).normal(size=(6, 3))
    optimiser = outer_adam(0.1, b1=0.5, b2=0.99, schedule="constant")
    learnable, theta, m, v = jnp.zeros(3), np.zeros(3), np.zeros(3), np.zeros(3)
    state = optimiser.init(learnable, 6)
    for t, g in enumerate(gradients, 1):
        learnable, state = optimiser.update(jnp.asarray(g, jnp.float32), state, learnable)
        m, v = 0.5 * m + 0.5 * g, 0.99 * v + 0.01 * g**2
        theta -= 0.1 * (m / (1 - 0.5**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-8)
    np.testing.assert_allclose(learnable, theta, rtol=1e-4)


def test_loss_falls_on_digits(digits, digits_mlp):
    options = UnrolledOptions(num_batches=1, num_epochs=3, num_inits=2, batch_size=64, init_images="noise")
    method = unrolled(digits_mlp, options, learning_rate=0.1)
    keys, start = jax.random.split(jax.random.key(1), 60), method.init(jax.random.key(0), digits, 60)
    _, info = all_steps(method.step, keys, start, method.arrays(digits))
    losses = np.asarray(info.loss)
    assert np.isfinite(losses).all()
    assert losses[-10:].mean() < 0.8 * losses[:5].mean()


def test_hyperparameters_are_json(model):
    method = unrolled(model, UnrolledOptions(num_batches=3), clip_norm=None)
    assert json.loads(json.dumps(method.hyperparameters)) == method.hyperparameters
    assert method.hyperparameters["num_batches"] == 3
    assert method.hyperparameters["clip_norm"] is None
    assert unrolled(model, UnrolledOptions(**method.hyperparameters)).hyperparameters == method.hyperparameters


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_batch": 3}, "option 'num_batch'. Did you mean 'num_batches'"),
        ({"lerning_rate": 3}, "Did you mean 'learning_rate'"),
        ({"num_inits": 0}, "num_inits must be at least 1, but is 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, but is 0"),
        ({"num_batches": 0}, "num_batches must be at least 1"),
        ({"num_epochs": 0}, "num_epochs must be at least 1"),
        ({"images_per_class": 0}, "images_per_class must be at least 1"),
        ({"init_step_size": -1.0}, "init_step_size must be positive"),
        ({"learning_rate": 0.0}, "learning_rate must be positive and finite"),
        ({"learning_rate": float("nan")}, "learning_rate must be positive and finite"),
        ({"clip_norm": -1.0}, "clip_norm must be positive and finite"),
        ({"decay_every": 0}, "decay_every must be positive"),
        ({"init": "fixd"}, "init 'fixd'. Did you mean 'fixed'"),
        ({"schedule": "cosin"}, "schedule 'cosin'. Did you mean 'cosine'"),
        ({"init_images": "nois"}, "init_images 'nois'. Did you mean 'noise'"),
        ({"over_inits": "vmapp"}, "over_inits 'vmapp'. Did you mean 'vmap'"),
    ],
)
def test_bad_options_say_what_is_known(model, options, words, monkeypatch):
    # Users don't run under the tests' shape checker, which would refuse a wrong Literal first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(OptionError, match=words):
        unrolled(model, **options)


def test_discount_changes_the_hypergradient_but_not_the_loss(model, tiny):
    _, exact, info = first_step(model, tiny, clip_norm=None)
    _, biased, same = first_step(model, tiny, clip_norm=None, discount=0.5)
    np.testing.assert_allclose(info.loss, same.loss, rtol=1e-6)
    assert same.hypergradient_norm < info.hypergradient_norm
    last = hypergradient(biased).raw_step_sizes[-1], hypergradient(exact).raw_step_sizes[-1]
    np.testing.assert_allclose(*last, rtol=1e-4)


def test_smoothing_keeps_white_noise_white_in_size_and_what_is_smooth():
    noise = jax.random.normal(jax.random.key(0), (4, 50, 30, 30, 1))
    for sigmas in [(0.0, 0.0, 2.0, 2.0, 0.0), (1.5, 0.0, 0.0, 0.0, 0.0), (1.0, 0.0, 1.0, 1.0, 0.0)]:
        np.testing.assert_allclose(jnp.var(smooth(noise, sigmas)), 1.0, rtol=0.05)
    np.testing.assert_array_equal(smooth(noise, (0.0,) * 5), noise)
    spike = jnp.zeros((9, 9)).at[4, 4].set(1.0)
    spread = smooth(spike, (1.0, 1.0))
    np.testing.assert_allclose(spread, spread.T, rtol=1e-6)
    np.testing.assert_allclose(spread[4, 5] / spread[4, 4], np.exp(-0.5), rtol=1e-2)


def test_step_sizes_have_a_rate_of_their_own(model, tiny):
    before, held, _ = first_step(model, tiny, step_size_rate=0.0)
    np.testing.assert_array_equal(before.learnable.raw_step_sizes, held.learnable.raw_step_sizes)
    assert not np.array_equal(before.learnable.images, held.learnable.images)
    _, third, _ = first_step(model, tiny, step_size_rate=0.5)
    _, whole, _ = first_step(model, tiny, step_size_rate=1.0)
    moved = [s.learnable.raw_step_sizes - before.learnable.raw_step_sizes for s in (third, whole)]
    np.testing.assert_allclose(2 * moved[0], moved[1], rtol=1e-3)


def test_cores_are_used_where_that_is_faster(model):
    """Cores beyond the networks only share real images: not worth it where the unroll is most of the work."""

    def useful(available, **options):
        return unrolled(model, **options).useful_devices(available)

    assert useful(8, num_inits=4, num_batches=10, num_epochs=3, batch_size=64) == 4
    assert useful(2, num_inits=4, num_batches=10, num_epochs=3, batch_size=64) == 2
    assert useful(8, init="fixed", num_inits=4, num_batches=10, num_epochs=3, batch_size=64) == 1
    assert useful(8, init="fixed", num_batches=1, num_epochs=3, batch_size=1024) == 8
