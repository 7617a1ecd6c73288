"""Names of run directories: one for each experiment, and always the same one."""

import dataclasses
import itertools
import shutil

import jax
import pytest

from dd_jax.cli import main
from dd_jax.cli.options import parse_experiment, sweep_cells
from dd_jax.methods import GradientMatchingOptions, UnrolledOptions
from dd_jax.presets import PAPERS, PRESETS
from dd_jax.runs.experiment import Experiment, record_of
from dd_jax.runs.naming import default_out, hash_of_places, shortened, word_of
from dd_jax.storage.files import write_json


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


def leave_run(out, experiment):
    """What of a run in a directory tells which files it was made of."""
    out.mkdir(parents=True)
    write_json(out / "config.json", {"config": record_of(experiment)})


@pytest.fixture
def places(tmp_path, monkeypatch):
    """A folder to run in, with photos in two places, and networks too."""
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        (tmp_path / name / "photos").mkdir(parents=True)
        (tmp_path / name / "nets.safetensors").write_bytes(b"")
    return tmp_path


@pytest.mark.parametrize(
    ("role", "path"),
    [("dataset", "folder:{}/photos"), ("dataset", "npz:{}/photos"), ("pretrained", "{}/nets.safetensors"),
     ("experts", "{}/nets.safetensors")],
)  # fmt: skip
def test_files_of_one_name_in_two_places_have_two_directories(places, role, path):
    first, second = (Experiment(**{role: path.format(place)}) for place in ("a", "b"))
    out = default_out(first)
    assert default_out(second) == out  # nothing is there yet
    leave_run(places / out, first)
    assert default_out(first) == out
    apart = default_out(second)
    assert apart == f"{out}-{hash_of_places(second)}"
    assert default_out(Experiment(**{role: path.format(places / "b")})) == apart
    (places / "link").symlink_to(places / "a")
    assert default_out(Experiment(**{role: path.format("link")})) == out
    leave_run(places / apart, second)
    shutil.rmtree(out)
    assert default_out(second) == apart  # which is its own for good
    assert default_out(first) == out


def test_what_moved_is_still_the_same(places):
    first, moved = (Experiment(dataset=f"folder:{place}/photos") for place in ("a", "c"))
    out = default_out(first)
    leave_run(places / out, first)
    (places / "a").rename("c")
    assert default_out(moved) == out


def test_sweeps_over_files_of_one_name_are_told_apart(places):
    def outs(argv):
        cells, folder = sweep_cells(argv, "dd-jax distill", "", None)
        return [cell.experiment.out for cell in cells], folder

    here, folder = outs(["--dataset", "folder:a/photos", "--seeds", "1:3"])
    leave_run(places / here[0], parse_experiment(["--dataset", "folder:a/photos", "--seed", "1"], "", ""))
    folder.mkdir()
    write_json(folder / "sweep.json", {"runs": [{"out": here[0]}]})
    others, beside = outs(["--dataset", "folder:b/photos", "--seeds", "1:3"])
    assert others[0].startswith(f"{here[0]}-")
    assert (others[1], beside != folder) == (here[1], True)
    assert outs(["--dataset", "folder:a/photos", "--seeds", "1:3"]) == (here, folder)
    both, _ = outs(["--sweep", "dataset=folder:a/photos,folder:b/photos", "--seeds", "5"])
    assert len({*both}) == 2


def test_own_code_of_one_name_in_two_modules_is_told_apart(places, monkeypatch):
    (places / "first_of_two.py").write_text("def mlp(data): pass")
    (places / "second_of_two.py").write_text("def mlp(data): pass")
    first, second, plain = (Experiment(model=m) for m in ("first_of_two:mlp", "second_of_two:mlp", "mlp:hidden=(64,)"))
    assert len({default_out(one) for one in (first, second, plain)}) == 1
    leave_run(places / default_out(first), first)
    assert len({default_out(one) for one in (first, second, plain)}) == 3


def test_an_unreadable_directory_is_left_to_who_opens_it(places):
    out = places / default_out(Experiment())
    for text in ("{", "[]", '{"config": {"source": 3}}', '{"config": {"source": {}, "code": 3}}'):
        out.mkdir(parents=True, exist_ok=True)
        (out / "config.json").write_text(text)
        assert places / default_out(Experiment()) == out
