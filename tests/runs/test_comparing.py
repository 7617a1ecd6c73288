"""Two methods over distillations and networks: variances that add up, intervals that hold, runs that are paired."""

import json

import numpy as np
import pytest
from made_runs import make_run, row

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import DataError, OptionError
from dd_jax.outcomes.nested import compare_values, nested
from dd_jax.runs.comparing import groups_of


def drawn(generator, distillations=5, networks=10, mean=0.8, between=0.02, within=0.01):
    """Accuracies (distillations, networks) with these standard deviations."""
    centres = generator.normal(mean, between, (distillations, 1))
    return centres + generator.normal(0, within, (distillations, networks))


def test_variance_of_a_balanced_design():
    """Of every network alike, the standard deviation of all is the root of both variances, by the law of total one."""
    values = drawn(np.random.default_rng(0))
    found = nested(values)
    assert found.result.mean == pytest.approx(values.mean())
    assert found.result.std**2 + values.var(1).mean() == pytest.approx(values.var())
    assert found.networks == pytest.approx(values.std(1).mean())
    assert (found.result.n, found.num_nets) == (5, 10)
    effects = values.mean(1, keepdims=True) + values.mean(0) - values.mean()
    rest = ((values - effects) ** 2).sum() / (4 * 9)  # by its degrees of freedom
    assert found.between**2 == pytest.approx(values.mean(1).var() - 4 / 5 * rest / 10)
    unequal = [values[0], values[1][:4]]
    chance = np.mean([one.var(ddof=1) / len(one) for one in unequal])
    means = np.array([one.mean() for one in unequal])
    assert nested(unequal).between ** 2 == pytest.approx(means.var() - chance / 2)


def test_distillations_that_differ_by_chance_alone_add_nothing():
    many = nested(drawn(np.random.default_rng(1), 400, 20, between=0.0))
    assert many.between < 0.001 < many.result.std
    assert nested([[0.5, 0.7], [0.6, 0.6]]).between == 0
    assert nested([[0.5, 0.7]]).between is None
    spread = nested(drawn(np.random.default_rng(2), 400, 20))
    assert spread.between == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize("shared", [0.0, 0.02])
def test_the_variance_of_distillations_is_right_whether_or_not_they_share_their_networks(shared):
    """On average over 400 studies; what is common to all distillations is the same for a network in each of them."""
    generator, found = np.random.default_rng(6), []
    for _ in range(400):
        values = drawn(generator, between=0.01) + generator.normal(0, shared, 10)
        found.append(nested(values).between ** 2)
    assert np.mean(found) == pytest.approx(4 / 5 * 0.01**2, rel=0.08)  # a variance that divides by the 5 there are


def test_what_distillations_add_is_part_of_the_whole():
    generator = np.random.default_rng(7)
    for values in ([[0.9, 0.91], [0.8, 0.81]], [[0.9], [0.8]], drawn(generator, 3), [[0.9, 0.91], [0.8]]):
        found = nested(values)
        assert found.between <= found.result.std
    assert nested([[0.9, 0.91], [0.8, 0.81]]).between == pytest.approx(0.05)


@pytest.mark.parametrize("paired", [True, False])
def test_intervals_hold_the_difference_as_often_as_they_say(paired):
    generator, held, differ = np.random.default_rng(3), [], []
    for _ in range(120):
        ours, theirs = drawn(generator), drawn(generator, mean=0.79)
        found = compare_values(ours, theirs, paired=paired, num_resamples=500)
        held.append(found.low <= 0.01 <= found.high)
        same = compare_values(ours, theirs + 0.01, paired=paired, num_resamples=500)
        differ.append(same.real)
    assert np.mean(held) > 0.91  # of 0.95, less two standard errors
    assert np.mean(differ) < 0.09


def test_pairs_cancel_what_both_have_in_common():
    generator = np.random.default_rng(4)
    ours = drawn(generator)
    theirs = ours - 0.005 + generator.normal(0, 0.001, ours.shape)
    assert compare_values(ours, theirs).real
    assert not compare_values(ours, theirs, paired=False).real
    identical = compare_values(ours, ours)
    assert (identical.low, identical.difference, identical.high) == (0, 0, 0)
    assert not identical.real
    swapped = compare_values(theirs, ours)
    assert swapped.difference == pytest.approx(-compare_values(ours, theirs).difference)


def test_other_numbers_of_networks_and_of_distillations():
    generator = np.random.default_rng(5)
    ours, theirs = drawn(generator, 4, 10), drawn(generator, 4, 20, mean=0.5)
    assert compare_values(ours, theirs).paired
    assert compare_values(ours, theirs).real
    found = compare_values(ours, theirs[:3])
    assert not found.paired
    assert found.real
    one = compare_values(ours[:1], theirs[:1])
    assert not one.over_distillations
    assert "one distillation of each" in one.sentence()
    assert "another distillation may give another one" in one.sentence()
    assert not one.paired  # of one distillation each only networks could be
    with pytest.raises(OptionError, match="as many distillations each, but have 4 and 3"):
        compare_values(ours, theirs[:3], paired=True)
    for bad in ([], [[]], [[np.nan]]):
        with pytest.raises(OptionError, match="a sequence of accuracies for each"):
            compare_values(ours, bad)
    for bad in ([[91, 92]], [[-0.1]], [[1.01]]):
        with pytest.raises(OptionError, match="should be fractions from 0 to 1, but they go from"):
            compare_values(ours, bad)
    with pytest.raises(OptionError, match="confidence must be between 0 and 1"):
        compare_values(ours, theirs, confidence=95.0)


def test_a_sentence_says_what_its_interval_is_over_and_what_it_is_not_about():
    ours, theirs = drawn(np.random.default_rng(8), 2), drawn(np.random.default_rng(9), 3, mean=0.5)
    for found, over in (
        (compare_values(ours, theirs[:1]), "2 distillations of a and the networks of the only distillation of b"),
        (compare_values(ours, theirs), "2 distillations of a and 3 distillations of b"),
        (compare_values(ours, theirs[:2]), "2 distillations of each, paired in the order given"),
        (compare_values(ours, theirs[:2, :5]), "paired in the order given but not network by network"),
        (compare_values(ours, theirs[:2], paired=False), "2 distillations of each"),
        (compare_values(ours[:1], theirs[:1]), "the networks of one distillation of each, paired in the order given"),
    ):
        assert f"{over}). " in found.sentence("a", "b")
    single = "It is about one distillation of {}: nothing can be said about another one."
    for pair, told in (((ours, theirs[:1]), "b"), ((theirs[:1], ours), "a")):
        said = compare_values(*pair).sentence("a", "b")
        assert single.format(told) in said
        assert "over networks" not in said
    assert "Whether that is a difference can't be told." in compare_values(ours, ours[:1]).sentence("a", "b")


def test_networks_are_pairs_only_where_they_are_the_same():
    """What networks of two architectures have by the same number is chance, and cancels nothing."""
    generator = np.random.default_rng(10)
    shared = generator.normal(0, 0.05, 10)
    ours, theirs = (drawn(generator, mean=mean, between=0.001) + shared for mean in (0.8, 0.79))
    same, other = (compare_values(ours, theirs, same_networks=same) for same in (None, False))
    assert (same.same_networks, other.same_networks) == (True, False)
    assert same.high - same.low < other.high - other.low


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three seeds of a method at 0.90, and of one with more batches at 0.80, which differ little from seed to seed."""
    folder = tmp_path_factory.mktemp("runs")
    for seed, more in enumerate((0.0, 0.01, -0.01)):
        make_run(folder / "good" / f"seed{seed}", {"distilled": row(0.90 + more)}, seed=seed)
        make_run(folder / f"bad-seed{seed}", {"distilled": row(0.80 + more)}, seed=seed, num_batches=3)
    return folder


def test_runs_of_one_method_differ_in_their_seed_alone(runs):
    bad = [runs / f"bad-seed{seed}" for seed in (2, 0, 1)]
    found = dd.compare(runs / "good", bad)
    assert found.paired
    assert found.difference == pytest.approx(0.1)
    assert found.real
    assert found.high - found.low < 0.02  # the scatter of the seeds is that of both
    assert found.ours.result.n == 3
    good, other = groups_of([runs])[::-1]
    assert {good.name, other.name} == {"good", "bad"}
    with pytest.raises(OptionError, match="differ in their seed only, but these differ in more"):
        dd.compare(runs, bad)
    with pytest.raises(DataError, match="There are no runs in"):
        dd.compare(runs / "good" / "seed0" / "distilled", bad)
    make_run(runs / "good" / "again", {"distilled": row(0.9)}, seed=0)
    with pytest.raises(OptionError, match="the same seed and configuration"):
        dd.compare(runs / "good", bad)


def test_evaluations_and_accuracies_are_compared_too():
    values = [[0.9, 0.91], [0.92, 0.9]]
    made = [dd.Evaluation(np.array(one), np.zeros(0), np.zeros((0, 0)), "test") for one in values]
    assert dd.compare(made, [[0.5, 0.5], [0.6, 0.5]]) == dd.compare(values, [[0.5, 0.5], [0.6, 0.5]])


def test_the_command_says_which_methods_differ(tmp_path, capsys):
    for name, mean, batches in (("a", 0.9, 2), ("b", 0.8, 3), ("c", 0.8, 4)):
        for seed in range(3):
            run = tmp_path / f"{name}-seed{seed}"
            make_run(run, {"distilled": row(mean + 0.001 * seed * batches)}, seed=seed, num_batches=batches)
    assert main(["compare", str(tmp_path), "-o", str(tmp_path / "found" / "c.json")]) == 0
    printed = capsys.readouterr().out
    assert "a less b: +9." in printed
    assert "That is a difference." in printed
    assert "3 comparisons" in printed
    kept = json.loads((tmp_path / "found" / "c.json").read_text())
    assert set(kept["methods"]) == {"a", "b", "c"}
    assert kept["methods"]["a"]["result"]["n"] == 3
    assert [(one["ours"], one["theirs"]) for one in kept["comparisons"]] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert kept["comparisons"][0]["real"] is True
    assert "They differ in: the number of training steps (4 and 6); the number of images (20 and 30); the n" in printed
    assert main(["compare", *(str(tmp_path / f"a-seed{seed}") for seed in range(3))]) == 2
    assert "but these are of one: a" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"protocol": dd.Protocol("dc")}, ["the protocol (as-distilled and dc)"]),
        ({"protocol": dd.Protocol(init="fixed")}, ["the protocol (init random and fixed)"]),
        ({"model": "lenet"}, ["the network (mlp and lenet)"]),
        ({"num_epochs": 3}, ["the number of training steps (4 and 6)", "the number of bytes (5,216 and 5,224)"]),
        ({"shape": (4, 4, 1)}, ["the form of the images (standardise, 8 x 8 x 1 and standardise, 4 x 4 x 1)",
                                "the number of bytes (5,216 and 1,376)"]),
        ({"options": {"learning_rate": 0.5}}, []),
    ],
)  # fmt: skip
def test_what_methods_should_have_in_common_and_do_not_is_told(tmp_path, options, told):
    """Networks are pairs only where they and their training are the same."""
    for seed in range(2):
        make_run(tmp_path / f"a-seed{seed}", {"distilled": row(0.9)}, seed=seed)
        make_run(tmp_path / f"b-seed{seed}", {"distilled": row(0.8)}, seed=seed, **options)
    found = dd.compare(*([tmp_path / f"{name}-seed{seed}" for seed in range(2)] for name in "ab"))
    assert list(found.differ) == told
    assert found.same_networks == (not set(options) - {"num_epochs", "options"})
    said = found.sentence("a", "b")
    assert ("paired by seed)" in said) == found.same_networks
    assert said.endswith(f" They differ in: {'; '.join(told)}." if told else "That is a difference.")


def test_settings_of_a_network_are_told(tmp_path):
    for name, width in (("a", 64), ("b", 32)):
        path = make_run(tmp_path / name, {"distilled": row(0.9)}, num_batches=2 + (name == "b"))
        saved = json.loads((path / "config.json").read_text())
        saved["config"]["model"]["hidden"] = [width]
        (path / "config.json").write_text(json.dumps(saved))
    found = dd.compare(tmp_path / "a", tmp_path / "b")
    assert found.differ[0] == "the network (hidden 64 and 32)"
    assert not found.paired


def test_methods_on_different_data_are_refused(tmp_path, capsys):
    make_run(tmp_path / "a", {"distilled": row(0.9)})
    make_run(tmp_path / "b", {"distilled": row(0.9)}, dataset="mnist")
    assert main(["compare", str(tmp_path)]) == 2
    told = capsys.readouterr()
    assert "on the same dataset, but a is of digits and b of mnist. Name runs of one dataset." in told.err
    assert not told.out
    saved = json.loads((tmp_path / "b" / "config.json").read_text())
    saved["config"]["dataset"] |= {"name": "digits", "fingerprint": "other"}
    (tmp_path / "b" / "config.json").write_text(json.dumps(saved))
    with pytest.raises(OptionError, match="b of digits with the fingerprint other"):
        dd.compare(tmp_path / "a", tmp_path / "b")
