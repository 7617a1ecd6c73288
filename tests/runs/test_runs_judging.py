"""Measuring: what is known early is told and kept early, and how far it is is shown."""

import json

import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.evaluation.baselines import networks_to_train
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.evaluation.measure import watched
from dd_jax.runs import judging, progress

TINY = ["--smoke", "--model", "mlp:hidden=(4,)", "--num-nets", "2", "--baselines"]


@pytest.fixture(scope="module")
def means(digits):
    return as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.1, dd.Protocol())


def test_what_is_measured_is_kept_before_the_next_baseline(tmp_path, monkeypatch, capsys):
    iterate = judging.iterate_baselines

    def stopped(*args, **options):
        yield next(iterate(*args, **options))
        raise KeyboardInterrupt

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(judging, "iterate_baselines", stopped)
        assert main(["distill", *TINY, "--out", str(out)]) == 130
    early = json.loads((out / "results.json").read_text())
    assert set(early["results"]) == {"distilled", "random real"}
    assert early["asked"] == {"num_nets": 2, "baselines": True, "unfinished": True}
    told = capsys.readouterr().err
    assert f"distilled: {100 * early['results']['distilled']['mean']:.1f} ±" in told
    assert main(["report", str(out)]) == 0
    assert main(["distill", *TINY, "--out", str(out)]) == 0
    whole = json.loads((out / "results.json").read_text())
    assert {name: whole["results"][name] for name in early["results"]} == early["results"]
    assert "k-means" in whole["results"]
    assert whole["asked"] == {"num_nets": 2, "baselines": True}


def test_every_network_that_is_measured_is_told(means, digits, digits_mlp):
    told = []
    with watched(told.append):
        dd.evaluate(means, digits_mlp, digits, num_nets=5, num_curve_nets=0)
    assert sum(told) == 5
    before = len(told)
    dd.evaluate(means, digits_mlp, digits, num_nets=1, num_curve_nets=0)
    assert len(told) == before


@pytest.mark.parametrize("names", [["random real"], ["class mean", "k-NN random"], ["best of random"]])
def test_as_many_networks_are_planned_as_are_measured(names, means, digits, digits_mlp):
    told = []
    with watched(told.append):
        dd.baselines(means, digits_mlp, digits, names=names, num_nets=10)
    assert sum(networks_to_train(means, digits_mlp, digits, names, 10).values()) == sum(told)


def test_a_line_now_and_then_tells_how_far_it_is(means, digits, digits_mlp, monkeypatch, capsys):
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(progress, "PLAIN_SHARE", 0.0)
    judging.measure_rows(means, digits_mlp, digits, 4, ["class mean"])
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("network ")]
    assert any("measuring distilled" in line for line in lines)
    assert any("measuring class mean" in line for line in lines)
    assert any(" left" in line for line in lines)
