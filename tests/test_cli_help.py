"""Help under headings, presets in lines, and completion by shells."""

import re
import shutil
import subprocess

import pytest

import dd_jax as dd
from dd_jax.cli import COMMANDS, main
from dd_jax.cli.options import parse_experiment
from dd_jax.presets import PRESETS


def help_of(capsys, *argv):
    with pytest.raises(SystemExit):
        main([*argv, "--help"])
    return capsys.readouterr().out


@pytest.mark.parametrize("argv", [("distill",), ("distill", "--preset", "mnist-idc"), ("baselines",)])
def test_help_stands_under_headings_in_80_columns(argv, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    printed = help_of(capsys, *argv)
    assert max(map(len, printed.splitlines())) <= 80
    headings = re.findall(r"^\W*(\w+) options\W*$", printed, re.MULTILINE)
    assert headings == ["common", "data", "network", "method", "run"]
    assert printed.index("--dataset") < printed.index("--num-outer-steps") < printed.index("--image-size")


def test_every_option_is_told_once(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    printed = help_of(capsys, "distill")
    experiment = PRESETS["digits"]
    for name in [*vars(experiment), *vars(experiment.method)]:
        if name != "method":
            assert len(re.findall(rf"^\W*--{name.replace('_', '-')}[ ,]", printed, re.MULTILINE)) == 1, name


def test_options_reach_the_experiment():
    argv = "--preset mnist-idc --zca --patience 3 --factor 3 --pretrained None --channels 3 --no-clamp --seed 4"
    found = parse_experiment(argv.split(), "", "")
    assert (found.zca, found.patience, found.channels, found.seed) == (True, 3, 3, 4)
    assert (found.method.factor, found.method.clamp) == (3, False)
    assert found.method.num_matches == PRESETS["mnist-idc"].method.num_matches


def test_info_has_a_line_for_each_preset(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for name in PRESETS:
        (line,) = [line for line in printed.splitlines() if line.split()[:1] == [name]]
        assert PRESETS[name].dataset in line
        assert line.endswith("as in the paper") == name.endswith("-paper")


def test_info_of_a_dataset_in_another_form(capsys):
    assert main(["info", "digits", "--image-size", "4", "--channels", "3", "--zca"]) == 0
    printed = capsys.readouterr().out
    found = dd.load_dataset("digits", image_size=4, channels=3, zca=True)
    assert "image_shape: 4, 4, 3" in printed
    assert found.fingerprint in printed
    assert "transform: zca" in printed


@pytest.fixture(scope="module")
def scripts():
    """The script of each shell."""
    import contextlib
    import io

    found = {}
    for shell in ("bash", "zsh", "fish"):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            assert main(["completion", shell]) == 0
        found[shell] = printed.getvalue()
    return found


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "among", "not_among"),
    [
        (["dis"], {"distill"}, {"report"}),
        ([""], {*COMMANDS, "help", "version"}, {"--seed"}),
        (["distill", "--num-o"], {"--num-outer-steps"}, {"--num-nets"}),
        (["distill", "--preset", "mnist-d"], {"mnist-dc", "mnist-dsa-paper"}, {"digits"}),
        (["distill", "--method", "d"], {"dsa", "distribution_matching"}, {"--dataset"}),
        (["help", "e"], {"evaluate", "export", "estimate"}, {"distill"}),
    ],
)
def test_bash_completes(words, among, not_among, scripts):
    line = " ".join(f"'{word}'" for word in ["dd-jax", *words])
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words)}; _dd_jax; printf '%s ' \"${{COMPREPLY[@]}}\""
    code = f"{scripts['bash']}\n{ask}"
    done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True)
    found = set(done.stdout.split())
    assert done.stderr == ""
    assert among <= found
    assert not (not_among & found)


def test_the_other_shells_know_every_command(scripts):
    assert scripts["zsh"].startswith("autoload -U +X bashcompinit")
    for name in COMMANDS:
        assert f"__fish_seen_subcommand_from {name}" in scripts["fish"]
    assert "-l num-outer-steps" in scripts["fish"]
