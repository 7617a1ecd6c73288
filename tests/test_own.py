"""Methods and networks of one's own by their names on the command line."""

import hashlib
import json
import os
import sys

import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.methods import method_named, name_of, spec_of
from dd_jax.models import from_spec, parse_model
from dd_jax.own import is_own, load_own, look_in
from dd_jax.runs.places import source_of

CODE = """
import dataclasses
import jax.numpy as jnp
from flax import linen as nn
import dd_jax as dd
from dd_jax.methods import UnrolledOptions

class Net(nn.Module):
    width: int = 4
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Dense(self.width)(x.reshape(len(x), -1)))
        return nn.Dense(10)(x), x

net = Net()

def sized(data, width=3):
    return dd.models.from_flax(Net(width), data)

def means(model, learning_rate: float = 1.0, batch_size: int = 16):
    return dd.methods.distribution_matching(model, learning_rate=learning_rate, batch_size=batch_size, augment="none")

def steps(model, options: UnrolledOptions | None = None, *, pretrained=None):
    return dd.methods.unrolled(model, options, pretrained=pretrained)

def wrong(model):
    return "nothing"

def needs(model, rate):
    return None

number = 3
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "own_things.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield tmp_path
    sys.modules.pop("own_things", None)


def test_names():
    assert is_own("a.b:c")
    assert not any(map(is_own, ("lenet", "mlp:hidden=(3,)", "folder:/x", "a:b:c")))
    assert parse_model("nets:small:width=3") == ("nets:small", {"width": 3})
    assert parse_model("nets:small") == ("nets:small", {})
    with pytest.raises(OptionError, match="expected NAME or NAME:SETTING=VALUE"):
        parse_model("mlp:hidden")


def test_networks(here, digits):
    assert from_spec("own_things:net", digits).name == "Net"
    for spec in ("own_things:sized:width=5", "own_things:Net:width=5"):
        assert from_spec(spec, digits).settings["width"] == 5
    for spec, words in (
        ("own_thing:net", "no module 'own_thing' in"),
        ("own_things.py:net", "Did you mean own_things:net"),
        ("own_things:nett", "Did you mean 'net'"),
        ("own_things:number", "own_things:number should be a function"),
        ("own_things:sized:wide=5", "can't be called with"),
    ):
        with pytest.raises(OptionError, match=words):
            from_spec(spec, digits)


def test_a_mistake_in_a_module_is_not_hidden(here, digits):
    (here / "own_broken.py").write_text("import not_there_at_all")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        from_spec("own_broken:net", digits)


def test_methods(here):
    means, steps = method_named("own_things:means"), method_named("own_things:steps")
    assert means.options().batch_size == 16
    assert (means.networks, steps.networks) == ("", "pretrained")
    assert name_of(steps.options()) == "own_things:steps"
    assert spec_of(steps.options(num_epochs=7)) == steps
    assert name_of(dd.methods.UnrolledOptions()) == "unrolled"
    for name, words in (("needs", "need defaults, but 'rate' has none"), ("number", "should be a function")):
        with pytest.raises(OptionError, match=words):
            method_named(f"own_things:{name}")


def test_a_run_of_both_resumes_and_is_used(here, capsys):
    argv = ["--method", "own_things:means", "--model", "own_things:sized:width=6"]
    more = ["--batch-size", "8", "--num-outer-steps", "3", "--num-nets", "1", "--num-eval-nets", "1", "--no-baselines"]
    for _ in range(2):
        assert main(["distill", *argv, *more]) == 0
    (out,) = (here / "runs").iterdir()
    assert out.name == "digits-sized-means-width6-batch_size8-num_outer_steps3-num_eval_nets1"
    config = json.loads((out / "config.json").read_text())["config"]
    digest = hashlib.sha256(CODE.encode()).hexdigest()
    file = {"file": f"{here}/own_things.py", "sha256": digest}
    assert config["code"] == {"own_things:sized": file, "own_things:means": file}
    assert config["source"]["model"] == "own_things:sized:width=6"
    assert config["method"]["batch_size"] == 8
    assert main(["evaluate", str(out), "--num-nets", "1"]) == 0
    assert main(["train", str(out), "--num-nets", "1", "--num-epochs", "1", "--model", "own_things:net"]) == 0
    assert main(["report", str(out)]) == 0
    capsys.readouterr()
    assert main(["distill", "--method", "own_things:wrong"]) == 2
    assert "should give a dd_jax.methods.Method, but gave 'nothing'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["distill", "--method", "own_things:steps", "--help"])
    assert "--init-step-size" in capsys.readouterr().out


FEW = ["--num-outer-steps", "1", "--num-nets", "1", "--num-eval-nets", "1", "--no-baselines"]
OWN = ["--model", "own_things:sized:width=6", "--num-batches", "1", "--num-epochs", "1", "--batch-size", "16"]


@pytest.fixture
def run(here):
    """A run with a network of one's own, and a function that starts Python anew in a folder, as far as modules go."""
    assert main(["distill", *OWN, *FEW, "--out", "run"]) == 0
    before = [*sys.path]

    def elsewhere(folder):
        folder.mkdir(exist_ok=True)
        sys.modules.pop("own_things")
        sys.path[:] = [place for place in before if place != str(here)]
        os.chdir(folder)

    return elsewhere


def test_a_run_with_own_code_is_used_elsewhere(here, run, capsys):
    run(here / "elsewhere")
    for command in (["evaluate"], ["train", "--num-epochs", "1"], ["transfer", "--models", "mlp:hidden=(4,)"]):
        assert main([command[0], "../run", *command[1:], "--num-nets", "1"]) == 0
        assert "The source of" not in capsys.readouterr().err


def test_a_source_that_changed_or_moved_is_told(here, run, capsys):
    (here / "own_things.py").write_text(CODE + "\n")
    run(here)
    assert main(["evaluate", "run", "--num-nets", "1"]) == 0
    told = f"The source of own_things:sized ({here}/own_things.py) has changed since the run was started"
    assert f"Note: {told}" in capsys.readouterr().err
    assert main(["distill", *OWN, *FEW, "--out", "run"]) == 0
    assert told in capsys.readouterr().err
    assert main(["distill", *OWN, *FEW, "--out", "run"]) == 0
    assert "The source of" not in capsys.readouterr().err
    (here / "code").mkdir()
    (here / "own_things.py").rename(here / "code" / "own_things.py")
    run(here / "code")
    assert main(["distill", *OWN, *FEW, "--out", "../run"]) == 0
    told = (
        f"The source of own_things:sized was {here}/own_things.py and is now {here}/code/own_things.py, with the same"
    )
    assert told in capsys.readouterr().err


def test_a_source_that_is_gone_is_named(here, run, capsys):
    (here / "own_things.py").unlink()
    run(here / "elsewhere")
    assert main(["evaluate", "../run", "--num-nets", "1"]) == 2
    said = capsys.readouterr().err
    assert f"was made with the network own_things:sized, which was in {here}/own_things.py (sha256 " in said
    assert "name another network with --model" in said
    assert main(["evaluate", "../run", "--num-nets", "1", "--model", "mlp:hidden=(4,)"]) == 0


def test_code_in_a_package_is_found_from_its_root(here):
    (here / "own_package" / "nets").mkdir(parents=True)
    for place in ("own_package", "own_package/nets"):
        (here / place / "__init__.py").write_text("def net(data): pass")
    for name, file in (("own_package.nets:net", "nets/__init__.py"), ("own_package:net", "__init__.py")):
        assert load_own(name, "a network")(None) is None
        assert source_of(name)["file"] == f"{here}/own_package/{file}"
    for name in ("own_package.nets", "own_package"):
        sys.modules.pop(name)
    (here / "elsewhere").mkdir()
    os.chdir(here / "elsewhere")
    sys.path.remove(str(here))
    assert not look_in("own_package.nets:net", str(here / "no" / "nets" / "__init__.py"))
    assert look_in("own_package.nets:net", str(here / "own_package" / "nets" / "__init__.py"))
    assert load_own("own_package.nets:net", "a network")(None) is None
