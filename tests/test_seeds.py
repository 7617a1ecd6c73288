"""Seeds: each gives random numbers of its own, and what is none is refused."""

import itertools

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.inner.init import keys_of
from dd_jax.seeds import MOST, check_seed, key_of_seed, word_of_seed

SEEDS = (0, 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 2**33, 2**33 + 1, 2**62, MOST)
NONE = (-1, 2**63, 1.0, "0", None, True, np.float32(2))


def test_seeds_give_keys_of_their_own():
    for make in (key_of_seed, lambda seed: keys_of(seed, np.arange(2))[1]):
        keys = [np.asarray(jax.random.key_data(make(seed))) for seed in SEEDS]
        assert not any(np.array_equal(one, other) for one, other in itertools.combinations(keys, 2))


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1])
def test_seeds_of_32_bits_are_those_of_jax_with_and_without_x64(seed, x64):
    for wide in (True, False):
        jax.config.update("jax_enable_x64", wide)
        expected = jax.random.key_data(jax.random.key(np.uint32(seed)))
        np.testing.assert_array_equal(jax.random.key_data(key_of_seed(seed)), expected)


def test_long_seeds_are_the_same_with_and_without_x64(x64):
    wide = jax.random.key_data(key_of_seed(2**40 + 3))
    jax.config.update("jax_enable_x64", False)
    np.testing.assert_array_equal(jax.random.key_data(key_of_seed(2**40 + 3)), wide)


def test_words_of_seeds_are_seeds_of_32_bits():
    assert [word_of_seed(seed) for seed in (0, 7, 2**32 - 1)] == [0, 7, 2**32 - 1]
    words = [word_of_seed(seed) for seed in SEEDS]
    assert len(set(words)) == len(SEEDS)
    assert max(words) < 2**32


@pytest.mark.parametrize("seed", NONE)
def test_what_is_no_seed_is_refused(seed):
    with pytest.raises(OptionError, match=r"split_seed must be an integer from 0 to 2\*\*63 - 1 .*, but is"):
        check_seed(seed, "split_seed")


def test_integers_of_numpy_are_seeds():
    assert check_seed(np.int64(5)) == 5
    assert type(check_seed(np.uint8(5))) is int


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, None])
def test_every_function_that_takes_a_seed_refuses_what_is_none(seed, digits, digits_mlp, tmp_path):
    method = dd.methods.unrolled(digits_mlp)
    noise = dd.distilled_from_arrays(np.zeros((10, 8, 8, 1), np.float32), np.arange(10), step_sizes=0.1)
    calls = {
        "seed": lambda: dd.distill(method, digits, num_outer_steps=1, seed=seed),
        "seed ": lambda: dd.pretrain(digits_mlp, digits, seed=seed, out=tmp_path / "nets.safetensors"),
        "split_seed": lambda: dd.dataset_from_arrays(np.eye(8)[None].repeat(8, 0), np.arange(8) % 2, split_seed=seed),
    }
    if isinstance(seed, int):  # else the tests' check of types is faster
        calls["seed  "] = lambda: dd.evaluate(noise, digits_mlp, digits, seed=seed)
        calls["init_seed"] = lambda: dd.methods.unrolled(digits_mlp, init_seed=seed)
        calls["seed   "] = lambda: dd.baselines(noise, digits_mlp, digits, seed=seed)
    for name, call in calls.items():
        with pytest.raises(OptionError, match=f"{name.strip()} must be an integer from 0"):
            call()


def test_runs_of_long_seeds_are_runs_of_their_own():
    rng = np.random.default_rng(0)
    data = dd.dataset_from_arrays(rng.random((60, 4, 4)), np.arange(60) % 2)
    method = dd.methods.unrolled(dd.models.mlp(data, hidden=(8,)), num_inits=1, batch_size=16, init_images="noise")
    images = [
        np.asarray(
            dd.distill(
                method, data, num_outer_steps=1, num_eval_nets=1, seed=seed, show_progress=False
            ).distilled.images
        )
        for seed in (0, 2**32, MOST)
    ]
    assert not any(np.array_equal(one, other) for one, other in itertools.combinations(images, 2))
