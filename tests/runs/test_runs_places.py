"""Data that moved: runs on them go on and are judged again, as long as they are the same data."""

import json
import shutil

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import DataError, RunError
from dd_jax.runs.load_run import load_run, load_set
from dd_jax.runs.loop import _Loop
from dd_jax.runs.places import followed, is_missing, whole, whole_file

OPTIONS = ["--num-outer-steps", "4", "--eval-every", "2", "--num-nets", "2", "--num-eval-nets", "1", "--no-baselines",
           "--batch-size", "16", "--model", "mlp:hidden=(8,)"]  # fmt: skip


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with mine.npz, from which commands are called."""
    images = np.random.default_rng(0).integers(0, 256, (60, 6, 6), dtype=np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(60) % 2)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def distil(dataset, *more):
    return main(["distill", "--dataset", dataset, *OPTIONS, "--out", "run", *more])


def recorded(place):
    return json.loads((place / "run" / "config.json").read_text())["config"]


def test_an_unfinished_run_goes_on_where_its_data_are_now(place, monkeypatch, capsys):
    real = _Loop.validate

    def stop(loop, show):
        real(loop, show)
        if loop.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(_Loop, "validate", stop)
    assert distil("npz:mine.npz") == 130
    monkeypatch.setattr(_Loop, "validate", real)
    (place / "data").mkdir()
    shutil.move("mine.npz", "data/mine.npz")
    assert distil("npz:data/mine.npz") == 0
    told = capsys.readouterr().err
    assert "The dataset was npz:mine.npz and is now npz:data/mine.npz, with the same fingerprint." in told
    assert "at step 2 of 4" in told
    assert recorded(place)["source"]["dataset"] == f"npz:{place}/data/mine.npz"
    assert recorded(place)["dataset"]["name"] == "npz:data/mine.npz"


def test_a_run_is_judged_from_anywhere_and_where_its_data_are_now(place, monkeypatch, capsys):
    assert distil("npz:mine.npz") == 0
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert main(["evaluate", "../run", "--num-nets", "2"]) == 0
    assert "accuracy on npz:mine.npz" in capsys.readouterr().out
    shutil.move(place / "mine.npz", place / "elsewhere" / "other.npz")
    assert main(["evaluate", "../run", "--num-nets", "2"]) == 2
    said = capsys.readouterr().err
    assert f"was distilled from npz:{place}/mine.npz, but nothing is there" in said
    assert "Give the place of the same data with --dataset" in said
    assert main(["evaluate", "../run", "--num-nets", "2", "--dataset", "npz:other.npz"]) == 0
    with np.load("other.npz") as arrays:
        np.savez("changed.npz", images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(DataError, match="is not the one that"):
        load_run(place / "run", "npz:changed.npz")


def test_other_data_under_another_path_are_another_configuration(place, capsys):
    assert distil("npz:mine.npz") == 0
    with np.load("mine.npz") as arrays:
        np.savez("changed.npz", images=255 - arrays["images"], labels=arrays["labels"])
    before = recorded(place)
    assert distil("npz:changed.npz") == 2
    said = capsys.readouterr().err
    assert "dataset.fingerprint" in said
    assert "source.dataset" in said
    assert recorded(place) == before


def test_more_networks_are_trained_where_the_data_are_now(place):
    def pretrain(dataset, count):
        data = dd.load_dataset(dataset)
        model = dd.models.mlp(data, hidden=(8,))
        return dd.pretrain(model, data, num_nets=count, num_held_out=1, out="nets.safetensors", show_progress=False)

    first = pretrain("npz:mine.npz", 1)
    shutil.move("mine.npz", "other.npz")
    assert len(pretrain("npz:other.npz", 2).accuracies["train"]) == 2
    with np.load("other.npz") as arrays:
        np.savez("changed.npz", images=255 - arrays["images"], labels=arrays["labels"])
    with pytest.raises(RunError, match=r"holds other networks:\n.*dataset"):
        pretrain("npz:changed.npz", 2)
    assert len(first.accuracies["train"]) == 1


def test_more_devices_than_there_are_leave_no_run(place, capsys):
    assert distil("npz:mine.npz", "--devices", "99") == 2
    assert "99" in capsys.readouterr().err
    assert not (place / "run").exists()
    assert distil("npz:mine.npz") == 0


def test_networks_are_followed_by_their_fingerprint():
    there = {"method": {"pretrained": "abc"}, "source": {"dataset": "digits", "pretrained": "nets.safetensors"}}
    moved = {"method": {"pretrained": "abc"}, "source": {"dataset": "digits", "pretrained": "/a/nets.safetensors"}}
    other = {"method": {"pretrained": "abd"}, "source": {"dataset": "digits", "pretrained": "/a/nets.safetensors"}}
    assert followed(there, moved) == (moved, ())
    assert followed(there, other) == (there, ())


def test_names_with_paths_are_kept_whole(place):
    assert whole("npz:mine.npz") == f"npz:{place}/mine.npz"
    assert whole("graph:a.npz/inductive") == f"graph:{place}/a.npz/inductive"
    assert [whole(name) for name in ("mnist:3.0.1", "digits", "usps")] == ["mnist:3.0.1", "digits", "usps"]
    assert whole_file("mine.npz") == f"{place}/mine.npz"
    assert (whole_file("mnist-lenet"), whole_file(None)) == ("mnist-lenet", None)


def test_what_is_missing(place):
    names = ("npz:mine.npz", "graph:mine.npz/inductive", f"planetoid:{place}/cora", "digits", "mnist:3.0.1")
    assert [is_missing(name) for name in names] == [False] * 5
    missing = ("npz:no.npz", "graph:no.npz/inductive", "folder:no", f"planetoid:{place}/no/cora")
    assert [is_missing(name) for name in missing] == [True] * 4


IN_PYTHON = {"num_outer_steps": 2, "num_eval_nets": 1, "show_progress": False}


def in_python(dataset, out, model=None):
    """A run as Python makes it, with a network of the library unless another is given."""
    own = model or dd.models.mlp(dataset, hidden=(8,))
    return dd.distill(
        dd.methods.unrolled(own, num_batches=1, num_epochs=2, batch_size=16), dataset, out=out, **IN_PYTHON
    )


def test_a_run_made_in_python_is_judged_by_the_command(place, monkeypatch, capsys):
    data = dd.load_dataset("npz:mine.npz", split_seed=3, validation_fraction=0.2, transform="identity")
    run = in_python(data, "run")
    expected = dd.evaluate(run.distilled, dd.models.mlp(data, hidden=(8,)), data, num_nets=2, seed=1_000_003)
    (place / "elsewhere").mkdir()
    monkeypatch.chdir(place / "elsewhere")
    assert main(["evaluate", "../run", "--num-nets", "2"]) == 0
    assert f"{100 * expected.mean:.1f} ± {100 * expected.std:.1f}" in capsys.readouterr().out
    assert main(["evaluate", "../run", "--num-nets", "2", "--model", "mlp:hidden=(4,)"]) == 0
    assert main(["train", "../run", "--num-nets", "1", "--num-epochs", "1"]) == 0
    shutil.move(place / "mine.npz", place / "elsewhere" / "other.npz")
    assert main(["evaluate", "../run", "--num-nets", "2"]) == 2
    assert f"was distilled from npz:{place}/mine.npz, but nothing is there" in capsys.readouterr().err
    assert main(["evaluate", "../run", "--num-nets", "2", "--dataset", "npz:other.npz"]) == 0


def test_a_run_made_of_arrays_says_how_it_is_judged(place, capsys):
    with np.load("mine.npz") as arrays:
        data = dd.dataset_from_arrays(arrays["images"], arrays["labels"], split_seed=3)
    in_python(data, "run")
    assert main(["evaluate", "run", "--num-nets", "2"]) == 2
    said = capsys.readouterr().err
    assert 'Evaluate it in Python with dd.evaluate(dd.load_distilled("run"), model, dataset)' in said
    assert "--dataset npz:FILE" in said
    assert main(["evaluate", "run", "--num-nets", "2", "--dataset", "npz:mine.npz"]) == 0
    assert "accuracy on npz:mine.npz" in capsys.readouterr().out


def test_a_run_of_a_network_of_ones_own_says_so(place, capsys):
    data = dd.load_dataset("npz:mine.npz")

    def init(key):
        return {"w": jax.random.normal(key, (36, 2))}

    def apply(params, images):
        return images.reshape(len(images), -1) @ params["w"]

    in_python(data, "run", dd.models.from_functions(init, apply, data, name="mine"))
    assert main(["evaluate", "run", "--num-nets", "2"]) == 2
    assert "was made with the network 'mine', which is not in dd_jax" in capsys.readouterr().err
    assert main(["evaluate", "run", "--num-nets", "2", "--model", "mlp:hidden=(8,)"]) == 0


def test_a_run_from_before_its_reading_was_recorded_goes_on_and_has_it_then(place):
    data = dd.load_dataset("npz:mine.npz")
    in_python(data, "run")
    file = place / "run" / "config.json"
    saved = json.loads(file.read_text())
    assert saved["reading"]["name"] == f"npz:{place}/mine.npz"
    file.write_text(json.dumps({name: saved[name] for name in ("config", "provenance")}))
    in_python(data, "run")
    assert json.loads(file.read_text())["reading"] == saved["reading"]


@pytest.mark.parametrize(
    ("name", "options"),
    [("digits", {"zca": True, "split_seed": 5, "channels": 1}), ("digits-graph", {}), ("digits", {"image_size": 4})],
)
def test_a_dataset_says_how_it_is_read_again(name, options):
    data = dd.load_dataset(name, **options)
    again = dd.load_dataset(**json.loads(json.dumps(dict(data.reading))))
    assert (again.fingerprint, again.name) == (data.fingerprint, data.name)


def test_a_set_says_which_network_it_is_for_wherever_it_is(place, monkeypatch, capsys):
    """Of a run of Python on other data, and of a set without its run: not the default network."""
    data = dd.load_dataset("npz:mine.npz")
    in_python(data, "run", dd.models.mlp(data, hidden=(5, 3)))
    shutil.copytree("run/distilled", "sent")
    np.savez("other.npz", **{name: array[:40] for name, array in np.load("mine.npz").items()})
    for path in ("run", "sent"):
        _, own, _, _ = load_set(path, "npz:other.npz")
        assert tuple(own.settings["hidden"]) == (5, 3)
        assert "The network is the mlp that the set was learnt for" in capsys.readouterr().err
    about = json.loads((place / "sent" / "distilled.json").read_text())
    about["provenance"]["model"]["name"] = "mine"
    about.pop("content_sha256")  # or it would be told from what was written
    (place / "sent" / "distilled.json").write_text(json.dumps(about))
    with pytest.raises(
        DataError, match=r"for the network 'mine', which is not in dd_jax\. Name the network to train with --model"
    ):
        load_set("sent", "npz:other.npz")
