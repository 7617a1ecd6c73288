"""Trajectory matching on the command line: experts from presets and folders, published settings, what is refused."""

import dataclasses
import json

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.presets import PRESETS
from dd_jax.presets.trajectories import trajectory_cells, wearable_cells
from dd_jax.runs import networks
from dd_jax.runs.networks import PRETRAININGS

MAKE = ["pretrain", "--snapshots", "--dataset", "digits", "--model", "mlp:hidden=(8,)", "--num-nets", "2", "--epochs",
        "2", "--batch-size", "64", "--optimiser", "sgd", "--momentum", "0", "--learning-rate", "0.1"]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("experts") / "digits"
    assert main([*MAKE, "--out", str(path)]) == 0
    return path


def test_the_published_settings():
    """Those of DC-BENCH's table, and TESLA's are the same with another gradient."""
    cells = trajectory_cells(paper=True)
    assert len(cells) == 9 + 2 * 6
    found = cells["cifar10-ipc1"]
    assert (found.zca, found.experts, found.model) == (True, "cifar10-zca-experts-paper", "convnet:width=128,depth=3")
    method = found.method
    assert (method.num_inner_steps, method.expert_epochs, method.max_start) == (50, 2, 2)
    assert (method.learning_rate, method.step_size_learning_rate, method.init_step_size) == (100, 1e-7, 0.01)
    assert cells["cifar100-ipc50"].method.batch_size == 125
    assert cells["tiny-imagenet-ipc10"].model == "convnet:width=128,depth=4"
    assert not cells["cifar10-ipc50"].zca
    tesla = trajectory_cells("tesla", paper=True)
    for name, cell in cells.items():
        method = dataclasses.replace(cell.method, gradient="first_order")
        assert tesla[name] == dataclasses.replace(cell, method=method)
        wanted = PRETRAININGS[cell.experts]
        assert (wanted.zca, wanted.dataset, wanted.model) == (cell.zca, cell.dataset, cell.model)
        assert wanted.image_size == cell.image_size
        assert wanted.training.epochs >= method.max_start - 1 + method.expert_epochs
    assert cells["imagewoof-ipc10"].dataset == "folder:imagewoof"
    with pytest.raises(OptionError, match="Did you mean 'tesla'"):
        trajectory_cells("tessla")


def test_the_published_settings_of_datm():
    """Those of the released files: learnt labels, experts that go to flat optima, and how far into their epochs."""
    cells = trajectory_cells("datm", paper=True)
    assert {name: (c.method.num_inner_steps, c.method.min_start, c.method.first_max_start, c.method.max_start)
            for name, c in cells.items() if c.dataset == "cifar10"} == {
        "cifar10-ipc1": (80, 0, None, 4), "cifar10-ipc10": (80, 0, 10, 20), "cifar10-ipc50": (80, 0, 20, 40),
        "cifar10-ipc500": (40, 40, None, 60), "cifar10-ipc1000": (100, 40, None, 60),
    }  # fmt: skip
    for cell in cells.values():
        method, wanted = cell.method, PRETRAININGS[cell.experts]
        assert method.learn_labels
        assert method.label_momentum == 0.9
        assert method.protocol == "datm"
        assert cell.zca
        assert (wanted.zca, wanted.dataset, wanted.model) == (cell.zca, cell.dataset, cell.model)
        assert (wanted.training.sam_rho, wanted.training.gsam_alpha) == (0.01, 0.3)
        assert wanted.training.epochs >= method.max_start - 1 + method.expert_epochs
    assert cells["cifar10-ipc1"].method.max_loss == 1.1
    assert not cells["cifar100-ipc50"].method.init_correct
    small = trajectory_cells("datm")["digits-ipc1"]
    assert (small.experts, small.method.protocol) == ("digits-ftd-experts", "datm-plain")
    assert PRESETS["digits-datm"] == small


def test_wearable_is_the_released_command_from_noise():
    (found,) = wearable_cells(paper=True).values()
    method = found.method
    assert (method.canvas_size, method.canvas_samples, method.init_images, method.images_per_class) == (
        2,
        1,
        "noise",
        1,
    )
    assert (found.image_size, method.num_inner_steps, method.expert_epochs, method.max_start) == (256, 20, 2, 10)
    assert (method.learning_rate, method.step_size_learning_rate, method.init_step_size) == (1000, 1e-6, 0.01)
    assert PRETRAININGS[found.experts].image_size == 256
    assert all(cell.method.canvas_samples == 4 for cell in wearable_cells().values())


def test_presets_are_some_of_the_cells():
    assert PRESETS["mnist-mtt"] == trajectory_cells()["mnist-ipc10"]
    assert PRESETS["digits-tesla"] == trajectory_cells("tesla")["digits-ipc1"]
    assert PRESETS["cifar10-mtt-paper"] == trajectory_cells(paper=True)["cifar10-ipc10"]
    assert PRESETS["digits-wearable"] == wearable_cells()["digits-wearable"]


def test_experts_are_made_described_and_learnt_from(folder, tmp_path, capsys):
    capsys.readouterr()
    assert main([*MAKE, "--out", str(folder)]) == 0
    printed = capsys.readouterr()
    assert "at each snapshot: " in printed.out
    assert "n=2 networks" in printed.out
    assert "already has the experts" in printed.err
    assert main(["info", str(folder)]) == 0
    assert "mean accuracy on validation after" in capsys.readouterr().out
    argv = [
        "distill",
        "--method",
        "trajectory-matching",
        "--experts",
        str(folder),
        "--smoke",
        "--model",
        "mlp:hidden=(8,)",
    ]
    canvas = ["--canvas-size", "2", "--init-images", "noise", "--gradient", "first_order"]
    assert main([*argv, *canvas, "--out", str(tmp_path / "run")]) == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["method"]["experts"] == dd.load_experts(folder).fingerprint
    assert dd.load_distilled(tmp_path / "run").learnt["canvases"].shape == (1, 10, 16, 16, 1)
    assert main(["export", str(tmp_path / "run"), "--formats", "npz", "--tiles", "2"]) == 0
    assert "tiles: 10 pictures without seams" in capsys.readouterr().out
    assert main(["evaluate", str(tmp_path / "run"), "--num-nets", "1"]) == 0


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["distill", "--method", "trajectory-matching"], "Unknown file or preset"),
        (["distill", "--method", "trajectory-matching", "--experts", "FOLDER"], "snapshots 0 to 2"),
        (["distill", "--method", "gradient-matching", "--experts", "FOLDER"], "use trajectory_matching"),
        (["distill", "--pretrained", "FOLDER"], "is a folder; expected a file"),
        (["pretrain", "--dtype", "bfloat16", "--out", "x.safetensors"], "Add --snapshots"),
    ],
)
def test_what_does_not_fit_is_refused(argv, words, folder, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    if words.startswith("Unknown"):
        argv = [*argv, "--experts", "digits-expertise"]
    small = ["--model", "mlp:hidden=(8,)"] if argv[0] == "distill" else []
    assert main([*(str(folder) if word == "FOLDER" else word for word in argv), *small]) == 2
    assert words in capsys.readouterr().err


def test_experts_of_a_preset_are_made_where_they_are_missing_and_completed(monkeypatch, tmp_path, capsys):
    training = dd.Training(epochs=1, batch_size=64, optimiser="sgd", learning_rate=0.1, momentum=0.0)
    tiny = dataclasses.replace(PRETRAININGS["digits-experts"], model="mlp:hidden=(8,)", num_nets=1, training=training)
    monkeypatch.setitem(networks.PRETRAININGS, "digits-experts", tiny)
    monkeypatch.chdir(tmp_path)
    argv = ["distill", "--preset", "digits-mtt", "--model", "mlp:hidden=(8,)", "--max-start", "1", "--no-baselines"]
    argv += ["--expert-epochs", "1", "--num-outer-steps", "2", "--num-eval-nets", "1", "--num-nets", "1"]
    argv += ["--protocol", "dc"]
    assert main([*argv, "--out", "one"]) == 0
    assert "not made yet. Making them" in capsys.readouterr().err
    first = (tmp_path / "nets" / "digits-experts" / "expert-000000.safetensors").read_bytes()
    monkeypatch.setitem(networks.PRETRAININGS, "digits-experts", dataclasses.replace(tiny, num_nets=2))
    assert main([*argv, "--out", "two"]) == 0
    assert "not complete yet" in capsys.readouterr().err
    experts = dd.load_experts(tmp_path / "nets" / "digits-experts")
    assert experts.accuracies.shape == (2, 2)
    assert (tmp_path / "nets" / "digits-experts" / "expert-000000.safetensors").read_bytes() == first
    other = dataclasses.replace(tiny, training=dataclasses.replace(training, epochs=2))
    monkeypatch.setitem(networks.PRETRAININGS, "digits-experts", other)
    assert main([*argv, "--out", "three"]) == 2
    assert "epochs: 1 there, 2 asked for" in capsys.readouterr().err
    assert np.isfinite(experts.read(1, [1])["Dense_0"]["kernel"]).all()
