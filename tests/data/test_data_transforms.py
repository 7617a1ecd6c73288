import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.data import fit_standardise, fit_transform, to_model, to_pixels
from dd_jax.data.transforms import KINDS, MIN_STD
from dd_jax.errors import DataError, OptionError
from dd_jax.types import Transform


@pytest.fixture
def pixels():
    return np.random.default_rng(0).random((2100, 3, 2, 3), np.float32)


def test_standardised_training_pixels_have_zero_mean_and_unit_std(pixels):
    images = np.asarray(to_model(fit_standardise(pixels), pixels), np.float64)
    np.testing.assert_allclose(images.mean((0, 1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(images.std((0, 1, 2)), 1, rtol=1e-6)


def test_fit_agrees_with_numpy_in_float64(pixels):
    arrays = fit_standardise(pixels).arrays
    np.testing.assert_allclose(arrays["mean"], pixels.mean((0, 1, 2), dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(arrays["std"], pixels.std((0, 1, 2), dtype=np.float64), rtol=1e-6)
    assert arrays["mean"].dtype == arrays["std"].dtype == jnp.float32


def test_fit_to_bytes_is_the_fit_to_their_pixels(pixels):
    images = np.rint(pixels * 255).astype(np.uint8)
    of_bytes, of_pixels = fit_standardise(images).arrays, fit_standardise(images / np.float32(255)).arrays
    np.testing.assert_array_equal(of_bytes["mean"], of_pixels["mean"])
    np.testing.assert_array_equal(of_bytes["std"], of_pixels["std"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrap", [np.asarray, jnp.asarray])
def test_round_trip_keeps_pixels_and_dtype_jitted_and_not(kind, wrap, pixels):
    transform = fit_transform(kind, pixels)
    images = to_model(transform, wrap(pixels))
    assert images.dtype == jnp.float32
    assert to_pixels(transform, images).dtype == jnp.float32
    rounding = 1e-5 if kind.startswith("zca") else 3e-7
    np.testing.assert_allclose(to_pixels(transform, images), pixels, rtol=0, atol=rounding)
    jitted = jax.jit(to_pixels)(transform, jax.jit(to_model)(transform, wrap(pixels)))
    np.testing.assert_allclose(jitted, pixels, rtol=0, atol=rounding)


def test_identity_changes_nothing(pixels):
    np.testing.assert_array_equal(to_model(fit_transform("identity", pixels), pixels), pixels)


def test_leading_axes_are_free_even_when_ranks_may_not_be_promoted(pixels):
    transform = fit_standardise(pixels)
    with jax.numpy_rank_promotion("raise"):
        stacked = to_model(transform, pixels[:6].reshape(2, 3, 3, 2, 3))
        single = to_model(transform, pixels[0])
    np.testing.assert_array_equal(stacked[0, 0], single)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_other_float_types_are_kept(dtype, pixels):
    assert to_model(fit_standardise(pixels), jnp.asarray(pixels, dtype)).dtype == dtype


def test_constant_channel_stays_finite_and_comes_back():
    pixels = np.full((5, 2, 2, 2), 0.5, np.float32)
    pixels[..., 1] = np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 2, 2)
    transform = fit_standardise(pixels)
    assert transform.arrays["std"][0] == np.float32(MIN_STD)
    images = to_model(transform, pixels)
    assert bool(jnp.isfinite(images).all())
    np.testing.assert_allclose(to_pixels(transform, images), pixels, atol=2e-7)


def test_unknown_kind_names_the_nearest(pixels):
    with pytest.raises(OptionError, match="Did you mean 'standardise'"):
        fit_transform("standardize", pixels)
    with pytest.raises(OptionError, match="Unknown transform 'whiten'"):
        to_model(Transform("whiten", {}), pixels)


def test_integer_pixels_are_refused():
    with pytest.raises(DataError, match="divide uint8 pixels by 255"):
        to_model(Transform("identity", {}), np.zeros((1, 2, 2, 1), np.uint8))
