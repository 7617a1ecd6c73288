"""Networks trained beforehand: made, kept, added to, and refused where a file lies."""

import dataclasses
import json
import pickle
import struct

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, DivergedError, OptionError, RunError
from dd_jax.evaluation import evaluate_networks
from dd_jax.inner import Training, fit, network_range
from dd_jax.runs import pretrain
from dd_jax.runs import pretrain as module_function
from dd_jax.runs.pretrain import num_selection
from dd_jax.storage import load_pretrained, save_pretrained
from dd_jax.types import Protocol

TRAINING = Training(epochs=4, batch_size=64, learning_rate=5e-3)


@pytest.fixture(scope="module")
def file(tmp_path_factory, digits, digits_mlp):
    path = tmp_path_factory.mktemp("nets") / "digits.safetensors"
    pretrain(digits_mlp, digits, num_nets=3, num_held_out=2, training=TRAINING, out=path, show_progress=False)
    return path


@pytest.mark.slow
def test_networks_are_those_of_fit(file, digits, digits_mlp):
    networks = load_pretrained(file).read("held_out", 0, 2)
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 1), 1)  # part, number
    start = digits_mlp.init(jax.random.fold_in(key, 0))

    @jax.jit
    def trained(real):
        return fit(digits_mlp.apply, start, jax.random.fold_in(key, 1), real, TRAINING)

    expected = trained(digits.train)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-4, atol=1e-5), networks, expected)


@pytest.mark.slow
def test_networks_are_pretrained_under_a_policy_in_the_model_space_of_the_data(tmp_path, digits, digits_mlp):
    training = Training(epochs=1, batch_size=64, augment="rand_augment")
    found = pretrain(digits_mlp, digits, num_nets=1, num_held_out=0, training=training, out=tmp_path / "n.safetensors",
                     show_progress=False)  # fmt: skip
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 0)  # part, number
    start = digits_mlp.init(jax.random.fold_in(key, 0))
    expected = jax.jit(lambda *a: fit(digits_mlp.apply, start, jax.random.fold_in(key, 1), a[0], training, a[1]))(
        digits.train, digits.transform
    )
    networks = found.read("train", 0, 1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[0], b, rtol=1e-4, atol=1e-5), networks, expected)


def test_the_file_tells_what_is_in_it(file, digits, digits_mlp):
    found = load_pretrained(file, digits_mlp)
    assert (found.model, found.num_classes, found.image_shape) == ("mlp", 10, (8, 8, 1))
    assert {part: len(a) for part, a in found.accuracies.items()} == {"train": 3, "held_out": 2}
    assert found.training["training"]["epochs"] == 4
    for part, accuracies in found.accuracies.items():
        again = evaluate_networks(found.read(part, 0, 9), digits_mlp, digits).accuracies
        np.testing.assert_allclose(accuracies, again, atol=1e-6)
        assert accuracies.min() > 0.5
    kernels = np.concatenate([found.read(part, 0, 9)["Dense_0"]["kernel"] for part in ("train", "held_out")])
    assert len(np.unique(kernels[:, 0, 0])) == 5, "every network is another one"


def test_opening_reads_no_weights(file, monkeypatch):
    from dd_jax.storage import pretrained as module

    read = []
    tensor = module._tensor

    def recorded(path, name, first=0, last=None):
        read.append((name, first, last))
        return tensor(path, name, first, last)

    monkeypatch.setattr(module, "_tensor", recorded)
    found = load_pretrained(file)
    assert [name for name, *_ in read] == ["train.accuracy", "held_out.accuracy"]
    kernel = found.read("train", 1, 2)["Dense_0"]["kernel"]
    assert kernel.shape == (1, 64, 16)
    assert all(ends == (1, 2) for _, *ends in read[2:] for ends in [tuple(ends)]), "and then only what is asked for"


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
        same = jax.tree.map(lambda a, b: np.array_equal(a, b[: len(a)]), old.read(part, 0, 9), more.read(part, 0, 9))
        assert all(jax.tree.leaves(same))
    assert not (tmp_path / "nets.safetensors.parts").exists()


def test_adding_held_out_networks_keeps_the_others(file, digits, digits_mlp, tmp_path):
    path = tmp_path / "nets.safetensors"
    path.write_bytes(file.read_bytes())
    found = pretrain(digits_mlp, digits, num_nets=1, num_held_out=3, training=TRAINING, out=path, show_progress=False)
    assert {part: len(a) for part, a in found.accuracies.items()} == {"train": 3, "held_out": 3}
    assert found.fingerprint == load_pretrained(file).fingerprint, "which is that of those to distil with"


def test_networks_that_diverge_are_named_and_the_others_kept(digits, digits_mlp, tmp_path, monkeypatch):
    module = __import__("sys").modules[module_function.__module__]
    monkeypatch.setattr(module, "nets_at_once", lambda params: 3)
    train = module._Crew.train

    def poisoned(self, *arguments):
        networks, accuracies = train(self, *arguments)
        networks = jax.tree.map(np.array, networks)
        networks["Dense_0"]["bias"][1] = np.nan
        return networks, accuracies

    monkeypatch.setattr(module._Crew, "train", poisoned)
    path = tmp_path / "nets.safetensors"
    with pytest.raises(DivergedError, match="network 1 of 'train'"):
        pretrain(digits_mlp, digits, num_nets=3, num_held_out=0, training=TRAINING, out=path, show_progress=False)
    kept = sorted(file.name for file in (tmp_path / "nets.safetensors.parts").glob("*.npz"))
    assert kept == ["train-000000.npz", "train-000002.npz"]


def test_models_of_other_names_are_refused_at_once(digits, digits_mlp, tmp_path):
    for model, words in (
        (digits_mlp._replace(name="mine"), "Unknown model 'mine'"),
        (digits_mlp._replace(settings={"hidden": [3]}), "differs from the one of that name"),
    ):
        with pytest.raises(DataError, match=words):
            pretrain(model, digits, out=tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("train", "expected"),
    [(3, ((0, 3), (0, 3))), (19, ((0, 19), (0, 19))), (20, ((0, 18), (18, 20))), (200, ((0, 190), (190, 200)))],
)
def test_networks_to_choose_by_are_kept_apart_where_there_are_enough(file, train, expected):
    pretrained = dataclasses.replace(
        load_pretrained(file),
        accuracies={"train": np.zeros(train), "held_out": np.zeros(4)},
        num_selection=num_selection(train),
    )
    found = [network_range(pretrained, Protocol(), part) for part in ("train", "selection", "held_out")]
    assert found == [*expected, (0, 4)]
    with pytest.raises(OptionError, match="Did you mean 'held_out'"):
        network_range(pretrained, Protocol(), "heldout")
    with pytest.raises(OptionError, match="Did you mean 'random'"):
        network_range(pretrained, Protocol(init="rnadom"), "train")


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
    found.read("held_out", 0, 2)
    with pytest.raises(DataError, match="not finite"):
        found.read("train", 0, 3)


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
    networks = {part: first.read(part, 0, 9) for part in ("train", "held_out")}
    again = save_pretrained(tmp_path / "again.safetensors", networks, first)
    assert again.fingerprint == first.fingerprint
    assert (tmp_path / "again.safetensors").stat().st_size == file.stat().st_size
    assert {**vars(again), "read": 0, "accuracies": 0} == {**vars(first), "read": 0, "accuracies": 0}
