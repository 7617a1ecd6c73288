"""The command line: what it prints, what it leaves, and what it says of mistakes."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import COMMANDS, main, run_script, run_table
from dd_jax.errors import OptionError
from dd_jax.models import parse_model
from dd_jax.presets import PRESETS, preset, smoke
from dd_jax.runs import networks
from dd_jax.runs.experiment import DEFAULT_MODEL, load
from dd_jax.runs.networks import PRETRAININGS

TINY = ["--num-outer-steps", "6", "--num-eval-nets", "2", "--num-nets", "4", "--num-epochs", "2", "--batch-size", "32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run on the digits with all its baselines, made by the command line."""
    out = tmp_path_factory.mktemp("run")
    assert main(["distill", *TINY, "--out", str(out)]) == 0
    return out


def test_distill_leaves_a_whole_run_directory(run):
    for name in ("config.json", "metrics.jsonl", "results.json", "distilled/distilled.json"):
        assert (run / name).is_file()
    for name in ("distilled.png", "accuracy.png", "step_sizes.png"):
        assert (run / "figures" / name).read_bytes().startswith(b"\x89PNG")
    results = json.loads((run / "results.json").read_text())["results"]
    assert {"distilled", "random real", "best of random", "class mean", "k-means", "k-NN random"} <= set(results)
    for row in results.values():
        assert row["n"] == len(row["accuracies"])
        assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["split"] == "test"


def test_the_table_names_every_baseline_with_mean_std_and_n(run, capsys):
    assert main(["distill", *TINY, "--out", str(run)]) == 0
    printed = capsys.readouterr().out
    for name in ("distilled", *dd.evaluation.BASELINES):
        (line,) = [line for line in printed.splitlines() if line.strip().startswith(name + " ")]
        assert "%" in line
        assert ("±" in line) == (json.loads((run / "results.json").read_text())["results"][name]["n"] > 1)


def test_evaluate_reads_the_run_alone(run, capsys):
    assert main(["evaluate", str(run), "--num-nets", "4"]) == 0
    printed = capsys.readouterr().out
    expected = json.loads((run / "results.json").read_text())["results"]["distilled"]["mean"]
    assert f"{100 * expected:.1f} ±" in printed
    assert "before training and after each epoch" in printed
    assert "per class" in printed


def test_evaluate_on_another_network_and_for_more_epochs(run, capsys):
    options = ["--num-nets", "2", "--model", "convnet:width=4,depth=1", "--num-epochs", "4", "--split", "validation"]
    assert main(["evaluate", str(run), *options]) == 0
    assert "convnet" in capsys.readouterr().out


def test_baselines_alone(capsys):
    argv = ["--num-nets", "4", "--num-epochs", "2"]  # as in TINY, which has compiled it
    assert main(["baselines", *argv, "--out", "kept"]) == 0
    streams = capsys.readouterr()
    printed = streams.out
    assert "nothing is written to kept" in printed + streams.err
    for name in dd.evaluation.BASELINES:
        assert any(line.strip().startswith(name + " ") for line in printed.splitlines())
        assert f"  {name}: " in streams.err  # as soon as it is known


@pytest.mark.parametrize("what", [[], ["digits"]])
def test_info(what, capsys):
    assert main(["info", *what]) == 0
    said = capsys.readouterr().out
    assert ("num_classes: 10" if what else "presets: ") in said
    if not what:
        assert f"dd_jax: {dd.__version__}\n" in said, "of the source, whatever was installed"
        for name in dd.methods.METHODS:
            assert re.search(rf"^  {name.replace('_', '-')} +Learn .*[).]$", said, re.MULTILINE)


def test_info_on_nothing_says_what_it_looked_for(capsys):
    assert main(["info", "mnits"]) == 2
    said = capsys.readouterr().err
    assert (
        "There is no file or folder mnits and no dataset of that name. Unknown dataset 'mnits'. Did you mean 'mnist'?"
        in said
    )


def test_an_unknown_method_is_held_against_the_names_of_papers_too(capsys):
    assert main(["distill", "--method", "frpeo"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'frepo'?" in said
    assert ", tesla," in said
    assert "MODULE:FUNCTION" in said


def test_info_on_a_run(run, capsys):
    assert main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    assert "outer_steps_done: 6" in said
    assert "  dataset: digits" in said  # of its source
    assert "num_outer_steps: 6" in said


def test_export_says_what_it_wrote_where(run, tmp_path, capsys):
    assert main(["export", str(run), "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    for line, name in zip(lines, ("npz", "sheet", "images", "torch", "folder"), strict=True):
        size = sum(file.stat().st_size for file in (tmp_path / "out" / name).rglob("*") if file.is_file())
        assert line.startswith(f"{name}: {tmp_path / 'out' / name} (")
        assert f" {size:,} bytes" in line
    assert "| **distilled** |" in (tmp_path / "out" / "folder" / "README.md").read_text()


def test_export_of_some_formats_goes_into_the_run(run, capsys):
    assert main(["export", str(run), "--formats", "npz", "images"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
    assert {p.name for p in (run / "export").iterdir()} == {"npz", "images", "export.json"}
    assert main(["distill", *TINY, "--out", str(run)]) == 0  # a run goes on beside its export


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["distil"], "Did you mean 'distill'?"),
        (["distill", "--preset", "mnist-random-ini"], "Did you mean 'mnist-random-init'?"),
        (["distill", "--dataset", "digit"], "Did you mean 'digits'?"),
        (["distill", "--model", "lenett"], "Did you mean 'lenet'?"),
        (["distill", "--model", "lenet"], "LeNet needs images of 28 x 28 or 32 x 32 pixels, but these are 8 x 8"),
        (["distill", "--model", "mlp:hiden=(3,)"], "Did you mean 'hidden'?"),
        (["distill", "--model", "mlp:hidden"], "expected NAME or NAME:SETTING=VALUE"),
        (["distill", "--num-batches", "0"], "num_batches must be at least 1"),
        (["distill", "--learning-rate", "-1"], "learning_rate must be positive"),
        (["evaluate", "/nowhere"], "There is no folder /nowhere. Expected a run directory, or a distilled set"),
        (["evaluate", "/nowhere", "--split", "tets"], "or a distilled set: its folder"),
        (["export", "/nowhere"], "There is no folder /nowhere. Expected a run directory, or a distilled set"),
        (["export", "/nowhere", "--formats", "sheets"], "Did you mean 'sheet'?"),
    ],
)
def test_mistakes_are_explained(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not list(tmp_path.glob("runs/*/distilled/*"))


def test_a_wrong_choice_lists_the_right_ones(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["distill", "--schedule", "cosin"])
    assert stopped.value.code == 2
    assert "cosine" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_a_reader_that_has_seen_enough_is_no_error():
    command = [sys.executable, "-m", "dd_jax.cli", "distill", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


def test_help_shows_the_presets_own_defaults(capsys):
    with pytest.raises(SystemExit):
        main(["distill", "--preset", "mnist-fixed-init", "--help"])
    printed = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "(default: lenet)" in printed
    assert "(default: fixed)" in printed


def test_no_command_prints_the_usage(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == dd.__version__


def test_ctrl_c_checkpoints_and_the_same_command_continues(tmp_path):
    command = [sys.executable, "-m", "dd_jax.cli", "distill", "--out", str(tmp_path), "--num-outer-steps", "100000"]
    with open(tmp_path.parent / "log", "w+") as log:
        process = subprocess.Popen(command, stderr=log, stdout=log)
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and not list(tmp_path.glob("checkpoints/step_*")):
            time.sleep(0.1)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        log.seek(0)
        assert "the same command continues it" in log.read()
    assert dd.load_distilled(tmp_path).num_batches == 1


def experts_of(name, model):
    """What a preset of experts makes, without weights."""
    wanted = PRETRAININGS[name]
    assert (wanted.snapshots, parse_model(wanted.model)) == (True, (model.name, parse_model(wanted.model)[1]))
    per_epoch = 1 if wanted.every is None else 54_000 // wanted.training.batch_size // wanted.every
    epochs = np.arange(1 + per_epoch * wanted.training.epochs) / per_epoch
    accuracies = np.zeros((wanted.num_nets, len(epochs)), np.float32)
    about = (name, model.name, dd.models.architecture(model), model.image_shape, model.num_classes, "", accuracies)
    return dd.Experts(*about, "validation", epochs, lambda *_: None, 0, {}, "")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    experiment = preset(name)
    shapes = {"mnist": (28, 28, 1), "usps": (28, 28, 1), "cifar10": (32, 32, 3), "digits": (8, 8, 1)}
    shapes |= {"digits-graph": (1, 1, 64), "cora": (1, 1, 1433), "citeseer": (1, 1, 3703)}
    size, channels = experiment.image_size, experiment.channels
    shape = (size, size, channels) if size and channels else shapes[experiment.dataset]
    model_name, settings = parse_model(experiment.model or DEFAULT_MODEL)
    model = dd.models.make(model_name, dd.models.Shapes(shape, 10), **settings)
    experts = experts_of(experiment.experts, model) if experiment.experts else None
    method = dd.methods.make_method(model, experiment.method, experts=experts)
    assert method.name == dd.methods.name_of(experiment.method)
    assert method.summary.split()[0].isdigit()
    assert experiment.pretrained is None or experiment.pretrained in (*PRETRAININGS, "nets/alexnet-owt-7be5be79.pth")
    assert smoke(experiment).num_outer_steps < 10


def test_the_papers_settings():
    """Those of the released code: base_options.py and the project's README."""
    method = PRESETS["mnist-random-init-paper"].method
    assert (method.learning_rate, method.b1, method.schedule, method.batch_size) == (0.01, 0.5, "step", 1024)
    assert (method.init_step_size, method.num_batches, method.num_epochs, method.clip_norm) == (0.02, 10, 3, None)
    assert PRESETS["cifar10-random-init-paper"].method.init_step_size == 0.001


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("lenet", ("lenet", {})),
        ("convnet:width=32,norm=none", ("convnet", {"width": 32, "norm": "none"})),
        ("mlp:hidden=(64, 32)", ("mlp", {"hidden": (64, 32)})),
    ],
)
def test_parse_model(spec, expected):
    assert parse_model(spec) == expected


@pytest.mark.parametrize("spec", ["mlp:__import__('os')", "mlp:hidden=open('x')", "mlp:hidden=(64", "mlp:1"])
def test_parse_model_executes_nothing(spec):
    with pytest.raises(OptionError, match="Can't read"):
        parse_model(spec)


@pytest.mark.parametrize("name", dd.methods.METHODS)
def test_every_method_has_a_small_preset_that_the_command_takes_it_from(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path = tmp_path / "run"
    model = "infinite_mlp" if name == "kernel_inducing_points" else "mlp:hidden=(8,)"
    own = [] if name == "trajectory_matching" else ["--model", model]  # whose experts are of its preset's network
    argv = ["--method", name.replace("_", "-"), *own, "--smoke"]
    assert main(["distill", *argv, "--out", str(tmp_path)]) == 0
    assert main(["report", str(tmp_path)]) == 0
    assert main(["export", str(tmp_path)]) == 0
    assert dd.storage.load_provenance(tmp_path)["method"]["name"] == name
    distilled = dd.load_distilled(tmp_path)
    protocol, scratch = distilled.protocol, distilled.protocol.from_scratch
    words = f"from scratch by the protocol {protocol.name}" if scratch else "gradient steps on the distilled"
    assert words in (tmp_path / "report.html").read_text()
    words = "of shuffled minibatches" if scratch else "with a learnt step size"
    words = "kernel ridge regression" if protocol.name == "kip" else words
    readme = tmp_path / "export" / "folder" / "README.md"
    assert readme.is_file() == (distilled.unit == "image")
    if readme.is_file():
        assert words in readme.read_text()
    assert (tmp_path / "figures" / "step_sizes.png").exists() != scratch
    capsys.readouterr()
    assert main(["baselines", *argv, "--num-nets", "1", "--names", "k-means"]) == 0  # all of them: test_baselines_alone
    assert [row[0] for row in rows_of(capsys.readouterr().out)] == ["k-means"]


def test_coresets_are_baselines_by_name_and_images_may_be_whitened(capsys):
    argv = ["baselines", "--names", "herding, k-center", "--zca", "--num-nets", "1"]
    assert main(argv) == 0
    printed = rows_of(capsys.readouterr().out)
    assert [line[0] for line in printed if line[:1] in (["herding"], ["k-center"])] == ["herding", "k-center"]
    assert main(["baselines", "--names", "hording"]) == 2
    assert "herding" in capsys.readouterr().err


def test_a_preset_of_another_method_is_refused(capsys):
    assert main(["distill", "--preset", "digits", "--method", "distribution-matching"]) == 2
    assert "is for the method unrolled, but --method is distribution-matching" in capsys.readouterr().err
    assert main(["distill", "--method", "distribution"]) == 2
    assert "distribution_matching" in capsys.readouterr().err


def test_networks_from_elsewhere_are_refused_by_methods_that_draw_them(nets, capsys):
    argv = ["distill", "--method", "distribution-matching", "--model", "mlp:hidden=(16,)", "--pretrained", str(nets)]
    assert main(argv) == 2
    assert "Leave out --pretrained, or use unrolled" in capsys.readouterr().err


def test_sets_that_are_learnt_from_experts_are_judged_from_random_starts(nets, tmp_path, capsys):
    run, other = tmp_path / "run", tmp_path / "other"
    argv = ["--method", "gradient-matching", "--model", "mlp:hidden=(16,)", "--smoke"]
    assert main(["distill", *argv, "--experts", str(nets), "--out", str(run)]) == 0
    assert "drawn from 6 networks digits-mlp" in capsys.readouterr().err
    assert main(["distill", *argv, "--out", str(other)]) == 0
    found, without = map(dd.load_distilled, (run, other))
    assert found.protocol == without.protocol
    assert not found.protocol.pretrained
    assert not np.array_equal(found.images, without.images)
    assert "experts" in json.loads((run / "config.json").read_text())["config"]["method"]
    nets.rename(tmp_path / "away.safetensors")
    try:
        assert main(["evaluate", str(run), "--num-nets", "1"]) == 0
    finally:
        (tmp_path / "away.safetensors").rename(nets)
    capsys.readouterr()
    for more, words in (
        (
            ["--method", "gradient-matching", "--pretrained"],
            "its sets are for randomly drawn ones. Give the networks with --experts",
        ),
        (
            ["--experts"],
            "unrolled makes sets for the networks that it learns from. Give them with --pretrained, or use g",
        ),
        (
            ["--method", "distribution-matching", "--experts"],
            "Leave out --experts, or use gradient_matching, trajectory_matching",
        ),
    ):
        assert main(["distill", "--model", "mlp:hidden=(16,)", "--smoke", *more, str(nets)]) == 2
        assert words in capsys.readouterr().err
    with pytest.raises(OptionError, match="Give pretrained or experts, not both"):
        load("digits", pretrained=nets, experts=nets)


def test_scripts_take_the_same_options(tmp_path):
    argv = ["--smoke", "--out", str(tmp_path)]
    assert run_script(PRESETS["digits"], PRESETS["digits"], argv) == 0
    assert (tmp_path / "results.json").is_file()


NETS = ["--dataset", "digits", "--model", "mlp:hidden=(16,)", "--num-nets", "6", "--num-held-out", "3"]
NETS += ["--epochs", "20", "--batch-size", "64", "--learning-rate", "0.005"]


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    path = tmp_path_factory.mktemp("nets") / "digits.safetensors"
    assert main(["pretrain", *NETS, "--out", str(path)]) == 0
    return path


def rows_of(printed):
    """The lines of the printed table, as lists of words."""
    lines = [line.split() for line in printed.splitlines()]
    return [line for line in lines if "%" in line]


def test_a_run_for_pretrained_networks_can_be_judged_again_from_its_directory_alone(nets, tmp_path, capsys):
    copy, out = tmp_path / "digits.safetensors", tmp_path / "run"
    copy.write_bytes(nets.read_bytes())
    # Standardised pixels of a smaller dataset in the same form: the digits themselves, halved in brightness.
    digits = dd.load_dataset("digits", transform="identity")
    np.savez(tmp_path / "dim.npz", images=digits.train.images * 0.5, labels=digits.train.labels)
    options = ["--num-outer-steps", "4", "--num-nets", "3", "--num-eval-nets", "2", "--num-epochs", "1",
               "--batch-size", "16", "--attack-class", "3", "--target-class", "5"]  # fmt: skip
    source = ["--dataset", f"npz:{tmp_path / 'dim.npz'}", "--pretrained", str(copy)]
    assert main(["distill", *source, *options, "--out", str(out)]) == 0
    table = rows_of(capsys.readouterr().out)
    assert [row[0] for row in table] == ["distilled", "distilled,", "no", "random", "best", "class", "k-means"]
    results = json.loads((out / "results.json").read_text())["results"]
    assert len(results["no steps"]["attacked"]["success"]) == 3
    copy.unlink()
    assert main(["evaluate", str(out), "--num-nets", "3", "--baselines"]) == 0
    assert rows_of(capsys.readouterr().out)[: len(table)] == table


def test_a_mistake_is_told_before_networks_are_trained_for_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["distill", "--pretrained", "digits-mlp", "--attack-class", "3"]) == 2
    assert "belong together" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_images_are_fitted_to_the_networks(nets, tmp_path, capsys):
    images = np.random.default_rng(0).integers(0, 255, (60, 12, 10, 3), np.uint8)
    np.savez(tmp_path / "photos.npz", images=images, labels=np.arange(60) % 10)
    argv = ["--dataset", f"npz:{tmp_path / 'photos.npz'}", "--pretrained", str(nets), "--smoke"]
    assert main(["distill", *argv, "--out", str(tmp_path / "run")]) == 0
    assert dd.load_distilled(tmp_path / "run").images.shape[-3:] == (8, 8, 1)
    capsys.readouterr()
    assert main(["distill", *argv, "--model", "mlp", "--out", str(tmp_path / "other")]) == 2
    assert "another architecture" in capsys.readouterr().err


def test_evaluate_refuses_another_network_for_pretrained_ones(nets, tmp_path, capsys):
    out = str(tmp_path / "run")
    assert main(["distill", "--pretrained", str(nets), "--smoke", "--out", out]) == 0
    assert main(["evaluate", out, "--model", "mlp"]) == 2
    assert "another architecture" in capsys.readouterr().err


def test_networks_of_a_preset_are_made_where_they_are_missing(tmp_path, monkeypatch, capsys):
    tiny = dataclasses.replace(PRETRAININGS["digits-mlp"], num_nets=2, num_held_out=1, training=dd.Training(epochs=1))
    monkeypatch.setitem(networks.PRETRAININGS, "digits-mlp", tiny)
    monkeypatch.chdir(tmp_path)
    tiny_run = ["--num-outer-steps", "2", "--num-eval-nets", "1", "--num-nets", "1", "--no-baselines"]
    assert main(["distill", "--pretrained", "digits-mlp", *tiny_run]) == 0
    assert (tmp_path / "nets" / "digits-mlp.safetensors").is_file()
    (out,) = (tmp_path / "runs").iterdir()
    assert out.name == "digits-from-digits-mlp-random-num_outer_steps2-num_eval_nets1"
    assert (out / "networks.safetensors").is_file()
    assert main(["pretrain", "--preset", "digits-mlp"]) == 0
    assert "train: " in capsys.readouterr().out
    for change, words in (
        ({"training": dd.Training(epochs=2)}, "epochs: 1 there, 2 asked for"),
        ({"num_nets": 3}, "2 + 1"),
    ):
        monkeypatch.setitem(networks.PRETRAININGS, "digits-mlp", dataclasses.replace(tiny, **change))
        assert main(["distill", "--pretrained", "digits-mlp", "--out", str(tmp_path / "other")]) == 2
        assert words in capsys.readouterr().err
    assert main(["estimate", "--pretrained", "usps-lenet"]) == 2
    assert "dd-jax pretrain --preset usps-lenet" in capsys.readouterr().err
    assert main(["distill", "--pretrained", "digits-mpl"]) == 2
    assert "Did you mean 'digits-mlp'" in capsys.readouterr().err


def test_what_is_said_beside_smoke_holds(tmp_path):
    argv = ["--smoke", "--num-outer-steps", "7", "--num-epochs", "3", "--model", "mlp:hidden=(16,)"]
    assert main(["distill", *argv, "--out", str(tmp_path)]) == 0
    config = json.loads((tmp_path / "config.json").read_text())["config"]
    assert (config["num_outer_steps"], config["method"]["num_epochs"], config["method"]["num_inits"]) == (7, 3, 1)
    assert smoke(smoke(PRESETS["mnist-attack"])) == smoke(PRESETS["mnist-attack"])


def test_a_table_goes_on_after_what_fails(tmp_path, capsys):
    there = PRESETS["digits"]
    table = {"gone": dataclasses.replace(there, dataset=f"npz:{tmp_path}/none.npz"), "here": there}
    assert run_table(table, table, ["--smoke", "--out", str(tmp_path)]) == 2
    assert "none.npz" in capsys.readouterr().err
    assert (tmp_path / "here" / "results.json").is_file()
    assert run_table(table, table, ["heer"]) == 2
    assert "Did you mean 'here'" in capsys.readouterr().err


def test_train_uses_the_set_as_learnt_on_another_network(run, capsys):
    assert main(["train", str(run), "--model", "mlp:hidden=(8,)", "--num-nets", "2"]) == 0
    printed = capsys.readouterr().out
    assert "2 gradient steps" in printed
    assert "distilled" in printed


def test_train_from_scratch_beside_real_images_in_the_same_way(run, capsys):
    options = ["--protocol", "dc", "--num-epochs", "3", "--num-nets", "2", "--baselines"]
    assert main(["train", str(run), *options]) == 0
    printed = capsys.readouterr().out
    assert "3 gradient steps" in printed
    for name in ("distilled", "random real", "class mean", "k-means"):
        assert any(line.strip().startswith(name + " ") for line in printed.splitlines())
    assert "step_size" not in printed, "the protocol has a learning rate of its own"


@pytest.fixture(scope="module")
def two_steps(tmp_path_factory):
    """A run whose set has two steps, in a fixed order."""
    out = tmp_path_factory.mktemp("two")
    options = [*TINY, "--num-batches", "2", "--out", str(out), "--no-baselines", "--num-outer-steps", "1"]
    assert main(["distill", *options]) == 0
    return str(out)


def test_train_says_what_a_set_is_not_made_for(two_steps, capsys):
    assert main(["train", two_steps, "--protocol", "dc", "--num-epochs", "2", "--num-nets", "1"]) == 0
    assert capsys.readouterr().err.count("fixed order") == 1


def test_train_on_a_set_from_elsewhere(run, tmp_path, capsys):
    """The artefact alone, in another place: what to test on has to be said, and that is enough."""
    elsewhere = tmp_path / "given"
    elsewhere.mkdir()
    for file in (run / "distilled").iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    assert main(["train", str(elsewhere)]) == 2
    assert "--dataset" in capsys.readouterr().err
    assert main(["train", str(elsewhere), "--dataset", "digits", "--num-nets", "4"]) == 0
    captured = capsys.readouterr()
    assert "the mlp that the set was learnt for" in captured.err
    expected = json.loads((run / "results.json").read_text())["results"]["distilled"]["accuracies"]
    assert f"{100 * np.mean(expected):.1f} ±" in captured.out


def test_train_names_an_unknown_protocol(run, capsys):
    assert main(["train", str(run), "--protocol", "dsaa"]) == 2
    assert "dsa" in capsys.readouterr().err


def test_train_in_another_order_says_so(two_steps, capsys):
    assert main(["train", two_steps, "--order", "random", "--num-nets", "1"]) == 0
    captured = capsys.readouterr()
    assert captured.err.count("fixed order") == 1
    assert "4 gradient steps" in captured.out
    assert main(["train", two_steps, "--order", "radnom"]) == 2
    assert "random" in capsys.readouterr().err


def test_methods_have_the_names_of_their_papers():
    from dd_jax.presets import PAPERS, PRESETS, of_method

    for name, experiment in PAPERS.items():
        assert of_method(name.upper()) == experiment
        assert of_method(name, experiment) is experiment
    assert of_method("idc").method.factor == 2
    assert of_method("dsa").method.augment == "dsa_no_flip"
    assert of_method("tesla").method.gradient == "first_order"
    with pytest.raises(dd.OptionError, match="but --method is dc"):
        of_method("dc", PRESETS["digits-dm"])


def test_words_for_help(capsys):
    for word, shown in (("help", "commands:"), ("version", dd.__version__)):
        assert main([word]) == 0
        assert shown in capsys.readouterr().out
    with pytest.raises(SystemExit) as end:
        main(["help", "runs"])
    assert not end.value.code
    assert "dd-jax runs" in capsys.readouterr().out


def test_an_interrupt_is_told_with_or_without_words(monkeypatch, capsys):
    from dd_jax.cli import COMMANDS

    for words, told in (((), "dd-jax: interrupted"), (("Stopped at step 3",), "dd-jax: Stopped at step 3")):

        def interrupted(argv, words=words):
            raise KeyboardInterrupt(*words)

        monkeypatch.setitem(COMMANDS, "runs", interrupted)
        assert main(["runs"]) == 130
        assert capsys.readouterr().err.strip() == told
