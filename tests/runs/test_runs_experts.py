"""Expert trajectories: what is kept, what is read, what a kill leaves, and folders that lie."""

import dataclasses
import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import DataError, DivergedError, OptionError, RunError
from dd_jax.inner import Training, fit
from dd_jax.runs import experts as module
from dd_jax.storage.expert_files import describe_experts

TRAINING = Training(epochs=2, batch_size=32, learning_rate=0.1, schedule="constant", optimiser="sgd", momentum=0.0)


@pytest.fixture(scope="module")
def small():
    """Ninety images, of which 72 are trained on: two minibatches an epoch."""
    generator, labels = np.random.default_rng(0), np.arange(90) % 3
    images = generator.uniform(size=(90, 4, 4, 1)) * 0.5 + 0.25 * labels[:, None, None, None]
    dataset = dd.dataset_from_arrays(images, labels)
    return dd.models.mlp(dataset, hidden=(5,)), dataset


@pytest.fixture(scope="module")
def make(small):
    def made(out, **changes):
        given = {"num_experts": 3, "training": TRAINING, "show_progress": False, **changes}
        return dd.pretrain_experts(*small, out=out, **given)

    return made


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make):
    path = tmp_path_factory.mktemp("experts") / "small"
    make(path)
    return path


def weights(folder):
    return {file.name: file.read_bytes() for file in sorted(folder.glob("*.safetensors"))}


def test_snapshots_are_the_networks_of_fit_epoch_by_epoch(folder, small):
    model, dataset = small
    experts = dd.load_experts(folder, verify=True)
    assert experts.accuracies.shape == (3, 3)
    np.testing.assert_array_equal(experts.epochs, [0, 1, 2])
    found = experts.read(1, [0, 1, 2])
    key = jax.random.fold_in(jax.random.key(0), 1)
    start = model.init(jax.random.fold_in(key, 0))
    trained = [start] + [
        jax.jit(lambda real, n=n: fit(model.apply, start, jax.random.fold_in(key, 1), real,
                                      Training(**{**vars(TRAINING), "epochs": n})))(dataset.train)
        for n in (1, 2)
    ]  # fmt: skip
    for snapshot, expected in enumerate(trained):
        jax.tree.map(lambda a, b, s=snapshot: np.testing.assert_allclose(a[s], b, atol=1e-5), found, expected)
    kernels = np.stack([experts.read(i, [0])["Dense_0"]["kernel"] for i in range(3)])
    assert len(np.unique(kernels[:, 0, 0, 0])) == 3, "every network is another one"


def test_what_is_said_of_each_snapshot_is_its_accuracy_on_validation(folder, small):
    model, dataset = small
    experts = dd.load_experts(folder)
    assert experts.split == "validation"
    for i in range(3):
        networks = experts.read(i, [0, 1, 2])
        logits = jax.vmap(model.apply, (0, None))(networks, dataset.validation.images)
        right = (logits.argmax(-1) == dataset.validation.labels[None]).mean(-1)
        np.testing.assert_allclose(experts.accuracies[i], right, atol=1e-6)
    assert describe_experts(folder)["networks"] == 3


def test_snapshots_may_be_taken_within_an_epoch(folder, make, tmp_path):
    """After every step: every second one is what is kept after every epoch."""
    often = make(tmp_path / "often", every=1)
    np.testing.assert_array_equal(often.epochs, [0, 0.5, 1, 1.5, 2])
    whole = dd.load_experts(folder)
    for i in range(3):
        a, b = often.read(i, [0, 2, 4]), whole.read(i, [0, 1, 2])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), a, b)
        assert np.abs(often.read(i, [1])["Dense_0"]["kernel"] - a["Dense_0"]["kernel"][1:2]).max() > 0
    with pytest.raises(OptionError, match="Use one of 1, 2"):
        make(tmp_path / "never", every=3)


def test_bfloat16_takes_half_the_room_and_rounds(folder, make, tmp_path):
    rounded, whole = make(tmp_path / "half", dtype="bfloat16"), dd.load_experts(folder)
    half, full = ({n: len(b) for n, b in weights(path).items()} for path in (tmp_path / "half", folder))
    header = 1000
    assert all(half[name] - header < full[name] / 2 for name in full)
    a, b = (experts.read(2, [1])["Dense_0"]["kernel"] for experts in (rounded, whole))
    assert a.dtype == np.float32
    assert 0 < np.abs(a - b).max() <= 2**-8 * np.abs(b).max()
    np.testing.assert_allclose(a, b, rtol=2**-8)


def test_a_window_reads_its_two_snapshots_and_nothing_else(folder, monkeypatch):
    import safetensors

    read, opened = [], safetensors.safe_open

    class Recorded:
        def __init__(self, path, **kwargs):
            self.file, self.path = opened(path, **kwargs), path

        def __enter__(self):
            self.file.__enter__()
            return self

        def __exit__(self, *error):
            return self.file.__exit__(*error)

        def keys(self):
            return self.file.keys()

        def get_slice(self, name):
            part, path = self.file.get_slice(name), self.path

            class Slice:
                get_shape, get_dtype = part.get_shape, part.get_dtype

                def __getitem__(self, index):
                    read.append((path.name, index.start, index.stop))
                    return part[index]

            return Slice()

    monkeypatch.setattr(safetensors, "safe_open", Recorded)
    experts = dd.load_experts(folder)
    assert read == [], "opening reads no weights"
    window = experts.read(1, [0, 2])
    assert window["Dense_0"]["kernel"].shape == (2, 16, 5)
    assert set(read) == {("expert-000001.safetensors", 0, 1), ("expert-000001.safetensors", 2, 3)}


def test_a_call_that_is_killed_goes_on_to_the_same_bytes(folder, make, tmp_path, monkeypatch):
    save, saved = module.save_expert, []

    def killed(path, *rest):
        if saved:
            path.with_name(f".{path.name}.0123.tmp").write_bytes(b"half of it")
            raise MemoryError("killed here")
        saved.append(path)
        return save(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "save_expert", killed)
        with pytest.raises(MemoryError):
            make(tmp_path / "cut")
    assert list(weights(tmp_path / "cut")) == ["expert-000000.safetensors"]
    assert dd.load_experts(tmp_path / "cut").accuracies.shape == (1, 3)
    make(tmp_path / "cut")
    assert weights(tmp_path / "cut") == weights(folder)
    names = sorted(entry.name for entry in (tmp_path / "cut").iterdir())
    assert names == sorted([*weights(folder), "index.json"]), "nothing is left over"
    assert dd.load_experts(tmp_path / "cut").fingerprint == dd.load_experts(folder).fingerprint


def test_damaged_files_are_found_and_made_anew(folder, make, tmp_path, capsys):
    path = tmp_path / "hurt"
    shutil.copytree(folder, path)
    file = path / "expert-000001.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(DataError, match=r"expert-000001\.safetensors is damaged: its checksum"):
        dd.load_experts(path, verify=True)
    make(path)
    assert "Making it again" in capsys.readouterr().err
    assert weights(path) == weights(folder)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="bytes"):
        dd.load_experts(path)
    file.unlink()
    with pytest.raises(DataError, match="is missing"):
        dd.load_experts(path)


def test_the_same_call_does_nothing_a_larger_one_adds_and_another_is_refused(folder, make, tmp_path):
    path = tmp_path / "more"
    shutil.copytree(folder, path)
    before = (path / "expert-000002.safetensors").stat().st_mtime_ns
    make(path)
    assert make(path, num_experts=4).accuracies.shape == (4, 3)
    assert (path / "expert-000002.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match=r"seed: 0 there, 1 asked for"):
        make(path, seed=1)


def test_a_start_that_failed_is_no_obstacle_to_another(make, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("dd_jax.runs.expert_plan.shutil.disk_usage", lambda _: SimpleNamespace(free=0))
        with pytest.raises(RunError, match="left"):
            make(tmp_path / "experts")
    assert make(tmp_path / "experts", seed=2**32).fingerprint != make(tmp_path / "others", seed=0).fingerprint


def test_what_is_no_seed_is_refused_before_a_folder_is_made(make, tmp_path):
    with pytest.raises(OptionError, match="seed must be an integer from 0"):
        make(tmp_path / "experts", seed=-1)
    assert not (tmp_path / "experts").exists()


def test_more_experts_are_made_where_the_data_are_now(folder, small, tmp_path):
    path, (model, dataset) = tmp_path / "more", small
    shutil.copytree(folder, path)
    moved = dataclasses.replace(dataset, name="npz:elsewhere.npz")
    options = {"training": TRAINING, "show_progress": False, "out": path}
    assert dd.pretrain_experts(model, moved, num_experts=4, **options).accuracies.shape == (4, 3)
    assert weights(folder).items() <= weights(path).items()
    other = dataclasses.replace(dataset, fingerprint="0123456789abcdef")
    with pytest.raises(RunError, match=r"dataset\.fingerprint"):
        dd.pretrain_experts(model, other, num_experts=4, **options)


def test_what_they_take_is_told_and_refused_where_there_is_no_room(make, tmp_path, monkeypatch, capsys):
    make(tmp_path / "told", num_experts=1)
    told = capsys.readouterr().err
    on_disk = sum(map(len, weights(tmp_path / "told").values()))
    numbers = 3 * (16 * 5 + 5 + 5 * 3 + 3)
    assert "1 experts with 3 snapshots each take 1.2 kB" in told
    assert 4 * numbers < on_disk < 4 * numbers + 1000
    full = shutil._ntuple_diskusage(10**9, 10**9, 4 * numbers - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    with pytest.raises(RunError, match="dtype bfloat16 for half the size"):
        make(tmp_path / "full", num_experts=1)


def test_networks_that_diverge_are_named(make, tmp_path):
    wild = Training(**{**vars(TRAINING), "learning_rate": 1e30})
    with pytest.raises(DivergedError, match="expert 0"):
        make(tmp_path / "wild", training=wild, num_experts=1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 99}, "format 99"),
        ({"model": "mlpp"}, "can't be built"),
        ({"settings": {"hidden": [6]}}, r"should be \(\[3, 6\], 'F32'\)"),
        ({"epochs": []}, "doesn't describe"),
        ({"epochs": [0, 1]}, "is damaged"),
        ({"dtype": "float64"}, "doesn't describe"),
        ({"training": {}}, "doesn't describe"),
        ({"experts": []}, "no experts yet"),
        ({"experts": [{"file": "../secret"}]}, "'bytes'"),
        ({"experts": [{"file": "../x", "bytes": 1, "sha256": "", "accuracies": [0, 0, 0]}]}, "is damaged"),
        ({"split": None}, "'split'"),
    ],
)
def test_an_index_that_lies_is_refused(folder, tmp_path, change, words):
    path = tmp_path / "lie"
    shutil.copytree(folder, path)
    index = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps({**index, **change}))
    with pytest.raises(DataError, match=words):
        dd.load_experts(path)


def test_folders_of_something_else_are_left_alone(make, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("Years of work")
    with pytest.raises(RunError, match=r"holds 'thesis\.tex'"):
        make(tmp_path / "other")
    with pytest.raises(DataError, match="dd-jax pretrain --snapshots"):
        dd.load_experts(tmp_path / "other")
    with pytest.raises(OptionError, match=r"snapshots should be from 0 to 2, but are \[3\]"):
        make(tmp_path / "mine", num_experts=1).read(0, [3])
    with pytest.raises(OptionError, match="Did you mean 'bfloat16'"):
        make(tmp_path / "x", dtype="bfloat")
