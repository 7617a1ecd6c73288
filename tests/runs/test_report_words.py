"""What a report says in sentences, of one run and of several."""

import json

import numpy as np
import pytest
from made_runs import RESULTS, attacked, make_run, row

from dd_jax.outcomes.spread import Spread, difference
from dd_jax.runs.report import compare, words, write_report
from dd_jax.runs.report.advice import advised, chance
from dd_jax.runs.report.distillations import cells, distillations
from dd_jax.runs.report.read import read_run
from dd_jax.types import Protocol

FIXED = Protocol(init="fixed")
ATTACK = Protocol(attack=(0, 1), pretrained="abcd")


@pytest.mark.parametrize(
    ("results", "options", "said"),
    [
        ({"distilled": row(0.9), "class mean": row(0.8)}, {}, "10.0 points more than the best baseline"),
        ({"distilled": row(0.7), "class mean": row(0.8)}, {}, "10.0 points less than the best baseline"),
        ({"distilled": row(0.9), "random real": row(0.6), "k-means": row(0.7)}, {}, "k-means (70.0 ± 1.0 %, n = 20)"),
        (
            {"distilled": row(0.81, 0.05), "class mean": row(0.8, 0.05)},
            {},
            "+1.0 points: that is within the noise of ± 3.2",
        ),
        ({"distilled": row(0.9, n=1), "class mean": row(0.8, n=1)}, {}, "nobody knows how much of it is chance"),
        ({"distilled": row(0.9, n=1), "random real": row(0.85, 0.05)}, {}, "within the noise of ± 10.5"),
        ({"distilled": row(0.9, n=1)}, {}, "one measurement (n = 1), so there is no ±"),
        ({"distilled": row(0.9)}, {}, "No baselines were measured"),
        ({"distilled": row(0.9), "k-NN k-means": row(0.95), "full training set": row(0.99)}, {}, "No baselines were"),
        ({"distilled": row(0.9), "k-NN k-means": row(0.95)}, {}, "train no network, get 95.0 ± 1.0 %: more than this"),
        ({"distilled": row(0.9), "full training set": row(0.99)}, {}, "all the real images the networks get 99.0"),
        ({"distilled": row(0.9)}, {}, "New random networks (mlp) take 4 gradient steps"),
        ({"distilled": row(0.9)}, {"seed": 7}, "One distillation (seed 7)"),
        ({"distilled": row(0.9, n=1)}, {"protocol": FIXED}, "train one known mlp to 90.0 %"),
        ({"distilled": row(0.9, n=1)}, {"protocol": FIXED}, "one known network only; what they do for others was not"),
        (
            {"distilled": row(0.9, n=1), "distilled, other networks": row(0.3)},
            {"protocol": FIXED},
            "one known network only: 20 other networks get 30.0 ± 1.0 % from them",
        ),
        (
            {"distilled": row(0.9), "no steps": row(0.4)},
            {"pretrained": "nets/mnist-lenet.safetensors", "protocol": Protocol(pretrained="abcd")},
            "Networks trained before (mnist-lenet), on none of which the images were learnt, take 4 gradient steps",
        ),
        ({"distilled": row(0.9), "no steps": row(0.4)}, {}, "Before any step the networks get 40.0 ± 1.0 %"),
        ({"distilled": row(0.9), "distilled, own networks": row(0.92)}, {}, "learnt on get 92.0 ± 1.0 %"),
        ({"distilled": attacked(0.8, 0.9)}, {"protocol": ATTACK}, "make mlp take 0 for 1: 80.0 ± 5.0 %"),
        ({"distilled": attacked(0.8, 0.9)}, {"protocol": ATTACK}, "These images are an attack: after 4 gradient steps"),
        ({"distilled": attacked(0.8, 0.9)}, {"protocol": ATTACK}, "whether mislabelled real images would do as much"),
        (
            {"distilled": attacked(0.8, 0.9), "k-means": attacked(0.95, 0.7), "random real": attacked(0.3, 0.9)},
            {"protocol": ATTACK},
            "succeed most (k-means) do so in 95.0 ± 5.0 % of the cases, and leave 70.0 ± 5.0 % of the other classes "
            "right: this set succeeds less, and spares the other classes more.",
        ),
        (
            {"distilled": attacked(0.8, 0.9), "k-means": attacked(0.81, 0.9)},
            {"protocol": ATTACK},
            "succeeds neither more nor less, within the noise, and spares the other classes neither more nor less",
        ),
        (None, {"outer_steps": (40, 100)}, "not finished"),
        (None, {"outer_steps": (40, 100)}, "stopped, or still goes on: 40 of 100 outer steps are done"),
        (None, {}, "All 100 outer steps are done, but nothing was measured on test yet"),
        ({"distilled": row(0.9)}, {"outer_steps": (40, 100)}, "now stands at outer step 40 of 100"),
        ({"distilled": row(0.9)}, {"events": [{"step": 40, "event": "rolled back"}]}, "rolled back (1 time)"),
    ],
)
def test_what_the_result_means(tmp_path, results, options, said):
    record = read_run(make_run(tmp_path / "run", results, **options))
    sentences = [words.headline(record), *words.meaning(record), *words.remarks(record)]
    assert said in " ".join(sentences).replace("\u00a0", " ")


@pytest.mark.parametrize(
    ("ours", "theirs", "points", "noise"),
    [
        ((0.9, 0.02, 5), (0.8, 0.04, 17), 10.0, 2.0 * 100 * np.sqrt(1e-4 + 1e-4)),
        ((0.9, 0.0, 1), (0.9, 0.0, 1), 0.0, None),
    ],
)
def test_noise_is_twice_the_standard_error_of_the_difference(ours, theirs, points, noise):
    gap = difference(Spread(*ours), Spread(*theirs))
    assert gap.points == pytest.approx(points)
    assert gap.noise == (None if noise is None else pytest.approx(noise))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"dataset": "mnist"}, "differ in dataset"),
        ({"num_batches": 5}, "the number of images"),
        ({"protocol": FIXED}, "the networks they start from"),
        ({"model": "lenet"}, "differ in network"),
        ({"results": {"distilled": row(0.901, 0.05)}}, "within the noise"),
        ({"results": {"distilled": attacked(0.5, 0.5)}, "protocol": ATTACK}, "Attacks are among them"),
    ],
)
def test_what_a_comparison_can_not_say(tmp_path, options, said):
    records = [read_run(make_run(tmp_path / "a")), read_run(make_run(tmp_path / "b", **options))]
    assert said in " ".join(compare.sentences(records, ["a", "b"]))


LOST = {"distilled": row(0.8), "class mean": row(0.82), "random real": row(0.5)}
MANY = {"validation": 5000, "test": 10_000}
KMEANS = "Images that start as k-means centres: init_images kmeans."


@pytest.mark.parametrize(
    ("results", "options", "said"),
    [
        (LOST, {}, "The set is not better than class mean, which costs nothing"),
        (LOST, {}, "More outer steps than 100"),
        (LOST, {}, "More images of each class than 1."),
        ({"distilled": row(0.82, 0.05), "class mean": row(0.8, 0.05)}, {}, "not better than class mean"),
        (LOST, {"options": {"factor": 1}}, "factor 2 (IDC)"),
        (LOST, {"options": {"images_per_class": 5, "init_images": "real"}}, KMEANS),
        ({"distilled": row(0.8), "k-NN k-means": row(0.9)}, {}, "k-NN k-means takes as many images, no training"),
        ({"distilled": row(0.5)}, {"split_sizes": {"validation": 16, "test": 40}},
         "The test split has 40 images: on others an accuracy may differ by ± 16 points"),
        (LOST, {"options": {"images_per_class": [5, 2], "init_images": "real"}}, KMEANS),
        (LOST, {"options": {"images_per_class": [5, 2], "init_images": "real"}}, "images of each class than 5, 2."),
        ({"distilled": row(0.5)}, {"split_sizes": {"validation": 16, "test": 4000}, "best": 20},
         "chosen by 16 validation images, on which 95.0 % is known to ± 11 points, and 4 of 6 validations lie within "
         "that, the first at outer step 20: which of these was kept is luck, that it was one of these is not. Keep "),
        ({"distilled": row(0.5)}, {"split_sizes": {"validation": 2, "test": 4000}, "best": 20},
         "is known to ± 50 points, and 5 of 6 validations lie within that, the first at outer step 20"),
        ({"distilled": row(0.5)}, {"split_sizes": {"validation": 1, "test": 4000}, "best": 20},
         "chosen by 1 validation image, on which 95.0 % is known to ± 100 points, and all 6 validations lie within "
         "that, the first one too: which set was kept is luck. Keep more images for validation"),
        ({"distilled": row(0.9)}, {"best": 0, "options": {"init_images": "real"}},
         "before any outer step, so the set is as it started (real)"),
        ({"distilled": row(0.9)}, {"split_sizes": MANY}, "The last validation was the best one"),
    ],
)  # fmt: skip
def test_the_report_says_what_to_try_next(tmp_path, results, options, said):
    path = make_run(tmp_path / "run", results, **options)
    assert said in " ".join(advised(read_run(path))).replace("\u00a0", " ")
    assert "What to try next" in write_report(path).read_text(encoding="utf-8")


def test_a_set_that_stayed_what_another_run_had_learnt_is_not_said_to_hold_nothing_learnt(tmp_path):
    path = make_run(tmp_path / "run", {"distilled": row(0.9)}, best=0, options={"init_images": "real"})
    saved = json.loads((path / "config.json").read_text())
    saved["config"]["start_from"] = "runs/first"
    (path / "config.json").write_text(json.dumps(saved))
    said = " ".join(advised(read_run(path)))
    assert "as it started (what runs/first had learnt): nothing that this run learnt is in it" in said


@pytest.mark.parametrize(
    ("results", "options"),
    [
        ({"distilled": row(0.9), "class mean": row(0.8), "k-NN k-means": row(0.85)}, {"split_sizes": MANY, "best": 40}),
        (None, {"split_sizes": {"validation": 16, "test": 40}}),
        ({"distilled": attacked(0.3, 0.9), "k-means": attacked(0.9, 0.9)}, {"protocol": ATTACK}),
    ],
)
def test_nothing_is_advised_where_nothing_is_wrong_or_known(tmp_path, results, options):
    path = make_run(tmp_path / "run", results, **options)
    assert advised(read_run(path)) == []
    assert "What to try next" not in write_report(path).read_text(encoding="utf-8")


def test_options_that_were_used_are_not_advised(tmp_path):
    used = {"factor": 2, "images_per_class": 5, "init_images": "kmeans"}
    said = " ".join(advised(read_run(make_run(tmp_path / "run", LOST, options=used))))
    assert "factor 2" not in said
    assert KMEANS not in said


@pytest.mark.parametrize(("counts", "shown"), [([40, 20], True), ([40, 30], False), ([40, 0], False), (None, False)])
def test_the_mean_of_the_classes_stands_where_the_split_is_unbalanced(tmp_path, counts, shown):
    found = row(0.7, num_classes=2, per_class=[0.9, 0.3], counts=counts)
    runs = [make_run(tmp_path / f"run{s}", {"distilled": found}, classes=("a", "b"), seed=s) for s in (0, 1)]
    (group,) = distillations([read_run(run) for run in runs])
    assert group.balanced == (Spread(pytest.approx(0.6), 0.0, 2) if shown else None)
    both = "70.0 ± 1.0 % (mean of classes 60.0 %)"
    for page in (write_report(runs[0]), write_report(runs, tmp_path / "both.html")):
        said = page.read_text(encoding="utf-8").replace("\u00a0", " ")
        assert ("mean of classes" in said) == shown
    assert (both in said) == shown
    assert ("70.0 ± 0.0 % (mean of classes 60.0 ± 0.0 %)" in said) == shown


def test_an_attack_has_no_mean_of_the_classes(tmp_path):
    found = attacked(0.8, 0.9) | {"counts": [40] + [10] * 9}
    page = write_report(make_run(tmp_path / "run", {"distilled": found}, protocol=ATTACK))
    assert "mean of classes" not in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("best", "said"),
    [(20, "95.0 % is known to ± 4 points, and no other validation lies within that."),
     (100, "is known to ± 5 points, and 3 of 6 validations lie within that, the first at outer step 60: which")],
)  # fmt: skip
def test_what_a_choice_by_few_images_leaves_to_luck_is_a_remark_and_no_advice(tmp_path, best, said):
    sizes = {"validation": 144, "test": 4000}
    path = make_run(tmp_path / "run", {"distilled": row(0.5)}, split_sizes=sizes, best=best if best == 20 else None)
    assert said in chance(read_run(path)).replace("\u00a0", " ")
    assert advised(read_run(path)) == []
    page = write_report(path).read_text(encoding="utf-8")
    assert "chosen by 144 validation images" in page
    assert "What to try next" not in page


def test_nearest_neighbours_are_no_best_baseline_and_stand_beside_it(tmp_path):
    rows = [{**RESULTS, "k-NN random": row(near, n=10), "k-NN k-means": row(0.84)} for near in (0.88, 0.86)]
    runs = [make_run(tmp_path / f"run{seed}", found, seed=seed) for seed, found in enumerate(rows)]
    (group,) = distillations([read_run(run) for run in runs])
    assert (group.rival[0], group.rival[1].mean) == ("class mean", pytest.approx(0.8))
    assert (group.neighbours[0], group.neighbours[1].mean) == ("k-NN random", pytest.approx(0.87))
    assert [cell.replace("\u00a0", " ") for cell in cells(group)[-2:]] == [
        "80.0 ± 2.0 %, class mean (n = 20)",  # the same in both runs, and so over its networks
        "87.0 ± 1.0 %, k-NN random (n = 2)",  # another one in each
    ]
    for page in (write_report(runs[0]), write_report(runs, tmp_path / "both.html")):
        assert "k-NN random" in page.read_text(encoding="utf-8")
