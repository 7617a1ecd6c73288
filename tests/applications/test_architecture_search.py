"""Architecture search: what is measured, what is chosen, and that it goes on where it was cut short."""

import csv
import dataclasses
import json

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.applications import DC_SPACE, SearchOptions, SearchSpace, search_architectures
from dd_jax.applications import architecture_search as module
from dd_jax.applications.architecture_search import CORESETS
from dd_jax.applications.memories import images_of_bytes
from dd_jax.applications.search_result import EARLY, FULL, RANDOM, Taken, at_random, summarise
from dd_jax.applications.search_space import candidates, drawn
from dd_jax.cli import main
from dd_jax.errors import DataError, OptionError, RunError
from dd_jax.evaluation.coresets import SetShape, as_distilled, mean_images

SHORT = dd.Training(epochs=1, batch_size=32)
OPTIONS = SearchOptions(  # all of one family, so that little is compiled
    models=(
        "convnet:width=4,depth=1,norm=layer,pooling=avg",
        "convnet:width=4,depth=1,norm=none,pooling=max",
        "convnet:width=4,depth=1,norm=none,pooling=avg,activation=sigmoid",
    ),
    epochs=2,
    num_real=60,
    full_training=SHORT,
)


@pytest.fixture(scope="module")
def means(digits) -> dd.DistilledData:
    made = as_distilled(mean_images(digits, 2), SetShape(1, 1, 2), 0.01, dd.Protocol("dc", order="random"))
    return dataclasses.replace(made, transform=digits.transform, class_names=digits.class_names)


@pytest.fixture(scope="module")
def whole(digits, means, tmp_path_factory):
    """A finished search, and its directory."""
    out = tmp_path_factory.mktemp("search") / "nas"
    return search_architectures(means, digits, OPTIONS, out=out, show_progress=False), out


def same(one, other) -> bool:
    """Whether two searches found the same, to the last bit; what they took differs."""
    pairs = [(one.full.validation, other.full.validation), (one.full.test, other.full.test)]
    pairs += [(a.accuracies, b.accuracies) for a, b in zip(one.rankings, other.rankings, strict=True)]
    chosen = [(a.best, a.found, a.coefficients) == (b.best, b.found, b.coefficients) for a, b in
              zip(one.rankings, other.rankings, strict=True)]  # fmt: skip
    return all(np.array_equal(a, b, equal_nan=True) for a, b in pairs) and all(chosen) and one.best == other.best


@pytest.mark.slow
def test_every_way_is_measured_and_told(whole):
    search, out = whole
    assert [ranking.name for ranking in search.rankings] == ["distilled", *CORESETS, EARLY]
    assert search.names == OPTIONS.models
    assert all(np.isfinite(ranking.accuracies).all() for ranking in search.rankings)
    assert search.full.test.shape == (3, OPTIONS.num_full_nets)
    found = json.loads((out / "results.json").read_text())
    assert found["says"] == search.sentences()
    assert any("andom real images" in words for words in found["says"])
    assert found["says"][-1] == (
        "Candidates are trained on sets by 'dc', cut to 2 of 300 epochs; on real data in full by Adam, 1 epoch."
    )
    with open(out / "candidates.csv") as file:
        assert [row["candidate"] for row in csv.DictReader(file)] == list(OPTIONS.models)
    page = (out / "report.html").read_text()
    assert page.count("<svg") == len(search.rankings)
    assert "http" not in page.replace("http-equiv", "").replace("http://www.w3.org", "")


@pytest.mark.slow
def test_a_search_that_was_cut_short_gives_the_same_bits(whole, digits, means, tmp_path, monkeypatch, capsys):
    search, _ = whole
    rounds = []

    def cut(self, numbers, name, train=module._Crew._train):
        rounds.append(name)
        if len(rounds) == 9:  # within the second candidate
            raise KeyboardInterrupt
        train(self, numbers, name)

    monkeypatch.setattr(module._Crew, "_train", cut)
    with pytest.raises(KeyboardInterrupt):
        search_architectures(means, digits, OPTIONS, out=tmp_path / "nas", show_progress=False)
    kept = list((tmp_path / "nas" / "items").glob("*.json"))
    assert len(kept) == 1
    again = search_architectures(means, digits, OPTIONS, out=tmp_path / "nas", show_progress=False)
    assert same(search, again)
    assert "1 of 3 candidates were trained before" in capsys.readouterr().err

    # A damaged record is told, and made again; a whole one is not.
    kept[0].write_text(kept[0].read_text().replace("0.", "0.9", 1))
    rounds.clear()
    assert same(search, search_architectures(means, digits, OPTIONS, out=tmp_path / "nas", show_progress=False))
    assert "damaged" in capsys.readouterr().err
    assert len(rounds) == len(search.rankings) + 1

    with pytest.raises(RunError, match=r"options\.epochs: 2 there, 3 asked for"):
        search_architectures(means, digits, dataclasses.replace(OPTIONS, epochs=3), out=tmp_path / "nas")


@pytest.mark.slow
def test_candidates_that_are_trained_together_find_the_same(whole, digits, means, monkeypatch):
    """As on an accelerator, where all candidates of a family are one group."""
    monkeypatch.setattr(module, "_together", lambda: True)
    groups = []

    def seen(self, numbers, name, train=module._Crew._train):
        groups.append(len(numbers))
        train(self, numbers, name)

    monkeypatch.setattr(module._Crew, "_train", seen)
    assert same(whole[0], search_architectures(means, digits, OPTIONS, show_progress=False))
    assert set(groups) == {3}


@pytest.mark.slow
def test_what_was_chosen_is_trained_in_full_though_it_was_not_in_the_sample(whole, digits, means):
    """With three candidates of four in the sample, and one outside that every set would choose or not."""
    options = dataclasses.replace(OPTIONS, models=(*OPTIONS.models, "convnet:width=4,depth=1"), num_sample=3)
    search = search_architectures({"mine": means}, digits, options, show_progress=False)
    chosen = {ranking.best for ranking in search.rankings}
    assert search.sampled[sorted(chosen)].all()
    assert all(np.isfinite(ranking.found.mean) for ranking in search.rankings)


@pytest.mark.slow
def test_from_the_command_line(digits, means, tmp_path, capsys):
    dd.save_distilled(tmp_path / "set", means, {})
    words = ["--space.widths", "4", "--space.depths", "1", "--space.activations", "relu", "--space.poolings", "avg",
             "--full-training.epochs", "1", "--full-training.batch-size", "32", "--epochs", "1", "--num-real", "60",
             "--num-candidates", "3"]  # fmt: skip
    assert (
        main(["apply", "nas", str(tmp_path / "set"), "--dataset", "digits", *words, "--out", str(tmp_path / "o")]) == 0
    )
    assert "3 architectures ranked on digits" in capsys.readouterr().out
    assert (tmp_path / "o" / "report.html").is_file()


def taken(validation, test=None, seconds=1.0) -> Taken:
    validation = np.asarray(validation, float)[:, None]
    test = validation if test is None else np.asarray(test, float)[:, None]
    return Taken(validation, test, np.full(len(validation), seconds), np.zeros(len(validation)))


def test_a_perfect_ranking_is_told_beside_random_images():
    truth = np.linspace(0.1, 0.9, 12)
    ways = {"mine": taken(truth / 2), RANDOM: taken(-truth), FULL: taken(truth, seconds=2.0)}
    names = [(f"net {i}", i) for i in range(12)]
    search = summarise(names, ways, ("mine",), {"mine": 100}, {"mine": 30.0})
    mine = search.ranking("mine")
    assert mine.coefficients["spearman"].value == pytest.approx(1)
    assert mine.beyond_random is not None
    assert mine.beyond_random.value == pytest.approx(2)
    assert mine.best == search.best[0] == 11
    assert search.ranking(RANDOM).best == 0
    assert search.agreement is None
    assert [(one.with_distilling, one.num_trainings) for one in search.random_search] == [(False, 6), (True, 12)]
    assert search.random_search[1].found.mean == pytest.approx(0.9)
    assert "more than random real images" in search.sentences()[1]
    alike = summarise(names, {**ways, RANDOM: taken(truth)}, ("mine",), {}, {})
    assert "rank them as well" in alike.sentences()[1]


def test_the_best_of_some_at_random_is_chosen_on_validation():
    validation, test = np.array([0.1, 0.2, 0.3]), np.array([0.9, 0.5, 0.1])
    assert at_random(validation, test, 3).mean == pytest.approx(0.1)
    assert at_random(validation, test, 1).mean == pytest.approx(0.5, abs=0.05)
    # Of the three pairs, one has 1 as its best, and two have 2.
    assert at_random(validation, test, 2).mean == pytest.approx((0.5 + 2 * 0.1) / 3, abs=0.05)


def test_sets_of_real_images_have_the_bytes_of_the_distilled_one(digits, means):
    assert images_of_bytes(dd.storage_bytes(means), digits) == 2
    assert images_of_bytes(2 * dd.storage_bytes(means), digits) == 4
    assert images_of_bytes(int(1.9 * dd.storage_bytes(means)), digits) == 4  # the nearest number
    assert images_of_bytes(1, digits) == 1


def test_the_grid_of_the_paper():
    assert len(set(DC_SPACE.models())) == 720
    names = SearchSpace().models()
    assert len(set(names)) == len(names) == 3 * 3 * 4 * 3 * 3
    few = drawn(names, 7, 0)
    assert len(few) == 7
    assert few == drawn(names, 7, 0) != drawn(names, 7, 1)
    assert [name for name in names if name in few] == list(few)


def test_what_cannot_be_built_is_left_out_and_told(digits, capsys):
    names = ("convnet:width=4,depth=1", "convnet:width=4,depth=9", "convnet:width=6,norm=group")
    assert [candidate.name for candidate in candidates(names, digits)] == ["convnet:width=4,depth=1"]
    assert "2 of 3 candidates can't be built" in capsys.readouterr().err
    with pytest.raises(OptionError, match="No candidate"):
        candidates(names[1:], digits)
    with pytest.raises(OptionError, match="once"):
        candidates(2 * names[:1], digits)


def test_members_of_a_family_are_one_program(digits):
    found = candidates(SearchSpace((4, 8), (1, 2), poolings=("avg", "max")).models(), digits)
    assert len({candidate.family.init for candidate in found}) == 4
    assert len({str(candidate.choice) for candidate in found}) == 4 * 3 * 2


def test_what_makes_no_sense_is_refused(digits, means):
    def refused(words, error=OptionError, sets=means, **changes):
        with pytest.raises(error, match=words):
            search_architectures(sets, digits, dataclasses.replace(OPTIONS, **changes))

    refused("at least 3 candidates", num_candidates=2)
    refused("at least 3 candidates", num_sample=2)
    refused("num_nets must be at least 1", num_nets=0)
    refused("sets is empty", sets={})
    refused("Give the set another name", sets={RANDOM: means})
    refused("trained from scratch", protocol="as-distilled")
    small = dataclasses.replace(means, learnt={"images": means.images[:, :, :4]})
    refused("Load the dataset with the image_size", DataError, sets=small)
