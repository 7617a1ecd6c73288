"""Audits: what they say follows from what was measured, and they go on where they were cut short."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.applications import AuditOptions, audit, auditing
from dd_jax.applications.audit_page import audit_page, lines_of, plain_audit
from dd_jax.applications.audit_plan import Trainings, images_seen, least_seconds
from dd_jax.applications.audit_result import ALL_DATA, BYTES, NETWORKS, OWN, SCRATCH, SET, Audit, Row
from dd_jax.applications.audit_scores import scores_of
from dd_jax.applications.records import Records
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.evaluation.lengths import Length, length_of
from dd_jax.runs.counted import flops_per_image
from dd_jax.storage import save_distilled

OPTIONS = AuditOptions(
    models=("mlp:hidden=(4,)",), coresets=("k-means",), num_nets=1, num_sets=1, epochs=2, scores=False
)


def made(*rows, protocol="as-distilled", epochs=300, scores=None):
    """An audit of rows (part, name, mean, spread, network); epochs: of the 300 that a training from scratch has."""
    steps, scratch = Length(10, 10, "learnt step"), Length(epochs, 300)
    of = [
        Row(part, name, network, (mean - spread, mean + spread) * 5, 10, 2640,
            steps if part == OWN and protocol == "as-distilled" else scratch)
        for part, name, mean, spread, network in rows
    ]  # fmt: skip
    model = {"name": "mlp", "hidden": [4]}
    return Audit("mine", "10 images", "digits", model, protocol, 2640, False, tuple(of), scores or {}, ())


def test_what_an_audit_says_follows_from_its_rows():
    found = made(
        (OWN, SET, 0.9, 0.01, "mlp"),
        (OWN, "random real", 0.6, 0.05, "mlp"),
        (OWN, "k-means", 0.8, 0.01, "mlp"),
        (OWN, ALL_DATA, 0.99, 0.0, "mlp"),
        (SCRATCH, SET, 0.80, 0.01, "mlp"),
        (SCRATCH, "random real", 0.7, 0.01, "mlp"),
        (SCRATCH, "k-means", 0.801, 0.01, "mlp"),
        (BYTES, "random real", 0.79, 0.01, "mlp"),
        (BYTES, "k-means", 0.85, 0.01, "mlp"),
        (NETWORKS, SET, 0.9, 0.01, "wide"),
        (NETWORKS, "random real", 0.6, 0.01, "wide"),
        (NETWORKS, SET, 0.6, 0.01, "deep"),
        (NETWORKS, "random real", 0.7, 0.01, "deep"),
    )
    assert found.good_for == [
        "training mlp by its own protocol (10 learnt steps)",
        "training another network, wide ('dc', 300 epochs)",
    ]
    assert found.no_better_for == [
        "training mlp from scratch ('dc', 300 epochs)",
        "training mlp in the same bytes ('dc', 300 epochs)",
        "training another network, deep ('dc', 300 epochs)",
    ]
    own, scratch, same_bytes, networks, short = found.sentences()
    assert "90.0" in own
    assert "(k-means)" in own
    assert "10.0 points more" in own
    assert "-0.1 points, within the noise" in scratch
    assert "5.0 points less" in same_bytes
    assert "better than random real ones on wide; not better than random real ones on deep" in networks
    assert short.startswith("In short: good for training mlp by its own protocol")
    assert found.shortened == []
    page = audit_page(found)
    assert page.count("<table") == 4
    assert all(line[1] in page for line in lines_of(found))


def test_a_set_that_is_no_better_anywhere_is_called_so():
    found = made((OWN, SET, 0.6, 0.01, "mlp"), (OWN, "random real", 0.7, 0.01, "mlp"), protocol="dc")
    assert found.good_for == []
    assert found.sentences()[-1] == "In short: real images do as well, or better, in everything that was measured."
    once = made((OWN, SET, 0.6, 0.0, "mlp"), (OWN, "random real", 0.5, 0.0, "mlp"))
    single = dataclasses.replace(once, rows=tuple(row._replace(accuracies=row.accuracies[:1]) for row in once.rows))
    assert "nobody knows how much of it is chance" in single.sentences()[0]


def test_a_training_that_was_cut_short_is_called_so_wherever_its_numbers_stand():
    own = [(OWN, SET, 0.9, 0.01, "gcn"), (OWN, "random real", 0.6, 0.05, "gcn")]
    found = made(*own, protocol="gcond", epochs=100)
    cut = "cut to 100 of 300 epochs"
    assert found.sentences()[0].startswith(f"By its own protocol ('gcond', {cut}), it gives 90.0")
    assert found.sentences()[-1] == f"In short: good for training gcn by its own protocol ('gcond', {cut})."
    assert all(line[3] == cut for line in lines_of(found))
    assert audit_page(found).count(cut) >= 4
    scratch = made(
        *own, (SCRATCH, SET, 0.3, 0.01, "gcn"), (SCRATCH, "random real", 0.4, 0.01, "gcn"),
        (BYTES, "x", 0.5, 0.01, "gcn"),
        (NETWORKS, SET, 0.3, 0.01, "sgc"), (NETWORKS, "random real", 0.4, 0.01, "sgc"), epochs=100,
    )  # fmt: skip
    _, said, same_bytes, networks, short = scratch.sentences()
    assert said.startswith(f"From scratch ('dc', {cut}), it gives 30.0")
    assert f"(x, 'dc', {cut}) give 50.0" in same_bytes
    assert networks == f"On other networks ('dc', {cut}) it is not better than random real ones on sgc."
    assert f"Not better than real ones for training gcn from scratch ('dc', {cut})" in short
    plain = plain_audit(scratch)
    assert plain["shortened"] == [f"from scratch: {cut}", f"same bytes: {cut}", f"other networks: {cut}"]
    assert plain["rows"][2]["length"] == {"number": 100, "whole": 300, "unit": "epoch"}
    assert plain["model"] == {"name": "mlp", "hidden": [4]}


def test_lengths_are_those_of_protocols(means):
    assert str(length_of("dc", means, 20)) == "300 epochs"
    assert str(length_of("dc", means, 20, 20)) == "cut to 20 of 300 epochs"
    assert str(length_of("dc", means, 20, 1000)) == "1,000 epochs in place of 300"
    assert str(length_of(None, means, 20, 7)) == "1 learnt step"
    assert str(length_of("kip", means, 20, 7)) == "closed form"
    assert length_of("frepo", means, 2000) == Length(250, 250), "its 1,000 steps of 500 images"


SCORES = {
    "dc-bench": {
        "best": 0.5, "average": 0.45, "random average": 0.3, "augmentation": "none",
        "by augmentation": {
            kind: {"distilled": {"mean": m, "std": 0.02, "n": 5}, "random real": {"mean": 0.3, "std": 0.0, "n": 5}}
            for kind, m in (("none", 0.5), ("dsa", 0.4))
        },
        "lengths": {"none": Length(300, 300), "dsa": Length(1000, 1000)},
    },
    "dd-ranking": {
        "lrs": 0.25, "ars": 0.3, "hlr": 0.1, "ior": -0.02,
        **{name: {"mean": m, "std": 0.02, "n": 5}
           for name, m in (("full", 0.6), ("hard", 0.5), ("distilled", 0.5), ("random_real", 0.52))},
        "lengths": {"small sets": Length(300, 300), "all data": Length(100, 100)},
    },
}  # fmt: skip


def test_scores_stand_with_their_units_numbers_and_trainings():
    lines = {line[0]: tuple(word.replace("\u00a0", " ") for word in line[1:]) for line in scores_of(SCORES)}
    assert lines["DC-BENCH, best over augmentations"] == ("50.0 ± 2.0 %", "5", "300 epochs")
    assert lines["DC-BENCH, average over augmentations"] == ("45.0 %", "10", "none: 300 epochs; dsa: 1,000 epochs")
    both = "small sets: 300 epochs; all data: 100 epochs"
    assert lines["DD-Ranking, label-robust score (LRS)"] == ("0.250", "5", both)
    assert lines["DD-Ranking, more than random real (IOR)"] == ("-2.0 ± 2.8 points", "5", "300 epochs")
    page = audit_page(made(scores=SCORES))
    assert "Published scores" not in page
    assert "measured here" in page


def test_scores_of_trainings_that_were_cut_short_are_called_so():
    cut = {name: {**score, "lengths": dict(score["lengths"])} for name, score in SCORES.items()}
    cut["dc-bench"]["lengths"]["dsa"] = Length(20, 1000)
    cut["dd-ranking"]["lengths"]["all data"] = Length(2, 100)
    names = [line[0].split(", ")[:2] for line in scores_of(cut)]
    assert names[:3] == [["DC-BENCH", "cut short"]] * 3
    assert [name[1] == "cut short" for name in names[3:]] == [True, False, True, False], "ARS and IOR see no other data"
    found = made(scores=cut)
    assert found.shortened == [
        "dc-bench, dsa: cut to 20 of 1,000 epochs", "dd-ranking, all data: cut to 2 of 100 epochs",
    ]  # fmt: skip
    assert plain_audit(found)["scores"]["dc-bench"]["lengths"]["dsa"] == {"number": 20, "whole": 1000, "unit": "epoch"}


@pytest.fixture(scope="module")
def means(digits):
    """Two class means of each class, for their own steps; with soft labels, whose bytes are those of more real ones."""
    one = as_distilled(mean_images(digits, 2), SetShape(1, 1, 2), 0.1, dd.Protocol())
    soft = jnp.asarray(np.eye(10, dtype=np.float32)[np.asarray(one.labels)])
    return dataclasses.replace(one, labels=soft, transform=digits.transform, class_names=digits.class_names)


@pytest.mark.slow
def test_every_part_is_measured_kept_and_read_again(digits, digits_mlp, means, tmp_path, monkeypatch):
    found = audit(means, digits_mlp, digits, OPTIONS, out=tmp_path / "audit")
    parts = [(row.part, row.name) for row in found.rows]
    rivals = (SET, "random real", "k-means")
    assert parts[:6] == [(part, name) for part in (OWN, SCRATCH) for name in rivals]
    assert parts[-2:] == [(NETWORKS, SET), (NETWORKS, "random real")]
    own = dd.evaluate(means, digits_mlp, digits, num_nets=1, num_curve_nets=0)
    assert found.rows[0].accuracies == tuple(own.accuracies)
    scratch = dataclasses.replace(dd.PROTOCOLS["dc"], epochs=2)
    again = dd.evaluate(means, digits_mlp, digits, num_nets=1, num_curve_nets=0, protocol=scratch)
    assert found.rows[3].accuracies == tuple(again.accuracies)
    written = json.loads((tmp_path / "audit" / "results.json").read_text())
    assert written["says"] == found.sentences()
    assert written["shortened"][0] == "from scratch: cut to 2 of 300 epochs"
    assert (tmp_path / "audit" / "report.html").read_text().count("<table") >= 3
    assert len((tmp_path / "audit" / "accuracies.csv").read_text().splitlines()) == 1 + len(found.rows)
    monkeypatch.setattr("dd_jax.applications.auditing.evaluate", None)
    monkeypatch.setattr("dd_jax.applications.auditing.iterate_baselines", None)
    assert audit(means, digits_mlp, digits, OPTIONS, out=tmp_path / "audit") == found


@pytest.mark.slow
def test_real_images_of_the_same_bytes_are_another_number(digits, digits_mlp, means):
    few = dataclasses.replace(OPTIONS, models=(), coresets=())
    free = dd.Protocol("dc", order="random")
    fat = dataclasses.replace(means, step_sizes=jnp.full(1400, 0.1), labels=jnp.argmax(means.labels, -1), protocol=free)
    row = next(row for row in audit(fat, digits_mlp, digits, few).rows if row.part == BYTES)
    assert row.size == 40
    assert row.num_bytes == 40 * 260
    assert abs(row.num_bytes - dd.storage_bytes(fat)) < 10 * 260 / 2
    plain = dataclasses.replace(fat, step_sizes=jnp.full(1, 0.1))
    assert "room for as many real images" in " ".join(audit(plain, digits_mlp, digits, few).notes)


@pytest.mark.slow
def test_from_the_command_line(digits, means, tmp_path, capsys):
    save_distilled(tmp_path / "set", means, {})
    words = ["audit", str(tmp_path / "set"), "--dataset", "digits", "--model", "mlp:hidden=(4,)", "--epochs", "1"]
    words += ["--num-nets", "1", "--num-sets", "1", "--coresets", "k-means", "--models", "mlp:hidden=(4,)"]
    assert main([*words, "--full-epochs", "1"]) == 0
    printed, told = capsys.readouterr()
    assert re.search(
        r"8 measurements or more of 20 images and real ones, 1 network each: at least \d+ s of training\.", told
    )
    for line in (r"own protocol: the set: [\d.]+ %", r"other networks: random real on mlp:hidden=\(4,\): [\d.]+ %"):
        assert re.search(rf"^  {line}$", told, re.MULTILINE)
    assert "In short:" in printed
    assert "DD-Ranking, cut short, label-robust score" in printed
    assert "From scratch ('dc', cut to 1 of 300 epochs), it gives" in printed
    assert "Published scores" not in printed
    assert (tmp_path / "set" / "audit" / "report.html").is_file()
    assert main(["audit"]) == 2
    assert "Name one run directory" in capsys.readouterr().err
    assert main(["audit", "a.pt", "b.pt", "--format", "gcond"]) == 2
    assert "need --model, --dataset and -o" in capsys.readouterr().err


def test_the_time_of_an_audit_is_that_of_its_trainings(digits, digits_mlp, means):
    dc = dd.PROTOCOLS["dc"]
    one = Trainings(digits_mlp, "dc", 20, 3)
    assert images_seen(one, means) == dc.epochs * 20
    assert images_seen(one._replace(size=1000, epochs=2), means) == 2 * 1000
    full = dd.Training(epochs=3, batch_size=128)
    assert images_seen(one._replace(how=full, size=1000), means) == 3 * 7 * 128, "without what fills no minibatch"
    assert images_seen(one._replace(how=None), means) == means.num_examples, "its learnt step"
    assert images_seen(one._replace(how="kip"), means) == 0
    once, twice = (least_seconds([one] * times, means, digits) for times in (50, 100))
    assert 0 < once < 2 * twice, "timed anew each time"
    wide = dd.models.mlp(digits, hidden=(256,))
    weights = [dd.models.num_params(model) for model in (digits_mlp, wide)]
    assert flops_per_image(wide, digits) / flops_per_image(digits_mlp, digits) == pytest.approx(
        weights[1] / weights[0], rel=0.4
    ), "some floating-point operations for each weight"


def test_a_time_that_is_not_known_is_called_so(digits, means, capsys):
    wide = dd.models.infinite_mlp(digits)
    auditor = auditing._Auditor(means, wide, digits, OPTIONS, Records(None), lambda: False)
    auditor.tell_plan({})
    assert "How long they take is not known beforehand for graphs" in capsys.readouterr().err


def test_what_makes_no_sense_is_refused(digits, digits_mlp, means):
    def refused(words, distilled=means, **changes):
        with pytest.raises(OptionError, match=words):
            audit(distilled, digits_mlp, digits, dataclasses.replace(OPTIONS, **changes))

    refused("num_nets must be at least 1", num_nets=0)
    refused("epochs must be at least 1", epochs=0)
    refused("Unknown coreset 'k-mean'", coresets=("k-mean",))
    refused("this set is for pretrained networks", dataclasses.replace(means, protocol=dd.Protocol(pretrained="x")))
