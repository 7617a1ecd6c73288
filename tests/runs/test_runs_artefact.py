import hashlib
import io
import json
import os
import pickle

import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.data import fit_transform, to_model
from dd_jax.errors import DataError, RunError
from dd_jax.storage import artefact as module
from dd_jax.storage.artefact import load_artefact, load_distilled, load_provenance, save_distilled
from dd_jax.types import DistilledData, Protocol, Transform

PROVENANCE = {"accuracy": 0.812, "accuracy_std": np.float32(0.5), "method": "unrolled"}


def distilled(seed=0, soft=False, channels=3, **changes):
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(4, dtype=np.int32), (2, 1))
    fields = {
        "images": jnp.asarray(rng.normal(size=(2, 4, 5, 6, channels)), jnp.float32),
        "labels": jnp.asarray(np.eye(4, dtype=np.float32)[labels] if soft else labels),
        "step_sizes": jnp.asarray(rng.uniform(0.01, 0.1, 6), jnp.float32),
        "transform": Transform("standardise", {"mean": jnp.full(channels, 0.4), "std": jnp.full(channels, 0.25)}),
        "class_names": ("cat", "dog", "fox", "été"),
        "protocol": Protocol(init="fixed", init_seed=3),
    }
    fields |= changes
    return DistilledData({"images": fields.pop("images")}, **fields)


def assert_same(left, right):
    for name in ("images", "labels", "step_sizes"):
        one, other = getattr(left, name), getattr(right, name)
        assert one.dtype == other.dtype
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        assert one.shape == other.shape
    assert left.transform.kind == right.transform.kind
    assert set(left.transform.arrays) == set(right.transform.arrays)
    for name, array in left.transform.arrays.items():
        assert np.array_equal(array, right.transform.arrays[name])
    assert (left.class_names, left.protocol) == (right.class_names, right.protocol)


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("transform", ["standardise", "identity"])
def test_a_set_comes_back_bit_for_bit(tmp_path, soft, transform):
    saved = distilled(soft=soft)
    if transform == "identity":
        saved = distilled(soft=soft, transform=Transform("identity", {}))
    save_distilled(tmp_path / "distilled", saved, PROVENANCE)
    for path in (tmp_path, tmp_path / "distilled", str(tmp_path / "distilled" / "distilled.json")):
        assert_same(saved, load_distilled(path))
        assert load_provenance(path) == {"accuracy": 0.812, "accuracy_std": 0.5, "method": "unrolled"}


@pytest.mark.parametrize("kind", ["zca", "zca-kip"])
def test_a_whitened_set_comes_back_with_its_axes_and_pixels(tmp_path, kind):
    pixels = np.random.default_rng(1).random((200, 5, 6, 3), np.float32)
    transform = fit_transform(kind, pixels)
    images = to_model(transform, pixels[:8]).reshape(2, 4, 5, 6, 3)
    saved = distilled(images=images, transform=transform)
    save_distilled(tmp_path, saved, {})
    assert_same(saved, load_distilled(tmp_path))
    np.testing.assert_allclose(
        load_artefact(tmp_path).arrays["pixels"].reshape(8, 5, 6, 3), 255 * pixels[:8], rtol=0, atol=0.51
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {"scales": a["scales"] * 0}, "scales should be between"),
        (lambda a: {"std": a["std"] * 0}, "std should be positive"),
        (lambda a: {"mean": a["mean"][:3]}, r"mean should be \(90,\), found \(3,\)"),
        (lambda a: {"axes": a["axes"][:, :5]}, r"axes should be \(90, 90\)"),
        (lambda a: {"axes": a["axes"].at[3, 4].add(0.1)}, "axes should be orthonormal"),
        (lambda a: {"axes": a["axes"] * 1e30}, "axes should be orthonormal"),
        (lambda a: {"more": a["std"]}, "a ZCA transform needs"),
    ],
)
def test_a_whitening_that_is_none_is_refused(tmp_path, change, words):
    fitted = fit_transform("zca", np.random.default_rng(1).random((200, 5, 6, 3), np.float32))
    transform = Transform("zca", {**fitted.arrays, **change(fitted.arrays)})
    with pytest.raises(DataError, match=words):
        save_distilled(tmp_path, distilled(transform=transform), {})


def test_a_set_for_a_named_training_comes_back(tmp_path):
    saved = distilled(protocol=Protocol("dsa-digits", order="random"))
    save_distilled(tmp_path, saved, {})
    assert load_distilled(tmp_path).protocol == saved.protocol


def test_pixels_are_for_looking_at(tmp_path):
    saved = distilled()
    save_distilled(tmp_path, saved, {})
    (file,) = tmp_path.glob("*.npz")
    with np.load(file, allow_pickle=False) as npz:
        expected = np.clip(np.asarray(saved.images) * 0.25 + 0.4, 0, 1) * 255
        assert npz["pixels"].dtype == np.uint8
        np.testing.assert_allclose(npz["pixels"], expected, atol=0.51)
        assert set(npz.files) == {
            "images", "labels", "step_sizes", "pixels", "transform/mean", "transform/std",
        }  # fmt: skip


def test_pixels_that_an_older_file_lacks_are_made(tmp_path):
    save_distilled(tmp_path, distilled(), {})
    pixels = load_artefact(tmp_path).arrays["pixels"]
    rewrite(tmp_path, lambda arrays: {name: array for name, array in arrays.items() if name != "pixels"})
    assert np.array_equal(load_artefact(tmp_path).arrays["pixels"], pixels)


def test_saving_again_replaces_and_leaves_two_files(tmp_path):
    save_distilled(tmp_path, distilled(0), {})
    save_distilled(tmp_path, distilled(1), {})
    assert_same(distilled(1), load_distilled(tmp_path))
    assert len(os.listdir(tmp_path)) == 2


def test_a_kill_after_any_write_leaves_the_old_set_or_the_new(tmp_path, monkeypatch):
    """Every call that changes the folder is where the process may end."""
    save_distilled(tmp_path, distilled(0), {})
    replace, unlink, survived = os.replace, os.unlink, []
    for allowed in range(10):
        calls = iter(range(100))

        def limited(function, calls=calls, allowed=allowed):
            def call(*args, **kwargs):
                if next(calls) >= allowed:
                    raise KeyboardInterrupt
                return function(*args, **kwargs)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", limited(replace))
            patch.setattr(os, "unlink", limited(unlink))
            try:
                save_distilled(tmp_path, distilled(1), {})
            except KeyboardInterrupt:
                survived.append(float(load_distilled(tmp_path).images[0, 0, 0, 0, 0]))
            else:
                break
    old, new = (float(distilled(seed).images[0, 0, 0, 0, 0]) for seed in (0, 1))
    assert old in survived
    assert set(survived) <= {old, new}
    assert_same(distilled(1), load_distilled(tmp_path))


def test_a_full_disk_keeps_the_old_set(tmp_path, monkeypatch):
    save_distilled(tmp_path, distilled(0), {})

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(RunError, match="Can't save the distilled set"):
        save_distilled(tmp_path, distilled(1), {})
    assert_same(distilled(0), load_distilled(tmp_path))


def test_nothing_there_is_told(tmp_path):
    with pytest.raises(DataError, match=r"no distilled set at .* expected .*distilled\.json"):
        load_distilled(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"transform": None}, "needs a transform"),
        ({"images": jnp.full((2, 4, 5, 6, 3), jnp.nan)}, "images holds numbers that are not finite"),
        ({"images": jnp.zeros((2, 4, 5, 6))}, "images should be"),
        ({"labels": jnp.full((2, 4), 4, jnp.int32)}, "there are 4 classes, but a label 4"),
        ({"labels": jnp.full((2, 4), -1, jnp.int32)}, "labels should not be negative"),
        ({"labels": jnp.zeros((2, 3), jnp.int32)}, "labels should be"),
        ({"labels": jnp.zeros((2, 4, 5))}, "soft labels should be"),
        ({"labels": jnp.full((2, 4, 4), jnp.inf)}, "labels holds numbers that are not finite"),
        ({"step_sizes": jnp.array([0.1, 0.0])}, "step sizes should be positive"),
        ({"step_sizes": jnp.array([0.1, jnp.nan])}, "step_sizes holds numbers that are not finite"),
        ({"step_sizes": jnp.array([0.1, 0.1, 0.1])}, "T a multiple of 2"),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, changes, words):
    save_distilled(tmp_path, distilled(), {})
    with pytest.raises(DataError, match=words):
        save_distilled(tmp_path, distilled(**changes), {})
    assert_same(distilled(), load_distilled(tmp_path))


def rewrite(folder, change):
    """Change the npz as a tool would that knows about the checksum."""
    (file,) = folder.glob("*.npz")
    with np.load(file) as npz:
        arrays = dict(npz)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **change(arrays))
    file.write_bytes(buffer.getvalue())
    edit(folder, lambda meta: {**meta, "sha256": hashlib.sha256(buffer.getvalue()).hexdigest()})


def edit(folder, change):
    file = folder / "distilled.json"
    meta = json.loads(file.read_bytes())
    del meta["content_sha256"]
    file.write_text(json.dumps(change(meta)))


class Bomb:
    def __reduce__(self):
        return (os.mkdir, ("exploded",))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda a: {k: v for k, v in a.items() if k != "labels"}, "'labels' is missing"),
        (lambda a: {**a, "images": a["images"].astype(np.float64)}, "images should be float32, found float64"),
        (lambda a: {**a, "labels": a["labels"].astype(np.int64)}, "labels should be int32 or float32, found int64"),
        (lambda a: {**a, "labels": a["labels"] + 1}, "there are 4 classes, but a label 4"),
        (lambda a: {**a, "step_sizes": -a["step_sizes"]}, "step sizes should be positive"),
        (lambda a: {**a, "pixels": a["pixels"][:1]}, "pixels should be uint8"),
        (lambda a: {**a, "transform/mean": a["transform/mean"][:1]}, "the transform's mean should be"),
        (lambda a: {**a, "transform/std": 0 * a["transform/std"]}, "std should be positive"),
        (lambda a: {k: v for k, v in a.items() if k != "transform/std"}, "needs .* found"),
        (lambda a: {**a, "images": np.array([Bomb()], object)}, "holds Python objects"),
    ],
)
def test_a_set_that_breaks_the_rules_is_not_loaded(tmp_path, monkeypatch, change, words):
    monkeypatch.chdir(tmp_path)
    save_distilled(tmp_path / "a", distilled(), {})
    rewrite(tmp_path / "a", change)
    with pytest.raises(DataError, match=rf"distilled-\w+\.npz.*{words}"):
        load_distilled(tmp_path / "a")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: {**m, "schema_version": 3}, "schema version 3, but this version of dd_jax reads 1 to 2"),
        (lambda m: {**m, "schema_version": True}, "schema version True, but this version of dd_jax reads 1 to 2"),
        (lambda m: {**m, "parameterisation": "images"}, "'parameterisation' should be a dict, but is 'images'"),
        (lambda m: {**m, "parameterisation": {"name": "images"}}, "should have a name and settings"),
        (
            lambda m: {**m, "parameterisation": {"name": "noise", "settings": {}}},
            "there is no parameterisation 'noise'",
        ),
        (
            lambda m: {**m, "parameterisation": {"name": "images", "settings": {"factor": 2}}},
            "a set of images has no such settings: {'factor': 2}",
        ),
        (
            lambda m: {**m, "parameterisation": {"name": "multi_formation", "settings": {}}},
            r"stored images should be 'stored' \(N, H, W, C\), found images",
        ),
        (lambda m: [m], "schema version None"),
        (lambda m: {k: v for k, v in m.items() if k != "class_names"}, "'class_names' should be a list, but is None"),
        (lambda m: {**m, "arrays": "../other.npz"}, "should name a file beside it"),
        (lambda m: {**m, "arrays": "other.npz"}, r"other\.npz can't be read: No such file"),
        (lambda m: {**m, "protocol": {"temperature": 1}}, "this version of dd_jax doesn't know the protocol"),
        (lambda m: {**m, "protocol": {"name": "dcc"}}, "this version of dd_jax doesn't know the protocol"),
    ],
)
def test_a_json_that_breaks_the_rules_is_not_loaded(tmp_path, change, words):
    save_distilled(tmp_path, distilled(), {})
    edit(tmp_path, change)
    with pytest.raises(DataError, match=words):
        load_distilled(tmp_path)


@pytest.mark.parametrize("where", [0.0, 0.2, 0.5, 0.9, 0.999])
def test_a_damaged_file_is_named(tmp_path, where):
    save_distilled(tmp_path, distilled(), {})
    (npz,) = tmp_path.glob("*.npz")
    data = npz.read_bytes()
    at = int(where * len(data))
    for broken in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :], pickle.dumps(Bomb())):
        npz.write_bytes(broken)
        with pytest.raises(DataError, match=rf"{npz.name} is damaged"):
            load_distilled(tmp_path)
    npz.write_bytes(data)
    text = (tmp_path / "distilled.json").read_bytes()
    (tmp_path / "distilled.json").write_bytes(text[: int(where * (len(text) - 2))])
    with pytest.raises(DataError, match=r"distilled\.json is damaged"):
        load_distilled(tmp_path)


def test_a_json_with_another_number_in_it_is_damaged_or_edited_and_says_how_to_take_it(tmp_path):
    save_distilled(tmp_path, distilled(), {"accuracy": 0.812})
    file = tmp_path / "distilled.json"
    file.write_text(file.read_text().replace("0.812", "0.912"))
    with pytest.raises(
        DataError,
        match=r"distilled\.json is damaged: it was changed after it was written\. .* Without the field 'content_sha",
    ):
        load_distilled(tmp_path)
    edit(tmp_path, lambda meta: meta)
    assert load_provenance(tmp_path) == {"accuracy": 0.912}
