"""Scores and transfers as commands: what they print, and the json that they leave."""

import dataclasses
import json

import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images


@pytest.fixture(scope="module")
def means(tmp_path_factory, digits):
    """The class means of the digits as a set from elsewhere."""
    folder = tmp_path_factory.mktemp("means")
    made = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, dd.Protocol("dc", order="random"))
    dd.save_distilled(folder, dataclasses.replace(made, transform=digits.transform), {})
    return folder


def test_a_transfer_is_that_of_the_library(means, digits, capsys):
    argv = ["transfer", str(means), "--dataset", "digits", "--models", "mlp:hidden=(6,)"]
    assert main([*argv, "--num-nets", "2", "--num-sets", "1", "--epochs", "2"]) == 0
    printed, found = capsys.readouterr().out, json.loads((means / "transfer.json").read_text())
    model = dd.models.mlp(digits, hidden=(6,))
    training = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=2, steps=None)
    alone = dd.evaluate(dd.load_distilled(means), model, digits, num_nets=2, protocol=training)
    assert found["by network"]["mlp:hidden=(6,)"]["distilled"]["mean"] == pytest.approx(alone.mean)
    assert found["average"] == pytest.approx(alone.mean)
    assert list(found["by network"]) == ["mlp:hidden=(6,)"]
    assert f"{100 * alone.mean:.1f} ±" in printed
    assert "random real" in printed
    assert found["length"] == {"number": 2, "whole": 300, "unit": "epoch"}
    assert "'dc', cut to 2 of 300 epochs" in " ".join(printed.split())


def test_scores_are_told_and_kept(means, capsys):
    argv = ["score", str(means), "--dataset", "digits", "--model", "mlp:hidden=(6,)", "--others", "mlp:hidden=(6,)"]
    assert main([*argv, "--smoke"]) == 0
    printed, found = capsys.readouterr().out, json.loads((means / "scores.json").read_text())
    ranking, bench = found["dd-ranking"], found["dc-bench"]
    assert ranking["ior"] == pytest.approx(ranking["distilled"]["mean"] - ranking["random_real"]["mean"])
    assert bench["best"] == bench["by augmentation"]["none"]["distilled"]["mean"]
    assert f"LRS {ranking['lrs']:.3f}" in printed
    assert "transfer average" in printed
    assert bench["lengths"] == {"none": {"number": 1, "whole": 300, "unit": "epoch"}}
    assert ranking["lengths"]["all data"]["number"] == 1 < ranking["lengths"]["all data"]["whole"]
    assert "DC-BENCH, cut short, on digits" in printed
    assert "DD-Ranking, cut short: LRS" in printed


def test_a_mistake_is_told(means, capsys):
    assert main(["transfer", str(means), "--dataset", "digits", "--models", "lenett"]) == 2
    assert "Did you mean 'lenet'" in capsys.readouterr().err
    assert main(["score", str(means)]) == 2
    assert "--dataset" in capsys.readouterr().err
