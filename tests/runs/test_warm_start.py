"""Runs that start from what another one has learnt."""

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.runs.warm_start import learnt_by
from dd_jax.storage import checkpoint
from tests.runs.test_early_end import STEPS


@pytest.fixture(scope="module")
def first(method, digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("first") / "run"
    return dd.distill(method, digits, **STEPS, seed=1, out=out)


def learnt(out):
    """The images that a run ended with, which needn't be its best ones."""
    folder = max((out / "checkpoints").glob("step_*"))
    names = [leaf["name"] for leaf in checkpoint._verified(folder, int(folder.name[5:]))["leaves"]]
    arrays = checkpoint._read_arrays(folder / "arrays")
    return {name: arrays[f"{i:05d}"] for i, name in enumerate(names) if name.startswith(".state.learnable")}


def test_a_run_starts_where_another_one_ended(method, digits, first, tmp_path, capsys):
    steps = {**STEPS, "num_outer_steps": 0}
    dd.distill(method, digits, **steps, seed=2, out=tmp_path / "run", start_from=first.out)
    then, now = learnt(first.out), learnt(tmp_path / "run")
    assert then
    assert then.keys() == now.keys()
    for name in then:
        np.testing.assert_array_equal(then[name], now[name])
    said = capsys.readouterr().err
    assert f"Starting from what {first.out} had learnt after 12 of its outer steps" in said


def test_its_first_set_is_what_it_starts_from(method, digits, first):
    seen = []
    dd.distill(method, digits, **STEPS, start_from=first.out, callback=lambda one: seen.append(one) or True)
    again = []
    dd.distill(method, digits, **STEPS, seed=1, callback=again.append)
    np.testing.assert_array_equal(seen[0].distilled.images, again[-1].distilled.images)
    np.testing.assert_array_equal(seen[0].distilled.step_sizes, again[-1].distilled.step_sizes)


def test_it_resumes_as_any_other_without_the_first(method, digits, first, tmp_path):
    start = {"start_from": first.out}
    dd.distill(method, digits, **STEPS, **start, out=tmp_path / "run", callback=lambda one: one.step == 6)
    moved = first.out.rename(tmp_path / "moved")
    try:
        resumed = dd.distill(method, digits, **STEPS, **start, out=tmp_path / "run")
    finally:
        moved.rename(first.out)
    whole = dd.distill(method, digits, **STEPS, **start)
    np.testing.assert_array_equal(resumed.distilled.images, whole.distilled.images)
    with pytest.raises(dd.RunError, match="start_from"):
        dd.distill(method, digits, **STEPS, out=tmp_path / "run")


def test_another_method_goes_on_with_the_same_images(digits_mlp, digits, first, tmp_path):
    matching = dd.methods.distribution_matching(digits_mlp, batch_size=64)
    before = dd.distill(matching, digits, **STEPS, out=tmp_path / "dm")
    dsa = dd.methods.distribution_matching(digits_mlp, batch_size=32, augment="none", momentum=0.9)
    seen = []
    dd.distill(dsa, digits, **STEPS, start_from=before.out, callback=lambda one: seen.append(one) or True)
    assert seen[0].distilled.images.shape == before.distilled.images.shape
    with pytest.raises(dd.RunError, match=r"learnable.* there, .*A run starts from one that learnt as many images"):
        dd.distill(matching, digits, **STEPS, start_from=first.out)


def test_what_it_cannot_start_from_is_said(method, digits, first, tmp_path):
    with pytest.raises(dd.RunError, match="missing"):
        dd.distill(method, digits, **STEPS, start_from=tmp_path / "nothing", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(OptionError, match=r"start_from needs a method whose state .* but tuple has none"):
        learnt_by(first.out, (), {"name": "digits", "fingerprint": ""})
    told = learnt_by(first.out, method.init(jax.random.key(0), digits, 1), {"name": "other", "fingerprint": ""}).notes
    assert "learnt from digits, this one learns from other" in told[-1]
