"""Every experiment script runs from its command, in small, on its real data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "paper"),
    [
        ("mnist_fixed_init", False),
        ("mnist_fixed_init", True),
        ("mnist_random_init", False),
        ("mnist_random_init", True),
        ("cifar10_fixed_init", True),  # a look at a whole split takes AlexCifarNet 16 s on a core: one of each
        ("cifar10_random_init", False),
    ],
)
def test_smoke(name, paper, tmp_path):
    script = FOLDER / f"{name}.py"
    dataset = name.partition("_")[0]
    if not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / dataset).is_dir():
        pytest.skip(f"{dataset} is not prepared in TFDS_DATA_DIR")
    options = ["--smoke", "--out", str(tmp_path), *(["--paper"] if paper else [])]
    subprocess.run([sys.executable, script, *options], check=True)
    row = json.loads((tmp_path / "results.json").read_text())["results"]["distilled"]
    assert 0 <= row["mean"] <= 1
    assert (tmp_path / "figures" / "distilled.png").is_file()
