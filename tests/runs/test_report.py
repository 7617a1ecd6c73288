"""The page on runs: what it says, what it shows, what it does without, and that it is whole and safe."""

import dataclasses
import io
import itertools
import json
import re
import shutil
from html.parser import HTMLParser

import numpy as np
import pytest
from made_runs import DIGITS, RESULTS, confusion, make_run, row
from PIL import Image

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.figures.encode import png, smaller_png
from dd_jax.parameterisation import Parameterisation
from dd_jax.runs.pictures import save_frame
from dd_jax.runs.report import pictures, write_report
from dd_jax.synthetic.graph import GRAPH
from dd_jax.types import Protocol

VOID = {"img", "input", "meta"}
CHARTS = ("accuracies", "validation", "loss", "steps", "classes")


class Page(HTMLParser):
    """A page taken apart: its tags with attributes, its text, and what isn't closed as it was opened."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.feed(text)
        self.close()
        self.wrong += self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(*paths, out=None) -> Page:
    return Page(write_report(paths, out).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A run with everything there can be."""
    steps = list(range(5))
    curve = np.linspace(0.1, 0.9, 5) + np.array([[-0.01], [0.01]])
    results = RESULTS | {"distilled": row(0.9, curve=curve, curve_steps=steps, confusion=confusion(10))}
    events = [{"step": 40, "event": "rolled back", "text": "the loss had risen to 12.5"}]
    return make_run(tmp_path_factory.mktemp("runs") / "full", results, events=events, frames=6, memory=3 * 2**30)


def test_a_whole_run_has_every_section(full):
    page = page_of(full)
    assert page.wrong == []
    for title in (
        "Distilled images", "How the images evolved", "Beside every baseline", "Validation while learning",
        "Outer loss", "Accuracy along inner training", "Step sizes", "Accuracy on each class", "What is taken for what",
        "Time and memory", "Events", "Configuration and provenance",
    ):  # fmt: skip
        assert title in page.text
    for said in (
        "the loss had risen to 12.5",
        "3.0 GiB",
        "50 s",
        "dd-jax distill --out 'a b'",
        "0123abcd+dirty",
        "6666",
    ):
        assert said in page.text
    assert "90.0 ± 1.0 %" in page.text
    for name, measured in RESULTS.items():
        assert name in page.text
        assert f"{100 * measured['mean']:.1f} ± {100 * measured['std']:.1f} %" in page.text


def test_the_page_is_whole_in_itself(full):
    text = write_report(full).read_text()
    assert "http:" not in text
    assert "https:" not in text
    assert "//" not in re.sub(r"data:image/png;base64,[\w+/=]+|sha256-[\w+/=]+", "", text)
    page = Page(text)
    assert {tag for tag, _ in page.tags}.isdisjoint({"link", "iframe", "object", "embed", "base", "form"})
    for _, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/png;base64,"))
    assert re.findall(r"url\((?!#)", text) == []
    assert "@import" not in text
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:")


def test_the_page_can_be_read_by_everyone(full):
    page = page_of(full)
    assert page.all("html")[0]["lang"] == "en"
    assert page.text.strip()
    assert all(image["alt"] for image in page.all("img"))
    drawings = page.all("svg")
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert all(header.get("scope") for header in page.all("th") if header != {})
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_every_step_and_class_has_its_image_and_sizes(full):
    page = page_of(full)
    alts = [image["alt"] for image in page.all("img")]
    assert [alt for alt in alts if alt.endswith(", step 1")] == [f"{name}, step 1" for name in DIGITS]
    assert len(alts) == 20 + 6
    assert "η 0.5–0.23" in page.text  # of the first step: the first and the third of four sizes from 0.5 to 0.1


def test_charts_have_colours_of_the_page_and_nothing_random(full):
    text = write_report(full).read_text()
    drawings = re.findall(r"<svg.*?</svg>", text, re.S)
    assert len(drawings) == 6  # and the confusion matrix of ten classes is a table
    for drawing in drawings:
        assert "currentColor" in drawing
        assert "<text" in drawing
        assert not re.search(r"#222222|#8a8a8a|#0072b2|fill: #ffffff|<metadata", drawing)
    assert write_report(full).read_text() == text


def test_the_same_run_gives_the_same_bytes_in_another_place(full, tmp_path):
    shutil.copytree(full, tmp_path / "full")
    assert write_report(full).read_bytes() == write_report(tmp_path / "full").read_bytes()


# What the run gives.

HOSTILE = (
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "a & b", "$\\frac{1}{", "new\nline\x00", "]]>",
    "x" * 300, "</style></svg></title>", "猫 and ' quote", "{percent:%s}",
)  # fmt: skip


def test_hostile_names_are_text(tmp_path):
    bad = HOSTILE[0]
    results = {"distilled": row(0.9, confusion=confusion(10)), f"k-{bad}": row(0.5, chosen=HOSTILE[1])}
    run = make_run(
        tmp_path / "a<b>&'c", results, classes=HOSTILE, dataset=bad, model=HOSTILE[7], pretrained=HOSTILE[1], frames=2,
        events=[{"step": 20, "event": bad, "text": HOSTILE[1]}], protocol=Protocol(pretrained="abcd"),
    )  # fmt: skip
    text = write_report(run).read_text()
    page = Page(text)
    assert page.wrong == []
    assert len(page.all("script")) == 1
    assert "onerror" not in {name for _, attributes in page.tags for name in attributes}
    assert "\x00" not in text
    assert bad in page.text
    several = page_of(run, run, out=tmp_path / "two.html")
    assert several.wrong == []
    assert len(several.all("script")) == 1


def test_a_run_is_shown_with_what_is_there(tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps({"config": {}}))
    page = page_of(bare)
    assert "There is no distilled set in this directory" in page.text
    assert "not finished" in page.text
    assert page.all("svg") == []


def test_results_without_a_set_are_shown(tmp_path):
    page = page_of(make_run(tmp_path / "run", distilled=False))
    assert "20 distilled images of digits train mlp to 90.0 ± 1.0 %" in page.text
    assert "There is no distilled set" in page.text


def test_many_classes_and_steps_are_limited_and_it_says_so(tmp_path):
    results = {"distilled": row(0.5, num_classes=100, confusion=confusion(100)), "k-means": row(0.4, num_classes=100)}
    names = tuple(f"class {i}" for i in range(100))
    run = make_run(tmp_path / "run", results, classes=names, num_batches=40, shape=(12, 12, 3), frames=50)
    page = page_of(run)
    assert "Shown: 12 of 40 steps, the first 20 of 100 classes" in page.text
    assert f"Shown: {pictures.MAX_FRAMES} of 50 frames" in page.text
    assert "The 20 of 100 classes with the lowest accuracy" in page.text
    assert any("Heat map" in drawing["aria-label"] for drawing in page.all("svg"))
    assert (run / "report.html").stat().st_size < 8e6


def test_large_images_leave_the_page_small(tmp_path):
    names = tuple(f"class {i}" for i in range(30))
    run = make_run(
        tmp_path / "run", {"distilled": row(0.5, num_classes=30)}, classes=names, num_batches=1, shape=(224, 224, 3)
    )
    page = page_of(run)
    assert [image["alt"] for image in page.all("img")] == [f"Distilled image of {name}" for name in names]
    assert (run / "report.html").stat().st_size < 3e6


@pytest.mark.parametrize("side", [4, 5, 7, 20])
def test_reduced_images_keep_their_mean_and_stay_within_the_side(side):
    image = np.random.default_rng(0).uniform(size=(20, 20, 3))
    reduced = pictures.reduced(image, side)
    assert max(reduced.shape) <= side
    if 20 % side == 0:
        np.testing.assert_allclose(reduced.mean((0, 1)), image.mean((0, 1)))
    np.testing.assert_array_equal(pictures.reduced(image, 20), image)


def test_classes_that_were_never_seen_do_no_harm(tmp_path):
    unseen = row(0.9)
    unseen["per_class"] = ["nan" if i == 3 else 0.9 for i in range(10)]
    matrix = confusion(10).tolist()
    matrix[3] = ["nan"] * 10
    page = page_of(make_run(tmp_path / "run", {"distilled": unseen | {"confusion": matrix}, "k-means": unseen}))
    assert not re.search(r"\bnan\b", page.text)


# Several runs.


def png_frame():
    return png(np.zeros((4, 4, 3)))


@pytest.mark.parametrize(
    ("labels", "protocol", "said"),
    [
        ([[0, 1, 2]], Protocol(), "Columns are classes."),
        ([[0, 0, 1, 1]], Protocol("dc"), "Columns are classes, rows are the 2 images of each."),
        ([[0, 1], [0, 1]], Protocol(), "Columns are classes, rows are steps."),
        ([[0, 0, 1], [0, 0, 1]], Protocol(), "Columns are classes, rows are steps, 2 images of a class in each."),
        ([[0, 1], [0, 1]], Protocol(order="random"), "Columns are classes, rows are batches."),
    ],
)
def test_the_caption_of_the_evolution_says_what_rows_are(labels, protocol, said):
    images = np.zeros((*np.shape(labels), 4, 4, 1), np.float32)
    distilled = dd.distilled_from_arrays(images, np.array(labels), class_names=("a", "b", "c")[: np.max(labels) + 1])
    distilled = dataclasses.replace(distilled, protocol=protocol)
    assert f">{said}<" in pictures.evolution([(0, png_frame()), (1, png_frame())], distilled)


def test_the_caption_of_a_graph_says_what_is_drawn():
    learnt = {"features": np.ones((1, 4, 3), np.float32), "adjacency": np.ones((4, 4), np.float32)}
    labels = np.array([[0, 0, 1, 1]])
    distilled = dd.DistilledData(learnt, labels, np.ones(1, np.float32), parameterisation=Parameterisation(GRAPH))
    said = pictures.evolution([(0, png_frame())], distilled)
    assert "Columns are classes" not in said
    assert distilled.parameterisation.kind.pictures.small_words in said


def test_a_set_of_unequal_classes_tells_their_range(tmp_path):
    labels = np.array([[0, 1, 1, 1]])
    path = make_run(tmp_path / "run", {"distilled": row(0.9, num_classes=2)}, classes=("a", "b"))
    images = np.zeros((1, 4, 8, 8, 1), np.float32)
    dd.save_distilled(path / "distilled", dd.distilled_from_arrays(images, labels, class_names=("a", "b")), {})
    assert "1 to 3 of a class" in page_of(path).text


def test_between_the_images_of_a_frame_the_page_shines_through(tmp_path):
    images = np.random.default_rng(0).normal(size=(2, 3, 4, 4, 3)).astype(np.float32)
    save_frame(tmp_path, 1, dd.distilled_from_arrays(images, np.tile(np.arange(3), (2, 1))))
    data = (tmp_path / "step_00000001.png").read_bytes()
    for found, gap, size in ((data, 4, (14, 9)), (smaller_png(data, 1), 4, (14, 9))):
        with Image.open(io.BytesIO(found)) as image:
            assert image.size == size
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
        assert not alpha[:, gap].any()
        assert not alpha[gap].any()
        assert (alpha == 0).sum() == 2 * 9 + 14 - 2


def test_several_runs_are_side_by_side_and_then_one_by_one(full, tmp_path, monkeypatch):
    other = make_run(tmp_path / "other", RESULTS | {"distilled": row(0.7)}, seed=1)
    unfinished = make_run(tmp_path / "third", None, outer_steps=(40, 100))
    monkeypatch.chdir(tmp_path)
    made = write_report([full, other, unfinished])
    assert made.resolve() == tmp_path / "report.html"
    page = Page(made.read_text())
    assert page.wrong == []
    assert "3 runs side by side" in page.text
    assert "The highest accuracy is that of full, 90.0 ± 1.0 %: 20.0 points above other" in page.text
    assert "Not measured on test: third" in page.text
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {"run-1", "run-2", "run-3"} <= set(ids)
    assert {link["href"] for link in page.all("a")} == {"#run-1", "#run-2", "#run-3"}
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [make_run(tmp_path / folder / "run") for folder in "ab"]
    page = page_of(*runs, out=tmp_path / "page.html")
    assert "run (1)" in page.text
    assert "run (2)" in page.text


# Other ways to ask.


def test_the_command_says_where_the_page_is(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert main(["report", str(run), str(run), "--out", str(tmp_path / "deep" / "page.html")]) == 0
    assert "2 runs side by side" in (tmp_path / "deep" / "page.html").read_text()


@pytest.mark.parametrize(
    ("words", "said"), [([], "Name at least one run directory"), (["nowhere"], "There is no folder nowhere")]
)
def test_the_command_says_what_is_wrong(words, said, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert main(["report", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_library_has_it_as_report(tmp_path):
    run = make_run(tmp_path / "run")
    assert dd.report(run) == run / "report.html"
    assert dd.report(str(run), tmp_path / "x.html") == tmp_path / "x.html"
