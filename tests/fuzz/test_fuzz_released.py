"""Whatever the files of released sets hold, importing gives a set that can be saved, or says why not."""

import io
import pickle
import warnings
import zipfile

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Touch, archive, examples, mutated, read_or_refused

import dd_jax as dd
from dd_jax.errors import DataError, DataWarning
from dd_jax.storage import import_distilled, save_distilled

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(4, 1, 4, 4)).astype("<f4")
FEATURES = RNG.random((4, 5)).astype("<f4")
ADJACENCY = (1 - np.eye(4)).astype("<f4") / 2
LABELS = np.array([0, 0, 1, 1], "<i8")
SOFT = np.full((4, 2), 0.5, "<f4")


def text(word: str) -> bytes:
    return b"X" + len(word).to_bytes(4, "little") + word.encode()


def whole(number: int) -> bytes:
    return b"J" + number.to_bytes(4, "little")


def numbers(values) -> bytes:
    return b"(" + b"".join(map(whole, values)) + b"t"


def tensor(array: np.ndarray, key: int) -> bytes:
    """The opcodes with which PyTorch describes a tensor."""
    kind = {"f": "FloatStorage", "i": "LongStorage"}[array.dtype.kind]
    strides = [stride // array.itemsize for stride in array.strides]
    storage = b"(" + text("storage") + f"ctorch\n{kind}\n".encode() + text(str(key)) + text("cpu") + whole(array.size)
    said = b"(" + storage + b"tQ" + whole(0) + numbers(array.shape) + numbers(strides) + b"\x89"
    return b"ctorch._utils\n_rebuild_tensor_v2\n" + said + b"ccollections\nOrderedDict\n)RtR"


def listed(*parts: bytes) -> bytes:
    return b"](" + b"".join(parts) + b"e"


def mapped(**parts: bytes) -> bytes:
    return b"}(" + b"".join(text(name) + part for name, part in parts.items()) + b"u"


LOGGED = b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(" + text("f8") + b"\x89\x88tR" + text("12345678") + b"tR"


def torch_file(content: bytes, *arrays: np.ndarray) -> bytes:
    """What torch.save writes."""
    entries = {f"archive/data/{i}": array.tobytes() for i, array in enumerate(arrays)}
    return archive({"archive/data.pkl": b"\x80\x02" + content + b".", **entries}, zipfile.ZIP_STORED)


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def packed(array: np.ndarray) -> msgpack.ExtType:
    return msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))


PAIR = listed(tensor(IMAGES, 0), tensor(LABELS, 1))
PIXELS = np.clip(IMAGES, 0, 1)
# Of each format: the files, and what must be said besides.
SETS = {
    "gcond": ([torch_file(tensor(a, 0), a) for a in (FEATURES, ADJACENCY)], {"labels": (0, 0, 1, 1)}),
    "dc": ([torch_file(mapped(data=listed(PAIR), accs_all_exps=mapped(net=listed(LOGGED))), IMAGES, LABELS)],
           {"protocol": "dc"}),
    "mtt": ([torch_file(tensor(a, 0), a) for a in (IMAGES, SOFT, np.full(1, 0.1, "<f4"))], {}),
    "idc": ([torch_file(PAIR, PIXELS, LABELS)], {"factor": 2}),
    "frepo": ([npz(image=np.moveaxis(IMAGES, 1, -1), label=SOFT)], {}),
    "frepo checkpoint": (
        [msgpack.packb({"params": {"x_proto": packed(np.moveaxis(IMAGES, 1, -1).copy()), "y_proto": packed(SOFT)}})],
        {},
    ),
    "npz": ([npz(images=np.moveaxis(IMAGES, 1, -1), labels=LABELS, step_sizes=np.full(2, 0.1))], {}),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("released")


def read(folder, name, files, read_all=read_or_refused):
    """A set, or None where it is refused; a set can be saved."""
    paths = [folder / f"{number}.pt" for number in range(len(files))]
    for path, data in zip(paths, files, strict=True):
        path.write_bytes(data)
    options = {**({} if name == "gcond" else {"preprocessing": "mnist"}), **SETS[name][1]}
    found = read_all(import_distilled, paths, name.partition(" ")[0], **options)
    if found is not None:
        with np.errstate(all="ignore"):
            save_distilled(folder / "set", found, {})
    return found


@pytest.mark.parametrize("name", SETS)
def test_files_that_are_changed_are_intact(folder, name):
    found = read(folder, name, SETS[name][0])
    assert found is not None
    kept = dd.load_distilled(folder / "set")
    np.testing.assert_array_equal(kept.labels, found.labels)
    np.testing.assert_array_equal(np.asarray(kept.images), np.asarray(found.images))


@pytest.mark.parametrize("name", SETS)
def test_files_that_were_cut_short_are_damaged(folder, name):
    files = SETS[name][0]
    for share in (0, 0.1, 0.5, 0.9, 0.99):
        cut = [files[0][: int(share * len(files[0]))], *files[1:]]
        assert read(folder, name, cut) is None, share


@examples(400)
@given(st.data())
def test_garbled_files(folder, data):
    name = data.draw(st.sampled_from(sorted(SETS)))
    files = list(SETS[name][0])
    which = data.draw(st.integers(0, len(files) - 1))
    files[which] = data.draw(mutated(files[which]))
    read(folder, name, files)


@examples(60)
@given(st.data())
def test_files_of_another_format(folder, data):
    """Never a set of something else without a word: refused, or as many images as there were."""
    name, other = (data.draw(st.sampled_from(sorted(SETS))) for _ in range(2))
    found = read(folder, name, SETS[other][0])
    assert found is None or found.labels.shape[1] % 4 == 0


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("name", ["gcond", "dc", "mtt", "idc", "frepo"])
def test_pickles_do_nothing(folder, name, protocol):
    touch = folder / "executed"
    for content in (Touch(touch), {"data": [[Touch(touch), 0]]}, [Touch(touch), Touch(touch)]):
        data = pickle.dumps(content, protocol)
        for form in (data, archive({"archive/data.pkl": data}, zipfile.ZIP_STORED)):
            assert read(folder, name, [form] * len(SETS[name][0])) is None
    assert not touch.exists()


BOMBS = {
    "a list within lists": b"\x91" * 100_000 + b"\x90",
    "a map of four billion entries": b"\xdf\xff\xff\xff\xff",
    "an array of four billion numbers": msgpack.packb(
        {"params": {"x_proto": msgpack.ExtType(1, msgpack.packb(((2**40, 2**40), "float32", b"")))}}
    ),
    "an array within an array": msgpack.packb({"params": {"x_proto": msgpack.ExtType(1, b"\xc7\x00\x01")}}),
}


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_small_checkpoints_that_claim_much_are_refused(folder, bomb):
    assert read(folder, "frepo", [bomb]) is None


def test_the_message_says_what_was_expected_found_and_to_do(folder):
    def said(name, files):
        def refuse(function, *arguments, **options):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)
                try:
                    function(*arguments, **options)
                except DataError as error:
                    messages.append(str(error))

        messages: list[str] = []
        read(folder, name, files, refuse)
        return messages[0]

    images = [torch_file(tensor(IMAGES, 0), IMAGES)]
    assert "should hold [images, labels], but it is a tensor" in said("idc", images)
    assert "convert it with PyTorch: numpy.savez" in said("idc", images)
    assert "should hold one tensor, but holds a list of 2" in said("mtt", SETS["idc"][0] * 3)
    assert "should hold features (N, F) or an adjacency" in said("gcond", SETS["mtt"][0][:1] * 2)
    assert "it starts with b'nothing like it'" in said("gcond", [b"nothing like it"] * 2)
    assert "is a web page" in said("gcond", [b"<!DOCTYPE html>"] * 2)
    assert "which no set needs. It was not run" in said("idc", [torch_file(b"cos\nsystem\n(X\x01\0\0\0xtR")])
