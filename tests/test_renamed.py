"""Whoever types a name of before is told the new one; what was recorded under it is read as ever."""

import dataclasses
import inspect
import json
from typing import NamedTuple

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.methods import UnrolledOptions
from dd_jax.renamed import refuse_old_option, renamed, with_new_names
from dd_jax.runs.directory import read_config
from dd_jax.runs.report.read import read_run
from dd_jax.storage.files import write_json
from dd_jax.synthetic.step_batches import step_batches

OPTIONS = {"num_outer_steps": 4, "eval_every": 2, "num_eval_nets": 1, "show_progress": False}


@renamed(old="new")
def add(new: int, more: int = 1) -> int:
    """The sum."""
    return new + more


@renamed(old="new")
@dataclasses.dataclass(frozen=True)
class Record:
    new: int = 3


@renamed(old="new")
class Pair(NamedTuple):
    new: int
    other: int = 2


def test_a_function_does_what_it_did_and_looks_as_it_did():
    assert (add(2), add(new=2, more=3)) == (3, 5)
    assert str(inspect.signature(add)) == "(new: int, more: int = 1) -> int"
    assert (add.__name__, add.__doc__) == ("add", "The sum.")
    with pytest.raises(dd.OptionError, match=r"add has no argument 'old' any more\. It is now called 'new'"):
        add(old=2)
    with pytest.raises(TypeError, match="unexpected keyword argument 'odd'"):
        add(odd=2)


def test_classes_stay_what_they_were():
    assert (Record(), Record(new=4).new, dataclasses.replace(Record(), new=5).new) == (Record(3), 4, 5)
    assert (Pair(1), Pair(1)._replace(other=4), Pair._make([1, 3])) == ((1, 2), (1, 4), (1, 3))
    assert jax.tree.map(lambda leaf: leaf + 1, Pair(1)) == Pair(2, 3)
    assert list(inspect.signature(Record).parameters) == ["new"]
    assert list(inspect.signature(Pair).parameters) == ["new", "other"]
    for kind in (Record, Pair):
        with pytest.raises(dd.OptionError, match=f"{kind.__name__} has no argument 'old' any more"):
            kind(old=1)


@pytest.mark.parametrize(
    ("call", "new"),
    [
        (lambda method, data: dd.distill(method, data, num_steps=3), "num_outer_steps"),
        (lambda method, data: dd.distill(method, data=data, num_outer_steps=3), "dataset"),
        (lambda method, data: dd.estimate(method, data, num_steps=3), "num_outer_steps"),
        (lambda method, data: dd.estimate(method, data=data, num_outer_steps=3), "dataset"),
        (lambda method, data: dd.pretrain(method.model, data=data, out="networks.safetensors"), "dataset"),
        (lambda method, data: dd.methods.unrolled(method.model, num_steps=3), "num_batches"),
        (lambda method, data: step_batches(10, num_steps=3), "num_batches"),
        (lambda method, data: dd.methods.Method(*method[:6], slower=None), "scale_learning_rate"),
    ],
)
def test_the_library_says_how_an_argument_is_called_now(digits, digits_mlp, call, new):
    method = dd.methods.unrolled(digits_mlp, num_batches=1, num_epochs=1)
    with pytest.raises(dd.OptionError, match=f"It is now called '?{new}'?"):
        call(method, digits)


def test_so_do_the_options_of_a_method():
    """Below the checker of shapes, which comes first in tests and is nowhere else."""
    below = UnrolledOptions.__init__.__wrapped__
    with pytest.raises(dd.OptionError, match="UnrolledOptions has no argument 'num_steps' any more"):
        below(UnrolledOptions(), num_steps=3)


def test_an_option_of_another_method_is_merely_unknown(digits_mlp):
    with pytest.raises(dd.OptionError, match="Unknown option 'num_steps'"):
        dd.methods.gradient_matching(digits_mlp, num_steps=3)
    refuse_old_option("num_steps", ("num_steps", "num_batches"))  # of a method that has both


@pytest.mark.parametrize("words", [["--num-steps", "2"], ["--num-steps=2"], ["--num_steps", "2"]])
def test_the_command_line_says_how_an_option_is_called_now(words, capsys):
    assert main(["distill", *words]) == 2
    assert "There is no option --num-steps any more. It is now called --num-batches." in capsys.readouterr().err


def test_attributes_and_modules_of_before_are_told_of_too():
    with pytest.raises(ImportError, match=r"dd_jax\.inner\.Looks is now called dd_jax\.inner\.IntermediateLoss"):
        from dd_jax.inner import Looks  # noqa: F401
    with pytest.raises(ImportError, match=r"is now called dd_jax\.inner\.unroll_with_losses"):
        _ = dd.inner.unroll_with_looks
    with pytest.raises(AttributeError, match=r"'dd_jax\.inner' has no attribute 'unrol'"):
        _ = dd.inner.unrol
    with pytest.raises(ImportError, match=r"is now called dd_jax\.methods\.sampling"):
        import dd_jax.methods.drawing  # noqa: F401
    images = np.zeros((2, 1, 4, 4, 1), np.float32)
    found = dd.DistilledData({"images": images}, np.zeros((2, 1), np.int32), np.ones(2, np.float32))
    with pytest.raises(AttributeError, match="of DistilledData is now called 'num_batches'"):
        _ = found.num_steps


def test_a_recorded_configuration_is_read_under_the_new_names():
    before = {"method": {"name": "unrolled", "num_steps": 10, "num_epochs": 3}, "seed": 0}
    assert with_new_names(before) == {"method": {"name": "unrolled", "num_batches": 10, "num_epochs": 3}, "seed": 0}
    for other in ({}, {"method": "unrolled"}, {"method": {"num_steps": 1}}, {"method": {"name": []}},
                  {"method": {"name": "mine", "num_steps": 1}}):  # fmt: skip
        assert with_new_names(other) == other


def as_before(file) -> None:
    """Write the record again as it was written when `num_batches` was called `num_steps`."""
    content = json.loads(file.read_text())
    (holder,) = [content[key] for key in ("config", "provenance") if "method" in content.get(key, {})]
    method = holder["method"]
    holder["method"] = {"num_steps" if name == "num_batches" else name: value for name, value in method.items()}
    assert "num_steps" in holder["method"]
    content.pop("content_sha256", None)
    write_json(file, content)


def test_a_run_of_before_goes_on_and_is_reported(digits, digits_mlp, tmp_path, capsys):
    method = dd.methods.unrolled(digits_mlp, num_batches=2, num_epochs=2, num_inits=1, batch_size=16)
    whole = dd.distill(method, digits, out=tmp_path, **OPTIONS)
    as_before(tmp_path / "config.json")
    as_before(tmp_path / "distilled" / "distilled.json")
    again = dd.distill(method, digits, out=tmp_path, **OPTIONS)
    assert "Resuming" in capsys.readouterr().err
    np.testing.assert_array_equal(again.distilled.images, whole.distilled.images)
    assert read_config(tmp_path)["config"]["method"]["num_batches"] == 2
    assert dd.storage.load_provenance(tmp_path)["method"]["num_batches"] == 2
    record = read_run(tmp_path)
    assert (record.setting("method", "num_batches"), record.num_inner_steps) == (2, 4)
    other = dd.methods.unrolled(digits_mlp, num_batches=3, num_epochs=2, num_inits=1, batch_size=16)
    with pytest.raises(dd.RunError, match=r"method\.num_batches: 2 there, 3 asked for"):
        dd.distill(other, digits, out=tmp_path, **OPTIONS)


def test_networks_of_flax_are_made_by_another_name():
    with pytest.raises(ImportError, match=r"dd_jax\.models\.from_linen is now called dd_jax\.models\.from_flax"):
        _ = dd.models.from_linen
