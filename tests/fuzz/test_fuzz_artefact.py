"""Whatever the files of an artefact hold, loading gives a set that could have been saved, or says why not."""

import dataclasses
import hashlib
import io
import json
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Touch, archive, as_json, changed_json, entries_like, examples, mutated, npy, read_or_refused

from dd_jax.data import fit_transform
from dd_jax.errors import DataError
from dd_jax.storage.artefact import load_distilled, load_provenance, save_distilled
from dd_jax.types import DistilledData, Protocol, Transform

NAME = "distilled-fuzz.npz"
SET = DistilledData(
    {"images": jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 4, 3, 1)), jnp.float32)},
    jnp.asarray([[0, 1, 2], [0, 1, 2]], jnp.int32),
    jnp.asarray([0.1, 0.2, 0.3, 0.4], jnp.float32),
    Transform("standardise", {"mean": jnp.asarray([0.4]), "std": jnp.asarray([0.2])}),
    ("cat", "dog", "fox"),
    Protocol(init="fixed", init_seed=3, attack=(0, 1)),
)

WHITENED = dataclasses.replace(
    SET, transform=fit_transform("zca", np.random.default_rng(1).random((30, 4, 3, 1), np.float32))
)

with tempfile.TemporaryDirectory() as _place:
    save_distilled(_place, SET, {"accuracy": 0.5})
    # Without its own checksum, or nothing else would ever be looked at.
    META = {**json.loads((Path(_place) / "distilled.json").read_bytes()), "arrays": NAME}
    del META["content_sha256"]
    DATA = next(Path(_place).glob("*.npz")).read_bytes()
with tempfile.TemporaryDirectory() as _place:
    save_distilled(_place, WHITENED, {})
    WHITENED_DATA = next(Path(_place).glob("*.npz")).read_bytes()
with np.load(io.BytesIO(WHITENED_DATA)) as _npz:
    WHITENED_ARRAYS = {f"{name}.npy": array for name, array in _npz.items()}
with np.load(io.BytesIO(DATA)) as _npz:
    ARRAYS = {f"{name}.npy": array for name, array in _npz.items()}
ENTRIES = {name: npy(array) for name, array in ARRAYS.items()}
SHAPES = {name: array.shape for name, array in ARRAYS.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("artefact")


def write(folder, meta: bytes, data: bytes) -> None:
    (folder / "distilled.json").write_bytes(meta)
    (folder / NAME).write_bytes(data)


def sealed(data: bytes, **changes) -> bytes:
    """The json with the right hash for `data`: whoever makes the one makes the other."""
    return as_json({**META, "sha256": hashlib.sha256(data).hexdigest(), **changes})


def check(folder) -> DistilledData | None:
    """What is loaded is whole: it can be saved again, and comes back as it was."""
    read_or_refused(load_provenance, folder)
    loaded = read_or_refused(load_distilled, folder)
    if loaded is not None:
        save_distilled(folder / "again", loaded, {})
        again = load_distilled(folder / "again")
        jax.tree.map(np.testing.assert_array_equal, loaded, again)
    return loaded


def test_the_file_that_is_changed_is_intact(folder):
    write(folder, sealed(DATA), DATA)
    jax.tree.map(np.testing.assert_array_equal, check(folder), SET)
    write(folder, sealed(archive(ENTRIES)), archive(ENTRIES))
    jax.tree.map(np.testing.assert_array_equal, check(folder), SET)


@examples(150)
@given(mutated(DATA))
def test_garbled_arrays_with_the_right_hash(folder, data):
    write(folder, sealed(data), data)
    check(folder)


@examples(60)
@given(mutated(DATA))
def test_garbled_arrays_with_the_old_hash_are_damaged(folder, data):
    write(folder, sealed(DATA), data)
    if data != DATA:
        with pytest.raises(DataError, match=rf"{NAME} is damaged: its SHA-256"):
            load_distilled(folder)


@examples(180)
@given(entries_like(ENTRIES, SHAPES))
def test_other_arrays(folder, data):
    write(folder, sealed(data), data)
    check(folder)


@examples(120)
@given(
    entries_like(
        {name: npy(array) for name, array in WHITENED_ARRAYS.items()},
        {name: array.shape for name, array in WHITENED_ARRAYS.items()},
    )
)
def test_other_whitenings(folder, data):
    write(folder, sealed(data, transform="zca"), data)
    check(folder)


def test_a_whitened_set_is_intact_and_its_images_may_be_any_numbers(folder):
    write(folder, sealed(WHITENED_DATA, transform="zca"), WHITENED_DATA)
    jax.tree.map(np.testing.assert_array_equal, check(folder), WHITENED)
    most = np.finfo(np.float32).max
    huge = {**WHITENED_ARRAYS, "images.npy": np.full_like(WHITENED_ARRAYS["images.npy"], most)}
    data = archive({name: npy(array) for name, array in huge.items()})
    write(folder, sealed(data, transform="zca"), data)
    assert check(folder) is not None


@examples(180)
@given(changed_json({**META, "sha256": hashlib.sha256(DATA).hexdigest()}))
def test_other_descriptions(folder, meta):
    write(folder, as_json(meta), DATA)
    loaded = check(folder)
    if loaded is not None:
        assert all(type(name) is str for name in loaded.class_names)
        assert type(loaded.protocol.init_seed) is int
        jax.random.key(loaded.protocol.init_seed)


@examples(100)
@given(mutated(sealed(DATA)))
def test_garbled_descriptions(folder, meta):
    write(folder, meta, DATA)
    check(folder)


@examples(40)
@given(st.sampled_from(sorted(ENTRIES)), st.integers(2, 5), st.booleans())
def test_pickles_are_not_loaded(folder, name, protocol, whole):
    import pickle

    payload = pickle.dumps(Touch(folder / "executed"), protocol)
    content = payload if whole else npy(np.array([Touch(folder / "executed")], object))
    data = archive({**ENTRIES, name: content})
    write(folder, sealed(data), data)
    assert check(folder) is None
    write(folder, sealed(payload), payload)
    assert check(folder) is None
    assert not (folder / "executed").exists()


def test_a_pipe_in_place_of_the_arrays_is_no_file(folder):
    import os

    (folder / "pipe.npz").unlink(missing_ok=True)
    os.mkfifo(folder / "pipe.npz")
    write(folder, sealed(DATA, arrays="pipe.npz"), DATA)
    with pytest.raises(DataError, match=r"pipe\.npz can't be read: it is not a file"):
        load_distilled(folder)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"arrays": "a\0b"}, "should name a file beside it"),
        ({"arrays": "\ud800"}, "should name a file beside it"),
        ({"arrays": "x" * 5000}, "should name a file beside it"),
        ({"arrays": ".."}, "it is not a file"),
        ({"class_names": ["a", "b", 3]}, "should be a list of names"),
        ({"transform": "whiten"}, "'whiten' is not one of this version"),
        ({"protocol": {"init": "best"}}, "this version of dd_jax doesn't know the protocol"),
        ({"protocol": {"init_seed": "a"}}, "this version of dd_jax doesn't know the protocol"),
        ({"protocol": {"init_seed": 2**63}}, "this version of dd_jax doesn't know the protocol"),
        ({"protocol": {"pretrained": 3}}, "this version of dd_jax doesn't know the protocol"),
        ({"protocol": {"attack": [float("inf"), 1]}}, "an attack should be two classes"),
        ({"protocol": {"attack": [1, 2, 3]}}, "an attack should be two classes"),
        ({"protocol": {"attack": "12"}}, "an attack should be two classes"),
    ],
)
def test_descriptions_that_were_believed_once(folder, changes, words):
    write(folder, sealed(DATA, **changes), DATA)
    with pytest.raises(DataError, match=words):
        load_distilled(folder)


def test_brackets_without_end_are_damage(folder):
    write(folder, b"[" * 10**6, DATA)
    with pytest.raises(DataError, match=r"distilled\.json is damaged: .* nested too deeply"):
        load_distilled(folder)
