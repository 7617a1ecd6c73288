"""Every experiment script runs from its command, in small, on its real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*_init.py"))


def test_there_are_experiments():
    assert len(EXPERIMENTS) == 4


@pytest.mark.slow
@pytest.mark.parametrize("script", EXPERIMENTS, ids=lambda path: path.stem)
@pytest.mark.parametrize("paper", [False, True], ids=["ours", "paper"])
def test_smoke(script, paper, tmp_path):
    dataset = script.stem.partition("_")[0]
    if not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / dataset).is_dir():
        pytest.skip(f"{dataset} is not prepared in TFDS_DATA_DIR")
    options = ["--smoke", "--num-nets", "1", "--out", str(tmp_path), *(["--paper"] if paper else [])]
    subprocess.run([sys.executable, script, *options], check=True)
    row = json.loads((tmp_path / "results.json").read_text())["results"]["distilled"]
    assert 0 <= row["mean"] <= 1
    assert (tmp_path / "figures" / "distilled.png").is_file()
