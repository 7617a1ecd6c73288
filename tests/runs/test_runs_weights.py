"""Weight files of PyTorch are read exactly and without PyTorch; nothing in them runs, and no lie in them is believed.

data/ was written by torch 2.13: zip.pth and legacy.pth (_use_new_zipfile_serialization=False) by torch.save of a state
dict, checkpoint.pt with it under "state_dict", and weights.safetensors by safetensors.torch.save_file.
"""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dd_jax.errors import DataError
from dd_jax.storage.weights import read_state_dict

DATA = Path(__file__).parent / "data"
FILES = ("zip.pth", "legacy.pth", "checkpoint.pt", "weights.safetensors")

_eighths = np.arange(24, dtype=np.float32) / 8 - 1
EXPECTED = {
    "features.0.weight": _eighths.reshape(2, 3, 2, 2),
    "features.0.bias": np.array([0.5, -0.25], np.float32),  # a Parameter
    "transposed": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "shared": _eighths[:12].reshape(3, 4),  # one storage
    "part": _eighths[7:19:3],
    "half": np.array([1.5, -2, 65504], np.float16),
    "bfloat16": np.array([1.5, -2, 226 * 2.0**120], np.float32),  # float32 here; the last was 3e38
    "double": np.array([[1 / 3, 2 / 3]]),
    "count": np.array(7),
    "mask": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
}
NUMBERS = np.arange(6, dtype="<f4")


# Files by hand: opcodes of pickle, so that each of them can lie.


def value(plain) -> bytes:
    return pickle.dumps(plain, 2)[2:-1]


def named(name: str) -> bytes:
    module, _, attribute = name.rpartition(".")
    return f"c{module}\n{attribute}\n".encode()


def storage(key="0", kind="torch.FloatStorage", size=6, more=b"") -> bytes:
    return b"(" + value("storage") + named(kind) + value(key) + value("cpu") + value(size) + more + b"tQ"


def tensor(offset=0, shape=(2, 3), strides=(3, 1), hooks=(), **of) -> bytes:
    ordered = named("collections.OrderedDict") + value((list(hooks),) if hooks else ()) + b"R"
    geometry = value(offset) + value(shape) + value(strides)
    return named("torch._utils._rebuild_tensor_v2") + b"(" + storage(**of) + geometry + value(False) + ordered + b"tR"


def dictionary(**tensors: bytes) -> bytes:
    return b"}(" + b"".join(value(name) + pickled for name, pickled in tensors.items()) + b"u"


def zipped(content: bytes, numbers=NUMBERS, byteorder=b"little", compression=zipfile.ZIP_STORED, folder="any") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(f"{folder}/data.pkl", b"\x80\x02" + content + b".")
        if byteorder is not None:
            archive.writestr(f"{folder}/byteorder", byteorder)
        archive.writestr(f"{folder}/data/0", np.asarray(numbers).tobytes())
        archive.writestr(f"{folder}/version", b"3\n")
    return buffer.getvalue()


def legacy(content: bytes, numbers=NUMBERS, keys=("0",), count=6, magic=0x1950A86A20F9469CFC6C, version=1001) -> bytes:
    head = b"".join(pickle.dumps(part, 2) for part in (magic, version, {"little_endian": True}))
    body = b"\x80\x02" + content + b"." + pickle.dumps(list(keys), 2)
    return head + body + count.to_bytes(8, "little") + np.asarray(numbers).tobytes()


def read(tmp_path, data: bytes, name="weights.pth") -> dict[str, np.ndarray]:
    (tmp_path / name).write_bytes(data)
    return read_state_dict(tmp_path / name)


def refusal(tmp_path, data: bytes) -> str:
    with pytest.raises(DataError) as caught:
        read(tmp_path, data)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "weights.pth"))
    assert "Download it" in message or "convert it" in message
    return message


# What is read.


@pytest.mark.parametrize("name", FILES)
def test_files_of_pytorch_are_read_exactly(name):
    found = read_state_dict(DATA / name)
    assert sorted(found) == sorted(EXPECTED)
    for key, expected in EXPECTED.items():
        assert (found[key].shape, found[key].dtype) == (expected.shape, expected.dtype), key
        np.testing.assert_array_equal(found[key], expected, err_msg=key)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_order_and_sharing_are_the_files(name):
    found = read_state_dict(str(DATA / name))
    assert list(found) == list(EXPECTED)
    assert np.shares_memory(found["shared"], found["part"])


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_files_are_read_as_pytorch_reads_them(name):
    torch = pytest.importorskip("torch")
    found, expected = read_state_dict(DATA / name), torch.load(DATA / name, weights_only=True)
    for key, array in found.items():
        np.testing.assert_array_equal(array, expected[key].detach().to(torch.from_numpy(array.copy()).dtype).numpy())


@pytest.mark.parametrize("name", FILES)
def test_the_suffix_does_not_matter(tmp_path, name):
    found = read(tmp_path, (DATA / name).read_bytes(), "weights.txt")
    np.testing.assert_array_equal(found["transposed"], EXPECTED["transposed"])


@pytest.mark.parametrize("byteorder", [None, b"little", b"big"])
def test_byte_order(tmp_path, byteorder):
    numbers = NUMBERS.astype(">f4" if byteorder == b"big" else "<f4")
    found = read(tmp_path, zipped(dictionary(w=tensor()), numbers, byteorder))["w"]
    np.testing.assert_array_equal(found, NUMBERS.reshape(2, 3))
    assert found.dtype.isnative


def test_files_from_before_pytorch_0_4(tmp_path):
    """Python 2's text, storages on a GPU, tensors of four arguments, parameters in their two older forms."""
    of = {"kind": "torch.cuda.FloatStorage", "more": value(None)}
    old = (
        named("torch._utils._rebuild_tensor") + b"(" + storage(**of) + value(0) + value((2, 3)) + value((3, 1)) + b"tR"
    )
    parameter = named("torch.nn.parameter.Parameter")
    called = parameter + b"(" + old + b"tR" + value((True, False, None)) + b"b"
    older = parameter + b")\x81(" + old + value(None) + value(None) + value(True) + value(False) + b"tb"
    content = named("collections.OrderedDict") + b"](](U\x01a" + called + b"e](U\x01b" + older + b"ee\x85R"
    found = read(tmp_path, legacy(content))
    for name in ("a", "b"):
        np.testing.assert_array_equal(found[name], NUMBERS.reshape(2, 3))


def test_a_view_of_a_storage(tmp_path):
    found = read(tmp_path, legacy(dictionary(w=tensor(shape=(3,), strides=(1,), more=value(("1", 2, 3))))))
    np.testing.assert_array_equal(found["w"], [2, 3, 4])


# What is refused.


class Evil:
    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


EVIL = {
    "os.system": lambda path: Evil(os.system, f"touch {path}"),
    "builtins.eval": lambda path: Evil(eval, f"open({str(path)!r}, 'w')"),
    "builtins.open": lambda path: Evil(open, str(path), "w"),
    "builtins.getattr": lambda path: Evil(getattr, {}, "clear"),
    "pathlib.Path.touch": lambda path: Evil(Path.touch, path),
}


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("name", EVIL)
def test_nothing_is_executed(tmp_path, name, form, protocol):
    path = tmp_path / "executed"
    for content in (EVIL[name](path), {"state_dict": {"w": EVIL[name](path)}}):
        message = refusal(tmp_path, form(pickle.dumps(content, protocol)[2:-1]))
        assert "It was not run" in message
        assert not path.exists()


@pytest.mark.parametrize("name", [name for name in EVIL if name != "builtins.getattr"])
def test_the_pickles_are_malicious(tmp_path, name):
    path = tmp_path / "executed"
    loaded = pickle.loads(pickle.dumps(EVIL[name](path)))
    if hasattr(loaded, "close"):
        loaded.close()
    assert path.exists()


def test_a_bare_pickle_is_not_executed(tmp_path):
    assert "not run" in refusal(tmp_path, pickle.dumps(EVIL["os.system"](tmp_path / "executed")))
    assert not (tmp_path / "executed").exists()


ORDERED = named("collections.OrderedDict")
REBUILD = named("torch._utils._rebuild_tensor_v2")
FLOATS = named("torch.FloatStorage")
NO_TYPE = b"(" + value("storage") + value([]) + value("0") + value("cpu") + value(6) + b"tQ"
MISUSED = {
    "rebuilding text": dictionary(w=REBUILD + value(("a", "b", "c", "d")) + b"R"),
    "rebuilding nothing": dictionary(w=REBUILD + b")R"),
    "rebuilding a tensor of itself": dictionary(w=REBUILD + b")\x81q\x01h\x01\x85b"),
    "rebuilding without storage": dictionary(w=REBUILD + value((6, 0, (2, 3), (3, 1))) + b"R"),
    "a storage type as a function": dictionary(w=FLOATS + b")R"),
    "a storage type as a tensor": dictionary(w=FLOATS),
    "a function as a tensor": dictionary(w=REBUILD),
    "changing a class": REBUILD + b"N}" + value("__new__") + ORDERED + b"s\x86b",
    "changing the dictionaries' class": ORDERED + b"N}" + value("items") + value(1) + b"s\x86b",
    "an ordered dictionary of text": ORDERED + value(("abc",)) + b"R",
    "a list to append to a tensor": dictionary(w=tensor() + value(1) + b"a"),
    "items for a tensor": dictionary(w=tensor() + value("a") + value(1) + b"s"),
    "a list as a key": b"}" + value([]) + tensor() + b"s",
    "a number as a key": b"}" + value(1) + tensor() + b"s",
    "a module": value("module") + b"Q",
    "a storage without a type": dictionary(
        w=b"(" + value("storage") + value([]) + value("0cpu") * 2 + value(6) + b"tQ"
    ),
    "an extension": b"\x82\x01",
    "a memo of gigabytes": b"}r\xff\xff\xff\x7f",
    "an untyped storage": dictionary(w=tensor(kind="torch.UntypedStorage")),
    "a class of torch": dictionary(w=named("torch.nn.modules.linear.Linear") + b")\x81"),
    "text": value("weights"),
    "a tensor alone": tensor(),
    "an empty dictionary": b"}",
    "an empty state_dict": b"}" + value("state_dict") + b"}s",
    "numbers among the tensors": dictionary(w=tensor(), epoch=value(3)),
    "tensors beside the state_dict": dictionary(w=tensor(), state_dict=dictionary(w=tensor())),
    "two levels of state_dict": dictionary(state_dict=dictionary(state_dict=dictionary(w=tensor()))),
    "another name for the state_dict": dictionary(model=dictionary(w=tensor())),
    "itself": b"}q\x01" + value("state_dict") + b"h\x01s",
    "hooks": dictionary(w=tensor(hooks=[("a", 1)])),
    "a marker too few": b"u",
    "garbage": b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("content", MISUSED.values(), ids=MISUSED)
def test_allowed_names_can_not_be_misused(tmp_path, content, form):
    refusal(tmp_path, form(content))
    np.testing.assert_array_equal(read(tmp_path, zipped(dictionary(w=tensor())))["w"], NUMBERS.reshape(2, 3))


HUGE = 2**70
LIES = {
    "an offset past the end": {"offset": 1},
    "a negative offset": {"offset": -1},
    "an offset that is no number": {"offset": True},
    "a shape past the end": {"shape": (3, 3)},
    "a stride past the end": {"strides": (4, 1)},
    "a huge stride": {"strides": (HUGE, 1)},
    "a huge shape": {"shape": (HUGE, 1)},
    "a huge shape of one number": {"shape": (HUGE, HUGE), "strides": (0, 0)},
    "a huge shape of no numbers": {"shape": (HUGE, 0)},
    "an offset of no numbers": {"shape": (0,), "strides": (1,), "offset": 7},
    "a negative stride": {"offset": 5, "strides": (-3, -1)},
    "a negative shape": {"shape": (-2, -3)},
    "fewer strides": {"strides": (1,)},
    "a shape of text": {"shape": "23"},
    "a shape of floats": {"shape": (2.0, 3.0)},
    "a hundred dimensions": {"shape": (1,) * 100, "strides": (1,) * 100},
    "a larger storage": {"size": 7},
    "a smaller storage": {"size": 5},
    "a huge storage": {"size": HUGE},
    "a negative storage": {"size": -6},
    "wider numbers": {"kind": "torch.DoubleStorage"},
    "narrower numbers": {"kind": "torch.HalfStorage"},
    "another storage": {"key": "1"},
    "a storage elsewhere": {"key": "../version"},
    "a storage of no name": {"key": 0},
    "a part past the end": {"more": value(("1", 4, 3))},
    "a part before the start": {"more": value(("1", -1, 3))},
    "a part that isn't one": {"more": value(("1", 1))},
}


@pytest.mark.parametrize("form", [zipped, legacy])
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
def test_no_lie_about_the_numbers_is_believed(tmp_path, lie, form):
    refusal(tmp_path, form(dictionary(w=tensor(**lie))))


def test_strides_of_single_rows_do_not_matter(tmp_path):
    found = read(tmp_path, zipped(dictionary(w=tensor(shape=(1, 6), strides=(HUGE, 1)))))["w"]
    np.testing.assert_array_equal(found, NUMBERS[None])


def test_one_storage_of_two_types(tmp_path):
    two = dictionary(w=tensor(), v=tensor(kind="torch.IntStorage"))
    assert "two types" in refusal(tmp_path, zipped(two))
    assert "two types" in refusal(tmp_path, legacy(two))


def another(buffer_name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(buffer_name, b"hello")
    return buffer.getvalue()


def lying_zip() -> bytes:
    """The directory of the archive says that data/0 is larger than the file."""
    data = zipped(dictionary(w=tensor()))
    at = data.rindex(b"any/data/0") - 46 + 20  # its compressed and whole size
    return data[:at] + (2**30).to_bytes(4, "little") * 2 + data[at + 8 :]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty. Download it"),
        (b"<!DOCTYPE html><html>404</html>", "web page"),
        (b"\n <Error>AccessDenied</Error>", "web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "version https://git"),
        (b"\x00" * 100, "neither a safetensors file nor a file of torch.save"),
        (b"x", "neither"),
        (b"PK\x03\x04", "zip archive that is cut off"),
        (b"\x80", "pickle can't be read"),
        (pickle.dumps({"w": 1}), "not one that torch.save wrote"),
        (b"\x08\0\0\0\0\0\0\0{}      ", "holds no tensors"),
        (b"\xff\xff\xff\xff\xff\xff\xff\x7f{}", "cut off, or not a safetensors file"),
        (b'\x09\0\0\0\0\0\0\0{"a": 1} ', "cut off, or not a safetensors file"),
        (another("hello.txt"), "not one of torch.save"),
        (another("data.pkl"), "not one of torch.save"),
        (zipped(dictionary(w=tensor()), compression=zipfile.ZIP_DEFLATED), "compressed"),
        (zipped(dictionary(w=tensor()), byteorder=b"middle"), "byte order, b'middle'"),
        (zipped(dictionary(w=tensor()), NUMBERS[:5]), "20 bytes for 6 numbers of 4"),
        (lying_zip(), "should hold"),
        (legacy(dictionary(w=tensor()), version=1002), "not of version 1001"),
        (legacy(dictionary(w=tensor()), magic=1), "not one that torch.save wrote"),
        (legacy(dictionary(w=tensor()), keys=()), "other storages"),
        (legacy(dictionary(w=tensor()), keys=([],)), "other storages"),
        (legacy(dictionary(w=tensor()), keys=("0", "0")), "other storages"),
        (legacy(dictionary(w=tensor()), count=7), "cut off"),
        (legacy(dictionary(w=tensor()), NUMBERS[:5]), "cut off"),
    ],
)
def test_other_files_are_refused(tmp_path, data, words):
    assert words in refusal(tmp_path, data)


def test_numbers_that_numpy_has_not(tmp_path):
    header = b'{"a":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}'
    message = refusal(tmp_path, len(header).to_bytes(8, "little") + header + b"ab")
    assert "type that NumPy doesn't have" in message


def test_no_file(tmp_path):
    with pytest.raises(DataError, match=r"There is no file .*none\.pth.* Expected a \.safetensors"):
        read_state_dict(tmp_path / "none.pth")
    with pytest.raises(DataError, match=r"is a directory. Give the weight file itself"):
        read_state_dict(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"can't be read: Not a directory"):
        read_state_dict(tmp_path / "file" / "weights.pth")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(tmp_path, name):
    data = (DATA / name).read_bytes()
    for length in {*range(1, len(data), 29), *range(len(data) - 5, len(data))}:
        refusal(tmp_path, data[:length])


@pytest.mark.parametrize("name", FILES)
def test_a_garbled_file_is_read_or_refused(tmp_path, name):
    data, generator = (DATA / name).read_bytes(), np.random.default_rng(0)
    for _ in range(200):
        garbled = bytearray(data)
        for at in generator.integers(0, len(data), generator.integers(1, 4)):
            garbled[at] = generator.integers(256)
        try:
            read(tmp_path, bytes(garbled))
        except DataError:
            continue
