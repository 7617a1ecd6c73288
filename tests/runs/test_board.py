"""A board of sets: what it holds, and that it sorts and filters in a browser without asking for anything."""

import json
import shutil

import pytest
from browser import Browser, find_browser
from made_runs import make_run, row

from dd_jax.cli import main
from dd_jax.errors import DataError
from dd_jax.outcomes.spread import spread_of
from dd_jax.runs.report.board import board, write_board
from dd_jax.runs.report.board_entries import AUDIT, TRANSFER, entries, network, protocol
from dd_jax.storage import load_distilled


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Three seeds of one method, a better run, one of other data, and an audited set from elsewhere."""
    folder = tmp_path_factory.mktemp("sets")
    for seed in range(3):
        results = {"distilled": row(0.80 + 0.01 * seed), "random real": row(0.6), "class mean": row(0.7)}
        make_run(folder / "many" / f"many-seed{seed}", results, seed=seed)
    best = make_run(folder / "best", {"distilled": row(0.9), "random real": row(0.95)}, num_batches=5)
    both = {"distilled": {"mean": 0.5, "std": 0.0, "n": 5}, "random real": {"mean": 0.4, "std": 0.0, "n": 5}}
    others = {"mlp (its own)": both, "lenet": both, "convnet": {**both, "distilled": {"mean": 0.7, "std": 0, "n": 5}}}
    (best / TRANSFER).write_text(json.dumps({"by network": others}))
    make_run(folder / "letters", {"distilled": row(0.99, n=1)}, dataset="letters")
    theirs = folder / "theirs"
    shutil.copytree(best / "distilled", theirs)
    rows = [("own protocol", "the set", 0.85), ("own protocol", "random real", 0.5), ("own protocol", "k-means", 0.6)]
    rows += [("other networks", "the set", 0.75), ("other networks", "random real", 0.6)]
    named = [{"part": p, "name": n, "network": "gcn", "mean": m, "std": 0.01, "n": 5} for p, n, m in rows]
    (theirs / "audit").mkdir()
    (theirs / AUDIT).write_text(json.dumps({"rows": named, "dataset": "digits", "set": {"size": "100 images"}}))
    return folder


def test_runs_that_differ_in_their_seed_are_one_set_and_audits_count(sets):
    found = {one.name: one for one in entries([sets / "many", sets / "best", sets / "letters", sets / "theirs"])}
    assert [one.name for one in found.values()] == ["best", "theirs", "many", "letters"]
    many = found["many"]
    assert (many.distillations, many.num_nets, many.result.n) == (3, 20, 3)
    assert many.result.mean == pytest.approx(0.81)
    assert many.networks == pytest.approx(0.01)
    assert (many.baseline.name, many.baseline.accuracy.mean) == ("class mean", pytest.approx(0.7))
    assert many.gain.points == pytest.approx(11)
    assert many.robustness.accuracy is None
    best = found["best"]
    assert best.robustness.accuracy == pytest.approx(spread_of([0.5, 0.7]))  # without its own network
    assert best.robustness.networks == ("lenet", "convnet")
    assert best.gain.points == pytest.approx(-5)
    assert best.num_bytes > many.num_bytes
    theirs = found["theirs"]
    assert (theirs.baseline.name, theirs.baseline.accuracy) == ("k-means", (0.6, 0.01, 5))
    assert theirs.robustness.accuracy == (0.75, 0, 1)
    assert theirs.seconds is None


def test_what_several_distillations_measured_is_taken_over_all_of_them(tmp_path):
    """A measurement that they share counts once; time is their mean; networks of one set are those of its own."""
    own = [{"random real": row(0.6, n=4), "class mean": row(0.5 + 0.4 * seed, n=4)} for seed in range(2)]
    for seed, results in enumerate(own):
        path = make_run(tmp_path / f"a-seed{seed}", {"distilled": row(0.8), **results}, seed=seed)
        found = json.loads((path / "results.json").read_text())
        found["distilling"]["seconds"] = 3 + 21 * seed
        (path / "results.json").write_text(json.dumps(found))
        both = {"distilled": {"mean": 0.5 + 0.2 * seed, "std": 0.0, "n": 5}}
        (path / TRANSFER).write_text(json.dumps({"by network": {"lenet": both}}))
    (one,) = entries([tmp_path])
    assert (one.baseline.name, one.baseline.accuracy.mean, one.baseline.accuracy.n) == ("class mean", 0.7, 8)
    assert one.robustness.accuracy == pytest.approx((0.6, 0, 1))
    assert one.robustness.sets == 2
    assert one.seconds == pytest.approx(13.5)
    for seed in range(2):
        results = {"distilled": row(0.8), "random real": row(0.6, n=4)}
        make_run(tmp_path / "b" / f"b-seed{seed}", results, seed=seed)
    (one,) = entries([tmp_path / "b"])
    assert one.baseline.accuracy.n == 4
    page = board([one])
    assert "60.0\u00a0±\u00a01.0\u00a0%<small>random real, n\u00a0=\u00a04</small>" in page
    assert "+20.0\u00a0±\u00a01.2" in page


def test_audits_and_transfers_that_were_cut_short_do_not_count_as_whole(sets, tmp_path):
    path = shutil.copytree(sets / "best", tmp_path / "best")
    cut = {"number": 20, "whole": 300, "unit": "epoch"}
    found = json.loads((path / TRANSFER).read_text())
    (path / TRANSFER).write_text(json.dumps({**found, "length": cut}))
    (one,) = entries([path])
    assert one.robustness.accuracy is None
    assert one.robustness.left_out == ("transfer, cut to 20 of 300 epochs",)
    assert "left out: transfer, cut to 20 of 300 epochs" in board([one])
    theirs = shutil.copytree(sets / "theirs", tmp_path / "theirs")
    audit = json.loads((theirs / AUDIT).read_text())
    audit["rows"] = [{**line, "length": cut} for line in audit["rows"]]
    audit["model"] = {"name": "convnet", "width": 4, "depth": 2, "norm": "instance"}
    (theirs / AUDIT).write_text(json.dumps(audit))
    (one,) = entries([theirs])
    assert one.robustness.left_out == ("audit, cut to 20 of 300 epochs",)
    assert one.network == "convnet, width\u00a04, depth\u00a02"
    assert one.protocol == "as-distilled, 10 steps", "learnt steps are never cut"
    for line in audit["rows"]:
        del line["length"]
    (theirs / AUDIT).write_text(json.dumps(audit))
    (theirs / "audit" / "config.json").write_text(json.dumps({"config": {"options": {"epochs": 20}}}))
    (one,) = entries([theirs])
    assert one.robustness.left_out == ("audit, 20 epochs in place of the protocol's",), "of a version without lengths"


def test_columns_tell_networks_and_learnt_steps_apart(sets):
    assert network({"name": "mlp", "hidden": [64], "initialiser": "xavier"}) == "mlp, hidden\u00a064"
    assert network({"name": "mlp", "hidden": [8, 4], "initialiser": "x"}) == (
        "mlp, hidden\u00a0(8,\u00a04), initialiser\u00a0x"
    )
    assert network({"name": "mine.py:Net", "kind": "a"}) == "mine.py:Net, kind\u00a0a"
    assert protocol(load_distilled(sets / "best" / "distilled")) == "as-distilled, 10 steps"
    assert protocol(load_distilled(sets / "letters" / "distilled")) == "as-distilled, 4 steps"
    page = board(entries([sets / "best", sets / "letters"]))
    assert 'data-value="20">20\u00a0images' in page, "sorted by their number"


def test_what_is_no_set_is_said(sets, tmp_path, capsys):
    with pytest.raises(DataError, match="use dd-jax audit"):
        entries([sets / "best" / "distilled"])
    shutil.copytree(sets / "theirs", tmp_path / "theirs")
    (tmp_path / "theirs" / AUDIT).write_text('{"rows": []}')
    with pytest.raises(DataError, match="is damaged: it is not an audit of a set"):
        entries([tmp_path / "theirs"])
    (tmp_path / "theirs" / AUDIT).write_text("[")
    with pytest.raises(DataError):
        entries([tmp_path / "theirs"])
    best = shutil.copytree(sets / "best", tmp_path / "best")
    (best / TRANSFER).write_text('{"by network": {"lenet": {}}}')
    with pytest.raises(DataError, match=r"in .*best is damaged"):
        entries([best])
    assert main(["board", str(sets / "best"), "-o", str(tmp_path / "new" / "b.html")]) == 0
    assert (tmp_path / "new" / "b.html").read_text().startswith("<!DOCTYPE html>")
    capsys.readouterr()
    assert main(["board"]) == 2
    assert "Name run directories" in capsys.readouterr().err


NAMES = """[...document.querySelectorAll(".board tbody tr")].filter((row) => row.offsetHeight > 0)
  .map((row) => row.cells[0].textContent)"""
CLICK = "[...document.querySelectorAll('.board thead button')].find((b) => b.textContent === '{}').click()"
TYPE = "(() => {{ const box = document.querySelector('.filters {}'); box.value = '{}'; " \
       "box.dispatchEvent(new Event('input')); }})()"  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(find_browser() is None, reason="there is no chromium or google-chrome on the PATH")
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash to start the browser with")
def test_it_sorts_and_filters_in_a_browser(sets, tmp_path):
    page = write_board([sets], tmp_path / "board.html")
    page = write_board([sets / "many", sets / "best", sets / "letters", sets / "theirs"], page)
    with Browser() as browser:
        browser.open(page, 1200)
        assert browser.run(NAMES) == ["best", "theirs", "many", "letters"]
        assert browser.run("document.querySelectorAll('[aria-sort]').length") == 0  # by dataset, and then by accuracy
        browser.run(CLICK.format("bytes"))
        assert browser.run(NAMES)[-2:] in (["best", "theirs"], ["theirs", "best"])
        first = browser.run(NAMES)
        browser.run(CLICK.format("bytes"))
        assert browser.run(NAMES)[0] in ("best", "theirs")
        assert sorted(browser.run(NAMES)) == sorted(first)
        browser.run(CLICK.format("other networks"))
        assert browser.run(NAMES)[:2] == ["theirs", "best"]  # those that weren't measured last, either way
        browser.run(CLICK.format("other networks"))
        assert browser.run(NAMES)[:2] == ["best", "theirs"]
        assert browser.run("document.querySelectorAll('[aria-sort]').length") == 1
        browser.run(CLICK.format("set"))
        assert browser.run(NAMES) == ["best", "letters", "many", "theirs"]
        browser.run(CLICK.format("size"))
        assert browser.run(NAMES)[-2:] in (["best", "theirs"], ["theirs", "best"]), "50 images after 20"
        content = "getComputedStyle([...document.querySelectorAll('.board thead button')][0], '::after').content"
        assert "\u2195" in browser.run(content), "a header shows that it sorts"
        box = "document.querySelector('.scroll').scrollLeft = 300"
        assert browser.run(f"{box}, document.querySelector('.board tbody th').getBoundingClientRect().left") == (
            browser.run("document.querySelector('.scroll').getBoundingClientRect().left")
        ), "the name stays"
        browser.run(CLICK.format("set"))
        browser.run(TYPE.format("select", "digits"))
        assert browser.run(NAMES) == ["best", "many", "theirs"]
        browser.run(TYPE.format("input", "K-MEANS"))
        assert browser.run(NAMES) == ["theirs"]
        assert browser.run("document.querySelector('.filters output').textContent") == "1 of 4 sets"
        browser.run(TYPE.format("input", ""))
        for width in (360, 1200):
            browser.open(page, width, dark=width == 360)
            assert browser.run("document.documentElement.scrollWidth") <= width
        browser.open(page, 1200, scripts=False)
        assert browser.run(NAMES) == ["best", "theirs", "many", "letters"]
        assert browser.run("document.querySelector('.filters').offsetHeight") == 0
        assert [url for url in set(browser.requests) if not url.startswith("data:")] == [page.as_uri()]
        assert browser.errors == []
