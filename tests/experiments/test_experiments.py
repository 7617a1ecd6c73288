"""Every experiment script runs from its command, in small, on its real data."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import dd_jax as dd

FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("mnist_fixed_init", []),
        ("mnist_fixed_init", ["--paper"]),
        ("mnist_random_init", []),
        ("mnist_random_init", ["--paper"]),
        ("cifar10_fixed_init", ["--paper", "--model", "convnet:width=8,depth=2"]),
        ("cifar10_random_init", []),  # AlexCifarNet takes 16 s for a look at the test split: once is enough
    ],
)
def test_smoke(name, options, tmp_path):
    script = FOLDER / f"{name}.py"
    dataset = name.partition("_")[0]
    if not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / dataset).is_dir():
        pytest.skip(f"{dataset} is not prepared in TFDS_DATA_DIR")
    subprocess.run([sys.executable, script, "--smoke", "--out", str(tmp_path), *options], check=True)
    row = json.loads((tmp_path / "results.json").read_text())["results"]["distilled"]
    assert 0 <= row["mean"] <= 1
    assert (tmp_path / "figures" / "distilled.png").is_file()


@pytest.mark.slow
def test_the_benchmark_runs_and_says_what_it_measured(tmp_path):
    out = tmp_path / "benchmark.json"
    command = [sys.executable, FOLDER / "benchmark.py", "--smoke", "--seconds", "0.5", "--no-peer", "--out", out]
    subprocess.run(command, check=True)
    found = json.loads(out.read_text())
    assert found["ceilings"]["flops"] > 1e9
    (workload,) = found["workloads"].values()
    assert workload["1 device"]["n"] >= 3
    assert workload["1 device"]["min"] <= workload["1 device"]["median"] <= workload["1 device"]["max"]
    assert {row["remat"] for row in found["growth"]["inner steps"]} == {"none", "steps", "nested"}
    assert found["made_with"]["device"]


@pytest.mark.slow
def test_the_benchmark_of_matching_runs_and_both_agree(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "benchmark.json"
    options = ["--smoke", "--rounds", "2", "--no-all-cores", "--out", out]
    subprocess.run([sys.executable, FOLDER / "benchmark_matching.py", *options], check=True)
    (workload,) = json.loads(out.read_text())["workloads"].values()
    assert max(workload["agreement"].values()) < 1e-9
    assert workload["1 device"]["n"] == workload["PyTorch, 1 thread"]["n"] == 2
    assert workload["speedup on 1 device"]["min"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("dc", "mnist-ipc1"),
        ("dsa", "mnist-ipc1"),
        ("dm", "mnist-ipc10"),
        ("dcc", "mnist-ipc1"),
        ("idc", "mnist-ipc1"),
        ("adapt_digits", "mnist-to-usps"),
        ("attack", "mnist-attack"),
        ("steps_and_epochs", "mnist-1-steps"),
        ("random_order", "mnist-random-random-order"),
    ],
)
def test_smoke_of_a_table(script, name, tmp_path):
    data = Path(os.environ.get("TFDS_DATA_DIR", "/nowhere"))
    if not (data / "mnist").is_dir() or (name == "mnist-to-usps" and not (data.parent / "usps").is_dir()):
        pytest.skip("mnist is not prepared in TFDS_DATA_DIR, or usps is not beside it")
    command = [sys.executable, FOLDER / f"{script}.py", name, "--smoke", "--out", str(tmp_path / "runs")]
    subprocess.run(command, check=True, cwd=tmp_path)
    row = json.loads((tmp_path / "runs" / name / "results.json").read_text())["results"]["distilled"]
    assert 0 <= row["mean"] <= 1
    assert ("attacked" in row) == (script == "attack")
    if script == "attack":
        sizes = ["--num-nets", "1", "--num-sets", "2", "--num-sizes", "2", "--losses", "0.01", "99"]
        subprocess.run([sys.executable, FOLDER / "attack_curve.py", tmp_path / "runs" / name, *sizes], check=True)
        found = json.loads((tmp_path / "runs" / name / "attack_curve.json").read_text())["success"]
        assert list(found) == ["distilled", "class mean", "k-means", "random real", "best of random, chosen on test"]


@pytest.mark.slow
def test_smoke_of_the_benchmark_table(tmp_path):
    command = [sys.executable, FOLDER / "benchmark_table.py", "digits-dm", "digits", "--smoke", "--out", str(tmp_path)]
    subprocess.run(command, check=True)
    markdown = (tmp_path / "table.md").read_text()
    assert "| digits | 10 | dm | convnet (width 16, depth 2) |" in markdown
    assert "| digits | 1 | random |" in markdown
    assert (tmp_path / "table.html").is_file()
    assert (tmp_path / "digits-dm" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_smoke_of_ones_own_folder(given, tmp_path):
    folder = tmp_path / "pets"
    for name, brightness in (("cat", 40), ("dog", 200)) if given else ():
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (20, 17), (brightness, 5 * number, 90)).save(folder / name / f"{number}.png")
    command = [sys.executable, FOLDER / "own_image_folder.py", *([folder] if given else []), "--smoke"]
    for _ in range(2):  # the second time it finds its run
        subprocess.run(command, check=True, cwd=tmp_path)
    run = tmp_path / "runs" / ("own-pets" if given else "own-digits")
    assert 0 <= json.loads((run / "results.json").read_text())["results"]["distilled"]["mean"] <= 1
    names = ("cat", "dog") if given else tuple(map(str, range(10)))
    assert dd.load_distilled(run).class_names == names


@pytest.mark.slow
def test_smoke_of_ones_own_arrays_and_module(tmp_path):
    command = [sys.executable, FOLDER / "own_arrays_and_module.py", "--smoke"]
    found = subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.PIPE, text=True).stdout
    assert [line.split()[0] for line in found.splitlines()] == [
        "distilled",
        "random",
        "best",
        "class",
        "k-means",
        *2 * ["k-NN"],
    ]
    config = json.loads((tmp_path / "runs" / "own-stripes" / "config.json").read_text())["config"]
    assert config["model"]["name"] == "Energy"


@pytest.mark.slow
def test_smoke_of_the_scores(tmp_path):
    data = dd.load_dataset("digits")
    means = dd.evaluation.coresets.mean_images(data, 1)
    shape = dd.evaluation.coresets.SetShape(1, 1, 1)
    made = dd.evaluation.coresets.as_distilled(means, shape, 0.1, dd.Protocol("dc", order="random"))
    dd.save_distilled(tmp_path / "set", dataclasses.replace(made, transform=data.transform), {})
    command = [
        sys.executable,
        FOLDER / "score.py",
        tmp_path / "set",
        "--dataset",
        "digits",
        "--model",
        "mlp",
        "--smoke",
    ]
    printed = subprocess.run(
        [*command, "--out", tmp_path / "scores.json"], check=True, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ).stdout
    found = json.loads((tmp_path / "scores.json").read_text())
    assert found["storage_bytes"] == 4 * (640 + 10 + 1)
    assert 0 <= found["dd-ranking"]["lrs"] <= 1
    assert 0 <= found["dc-bench"]["transfer average"] <= 1
    assert "random transfer average" in printed
