"""Names of run directories: one for each experiment, and always the same one."""

import dataclasses
import itertools

import jax
import pytest

from dd_jax.cli import main
from dd_jax.cli.options import parse_experiment
from dd_jax.methods import GradientMatchingOptions, UnrolledOptions
from dd_jax.presets import PAPERS, PRESETS
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.naming import default_out, shortened, word_of


@pytest.fixture(autouse=True)
def single_precision():
    """Double precision would be told by every name."""
    with jax.enable_x64(False):
        yield


def out_of(*argv):
    return parse_experiment(argv, "dd-jax distill", "").out


def test_what_the_base_tells_is_not_told_again():
    assert (
        default_out(Experiment(dataset="folder:/data/birds", model="convnet:width=8"))
        == "runs/birds-convnet-random-width8"
    )
    attack = UnrolledOptions(init="fixed", attack_class=0, target_class=1)
    assert (
        default_out(Experiment(pretrained="nets/ones.npz", method=attack)) == "runs/digits-from-ones-fixed-attack-0-1"
    )
    matched = GradientMatchingOptions(images_per_class=10, factor=2, augment="dsa")
    start = Experiment(dataset="mnist", model="convnet", method=matched)
    assert default_out(start, start) == "runs/mnist-convnet-dsa-ipc10-factor2"
    without_mirrors = dataclasses.replace(matched, augment="dsa_no_flip")
    assert (
        default_out(dataclasses.replace(start, method=without_mirrors), start)
        == "runs/mnist-convnet-dsa-ipc10-factor2-augment-dsa_no_flip"
    )


@pytest.mark.parametrize(
    ("argv", "name"),
    [
        ("", "digits-mlp-random"),
        ("--seed 1", "digits-mlp-random-seed1"),
        ("--num-nets 3 --no-baselines --devices 1", "digits-mlp-random"),
        ("--learning-rate 0.03 --seed 1", "digits-mlp-random-learning_rate0.03-seed1"),
        ("--init fixed --model mlp:hidden=(64,32)", "digits-mlp-fixed-hidden64,32"),
        ("--model lenet", "digits-lenet-random"),
        ("--zca", "digits-mlp-random-zca"),
        ("--smoke", "digits-mlp-random-smoke"),
        ("--clip-norm None", "digits-mlp-random-clip_norm-None"),
        ("--preset mnist-dsa-paper", "mnist-dsa-paper"),
        ("--preset mnist-dsa --dataset npz:/data/mine.npz --zca", "mnist-dsa-dataset-mine-zca"),
        ("--method dsa --images-per-class 10", "digits-convnet-dsa-ipc10"),
        ("--out here", None),
    ],
)
def test_a_command_names_its_directory(argv, name):
    found = out_of(*argv.split())
    if name is None:
        assert found == "here"
    else:
        assert found == f"runs/{name}"
    assert out_of(*argv.split()) == found


def test_no_two_experiments_have_one_directory():
    starts = [["--preset", name] for name in PRESETS] + [["--method", name] for name in PAPERS] + [["--smoke"]]
    for more in ([], ["--seed", "1"], ["--num-outer-steps", "7"], ["--seed", "1", "--num-outer-steps", "7"]):
        starts += [["--method", "dc", *more, "--augment", policy] for policy in ("dsa", "dsa_no_flip")]
    names = [out_of(*argv) for argv in starts]
    assert [(a, b) for (a, x), (b, y) in itertools.combinations(zip(starts, names, strict=True), 2) if x == y] == []


def test_precision_is_told():
    with jax.enable_x64(True):
        assert out_of() == "runs/digits-mlp-random-x64"


def test_long_names_end_in_a_hash():
    words = [word_of(f"option_{number}", number / 7) for number in range(9)]
    first, second = shortened(words), shortened([*words[:-1], "option_8-other"])
    assert first != second
    assert first == shortened(words)
    assert first.startswith(f"-{words[0]}-")
    assert max(map(len, (first, second))) < 100


def test_a_script_tells_its_paper_and_changes_apart(tmp_path):
    start = Experiment(out="runs/mine")
    assert parse_experiment(["--seed", "2"], "", "", start).out == "runs/mine-seed2"
    assert parse_experiment(["--seed", "2", "--out", "runs/mine"], "", "", start).out == "runs/mine"


def test_a_second_seed_is_a_run_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny = ["--smoke", "--model", "mlp:hidden=(4,)"]
    for more in ([], ["--seed", "1"], ["--seed", "1"]):
        assert main(["distill", *tiny, *more]) == 0
    names = {path.name for path in (tmp_path / "runs").iterdir()}
    base = "digits-mlp-random-hidden4"
    assert names == {f"{base}-smoke", f"{base}-seed1-smoke"}
