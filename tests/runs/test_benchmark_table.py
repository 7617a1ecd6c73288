"""One table of runs of several methods, beside baselines and papers."""

import dataclasses
import json

import pytest
from made_runs import RESULTS, make_run

import dd_jax as dd
from dd_jax.errors import DataError
from dd_jax.methods import METHODS
from dd_jax.runs.report.benchmark_table import write_benchmark_table
from dd_jax.runs.report.published import PUBLISHED, published


def method(name, **changes):
    return {"name": name, **dataclasses.asdict(METHODS[name].options(**changes))}


def made(path, results=RESULTS, **config):
    """A run directory with these entries in its configuration."""
    make_run(path, results)
    saved = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**saved, "config": {**saved["config"], **config}}))
    return path


@pytest.fixture
def runs(tmp_path):
    ten = {"dataset": {"name": "cifar10"}, "model": {"name": "convnet", "width": 128, "depth": 3}}
    dm = made(tmp_path / "b", **ten, method=method("distribution_matching", images_per_class=10))
    learnt = made(tmp_path / "a", method=method("unrolled", num_batches=10))
    begun = made(tmp_path / "c", None, **ten, method=method("gradient_matching"))
    return [dm, learnt, begun]


def test_a_line_for_each_run_with_its_best_baseline_and_what_the_paper_says(runs, tmp_path):
    markdown, page = (path.read_text() for path in write_benchmark_table(runs, tmp_path))
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"
    ]
    cells = {line[2]: dict(zip(head, line, strict=True)) for line in lines}
    assert set(cells) == {"dm", "random", "dc"}
    assert cells["dm"]["test accuracy"] == "90.0 ± 1.0 %"
    assert (cells["dm"]["published"], cells["dm"]["images per class"]) == ("48.9 %", "10")
    assert cells["dm"]["best baseline"] == "80.0 ± 2.0 % class mean"
    assert cells["dm"]["k-NN"] == "65.0 ± 3.0 % k-NN random", "which trains no network, stands apart"
    assert cells["dm"]["network"] == "convnet (width 128, depth 3)"
    assert cells["dc"]["test accuracy"].endswith("outer steps")
    assert cells["dc"]["n"] == "–"
    assert [line[0] for line in lines] == sorted(line[0] for line in lines)
    for text in ("48.9", "convnet (width 128, depth 3)", "class mean"):
        assert text in page


def test_the_same_runs_give_the_same_bytes(runs, tmp_path):
    first = [path.read_bytes() for path in write_benchmark_table(runs, tmp_path / "one")]
    assert first == [path.read_bytes() for path in write_benchmark_table(runs[::-1], tmp_path / "two")]


def test_what_is_no_run_is_named(tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nothing"):
        write_benchmark_table([tmp_path / "nothing"], tmp_path)


def test_methods_are_called_as_their_runs_are():
    labels = {label for _, label in PUBLISHED}
    possible = {words(method.options())[0] for method in METHODS.values() for words in [method.words]} | {"fixed"}
    for changes in ({}, {"augment": "dsa"}, {"collective": True}, {"train_on": "real"}):
        for more in ({}, {"augment": "dsa"}):
            options = dd.methods.GradientMatchingOptions(**{**changes, **more})
            possible.add(METHODS["gradient_matching"].words(options)[0])
    assert labels <= possible
    assert published("cifar10", "dc", 7) is None
    assert published("cifar10:3.0.2", "dc", 50) == 53.9
    assert published("svhn_cropped", "dsa", 1) == 27.5
