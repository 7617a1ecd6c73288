"""Privacy: adversaries know nothing where nothing leaks and everything where all does, and studies go on."""

import dataclasses
import json

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.applications import PrivacyOptions, measure_privacy
from dd_jax.applications import privacy as module
from dd_jax.applications.membership import (
    ADVERSARIES,
    area,
    confidences,
    halves,
    leak,
    likelihood_ratios,
    rate_at,
    roc,
)
from dd_jax.applications.privacy_page import plain_privacy, privacy_page
from dd_jax.applications.privacy_result import (
    ALL,
    DISTILLED,
    RANDOM,
    SUBSET,
    Copies,
    Privacy,
    Way,
    cells,
    lines_of,
)
from dd_jax.applications.ranking import Interval
from dd_jax.cli import main
from dd_jax.errors import OptionError
from dd_jax.evaluation.coresets import SetShape, as_distilled, random_images

NET = "mlp:hidden=(8,)"
OPTIONS = PrivacyOptions(
    num_worlds=6, num_members=8, epochs=2, full_training=dd.Training(epochs=1, batch_size=20, drop_last=False)
)


# Adversaries.


def test_every_candidate_is_a_member_in_one_world_of_each_pair():
    labels = np.repeat(np.arange(3), 10)
    members = halves(labels, 8, seed=0)
    assert (members[::2] == ~members[1::2]).all()
    for world in members:
        assert np.bincount(labels[world]).tolist() == [5, 5, 5]
    assert len(np.unique(members, axis=0)) == 8
    for worlds in (4, 7):
        with pytest.raises(OptionError, match="even and at least 6"):
            halves(labels, worlds, 0)
    with pytest.raises(OptionError, match="needs an even number of candidates"):
        halves(labels[:-1], 6, 0)


def test_confidence_is_the_logit_of_the_probability():
    logits = np.random.default_rng(0).normal(size=(2, 5, 4))
    labels = np.array([0, 3, 1, 2, 2])
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    p = p[:, np.arange(5), labels]
    np.testing.assert_allclose(confidences(logits, labels), np.log(p / (1 - p)))
    assert np.isfinite(confidences(1000 * logits, labels)).all()  # where p is 1 in floating point


def test_a_roc_curve_is_that_of_scikit_learn():
    from sklearn.metrics import roc_auc_score, roc_curve

    generator = np.random.default_rng(1)
    members = generator.random(300) < 0.4
    scores = np.round(generator.normal(size=300) + members, 1)  # with equal ones
    false, true = roc(scores, members)
    theirs = roc_curve(members, scores, drop_intermediate=False)
    np.testing.assert_allclose([false, true], theirs[:2])
    assert area(false, true) == pytest.approx(roc_auc_score(members, scores))
    assert rate_at(false, true, 0.01) == max(t for f, t in zip(false, true, strict=True) if f <= 0.01)


def drawn(worlds, shift, seed=0, count=400):
    """Confidences that are normal, of another mean for each candidate, and higher by `shift` where it is a member."""
    generator = np.random.default_rng(seed)
    members = halves(np.zeros(count, int), worlds, seed)
    found = generator.normal(0, 3, count) + generator.normal(size=(worlds, count)) + shift * members
    return found, members


@pytest.mark.parametrize("name", ADVERSARIES)
def test_nothing_leaks_where_members_are_as_others(name):
    told, alone = [], []
    for seed in range(20):
        found, members = drawn(8, 0.0, seed, 200)
        scores = ADVERSARIES[name](found, members)
        told.append(leak(scores, members))
        alone += [area(*roc(*world)) for world in zip(scores, members, strict=True)]
    assert np.mean(alone) == pytest.approx(0.5, abs=0.01)  # 0.04 of each of 160, of which pairs are alike: two errors
    assert np.mean([one.auc.value for one in told]) == pytest.approx(0.5, abs=0.015)
    assert np.mean([one.auc.low < 0.5 < one.auc.high for one in told]) >= 0.85  # of 0.95, two standard errors below
    assert np.mean([one.rates[1].value for one in told]) < 0.02


def test_likelihood_ratios_find_what_a_threshold_does_not():
    """Where candidates differ by more than membership adds; and as well as the theory says, for many worlds."""
    from scipy.stats import norm

    found, members = drawn(40, 2.0, count=200)
    by_loss, by_ratio = (leak(rule(found, members), members) for rule in ADVERSARIES.values())
    assert by_loss.auc.value == pytest.approx(norm.cdf(2 / np.sqrt(2 * 10)), abs=0.02)
    assert by_ratio.auc.value == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.02)
    assert by_ratio.rates[1].value == pytest.approx(norm.sf(norm.isf(0.01) - 2), abs=0.08)
    assert by_ratio.auc.low < by_ratio.auc.value < by_ratio.auc.high
    assert by_ratio.auc.low > by_loss.auc.high


def test_the_world_itself_and_its_partner_count_nothing_in_its_ratios():
    found, members = drawn(8, 1.0)
    ratios = likelihood_ratios(found, members)
    changed = found.copy()
    changed[1] += 100
    np.testing.assert_array_equal(likelihood_ratios(changed, members)[0], ratios[0])
    assert not np.array_equal(likelihood_ratios(changed, members)[2], ratios[2])


def test_rates_that_so_few_non_members_cannot_resolve_are_not_told():
    found, members = drawn(6, 1.0, count=100)
    few = leak(found, members)
    assert few.num_others == 300
    assert cells(few)[1] == "–", "0.3 of a person"
    assert cells(few)[2].startswith(f"{100 * few.rates[1].value:.1f} % [")
    found, members = drawn(10, 1.0, count=200)
    assert "–" not in cells(leak(found, members)), "one of 1,000"
    study = made(few)
    assert study.unresolved == [
        "True positive rates at 0.1 % false positives can't be told: of 300 non-members in all worlds that is 0.3, "
        "less than one person."
    ]
    assert study.unresolved[0] in study.sentences()
    assert "A dash: too few non-members" in study.explanation
    rates = plain_privacy(study)["ways"][ALL]["leaks"]["LiRA"]["rates"]
    assert rates["0.001"] is None
    assert rates["0.01"]["value"] == few.rates[1].value


def made(found, inside=(0.77, 0.66, 0.87)):
    """A study whose ways all leak as `found`."""
    small, full = "'dc', cut to 20 of 300 epochs", "Adam, 2 epochs"
    ways = [Way(name, 10, (0.1, 0.2), {"LiRA": found}, small if name in (DISTILLED, RANDOM) else full)
            for name in (DISTILLED, RANDOM, SUBSET, ALL)]  # fmt: skip
    return Privacy("digits", "mlp", 6, 100, tuple(ways), Copies(Interval(*inside), (0.4, 0.6)))


def test_a_study_names_its_trainings_spreads_and_intervals():
    study = made(leak(*drawn(6, 1.0, count=100)))
    assert [line[2] for line in lines_of(study)] == 2 * ["'dc', cut to 20 of 300 epochs"] + 2 * ["Adam, 2 epochs"]
    said = " ".join(study.sentences())
    assert "(both: 'dc', cut to 20 of 300 epochs), of all members 15.0" in said
    assert "(Adam, 2 epochs)" in said
    assert "Wilson's 95 % interval, as if cases were independent: 66 to 87 %" in said
    for words in ("± standard deviation over worlds", "95 % bootstrap", "Rows whose training differs are no contest"):
        assert words in study.explanation
        assert words in privacy_page(study)


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (0.49, 0.74, "can't be told from chance"),
        (0.5, 0.74, "can't be told from chance"),
        (0.5003, 0.74, "hardly told from chance"),
        (0.506, 0.74, "more than by chance"),
        (0.3, 0.4998, "hardly told from chance"),
        (0.3, 0.4, "less than by chance"),
    ],
)
def test_what_leaks_is_decided_by_the_interval_as_it_is(low, high, says):
    one = leak(*drawn(6, 1.0, count=100))._replace(auc=Interval(0.62, low, high))
    assert f"0.62 [{low:.2f}, {high:.2f}]: {says}." in made(one, (0.5, low, high)).sentences()[0]
    assert f"half by chance): {says}." in made(one, (0.5, low, high)).sentences()[-1]


# Studies.


def real(task, model, seed, out):
    """In place of a distilled set: one real image of each class."""
    del model, out
    made = as_distilled(random_images(task, 1, seed), SetShape(1, 1, 1), 0.01, dd.Protocol("dc", order="random"))
    return dataclasses.replace(made, transform=task.transform, class_names=task.class_names)


@pytest.fixture(scope="module")
def study(digits, tmp_path_factory):
    out = tmp_path_factory.mktemp("privacy") / "p"
    return measure_privacy(digits, real, NET, OPTIONS, out=out), out


@pytest.mark.slow
def test_a_set_of_real_images_is_found_out(study):
    """All are copies, and of members."""
    found, out = study
    assert [way.name for way in found.ways] == [DISTILLED, RANDOM, SUBSET, ALL]
    assert [way.size for way in found.ways] == [10, 10, 20, 80]
    assert found.copies.inside.value == 1
    assert found.copies.inside.low < 1
    assert max(found.copies.distances) == pytest.approx(0, abs=1e-5)
    assert len(found.copies.distances) == 60
    assert "60 of 60 are nearer" in found.sentences()[-1]
    assert found.way(DISTILLED).training == "'dc', cut to 2 of 300 epochs"
    assert found.way(ALL).training == "Adam, 1 epoch"
    written = json.loads((out / "results.json").read_text())
    assert written["says"] == found.sentences()
    assert set(written["ways"]["distilled"]["leaks"]) == set(ADVERSARIES)
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 2
    assert "TPR at 0.1 % FPR" in page
    assert (out / "roc.csv").read_text().startswith("trained on,adversary,false positive rate")


@pytest.mark.slow
def test_a_study_that_was_cut_short_gives_the_same(study, digits, tmp_path, monkeypatch, capsys):
    straight, _ = study
    seen = []

    def cut(self, name, given=module._Study._given):
        seen.append(name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return given(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(module._Study, "_given", cut)
        with pytest.raises(KeyboardInterrupt):
            measure_privacy(digits, real, NET, OPTIONS, out=tmp_path)
    kept = tmp_path / "items" / "random-real.json"
    kept.write_text(kept.read_text().replace("1", "2", 1))
    capsys.readouterr()
    again = measure_privacy(digits, real, NET, OPTIONS, out=tmp_path)
    assert "damaged" in capsys.readouterr().err
    for one, other in zip(again.ways, straight.ways, strict=True):
        assert one.accuracies == other.accuracies
        for name in ADVERSARIES:
            np.testing.assert_array_equal(one.leaks[name].curve, other.leaks[name].curve)
    assert again.copies == straight.copies


@pytest.mark.slow
def test_each_network_sees_the_images_of_its_world(digits, monkeypatch):
    """The first network is the one that `fit` trains on them."""
    import jax

    from dd_jax.inner import draw_networks, fit, keys_of
    from dd_jax.types import Batch

    study = module._Study(digits, NET, real, OPTIONS, module.Records(None), lambda: False)
    batch, training = study._given(ALL)
    logits, right = study._logits(batch, training)
    number = 3
    key = keys_of(module._SEED, np.arange(6))[number]
    params = jax.tree.map(lambda leaf: leaf[0], draw_networks(study.model, key[None]))
    params = fit(study.model.apply, params, key, Batch(batch.images[number], batch.labels[number]), training)
    np.testing.assert_allclose(logits[number, 0], study.model.apply(params, study.candidates.images), atol=1e-4)
    tested = np.asarray(study.model.apply(params, digits.test.images)).argmax(-1)
    assert right[number, 0] == pytest.approx((tested == np.asarray(digits.test.labels)).mean())
    mine = np.asarray(study.worlds[number].dataset.train.images)
    assert {one.tobytes() for one in mine} == {one.tobytes() for one in np.asarray(batch.images[number])}


@pytest.mark.slow
def test_from_the_command_line(tmp_path, capsys):
    words = ["--method", "dm", "--dataset", "digits", "--model", NET, "--images-per-class", "1"]
    words += ["--num-outer-steps", "1", "--num-eval-nets", "1", "--num-worlds", "6", "--num-members", "3"]
    words += ["--epochs", "1", "--full-training.epochs", "1", "--out", str(tmp_path / "o")]
    assert main(["apply", "privacy", *words]) == 0
    printed = capsys.readouterr().out
    assert "Who was a member? 6 halves of 60 images" in printed
    assert (tmp_path / "o" / "distilled" / "world-5").is_dir()


def test_what_makes_no_sense_is_refused(digits):
    def refused(words, **changes):
        with pytest.raises(OptionError, match=words):
            measure_privacy(digits, real, NET, dataclasses.replace(OPTIONS, **changes))

    refused("even and at least 6", num_worlds=5)
    refused("needs 2000 training images of each class", num_members=1000)
    refused("num_subset must be from 1 to 8", num_subset=9)
    refused("num_nets must be at least 1", num_nets=0)
    refused("in minibatches", protocol="as-distilled")
