"""Whatever files of weights hold, reading them gives arrays, or says why not; and it comes to an end."""

import json
import pickle
import struct
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mutations import Touch, archive, as_json, changed_json, examples, json_values, mutated, read_or_refused

import dd_jax as dd
from dd_jax.errors import DataError
from dd_jax.storage.pretrained import PARTS, describe_networks, load_pretrained, save_pretrained
from dd_jax.storage.weights import read_state_dict
from dd_jax.types import Pretrained

FILES = Path(__file__).parents[1] / "runs" / "data"  # what PyTorch wrote, see test_runs_weights.py
NAMES = ("zip.pth", "legacy.pth", "checkpoint.pt", "weights.safetensors")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("weights") / "weights.pth"


def read(file, data: bytes) -> dict[str, np.ndarray] | None:
    file.write_bytes(data)
    found = read_or_refused(read_state_dict, file)
    with np.errstate(all="ignore"):
        for array in (found or {}).values():
            array.sum()  # no view reaches past its numbers
    return found


def in_a_zip(content: bytes) -> bytes:
    entries = {"any/data.pkl": content, "any/byteorder": b"little", "any/data/0": np.arange(6, dtype="<f4").tobytes()}
    return archive(entries, zipfile.ZIP_STORED)


def in_a_row(content: bytes, keys: tuple[str, ...] = ("0",)) -> bytes:
    head = b"".join(pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {}))
    return head + content + pickle.dumps(list(keys), 2) + struct.pack("<q", 6) + np.arange(6, dtype="<f4").tobytes()


FORMS = [in_a_zip, in_a_row]


@examples(300)
@given(st.sampled_from(NAMES).flatmap(lambda name: mutated((FILES / name).read_bytes())))
def test_garbled_files(file, data):
    read(file, data)


# Pickles out of the opcodes that PyTorch's files have, and of worse ones, in any order.

TENSOR = (
    b"ctorch._utils\n_rebuild_tensor_v2\n(",
    b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpuK\x06tQ",
    b"K\0K\x02K\x03\x86K\x03K\x01\x86\x89ccollections\nOrderedDict\n)RtR",
)
PIECES = [
    b"".join(TENSOR), *TENSOR, b"}", b"]", b")", b"(", b"X\x01\0\0\0w", b"K\x01", b"J\xff\xff\xff\xff", b"N", b"s",
    b"u", b"a", b"e", b"t", b"d", b"l", b"R", b"b", b"\x81", b"\x85", b"\x86", b"\x87", b"0", b"1", b"2", b"Q", b"q\0",
    b"h\0", b"q\x01", b"h\x01", b"\x94", b"\x8f", b"\x90", b"\x91", b"\x88", b"\x89", b"I1\n", b"L5L\n", b"F1.5\n",
    b"G\x7f\xf0\0\0\0\0\0\0", b"\x8a\x02\xff\xff", b"B\x01\0\0\0x", b"U\x01x", b"cbuiltins\neval\n", b"cos\nsystem\n",
    b"\x93", b"\x92", b"\x82\x01", b"P0\n", b"\x97", b"\x98", b"\x95\x01\0\0\0\0\0\0\0", b"ctorch\nHalfStorage\n",
    b"(icollections\nOrderedDict\n", b"ctorch.nn.parameter\nParameter\n", b"ccollections\nOrderedDict\n", b".",
]  # fmt: skip


@examples(400)
@given(st.lists(st.sampled_from(PIECES), max_size=25), st.sampled_from(FORMS))
def test_pickles_of_any_opcodes(file, pieces, form):
    read(file, form(b"\x80\x02" + b"".join(pieces) + b"."))


@examples(200)
@given(st.data(), st.sampled_from(FORMS))
def test_garbled_pickles(file, data, form):
    whole = b"\x80\x02}X\x01\x00\x00\x00w" + PIECES[0] + b"s."
    assert read(file, form(whole)) is not None
    read(file, form(data.draw(mutated(whole))))


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("form", [*FORMS, bytes])
def test_pickles_do_nothing(file, form, protocol):
    for content in (Touch(file.with_name("executed")), {"w": [Touch(file.with_name("executed"))]}):
        assert read(file, form(pickle.dumps(content, protocol))) is None
    assert not file.with_name("executed").exists()


NEST = b"X\x01\x00\x00\x00a\x85" + b"2\x86" * 80  # a tuple that holds one twice that holds one twice ...
REMEMBERED = b"X\x01\x00\x00\x00a\x85" + b"q\x05h\x05h\x05h\x05\x87" * 60
ENDLESS = {
    "as a key": b"}" + NEST + b"Ns",
    "remembered": b"}" + REMEMBERED + b"Ns",
    "in a set": b"\x8f(" + NEST + b"\x90",
    "in a frozen set": b"(" + NEST + b"\x91",
    "as the type of a storage": b"(X\x07\x00\x00\x00storage" + NEST + b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x06tQ",
    "as a class": NEST + NEST + b"\x93",
    "a key again and again": b"}" + b"X\x01\x00\x00\x00a\x85" + b"2\x86" * 16 + b"q\x01(" + b"h\x01N" * 10_000 + b"u",
    "one in another": b"}" + b")" + b"\x85" * 15_000 + b"Ns",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("content", ENDLESS.values(), ids=ENDLESS)
def test_small_pickles_that_would_take_for_ever_are_refused(file, content, form):
    file.write_bytes(form(b"\x80\x04" + content + b"."))
    with pytest.raises(DataError, match="repeat each other"):
        read_state_dict(file)


def test_many_tensors_of_one_shape_are_no_endless_pickle(file):
    """Tuples that are shared, as some writers do, are fine where they are small."""
    shape = b"K\x02K\x03\x86q\x07"
    first = PIECES[0].replace(b"K\x02K\x03\x86", shape)
    again = PIECES[0].replace(b"K\x02K\x03\x86", b"h\x07")
    tensors = [b"X\x04\x00\x00\x00" + f"{i:04}".encode() + (again if i else first) + b"s" for i in range(2000)]
    found = read(file, in_a_zip(b"\x80\x02}" + b"".join(tensors) + b"."))
    assert found is not None
    assert len(found) == 2000


# safetensors.


def safetensors(head: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(head)) + head + body


dtypes = st.sampled_from(["F32", "F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E5M2", "F8_E4M3", "C64", "F4", "X"])
sizes = st.sampled_from([0, 1, 2, 3, 2**31, 2**62, 2**63, 2**64, -1])
tensors = st.fixed_dictionaries(
    {
        "dtype": dtypes,
        "shape": st.lists(sizes, max_size=4) | st.just([1] * 70),
        "data_offsets": st.lists(st.sampled_from([0, 1, 2, 4, 8, 16, 2**62, 2**63, -1]), min_size=2, max_size=2),
    }
)


@examples(300)
@given(st.dictionaries(st.text(max_size=3), tensors | json_values, max_size=2), st.integers(0, 17))
def test_headers_that_lie(file, head, length):
    read(file, safetensors(as_json(head), b"\0" * length))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        ({"dtype": "F32", "shape": [2**63, 0], "data_offsets": [0, 0]}, "in an impossible shape"),
        ({"dtype": "F32", "shape": [1] * 100, "data_offsets": [0, 4]}, "in an impossible shape"),
    ],
)
def test_shapes_that_numpy_has_not(file, tensor, words):
    file.write_bytes(safetensors(as_json({"w": tensor}), b"\0" * tensor["data_offsets"][1]))
    with pytest.raises(DataError, match=words):
        read_state_dict(file)


# Files of networks.

MODEL = dd.models.mlp(dd.models.Shapes((4, 4, 1), 3), hidden=(5,))


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A file of networks: its header, the description in it, and the numbers."""
    path = tmp_path_factory.mktemp("networks") / "nets.safetensors"
    accuracies = {"train": np.ones(3, np.float32), "held_out": np.ones(2, np.float32)}
    made = {part: jax.vmap(MODEL.init)(jax.random.split(jax.random.key(0), len(accuracies[part]))) for part in PARTS}
    about = Pretrained(
        "digits-mlp", MODEL.name, dd.models.architecture(MODEL), (4, 4, 1), 3, accuracies, lambda *_: None, 0, {}, ""
    )
    save_pretrained(path, made, about)
    data = path.read_bytes()
    end = 8 + struct.unpack("<Q", data[:8])[0]
    head = json.loads(data[8:end])
    return path, head, json.loads(head["__metadata__"]["dd_jax"]), data[end:]


def load(networks, head, about, body):
    """Everything that is done with a file of networks."""
    path = networks[0].with_name("changed.safetensors")
    described = {**head, "__metadata__": {"dd_jax": json.dumps(about)}} if about is not None else head
    path.write_bytes(safetensors(as_json(described), body))

    def read_all(path):
        found = load_pretrained(path)
        return describe_networks(found), [found.read(part, 0, 2) for part in PARTS]

    return read_or_refused(read_all, path)


def test_the_file_of_networks_that_is_changed_is_intact(networks):
    assert load(networks, *networks[1:]) is not None


settings_of_mlps = st.fixed_dictionaries(
    {"hidden": st.lists(st.sampled_from([0, 1, 5, -1, 2.5, 2**40, "5"]), max_size=3) | json_values},
    optional={"initialiser": json_values, "x": json_values},
)


@examples(80)
@given(st.data())
def test_other_descriptions_of_networks(networks, data):
    about = data.draw(changed_json(networks[2]))
    if data.draw(st.booleans()) and isinstance(about, dict):
        about["settings"] = data.draw(settings_of_mlps)
    load(networks, networks[1], about, networks[3])


@examples(60)
@given(st.data())
def test_other_headers_of_networks(networks, data):
    head = data.draw(changed_json({k: v for k, v in networks[1].items() if k != "__metadata__"}))
    load(networks, head if isinstance(head, dict) else {}, networks[2], networks[3])


@examples(80)
@given(st.data())
def test_garbled_files_of_networks(networks, data):
    path = networks[0].with_name("garbled.safetensors")
    path.write_bytes(data.draw(mutated(networks[0].read_bytes())))
    read_or_refused(load_pretrained, path)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [
        ("F32", [], 4),
        ("F32", [3, 1], 12),
        ("F32", [2**63, 0], 0),
        ("F8_E4M3", [3], 3),
        ("F4", [0], 0),
        ("F64", [3], 24),
    ],
)
def test_accuracies_of_other_types_and_shapes(networks, part, dtype, shape, size):
    _, head, about, _ = networks
    head, end = {name: dict(tensor) for name, tensor in head.items() if name != "__metadata__"}, 0
    head[f"{part}.accuracy"].update(dtype=dtype, shape=shape)
    for name in sorted(head, key=lambda name: head[name]["data_offsets"]):
        first, last = head[name]["data_offsets"]
        length = size if name == f"{part}.accuracy" else last - first
        head[name]["data_offsets"] = [end, end + length]
        end += length
    path = networks[0].with_name("accuracies.safetensors")
    path.write_bytes(safetensors(as_json({**head, "__metadata__": {"dd_jax": json.dumps(about)}}), b"\0" * end))
    with pytest.raises(DataError, match=rf"'{part}.accuracy' should be float32 \(N,\); found {dtype}"):
        load_pretrained(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"num_classes": 0}, "images .* in K classes"),
        ({"image_shape": [4, 4]}, "images .* in K classes"),
        ({"image_shape": [4, 4.5, 1]}, "images .* in K classes"),
        ({"settings": {"hidden": [5] * 3000}}, "more layers than it has weights"),
    ],
)
def test_descriptions_of_networks_that_were_believed_once(networks, changes, words):
    path, head, about, body = networks
    path = path.with_name("believed.safetensors")
    head = {**head, "__metadata__": {"dd_jax": json.dumps({**about, **changes})}}
    path.write_bytes(safetensors(as_json(head), body))
    with pytest.raises(DataError, match=words):
        load_pretrained(path)


def test_brackets_without_end_are_damage(networks):
    path, head, _, body = networks
    path = path.with_name("deep.safetensors")
    path.write_bytes(safetensors(as_json({**head, "__metadata__": {"dd_jax": "[" * 10**5}}), body))
    with pytest.raises(DataError, match="its description is not JSON"):
        load_pretrained(path)
