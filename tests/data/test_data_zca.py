"""ZCA whitening is that of the released codes, can be undone, and belongs to the training split."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data import fit_transform, to_model, to_pixels, zca
from dd_jax.errors import DataError, OptionError
from dd_jax.evaluation.coresets import mean_images
from dd_jax.types import Transform

KINDS = ["zca", "zca-kip"]


@pytest.fixture(scope="module")
def pixels():
    """Smooth images, bright and dark: neighbouring values go together, and one eigenvalue is large."""
    rng = np.random.default_rng(0)
    coarse = 0.6 * rng.random((500, 1, 1, 1)) + 0.4 * rng.random((500, 3, 3, 3))
    return np.asarray(jax.image.resize(coarse, (500, 6, 5, 3), "linear"), np.float32).clip(0, 1)


def kornia(train, pixels, eps=0.1):
    """ZCAWhitening(eps): SVD of the covariance by N - 1; T = U diag((S + eps)^-1/2) U^T."""
    flat = train.reshape(len(train), -1).astype(np.float64)
    mean = flat.mean(0)
    u, s, _ = np.linalg.svd((flat - mean).T @ (flat - mean) / (len(flat) - 1))
    whitened = (pixels.reshape(len(pixels), -1) - mean) @ (u * (s + eps) ** -0.5) @ u.T
    return whitened.reshape(pixels.shape)


def kip(train, pixels, reg=0.1):
    """The released code of KIP, without the norm of each image."""
    mean, std = train.mean((0, 1, 2), dtype=np.float64), train.std((0, 1, 2), dtype=np.float64)
    flat = ((train - mean) / std).reshape(len(train), -1)
    moments = flat.T @ flat / len(flat)
    u, s, _ = np.linalg.svd(moments + reg * np.trace(moments) / len(moments) * np.eye(len(moments)))
    return (((pixels - mean) / std).reshape(len(pixels), -1) @ (u * s**-0.5) @ u.T).reshape(pixels.shape)


@pytest.mark.parametrize(("kind", "reference"), [("zca", kornia), ("zca-kip", kip)])
def test_agrees_with_the_released_code(kind, reference, pixels):
    train, test = pixels[:400], pixels[400:]
    found = to_model(fit_transform(kind, train), test)
    np.testing.assert_allclose(found, reference(train, test), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_can_be_undone_also_for_images_far_from_pixels(kind, pixels):
    transform = fit_transform(kind, pixels)
    np.testing.assert_allclose(to_pixels(transform, to_model(transform, pixels)), pixels, rtol=0, atol=1e-5)
    images = np.random.default_rng(1).normal(scale=3, size=(20, 6, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(to_model(transform, to_pixels(transform, images)), images, rtol=0, atol=1e-4)


def test_whitens_what_varies_more_than_the_regularisation(pixels):
    """Eigenvalues s become s / (s + eps), along the same axes."""
    arrays = fit_transform("zca", pixels).arrays
    whitened = np.asarray(to_model(Transform("zca", arrays), pixels), np.float64).reshape(500, -1)
    along = np.asarray(arrays["axes"], np.float64).T @ np.cov(whitened.T) @ np.asarray(arrays["axes"], np.float64)
    before = np.asarray(arrays["scales"], np.float64) ** -2 - 0.1
    np.testing.assert_allclose(np.diag(along), before / (before + 0.1), atol=1e-3)
    np.testing.assert_allclose(along - np.diag(np.diag(along)), 0, atol=1e-3)
    large = before > 1
    assert large.any()
    assert (np.diag(along)[large] > 0.9).all()


def test_with_hardly_any_regularisation_the_covariance_is_the_identity(pixels):
    arrays = zca.fit(pixels, zca.MTT._replace(eps=1e-6))
    kept = np.asarray(arrays["scales"]) < 100  # the others vary less than a hundred times the eps
    whitened = np.asarray(zca.whiten(arrays, jnp.asarray(pixels)), np.float64).reshape(500, -1)
    axes = np.asarray(arrays["axes"], np.float64)[:, kept]
    assert kept.sum() > 20
    np.testing.assert_allclose(axes.T @ np.cov(whitened.T) @ axes, np.eye(kept.sum()), atol=5e-3)


def test_is_the_nearest_whitening_and_not_a_rotation(pixels):
    """The matrix is symmetric and positive: images stay recognisable."""
    whitening = zca.matrix(fit_transform("zca", pixels).arrays)
    np.testing.assert_allclose(whitening, whitening.T, atol=1e-6)
    assert np.linalg.eigvalsh(whitening).min() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_are_the_pixels_that_they_stand_for(kind, pixels):
    images = np.rint(pixels * 255).astype(np.uint8)
    of_bytes, of_pixels = (fit_transform(kind, x).arrays for x in (images, images / np.float32(255)))
    for name in ("mean", "std", "scales"):
        np.testing.assert_allclose(of_bytes[name], of_pixels[name], rtol=1e-6, atol=1e-7)


def test_the_same_images_give_the_same_bits(pixels):
    one, other = (fit_transform("zca", pixels).arrays for _ in range(2))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_axes_are_stored_once_in_float32(pixels):
    arrays = fit_transform("zca", pixels).arrays
    assert all(array.dtype == jnp.float32 for array in arrays.values())
    assert sum(array.nbytes for array in arrays.values()) == 4 * (90 * 90 + 2 * 90 + 3)


@pytest.mark.parametrize("kind", KINDS)
def test_images_that_are_all_alike_stay_finite(kind):
    transform = fit_transform(kind, np.full((4, 3, 3, 1), 0.25, np.float32))
    images = to_model(transform, np.full((1, 3, 3, 1), 0.5, np.float32))
    assert bool(jnp.isfinite(images).all())
    np.testing.assert_allclose(to_pixels(transform, images), 0.5, atol=1e-4)


def test_travels_through_jit_as_an_argument_and_is_no_constant(pixels):
    transform = fit_transform("zca", pixels)
    text = jax.jit(to_model).lower(transform, jnp.asarray(pixels[:2])).as_text()
    assert 'dense<"0x' not in text
    assert text.count("tensor<90x90xf32>") > 0


@pytest.mark.parametrize("way", ["arrays", "npz", "folder", "digits"])
def test_however_a_dataset_is_loaded_its_test_split_is_whitened_by_the_training_split(way, tmp_path):
    rng = np.random.default_rng(3)
    images, labels = rng.integers(0, 256, (60, 4, 4, 1), np.uint8), np.repeat(np.arange(2), 30)
    test = rng.integers(0, 256, (10, 4, 4, 1), np.uint8), np.repeat(np.arange(2), 5)

    def load(**options):
        if way == "arrays":
            return dd.dataset_from_arrays(images, labels, test=test, **options)
        if way == "digits":
            return dd.load_dataset("digits", **options)
        if way == "npz":
            np.savez(tmp_path / "x.npz", images=images, labels=labels, test_images=test[0], test_labels=test[1])
            return dd.load_dataset(f"npz:{tmp_path / 'x.npz'}", **options)
        from PIL import Image

        for part, (xs, ys) in {"train": (images, labels), "test": test}.items():
            for number, (x, y) in enumerate(zip(xs, ys, strict=True)):
                place = tmp_path / "photos" / part / str(y)
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(x[..., 0]).save(place / f"{number}.png")
        return dd.load_dataset(f"folder:{tmp_path / 'photos'}", **options)

    plain, white = load(transform="identity"), load(zca=True)
    assert white.transform.kind == "zca"
    for part in ("train", "validation", "test"):
        expected = kornia(np.asarray(plain.train.images), np.asarray(getattr(plain, part).images))
        np.testing.assert_allclose(getattr(white, part).images, expected, rtol=0, atol=1e-4)
    assert load(transform="zca").fingerprint == white.fingerprint != plain.fingerprint


def test_the_fingerprint_is_that_of_the_data_and_the_kind(digits, monkeypatch):
    """Eigenvectors come out with other signs and last bits elsewhere: a run must go on there."""
    one = dd.load_dataset("digits", zca=True)
    fit = np.linalg.eigh
    monkeypatch.setattr(np.linalg, "eigh", lambda a: (lambda found: (found[0], -found[1] * (1 + 1e-7)))(fit(a)))
    assert dd.load_dataset("digits", zca=True).fingerprint == one.fingerprint
    assert one.fingerprint != dd.load_dataset("digits", transform="zca-kip").fingerprint
    given = dd.load_dataset("digits", transform=fit_transform("zca", np.asarray(digits.train.images).clip(0, 1)))
    assert given.fingerprint != one.fingerprint


def test_a_set_of_whitened_images_trains_and_is_judged_in_its_own_space(digits):
    white = dd.load_dataset("digits", zca=True)
    model = dd.models.mlp(white, hidden=(16,))
    set_of_means = mean_images(white, 1)
    sizes = {"step_sizes": jnp.full(30, 0.5), "transform": white.transform, "class_names": white.class_names}
    distilled = dd.distilled_from_arrays(set_of_means[:, 0], np.arange(10), **sizes)
    in_own, in_other = (dd.evaluate(distilled, model, data, num_nets=3) for data in (white, digits))
    assert in_own.mean > 0.6
    np.testing.assert_allclose(in_own.accuracies, in_other.accuracies, atol=0.01)


def test_two_transforms_are_refused():
    with pytest.raises(OptionError, match="zca=True and transform='identity'"):
        dd.load_dataset("digits", zca=True, transform="identity")
    assert dd.load_dataset("digits", zca=True, transform="zca-kip").transform.kind == "zca-kip"


def test_what_is_too_large_or_too_little_is_refused():
    with pytest.raises(DataError, match=r"\(128, 128, 1\) and need a matrix of 16384 x 16384.*image_size"):
        fit_transform("zca", np.zeros((2, 128, 128, 1), np.uint8))
    with pytest.raises(DataError, match="at least two"):
        fit_transform("zca", np.zeros((1, 2, 2, 1), np.uint8))


@pytest.mark.slow
def test_cifar10_comes_back():
    if not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "cifar10").is_dir():
        pytest.skip("cifar10 is not prepared in TFDS_DATA_DIR")
    plain = dd.load_dataset("cifar10", transform="identity")
    pixels = np.asarray(plain.train.images[:3000, 8:24, 8:24])  # whose axes take a second to find, and not a minute
    transform = fit_transform("zca", pixels)
    back = to_pixels(transform, to_model(transform, jnp.asarray(pixels[:200])))
    np.testing.assert_allclose(back, pixels[:200], rtol=0, atol=1e-4)
