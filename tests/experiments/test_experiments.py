"""Every experiment script runs, in small; one of them as a user runs it, in a process of its own on real data."""

import dataclasses
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import dd_jax as dd
from dd_jax.runs.networks import PRETRAININGS

FOLDER = Path(__file__).parents[2] / "experiments"
# What a script does is tested here; networks, methods and several devices have tests of their own.
SMALL_NET = ["--model", "mlp:hidden=(8,)"]
SHORT = ["--num-batches", "2", "--num-epochs", "2", "--remat", "none"]  # of methods that unroll


@pytest.fixture(scope="module", autouse=True)
def one_device():
    """Scripts make every core a device, unless devices were counted before; then they share what is compiled here."""
    assert jax.devices()


def run_script(name: str, *options: object) -> None:
    """An experiment script as it is, in this process, which has compiled most of what it needs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(FOLDER / f"{name}.py"), *map(str, options)])
        patch.syspath_prepend(str(FOLDER))  # as Python does for a script
        status = None
        try:
            runpy.run_path(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code
    assert not status


@pytest.fixture(scope="session")
def digits28(tmp_path_factory):
    """Six hundred handwritten digits in MNIST's size, as an option."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    enlarged = np.kron(images[:600].reshape(-1, 8, 8), np.ones((3, 3)))
    path = tmp_path_factory.mktemp("digits28") / "mnist.npz"
    np.savez(path, images=np.pad(np.uint8(enlarged * 15), ((0, 0), (2, 2), (2, 2))), labels=labels[:600])
    return f"npz:{path}"


@pytest.fixture(scope="session")
def colours32(tmp_path_factory):
    """Noise in ten colours in CIFAR-10's size, as an option."""
    draw, labels = np.random.default_rng(0), np.arange(200) % 10
    images = draw.integers(0, 80, (200, 32, 32, 3)) + 17 * labels[:, None, None, None]
    path = tmp_path_factory.mktemp("colours32") / "cifar10.npz"
    np.savez(path, images=images.astype(np.uint8), labels=labels)
    return f"npz:{path}"


@pytest.fixture(scope="session")
def lenets(digits28, tmp_path_factory):
    """A file of a few small networks that were trained on the digits."""
    data = dd.load_dataset(digits28)
    out, training = tmp_path_factory.mktemp("lenets") / "nets.safetensors", dd.Training(epochs=2, batch_size=32)
    dd.pretrain(dd.models.mlp(data, hidden=(8,)), data, num_nets=3, num_held_out=2, training=training, out=out,
                show_progress=False)  # fmt: skip
    return out


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def distilled_row(run: Path) -> dict:
    row = json.loads((run / "results.json").read_text())["results"]["distilled"]
    assert 0 <= row["mean"] <= 1
    assert (run / "figures" / "distilled.png").is_file()
    return row


@pytest.mark.slow
def test_a_script_of_its_own_process_on_its_real_data(tmp_path):
    """The others run in this process; this is the command that a user types."""
    if not (Path(os.environ.get("TFDS_DATA_DIR", "/nowhere")) / "mnist").is_dir():
        pytest.skip("mnist is not prepared in TFDS_DATA_DIR")
    script = FOLDER / "mnist_random_init.py"
    means = ["--init-images", "mean"]  # k-means of so many images take long
    subprocess.run([sys.executable, script, "--smoke", *SMALL_NET, *SHORT, *means, "--out", str(tmp_path)], check=True)
    distilled_row(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert (config["dataset"]["name"], config["model"]["name"]) == ("mnist", "mlp")


@pytest.mark.slow
def test_smoke_with_the_network_that_it_is_for(here, digits28):
    few = ["--batch-size", "16", "--num-outer-steps", "2"]
    run_script("mnist_random_init", "--smoke", "--dataset", digits28, *SHORT, *few, "--out", here / "run")
    distilled_row(here / "run")
    assert json.loads((here / "run" / "config.json").read_text())["config"]["model"]["name"] == "lenet"


@pytest.mark.slow
@pytest.mark.parametrize("paper", [[], ["--paper"]])
@pytest.mark.parametrize("name", ["mnist_fixed_init", "mnist_random_init", "cifar10_fixed_init", "cifar10_random_init"])
def test_smoke(name, paper, here, digits28, colours32):
    data = colours32 if name.startswith("cifar10") and paper else digits28  # which share what is compiled
    run_script(name, "--smoke", "--dataset", data, *SMALL_NET, *SHORT, "--out", here / "run", *paper)
    assert distilled_row(here / "run")["n"] == 1


@pytest.mark.slow
def test_the_gallery_draws_the_runs_that_are_there(here, capsys):
    run_script("gallery", "gallery-dd", "gallery-dm", "--smoke", "--out", here / "runs")
    assert (here / "runs" / "gallery.png").read_bytes().startswith(b"\x89PNG")
    assert b"acTL" in (here / "runs" / "unrolled.png").read_bytes(), "no animation"
    for name in ("gallery-dd", "gallery-dm"):
        distilled_row(here / "runs" / name)
    with pytest.raises(AssertionError):
        run_script("gallery", "--paper")
    assert "leave it out" in capsys.readouterr().err


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
@pytest.mark.parametrize("script", ["benchmark_matching", "benchmark_trajectories"])
def test_the_benchmarks_of_matching_run_and_both_agree(script, tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "benchmark.json"
    options = ["--smoke", "--rounds", "2", "--one-core", "--out", out]
    subprocess.run([sys.executable, FOLDER / f"{script}.py", *options], check=True)
    (workload,) = json.loads(out.read_text())["workloads"].values()
    assert max(workload["agreement"].values()) < 1e-9
    assert workload["1 device"]["n"] == workload["PyTorch, 1 thread"]["n"] == 2
    assert workload["speedup on 1 device"]["min"] > 0


@pytest.mark.slow
def test_the_benchmark_at_published_sizes_has_the_other_methods_and_a_peer_that_agrees(tmp_path):
    pytest.importorskip("torch")
    out = tmp_path / "benchmark.json"
    options = ["--published", "--smoke", "--rounds", "1", "--one-core", "--out", out]
    subprocess.run([sys.executable, FOLDER / "benchmark.py", *options], check=True)
    found = json.loads(out.read_text())["workloads"]
    assert set(found) == {"IDC", "DM", "FRePo", "KIP", "Bases", "Expert"}
    for name, row in found.items():
        assert max(row["agreement"].values()) < (1e-7 if name == "KIP" else 1e-9), name
        ours, theirs = row["1 device"], row[f"{row['peer']}, 1 thread"]
        assert row["speedup on 1 device"]["median"] == pytest.approx(theirs["median"] / ours["median"])
        assert min(ours["compile"], ours["gflop"], ours["program_mib"], row["peer_mib"][f"{row['peer']}, 1 thread"]) > 0


@pytest.mark.slow
def test_how_far_the_first_order_gradient_is_from_the_exact_one(here, monkeypatch, capsys):
    few = PRETRAININGS["digits-experts"]
    monkeypatch.setitem(PRETRAININGS, "digits-experts", dataclasses.replace(few, num_nets=1))
    run_script("first_order", "--inner-steps", "1", "2", "--windows", "2")
    found = [row.split() for row in capsys.readouterr().out.splitlines() if "±" in row]
    (of_one, of_two) = [(float(row[1]), float(row[-1])) for row in found]
    assert of_one == (1, 1)
    assert 0.5 < of_two[0] < 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "name"),
    [
        ("dc", "mnist-ipc1"),
        ("dsa", "mnist-ipc1"),
        ("dm", "mnist-ipc1"),
        ("dcc", "mnist-ipc1"),
        ("idc", "mnist-ipc1"),
        ("gtn", "mlp-noise"),
        ("adapt_digits", "mnist-to-usps"),
        ("attack", "mnist-attack"),
        ("steps_and_epochs", "mnist-1-steps"),
        ("random_order", "mnist-random-random-order"),
    ],
)
def test_smoke_of_a_table(script, name, here, digits28, lenets):
    nets = ["--pretrained", lenets] if script in ("adapt_digits", "attack") else []
    short = SHORT if script in ("adapt_digits", "random_order") else []
    run_script(script, name, "--smoke", "--dataset", digits28, *SMALL_NET, *short, *nets, "--out", here / "runs")
    assert ("attacked" in distilled_row(here / "runs" / name)) == (script == "attack")
    if script == "attack":
        sizes = ["--num-nets", "1", "--num-sets", "2", "--num-sizes", "2", "--losses", "0.01", "99"]
        run_script("attack_curve", here / "runs" / name, *sizes)
        found = json.loads((here / "runs" / name / "attack_curve.json").read_text())["success"]
        assert list(found) == ["distilled", "class mean", "k-means", "random real", "best of random, chosen on test"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "name", "experts"),
    [
        ("mtt", "digits-ipc1", "digits-experts"),
        ("datm", "digits-ipc1", "digits-ftd-experts"),
        ("wearable", "digits-wearable", "digits-convnet-experts"),
    ],
)
def test_smoke_of_trajectories(script, name, experts, here, monkeypatch):
    """With experts of the preset, a network each, that the script makes itself; of a ConvNet the smallest there is."""
    net = []
    if "convnet" in experts:
        smallest = dataclasses.replace(PRETRAININGS[experts], model="convnet:width=4,depth=1")
        monkeypatch.setitem(PRETRAININGS, experts, smallest)
        net = ["--model", smallest.model]
    run_script(script, name, "--smoke", *net, "--out", here / "runs")
    run = here / "runs" / name
    assert distilled_row(run)["n"] == 1
    assert (here / "nets" / f"{experts}-smoke" / "expert-000000.safetensors").is_file()
    assert len(list((run / "tiles").glob("tile-*.png"))) == (10 if script == "wearable" else 0)
    if script == "wearable":
        run_script("canvases", run, "--num-nets", "2", "--num-sets", "2", "--rolls", "2")
        rows = json.loads((run / "canvases.json").read_text())["rows"]
        assert {name: len(row["accuracies"]) for name, row in rows.items()} == dict.fromkeys(rows, 2)
        # The start is noise, without seams; side by side real images end in the background of a digit.
        assert rows["real images side by side"]["seam_ratio"] < 0.8 < rows["distilled"]["seam_ratio"] < 1.2


@pytest.mark.slow
@pytest.mark.parametrize("script", ["rtp", "rat_bptt"])
def test_smoke_of_trainings_that_are_differentiated(script, here):
    run_script(script, "digits-ipc1", "--smoke", "--out", here / "runs")
    assert distilled_row(here / "runs" / "digits-ipc1")["n"] == 1


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
def test_smoke_of_a_table_with_the_network_that_it_is_for(here, digits28):
    run_script("dm", "mnist-ipc1", "--smoke", "--dataset", digits28, "--out", here / "runs")
    distilled_row(here / "runs" / "mnist-ipc1")
    config = json.loads((here / "runs" / "mnist-ipc1" / "config.json").read_text())["config"]
    assert config["model"]["name"] == "convnet"
    assert config["model"]["width"] == 16


@pytest.mark.usefixtures("optimised")
@pytest.mark.slow
def test_smoke_of_the_benchmark_table(here):
    tmp_path = here / "runs"
    run_script("benchmark_table", "digits-dm", "digits", "--smoke", "--out", tmp_path)
    markdown = (tmp_path / "table.md").read_text()
    assert "| digits | 10 | dm | convnet (width 16, depth 2) |" in markdown
    assert "| digits | 1 | random |" in markdown
    assert (tmp_path / "table.html").is_file()
    assert (tmp_path / "digits-dm" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True])
def test_smoke_of_ones_own_folder(given, here):
    folder = here / "pets"
    for name, brightness in (("cat", 40), ("dog", 200)) if given else ():
        (folder / name).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (20, 17), (brightness, 5 * number, 90)).save(folder / name / f"{number}.png")
    for _ in range(2):  # the second time it finds its run
        run_script("own_image_folder", *([folder] if given else SMALL_NET), "--smoke")
    (run,) = (path for path in (here / "runs").iterdir() if path.name != "own-images")
    assert run.name == ("own-pets-smoke" if given else "own-digits-model-mlp-hidden8-smoke")
    assert 0 <= json.loads((run / "results.json").read_text())["results"]["distilled"]["mean"] <= 1
    names = ("cat", "dog") if given else tuple(map(str, range(10)))
    assert dd.load_distilled(run).class_names == names


@pytest.mark.slow
def test_smoke_of_ones_own_arrays_and_module(here, capsys):
    run_script("own_arrays_and_module", "--smoke")
    found = capsys.readouterr().out
    assert [line.split()[0] for line in found.splitlines()] == [
        "distilled",
        "random",
        "best",
        "class",
        "k-means",
        *2 * ["k-NN"],
    ]
    config = json.loads((here / "runs" / "own-stripes" / "config.json").read_text())["config"]
    assert config["model"]["name"] == "Energy"


def size_of(file):
    with Image.open(file) as image:
        return image.size


def test_the_photos_are_parts_of_three_photographs_that_do_not_overlap(here):
    run_script("photo_folder", here / "photos")
    pixels = {"flower": 427 * 640, "portrait": 600 * 512, "temple": 427 * 640}
    sizes = {name: list(map(size_of, (here / "photos" / name).iterdir())) for name in pixels}
    assert {name: sum(width * height for width, height in found) for name, found in sizes.items()} == pixels
    assert sum(map(len, sizes.values())) == 200
    assert len(set(sizes["temple"])) > 50
    assert min(side for found in sizes.values() for size in found for side in size) > 20


@pytest.mark.slow
def test_smoke_of_ones_own_networks(here, capsys, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    few = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=2)
    monkeypatch.setitem(dd.evaluation.protocols.PROTOCOLS, "dc", few)
    generator = np.random.default_rng(0)
    np.savez(here / "mine.npz", images=generator.integers(0, 256, (90, 8, 8, 3), np.uint8), labels=np.arange(90) % 3)
    data = dd.load_dataset(f"npz:{here / 'mine.npz'}")
    method = dd.methods.distribution_matching(dd.models.mlp(data, hidden=(4,)), images_per_class=2, protocol="dc")
    dd.distill(method, data, num_outer_steps=0, num_eval_nets=1, out=here / "run", show_progress=False)
    run_script("own_networks", here / "run", 2)
    found = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert found == [*3 * ["Linen"], *3 * ["NNX"], *3 * ["PyTorch"]]


@pytest.mark.slow
def test_smoke_of_the_scores(here, capsys):
    data = dd.load_dataset("digits")
    means = dd.evaluation.coresets.mean_images(data, 1)
    shape = dd.evaluation.coresets.SetShape(1, 1, 1)
    made = dd.evaluation.coresets.as_distilled(means, shape, 0.1, dd.Protocol("dc", order="random"))
    dd.save_distilled(here / "set", dataclasses.replace(made, transform=data.transform), {})
    options = ["--dataset", "digits", *SMALL_NET, "--smoke", "--out", here / "scores.json"]
    run_script("score", here / "set", *options)
    found = json.loads((here / "scores.json").read_text())
    assert found["storage_bytes"] == 4 * (640 + 10 + 1)
    assert 0 <= found["dd-ranking"]["lrs"] <= 1
    assert 0 <= found["dc-bench"]["transfer average"] <= 1
    assert "transfer average" in capsys.readouterr().out


@pytest.mark.slow
def test_smoke_of_the_applications(here, digits28):
    short = ["--num-outer-steps", "1", "--num-tasks", "2"]
    run_script("continual", "--smoke", "--dataset", digits28, *SMALL_NET, *short, "--out", here / "cl")
    assert json.loads((here / "cl" / "results.json").read_text())["courses"]["herding"]["bytes"]
    data = dd.load_dataset(digits28)
    means = dd.evaluation.coresets.mean_images(data, 1)
    shape = dd.evaluation.coresets.SetShape(1, 1, 1)
    made = dd.evaluation.coresets.as_distilled(means, shape, 0.1, dd.Protocol("dc", order="random"))
    dd.save_distilled(here / "set", dataclasses.replace(made, transform=data.transform), {})
    nets = ["--models", *(f"mlp:hidden=({units},)" for units in (2, 4, 8))]
    run_script("nas", here / "set", "--smoke", "--dataset", digits28, *nets, "--out", here / "nas")
    assert set(json.loads((here / "nas" / "results.json").read_text())["rankings"]) >= {"set", "random real"}


PARTS = [*(path.stem for path in FOLDER.glob("*_peer.py")), "benchmark_serve", "benchmark_turns"]  # of other scripts


@pytest.mark.parametrize("script", sorted({path.stem for path in FOLDER.glob("*.py")} - set(PARTS)))
def test_every_script_tells_its_options_and_does_nothing_then(script, here, capsys):
    if script == "own_networks":
        pytest.importorskip("torch", reason="PyTorch is not installed")
    run_script(script, "--help")
    assert "usage: " in capsys.readouterr().out
    assert not list(here.iterdir())


def test_mistakes_of_a_script_are_a_sentence(here, capsys):
    about = ["--name", "m", "--title", "t", "--hardware", "h", "--folder", here, "--no-pages"]
    with pytest.raises(AssertionError):
        run_script("record", here / "nothing", *about)
    assert capsys.readouterr().err.startswith("dd-jax: ")
