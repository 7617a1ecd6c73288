"""Networks trained beforehand: made, kept, added to, and refused where a file lies."""

import json
import pickle
import struct

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, OptionError, RunError
from dd_jax.evaluation import evaluate_networks
from dd_jax.inner import Training, fit
from dd_jax.runs import load_pretrained, pretrain, save_pretrained
from dd_jax.runs import pretrain as module_function

TRAINING = Training(epochs=4, batch_size=64, learning_rate=5e-3)


@pytest.fixture(scope="module")
def file(tmp_path_factory, digits, digits_mlp):
    path = tmp_path_factory.mktemp("nets") / "digits.safetensors"
    pretrain(digits_mlp, digits, num_nets=3, num_held_out=2, training=TRAINING, out=path, show_progress=False)
    return path


def test_networks_are_those_of_fit(file, digits, digits_mlp):
    networks = load_pretrained(file).read("held_out")
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 1)  # part, number
    start = digits_mlp.init(jax.random.fold_in(key, 0))

    @jax.jit
    def trained(real):
        return fit(digits_mlp.apply, start, jax.random.fold_in(key, 1), real, TRAINING)

    expected = trained(digits.train)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5), networks, expected)


def test_the_file_tells_what_is_in_it(file, digits, digits_mlp):
    found = load_pretrained(file, digits_mlp)
    assert (found.model, found.num_classes, found.image_shape) == ("mlp", 10, (8, 8, 1))
    assert {part: len(a) for part, a in found.accuracies.items()} == {"train": 3, "held_out": 2}
    assert found.training["training"]["epochs"] == 4
    for part, accuracies in found.accuracies.items():
        again = evaluate_networks(found.read(part), digits_mlp, digits).accuracies
        np.testing.assert_allclose(accuracies, again, atol=1e-6)
        assert accuracies.min() > 0.5
    kernels = np.concatenate([found.read(part)["Dense_0"]["kernel"] for part in ("train", "held_out")])
    assert len(np.unique(kernels[:, 0, 0])) == 5, "every network is another one"


def test_opening_reads_no_weights(file, monkeypatch):
    from dd_jax.runs import pretrained as module

    read = []
    tensor = module._tensor
    monkeypatch.setattr(module, "_tensor", lambda path, name: read.append(name) or tensor(path, name))
    found = load_pretrained(file)
    assert read == ["train.accuracy", "held_out.accuracy"]
    found.read("held_out")
    found.read("held_out")
    assert sorted(read[2:]) == sorted(set(read[2:])), "weights are read once"


def test_the_same_call_does_nothing_and_a_larger_one_adds(file, digits, digits_mlp, tmp_path):
    path = tmp_path / "nets.safetensors"
    path.write_bytes(file.read_bytes())
    options = {"training": TRAINING, "out": path, "show_progress": False}
    before = path.stat().st_mtime_ns
    pretrain(digits_mlp, digits, num_nets=2, num_held_out=1, **options)
    assert path.stat().st_mtime_ns == before
    more = pretrain(digits_mlp, digits, num_nets=4, num_held_out=2, **options)
    assert {part: len(a) for part, a in more.accuracies.items()} == {"train": 4, "held_out": 2}
    old = load_pretrained(file)
    for part in ("train", "held_out"):
        same = jax.tree.map(lambda a, b: np.array_equal(a, b[: len(a)]), old.read(part), more.read(part))
        assert all(jax.tree.leaves(same))
    assert not (tmp_path / "nets.safetensors.parts").exists()


def test_a_run_cut_short_goes_on_to_the_same_bits(file, digits, digits_mlp, tmp_path, monkeypatch):
    module = __import__("sys").modules[module_function.__module__]
    path, kept = tmp_path / "nets.safetensors", []
    keep = module._keep

    def killed(*arguments):
        if len(kept) == 2:
            raise MemoryError("killed here")
        kept.append(arguments)
        keep(*arguments)

    options = {"num_nets": 3, "num_held_out": 2, "training": TRAINING, "out": path, "show_progress": False}
    with monkeypatch.context() as patch:
        patch.setattr(module, "_keep", killed)
        with pytest.raises(MemoryError):
            pretrain(digits_mlp, digits, **options)
    assert not path.exists()
    made = pretrain(digits_mlp, digits, **options)
    assert made.fingerprint == load_pretrained(file).fingerprint


def test_other_networks_are_not_overwritten(file, digits, digits_mlp):
    with pytest.raises(RunError, match=r"training\.epochs: 4 there, 5 asked for"):
        pretrain(digits_mlp, digits, training=Training(epochs=5, batch_size=64, learning_rate=5e-3), out=file)


def test_bad_counts_are_refused(digits, digits_mlp, tmp_path):
    with pytest.raises(OptionError, match="num_nets"):
        pretrain(digits_mlp, digits, num_nets=0, out=tmp_path / "x.safetensors")


# Files that lie.


def rewritten(file, path, change):
    """`file` with its tensors and description changed by `change(tensors, about)`."""
    from safetensors import safe_open
    from safetensors.numpy import load_file, save_file

    with safe_open(file, "np") as opened:
        about = json.loads(opened.metadata()["dd_jax"])
    tensors = load_file(file)
    change(tensors, about)
    save_file(tensors, path, {"dd_jax": json.dumps(about)})
    return path


def lose(tensors, about):
    del tensors["train/Dense_0/kernel"]


def shrink(tensors, about):
    tensors["train/Dense_0/kernel"] = tensors["train/Dense_0/kernel"][:, :-1]


def halve(tensors, about):
    tensors["train/Dense_0/kernel"] = tensors["train/Dense_0/kernel"].astype(np.float16)


def add(tensors, about):
    tensors["train/Conv_0/kernel"] = np.zeros((3, 5), np.float32)


def rename(tensors, about):
    about["model"] = "lenett"


def resize(tensors, about):
    about["image_shape"] = [28, 28, 1]


def unsettle(tensors, about):
    about["settings"] = {"hidden": "many"}


def forget(tensors, about):
    del about["fingerprint"]


def outdate(tensors, about):
    about["format"] = 99


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose, "lacks the weights 'train/Dense_0/kernel'"),
        (shrink, r"should be float32 \(3, 64, 16\)"),
        (halve, "found F16"),
        (add, "has 'train/Conv_0/kernel', which its architecture doesn't know"),
        (rename, "Unknown model 'lenett'"),
        (resize, r"should be float32 \(3, 784, 16\)"),
        (unsettle, "can't be built"),
        (forget, "'fingerprint'"),
        (outdate, "format 99"),
    ],
)
def test_files_that_lie_are_refused(file, tmp_path, change, words):
    with pytest.raises(DataError, match=words):
        load_pretrained(rewritten(file, tmp_path / "lie.safetensors", change))


def test_weights_that_are_not_finite_are_refused_when_read(file, tmp_path):
    def poison(tensors, about):
        tensors["train/Dense_0/bias"][1, 2] = np.nan

    found = load_pretrained(rewritten(file, tmp_path / "nan.safetensors", poison))
    found.read("held_out")
    with pytest.raises(DataError, match="not finite"):
        found.read("train")


@pytest.mark.parametrize("keep", [0, 5, 200, -1, -1000])
def test_truncated_files_are_refused(file, tmp_path, keep):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"cut\.safetensors"):
        load_pretrained(path)


def test_a_header_that_claims_more_than_there_is_is_refused(file, tmp_path):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", 2**60) + file.read_bytes()[8:])
    with pytest.raises(DataError):
        load_pretrained(path)


def test_code_in_a_pickle_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "sprung"), "w")

    for name in ("trap.safetensors", "trap.pth"):
        (tmp_path / name).write_bytes(pickle.dumps({"train/Dense_0/kernel": Trap()}))
        with pytest.raises(DataError):
            load_pretrained(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_missing_files_say_how_to_make_them(tmp_path):
    with pytest.raises(DataError, match="dd-jax pretrain"):
        load_pretrained(tmp_path / "none.safetensors")


def test_another_architecture_is_refused(file, digits):
    wider = dd.models.mlp(digits, hidden=(17,))
    with pytest.raises(DataError, match="another architecture"):
        dd.methods.unrolled(wider, pretrained=load_pretrained(file))
    fewer = dd.models.mlp(dd.models.Shapes((8, 8, 1), 9), hidden=(16,))
    with pytest.raises(DataError, match="another architecture"):
        dd.methods.unrolled(fewer, pretrained=load_pretrained(file))
    larger = dd.models.mlp(dd.models.Shapes((9, 9, 1), 10), hidden=(16,))
    with pytest.raises(DataError, match="images"):
        dd.methods.unrolled(larger, pretrained=load_pretrained(file))


def test_saving_keeps_everything(file, tmp_path):
    first = load_pretrained(file)
    networks = {part: first.read(part) for part in ("train", "held_out")}
    again = save_pretrained(tmp_path / "again.safetensors", networks, first)
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "again.safetensors").stat().st_size == file.stat().st_size
    assert {**vars(again), "read": 0, "accuracies": 0} == {**vars(first), "read": 0, "accuracies": 0}
