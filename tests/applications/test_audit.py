"""Audits: what they say follows from what was measured, and they go on where they were cut short."""

import dataclasses
import json
import re

import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.applications import AuditOptions, audit
from dd_jax.applications.audit_page import audit_page, lines_of, scores_of
from dd_jax.applications.audit_plan import Trainings, images_seen, least_seconds
from dd_jax.applications.audit_result import ALL_DATA, BYTES, NETWORKS, OWN, SCRATCH, SET, Audit, Row
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images
from dd_jax.runs.counted import flops_per_image
from dd_jax.storage import save_distilled

OPTIONS = AuditOptions(
    models=("mlp:hidden=(4,)",), coresets=("k-means",), num_nets=1, num_sets=1, epochs=2, scores=False
)


def made(*rows, protocol="as-distilled"):
    """An audit of rows (part, name, mean, spread, network)."""
    of = [
        Row(part, name, network, (mean - spread, mean + spread) * 5, 10, 2640)
        for part, name, mean, spread, network in rows
    ]
    return Audit("mine", "10 images", "digits", protocol, 2640, False, tuple(of), {}, ())


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
    assert found.good_for == ["training mlp by its own protocol, the learnt steps", "training another network, wide"]
    assert found.no_better_for == [
        "training mlp from scratch",
        "training mlp in the same bytes",
        "training another network, deep",
    ]
    own, scratch, same_bytes, networks, short = found.sentences()
    assert "90.0" in own
    assert "(k-means)" in own
    assert "10.0 points more" in own
    assert "-0.1 points, within the noise" in scratch
    assert "5.0 points less" in same_bytes
    assert "better than random real ones on wide; not better than random real ones on deep" in networks.lower()
    assert short.startswith("In short: good for training mlp by its own protocol")
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


def test_scores_stand_with_their_units():
    scores = {"dc-bench": {"best": 0.5, "average": 0.4, "random average": 0.3},
              "dd-ranking": {"lrs": 0.25, "ars": 0.3, "hlr": 0.1, "ior": -0.02}}  # fmt: skip
    found = dict(scores_of(dataclasses.replace(made(), scores=scores)))
    assert found["DC-BENCH, best over augmentations"] == "50.0 %"
    assert found["DD-Ranking, label-robust score (LRS)"] == "0.250"
    assert found["DD-Ranking, more than random real (IOR)"] == "-2.0 points"


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
    assert "label-robust score" in printed
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


def test_what_makes_no_sense_is_refused(digits, digits_mlp, means):
    def refused(words, distilled=means, **changes):
        with pytest.raises(OptionError, match=words):
            audit(distilled, digits_mlp, digits, dataclasses.replace(OPTIONS, **changes))

    refused("num_nets must be at least 1", num_nets=0)
    refused("epochs must be at least 1", epochs=0)
    refused("Unknown coreset 'k-mean'", coresets=("k-mean",))
    refused("this set is for pretrained networks", dataclasses.replace(means, protocol=dd.Protocol(pretrained="x")))
