"""A method of one's own, all of it in this file: on the command line it is like any other.

Images are pulled towards the mean of their class. It is distilled, killed and resumed, judged again, compared, reported
and exported, and nothing else knows of it.
"""

import dataclasses
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.evaluation.coresets import class_means
from dd_jax.methods import METHODS, Method, MethodSpec
from dd_jax.methods.base import with_overrides
from dd_jax.runs import loop
from dd_jax.types import DistilledData


@dataclasses.dataclass(frozen=True)
class PullOptions:
    """Hyper-parameters of `pull`."""

    strength: float = 0.1
    """How much of the way to the mean an outer step goes."""
    num_epochs: int = 20
    """Inner steps on the images."""


class State(NamedTuple):
    images: jax.Array


class Info(NamedTuple):
    loss: jax.Array


def pull(model: dd.models.Model, options: PullOptions | None = None, **overrides: Any) -> Method:
    opts = with_overrides(options or PullOptions(), overrides)
    labels = jnp.arange(model.num_classes, dtype=jnp.int32)

    def init(key, dataset, num_outer_steps):
        return State(jax.random.normal(key, (model.num_classes, *dataset.image_shape)))

    def step(key, state, means):
        away = state.images - means + 0.01 * jax.random.normal(key, means.shape)
        return State(state.images - opts.strength * away), Info(jnp.square(away).mean())

    def distilled(state):
        return DistilledData({"images": state.images[None]}, labels[None], jnp.full(opts.num_epochs, 0.5))

    def arrays(dataset):
        return class_means(dataset.train, dataset.num_classes)

    summary = f"{model.num_classes} images that are pulled"
    return Method("pull", init, step, distilled, model, dataclasses.asdict(opts), arrays=arrays, summary=summary)


SPEC = MethodSpec("pull", PullOptions, pull, lambda options: ("pull",), {"num_epochs": 3})


@pytest.fixture(autouse=True)
def known(monkeypatch):
    """The one line that a method adds elsewhere."""
    monkeypatch.setitem(METHODS, "pull", SPEC)


def test_the_command_line_takes_it_through_everything(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    argv = ["distill", "--method", "pull", "--model", "mlp:hidden=(8,)", "--strength", "0.2", "--num-outer-steps", "40",
            "--eval-every", "10", "--num-eval-nets", "2", "--num-nets", "2", "--no-baselines"]  # fmt: skip
    validate = loop._Loop.validate

    def stops(self, show):
        validate(self, show)
        if self.step == 20:
            raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(loop._Loop, "validate", stops)
        with pytest.raises(SystemExit):
            main(argv)
    assert main(argv) == 0
    assert main([*argv, "--out", "runs/whole"]) == 0
    assert "10 images that are pulled" in capsys.readouterr().err
    (run,) = [path for path in (tmp_path / "runs").iterdir() if path.name != "whole"]
    assert run.name == "digits-mlp-pull-hidden8-strength0.2-num_outer_steps40-eval_every10-num_eval_nets2"
    cut, whole = dd.load_distilled(run), dd.load_distilled("runs/whole")
    np.testing.assert_array_equal(cut.images, whole.images)
    assert json.loads((run / "config.json").read_text())["config"]["method"]["strength"] == 0.2

    expected = json.loads((run / "results.json").read_text())["results"]["distilled"]["mean"]
    assert expected > 0.5
    assert main(["evaluate", str(run), "--num-nets", "2"]) == 0
    assert f"{100 * expected:.1f} ±" in capsys.readouterr().out
    assert (
        main(
            ["baselines", "--method", "pull", "--model", "mlp:hidden=(8,)", "--num-nets", "2", "--names", "class mean"]
        )
        == 0
    )
    assert "class mean" in capsys.readouterr().out
    assert main(["estimate", "--method", "pull", "--num-outer-steps", "2"]) == 0
    assert main(["report", str(run)]) == 0
    assert main(["export", str(run)]) == 0
    assert (run / "export" / "folder" / "README.md").is_file()
    assert main(["runs", str(tmp_path / "runs")]) == 0
    assert "pull" in capsys.readouterr().out


def test_its_options_have_help_and_small_values(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["distill", "--method", "pull", "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "How much of the way to the mean an outer step goes. (default: 0.1)" in printed
    assert main(["distill", "--method", "pull", "--smoke", "--out", str(tmp_path)]) == 0
    assert dd.load_distilled(tmp_path).num_epochs == 3


def test_networks_from_elsewhere_are_not_for_it_and_none_are_trained(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command in ("distill", "estimate", "baselines"):
        assert main([command, "--method", "pull", "--pretrained", "digits-mlp", "--smoke"]) == 2
        assert "pull starts from randomly drawn networks. Leave out --pretrained, or" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
