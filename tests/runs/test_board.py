"""A board of sets: what it holds, and that it sorts and filters in a browser without asking for anything."""

import json
import shutil

import pytest
from browser import Browser, find_browser
from made_runs import make_run, row

from dd_jax.cli import main
from dd_jax.errors import DataError
from dd_jax.runs.report.board import AUDIT, TRANSFER, entries, write_board


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
    assert many.baseline == ("class mean", pytest.approx(0.7))
    assert many.gain == pytest.approx(0.11)
    assert many.robustness is None
    best = found["best"]
    assert best.robustness == (pytest.approx(0.6), 2)  # without its own network
    assert best.gain == pytest.approx(-0.05)
    assert best.num_bytes > many.num_bytes
    theirs = found["theirs"]
    assert theirs.baseline == ("k-means", 0.6)
    assert theirs.robustness == (0.75, 1)
    assert theirs.seconds is None


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
