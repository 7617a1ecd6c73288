"""--deterministic: asked of XLA before anything is computed, recorded, and the same bits every time."""

import json
import os

import numpy as np
import pytest
from forks import Forks

import dd_jax as dd
from dd_jax.runs.runtime import be_deterministic

IMPORTS = "import tyro, rich.console, sklearn.cluster, orbax.checkpoint, matplotlib.figure; import dd_jax.cli"


def test_the_flags_are_added_to_those_that_are_there(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_autotune_level=2 --xla_dump_to=/x")
    be_deterministic()
    be_deterministic()
    flags = os.environ["XLA_FLAGS"].split()
    assert flags == ["--xla_gpu_autotune_level=2", "--xla_dump_to=/x", "--xla_gpu_exclude_nondeterministic_ops=true"]


@pytest.mark.slow
def test_two_runs_are_equal_bit_for_bit(tmp_path):
    options = [
        "--deterministic",
        "--num-outer-steps",
        "60",
        "--eval-every",
        "20",
        "--num-eval-nets",
        "2",
        "--num-nets",
        "8",
        "--num-epochs",
        "3",
    ]
    with Forks("import sys; from dd_jax.cli import main; sys.exit(main(sys.argv[1:]))", IMPORTS) as forks:
        for name in ("one", "other"):
            process = forks.start("distill", *options, "--no-baselines", "--out", tmp_path / name)
            errors = process.communicate()[1].decode()
            assert process.returncode == 0, errors
    one, other = (dd.load_distilled(tmp_path / name) for name in ("one", "other"))
    for field in ("images", "labels", "step_sizes"):
        np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    results = [json.loads((tmp_path / name / "results.json").read_text())["results"] for name in ("one", "other")]
    assert results[0] == results[1]
    config = json.loads((tmp_path / "one" / "config.json").read_text())["config"]
    assert config["deterministic"] is True
