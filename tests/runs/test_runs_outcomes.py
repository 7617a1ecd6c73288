"""An outcome of one's own, all of it in this file: networks that tell zeros from everything else.

It goes through labels, evaluation, baselines, metrics, results, report and export, and nothing else knows of it. And
what the library's own outcomes are.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from made_runs import attacked, make_run, row

import dd_jax as dd
from dd_jax.errors import OptionError
from dd_jax.evaluation import evaluate_networks
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.outcomes import ACCURACY, KINDS, Column, Kind, Outcome, outcome_of, outcome_of_options
from dd_jax.outcomes.attack import attack
from dd_jax.outcomes.spread import percent
from dd_jax.runs.judging import judge, plain_rows
from dd_jax.runs.metrics import validation_metrics
from dd_jax.runs.report import words
from dd_jax.runs.report.read import read_run
from dd_jax.types import Protocol

MARK = 77  # number of the init of sets with this outcome; with random inits it means nothing else
ZEROS = Protocol(init_seed=MARK)


def measure(right, taken, counts):
    found, rest = right[:, 0] / counts[0], taken[:, 1:].sum(-1) / counts[1:].sum()
    return {"found": found, "rest": rest, "both": (found + rest) / 2}


def check(num_classes):
    if num_classes < 3:
        raise OptionError("Zeros against one other class are nothing new.")


DETECTION = Outcome(
    name="detection",
    columns=(
        Column("found", "zeros found", "zeros found on {split}", "Zeros", "Bar chart: zeros that are found."),
        Column("rest", "others let go", "others let go", "Others", "Bar chart: others that are let go."),
    ),
    score="both",
    headline=lambda told: f"{told.images} find {percent(told.own['found'])} of the zeros",
    meaning=lambda told: [f"They let go {percent(told.own['rest'])} of the others."],
    card=lambda card: f"**Zeros.** {card.images} of {card.source}.",
    merit=lambda found, before: float(found["both"].mean()),
    truthful=False,
    target=1,
    check=check,
    relabel=lambda labels: (labels != 0).astype(labels.dtype),
    measure=measure,
    metrics=(("zeros_found", "found"),),
    record="detected",
    counted="zeros against the rest",
    title=lambda names: f", {names[0]} against the rest",
    contest="Zeros are easy.",
)
KIND = Kind(
    lambda protocol: DETECTION if protocol.init_seed == MARK else None,
    lambda options: None,
    lambda protocol: "",
    record="detected",
    result="of zeros, how many are found",
)


@pytest.fixture
def known(monkeypatch):
    """The one line that an outcome adds elsewhere."""
    monkeypatch.setitem(KINDS, "detection", KIND)


def test_an_outcome_of_ones_own_is_measured(known, digits, digits_mlp):
    distilled = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.5, ZEROS)
    np.testing.assert_array_equal(distilled.labels, [[0] + 9 * [1]])
    found = dd.evaluate(distilled, digits_mlp, digits, num_nets=2)
    keys = jax.random.split(jax.random.key(0), 2)
    networks = jax.vmap(digits_mlp.init)(keys)
    told = evaluate_networks(networks, digits_mlp, digits, init_seed=MARK)
    labels = np.asarray(digits.test.labels)
    for i, key in enumerate(keys):
        answers = np.asarray(digits_mlp.apply(digits_mlp.init(key), digits.test.images).argmax(-1))
        assert told.measures["found"][i] == pytest.approx((answers[labels == 0] == 0).mean())
        assert told.measures["rest"][i] == pytest.approx((answers[labels != 0] == 1).mean())
    assert found.score == pytest.approx(found.measures["both"].mean())
    assert found.score > told.score, "a step on the set helps"
    assert "zeros found" in str(found)
    metrics = validation_metrics(3, found, 1.0, None)
    assert metrics["validation"] == pytest.approx(found.score)
    assert metrics["zeros_found"] == pytest.approx(found.measures["found"].mean())
    with pytest.raises(OptionError, match="one other class"):
        outcome_of(ZEROS).check(2)


def test_an_outcome_of_ones_own_is_told(known, digits, digits_mlp, tmp_path, capsys):
    distilled = as_distilled(mean_images(digits, 1), SetShape(1, 1, 1), 0.5, ZEROS)
    rows = judge(distilled, digits_mlp, digits, 2, names=("class mean",))
    printed = " ".join(capsys.readouterr().out.split())
    assert all(word in printed for word in ("0 against the rest", "zeros found", "others let go")), printed
    assert dd.evaluation.baseline_names(ZEROS) == ("random real", "best of random", "class mean", "k-means")
    run = make_run(tmp_path / "run", plain_rows(rows), protocol=ZEROS)
    record, own = read_run(run), rows[0].evaluation
    assert record.rows["distilled"].measures["found"].mean == pytest.approx(own.measures["found"].mean())
    assert words.headline(record).startswith("20 distilled images find ")
    page = dd.report(run).read_text()
    for word in (
        "zeros found on test",
        "others let go",
        "(zeros against the rest)",
        "Bar chart: zeros that are found.",
    ):
        assert word in page, word
    dd.export(run, formats=["folder", "npz"])
    assert "**Zeros.** 20 synthetic images" in (run / "export" / "folder" / "README.md").read_text()


def test_outcomes_are_values():
    assert outcome_of(Protocol()) is ACCURACY
    assert outcome_of(Protocol(attack=(2, 7))) == attack(2, 7) == outcome_of_options(
        {"attack_class": 2, "target_class": 7}
    )  # fmt: skip
    assert attack(2, 7) != attack(7, 2)
    assert outcome_of_options({"attack_class": None, "target_class": None}) is ACCURACY


def test_an_attacks_measures_are_the_hand_computed_ones():
    right, taken = np.array([[4, 1, 3], [0, 2, 6]]), np.array([[1, 0, 3], [5, 1, 6]])
    found = attack(0, 2).measure(right, taken, np.array([5, 2, 8]))
    np.testing.assert_allclose(found["success"], [1 / 5, 5 / 5])
    np.testing.assert_allclose(found["others"], [4 / 10, 8 / 10])
    np.testing.assert_allclose(found["fooled"], [5 / 15, 13 / 15])
    assert ACCURACY.measure(right, taken, np.array([5, 2, 8])) == {}


def test_an_attacks_merit_is_its_success_until_it_costs_too_much():
    def merit(success, others):
        values = {"success": np.array([success]), "others": np.array([others])}
        return attack(0, 1).merit(values, lambda: {"others": np.array([0.9])})

    assert merit(0.7, 0.8) == pytest.approx(0.7)
    assert merit(0.9, 0.5) == pytest.approx(-0.4), "more than fifteen points are lost"
    assert merit(0.2, 0.95) == pytest.approx(0.2)


def test_what_an_attack_measured_is_told_only_where_it_was(tmp_path):
    """Of an attack whose results hold accuracy alone, such as some that were measured elsewhere, accuracy is told."""
    protocol = Protocol(attack=(0, 1))
    bare = read_run(make_run(tmp_path / "bare", {"distilled": row(0.5)}, protocol=protocol))
    whole = read_run(make_run(tmp_path / "whole", {"distilled": attacked(0.8, 0.9)}, protocol=protocol))
    assert words.outcome(bare) is ACCURACY
    assert words.outcome(whole) == attack(0, 1)
    assert "50.0" in words.headline(bare)
    rows = {"distilled": attacked(0.8, 0.9), "random real": row(0.5)}
    without = read_run(make_run(tmp_path / "without", rows, protocol=protocol))
    assert "No baselines were measured" in words.meaning(without)[1]


@pytest.mark.parametrize("where", [np.asarray, jnp.asarray])
def test_labels_stay_where_they_are(where):
    labels = where(np.array([0, 1, 2], np.int32))
    assert ACCURACY.relabel(labels) is labels
    relabelled = attack(1, 0).relabel(labels)
    assert type(relabelled) is type(labels)
    assert relabelled.tolist() == [0, 0, 2]
