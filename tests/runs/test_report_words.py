"""What a report says in sentences, of one run and of several."""

import numpy as np
import pytest
from made_runs import attacked, make_run, row

from dd_jax.outcomes.spread import Spread, difference
from dd_jax.runs.report import compare, words
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
