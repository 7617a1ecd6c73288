"""Splits with many images of one class, few of another, or none: what is said of them, and what is not."""

import json
import math
import re

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import DataWarning
from dd_jax.evaluation.result import concatenated, evaluation_of
from dd_jax.runs.report.amounts import fraction

RNG = np.random.default_rng(0)
SMALL = ["--num-outer-steps", "1", "--num-nets", "2", "--num-eval-nets", "1", "--no-baselines", "--batch-size", "8"]


def made(counts):
    labels = np.repeat(np.arange(len(counts)), counts)
    return RNG.random((len(labels), 4, 4)), labels


@pytest.fixture(scope="module")
def dataset():
    """Of 30 test images 24 are cats, 6 dogs and none a frog; of 23 to train on 3 are frogs."""
    with pytest.warns(DataWarning, match="no images of 1 of the 3 classes: 'frog'"):
        return dd.dataset_from_arrays(
            *made((10, 10, 3)), test=made((24, 6)), validation=made((4, 4, 4)), class_names=["cat", "dog", "frog"]
        )


def test_a_class_that_is_absent_has_no_accuracy_and_the_others_count_the_same():
    hits = np.array([[[24, 3, 0], [0, 0, 0]], [[12, 6, 0], [0, 0, 0]]])
    found = evaluation_of(hits, np.array([24, 6, 0]), "test")
    np.testing.assert_allclose(found.accuracies, [27 / 30, 18 / 30])
    np.testing.assert_allclose(found.per_class, [0.75, 0.75, np.nan])
    assert found.balanced == pytest.approx(0.75)
    assert found.mean == pytest.approx(0.75)
    assert found.is_unbalanced
    both = concatenated([found, found])
    np.testing.assert_allclose(both.per_class, [0.75, 0.75, np.nan])
    assert (both.balanced, both.is_unbalanced) == (found.balanced, True)


def test_one_class_alone_is_told_from_the_rest_by_the_balanced_mean():
    found = evaluation_of(np.array([[[90, 0], [0, 0]]]), np.array([90, 10]), "test")
    assert (found.mean, found.balanced) == (pytest.approx(0.9), pytest.approx(0.5))
    assert not evaluation_of(np.array([[[9, 0], [0, 0]]]), np.array([10, 12]), "test").is_unbalanced


def test_networks_are_measured_without_the_absent_class(dataset):
    model = dd.models.mlp(dataset, hidden=(4,))
    networks = jax.vmap(model.init)(jax.random.split(jax.random.key(0), 3))
    found = dd.evaluation.evaluate_networks(networks, model, dataset)
    assert math.isnan(found.per_class[2])
    assert found.mean == pytest.approx((24 * found.per_class[0] + 6 * found.per_class[1]) / 30)
    assert found.balanced == pytest.approx((found.per_class[0] + found.per_class[1]) / 2)
    np.testing.assert_array_equal(found.counts, [24, 6, 0])
    assert str(found).endswith(f", mean of classes {100 * found.balanced:.1f} %)")
    assert found.both_means == f"{found.percent} (mean of classes {100 * found.balanced:.1f} %)"


def test_more_images_of_a_class_than_there_are_is_told(dataset, capsys):
    model = dd.models.mlp(dataset, hidden=(4,))
    for count in (3, 5):
        method = dd.methods.unrolled(model, num_batches=1, num_epochs=1, images_per_class=count, batch_size=8)
        dd.distill(method, dataset, num_outer_steps=0, num_eval_nets=1, show_progress=False)
        told = "Of 1 of 3 classes the set has more images than there are to train on, such as 5 of 'frog', which has 3"
        assert (told in capsys.readouterr().err) == (count == 5)


def test_tables_and_results_say_both_means_and_no_accuracy_where_there_is_none(tmp_path, capsys):
    train, test = made((20, 20, 12)), made((24, 6))
    np.savez(tmp_path / "uneven.npz", images=train[0], labels=train[1], test_images=test[0], test_labels=test[1])
    out = tmp_path / "run"
    model = ["--model", "mlp:hidden=(4,)"]
    assert main(["distill", "--dataset", f"npz:{tmp_path}/uneven.npz", *SMALL, *model, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert "mean of classes" in said.out
    assert "Note: The test split has no images of 1 of the 3 classes: '2'." in said.err
    row = json.loads((out / "results.json").read_text())["results"]["distilled"]
    assert row["per_class"][2] == "nan"
    assert row["balanced"] == pytest.approx(np.mean(row["per_class"][:2]))
    assert main(["evaluate", str(out), "--num-nets", "2"]) == 0
    printed = capsys.readouterr().out
    assert ", 2 – %" in printed
    assert "mean of the classes, each counting the same: " in printed
    mean = fraction(row["balanced"])
    assert row["counts"] == [24, 6, 0]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert f"<dt>mean of classes</dt><dd>{mean}" in page
    assert f"<td><strong>{mean}</strong></td>" in page
    assert main(["export", str(out), "--formats", "folder"]) == 0
    card = (out / "export" / "folder" / "README.md").read_text(encoding="utf-8")
    assert f"| {100 * row['balanced']:.1f} | 2 |" in card
    capsys.readouterr()
    assert main(["runs", str(out)]) == 0
    assert re.search(r"\(mean\s+of\s+classes", capsys.readouterr().out)


def test_broken_images_are_skipped_by_every_command_that_is_told_to(tmp_path, capsys):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for index in range(12):
            pixels = RNG.integers(0, 256, (4, 4), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{index}.png")
    (tmp_path / "photos" / "cat" / "3.png").write_bytes(b"no image")
    words = ["info", f"folder:{tmp_path}/photos"]
    assert main(words) == 2
    assert "1 of 24 images can't be read" in capsys.readouterr().err
    assert main([*words, "--skip-broken"]) == 0
    said = capsys.readouterr()
    assert "Note: Left out 1 of 24 images that can't be read" in said.err
    assert "num_images: " in said.out
    run = ["distill", "--dataset", f"folder:{tmp_path}/photos", *SMALL, "--model", "mlp:hidden=(4,)", "--out",
           str(tmp_path / "run")]  # fmt: skip
    assert main(run) == 2
    assert main([*run, "--skip-broken"]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--num-nets", "2"]) == 0
    assert "Left out 1 of 24 images" in capsys.readouterr().err
