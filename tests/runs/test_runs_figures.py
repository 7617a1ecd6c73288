import importlib
import inspect
import re
from xml.etree import ElementTree

import jax.numpy as jnp
import numpy as np
import pytest

from dd_jax.figures.charts import (
    Bar,
    Series,
    bars_figure,
    dots_figure,
    heat_figure,
    lines_figure,
    shortened,
)
from dd_jax.figures.encode import png, png_size, smaller_png, svg
from dd_jax.figures.plots import _spread, steps_figure
from dd_jax.figures.sheet import MAX_ROWS, _shown_steps, _stretched
from dd_jax.runs.pictures import save_curve, save_images, save_steps
from dd_jax.types import DistilledData, Transform


def distilled(num_batches, classes, channels=1, size=4, soft=False, names=()):
    shape = (num_batches, len(classes), size, size, channels)
    labels = jnp.tile(jnp.asarray(classes, jnp.int32), (num_batches, 1))
    return DistilledData(
        {"images": jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)},
        labels=jnp.eye(max(classes) + 1)[labels] if soft else labels,
        step_sizes=jnp.full(num_batches * 3, 0.02),
        transform=Transform("standardise", {"mean": jnp.full(channels, 0.5), "std": jnp.full(channels, 0.2)}),
        class_names=names,
    )


def size_of(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.mark.parametrize(
    "made",
    [
        distilled(3, [0, 1, 2], names=("a", "automobile", "c")),
        distilled(1, [0, 0, 2], channels=3),
        distilled(40, [1, 0] * 5, soft=True),
        distilled(1, list(range(30)), channels=4),
    ],
    ids=["grey", "colour with a class missing", "soft and long", "many classes and odd channels"],
)
def test_a_sheet_of_images_is_drawn(tmp_path, made):
    save_images(tmp_path / "figures" / "images.png", made)
    width, height = size_of(tmp_path / "figures" / "images.png")
    assert 300 < width < 2000
    assert 200 < height < 2000


def test_a_long_set_is_shown_in_evenly_spread_steps():
    shown = _shown_steps(np.tile(np.arange(10), (100, 1)))
    assert len(shown) == MAX_ROWS
    assert (shown[0], shown[-1]) == (0, 99)
    assert set(np.diff(shown)) <= {9}
    assert _shown_steps(np.zeros((1, 1), int)) == [0]


def test_contrast_is_symmetric_about_the_mean():
    image = np.random.default_rng(0).normal(size=(8, 8, 1))
    stretched, flipped = _stretched(image), _stretched(-3 * image + 7)
    np.testing.assert_allclose(stretched, 1 - flipped, atol=1e-6)
    assert (stretched.min(), stretched.max()) == (0, 1)
    np.testing.assert_allclose(_stretched(np.full((2, 2, 3), 0.3)), 0.5)


HISTORY = [{"step": s, "loss": 1.0, "validation": 0.8 - 0.5 / (s + 1), "validation_std": 0.02} for s in range(0, 50, 5)]


@pytest.mark.parametrize(
    ("history", "baselines"),
    [
        (HISTORY, {"random real images": 0.553, "k-means centres": 0.5531, "all real data": 0.98}),
        ([{"step": 0, "loss": 1.0}, {"step": 1, "validation": 0.5, "validation_std": None}], {}),
        ([], {"random": 0.5}),
        ([], {}),
    ],
)
def test_a_curve_is_drawn(tmp_path, history, baselines):
    save_curve(tmp_path / "curve.png", history, baselines)
    size_of(tmp_path / "curve.png")


def test_labels_are_moved_apart_no_further_than_needed():
    np.testing.assert_allclose(_spread([0.1, 0.5, 0.5, 0.9], 0.1), [0.1, 0.45, 0.55, 0.9])
    spread = _spread(sorted(np.random.default_rng(0).uniform(size=8)), 0.1)
    assert np.diff(spread).min() > 0.1 - 1e-9
    assert _spread([], 0.1) == []


@pytest.mark.parametrize("count", [1, 10, 300])
def test_step_sizes_are_drawn(tmp_path, count):
    save_steps(tmp_path / "steps.png", jnp.linspace(0.01, 0.02, count))
    size_of(tmp_path / "steps.png")


def test_figures_are_reproducible(tmp_path):
    for name in ("a.png", "b.png"):
        save_curve(tmp_path / name, HISTORY, {})
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    "name",
    [
        *(f"runs.{n}" for n in ("directory", "pictures", "progress")),
        *(f"storage.{n}" for n in ("artefact", "checkpoint", "expert_files", "files", "pretrained", "weights")),
        *(f"figures.{n}" for n in ("charts", "encode", "plots", "sheet")),
    ],
)
def test_heavy_libraries_are_imported_only_within_functions(name):
    """Other libraries may import them as well, so the source is what can be looked at."""
    module = importlib.import_module(f"dd_jax.{name}")
    top_level = [line for line in inspect.getsource(module).splitlines() if line.startswith(("import ", "from "))]
    assert not [line for line in top_level for heavy in ("matplotlib", "orbax", "rich") if f" {heavy}" in line]


@pytest.mark.parametrize("names", [("$x$", "$\\frac{$", "a_b^c"), ("猫", "кот", "قط"), ("<b>", "&amp;", "x" * 200)])
def test_names_are_drawn_as_they_are(tmp_path, names):
    save_images(tmp_path / "images.png", distilled(1, [0, 1, 2], names=names))
    save_curve(tmp_path / "curve.png", HISTORY, dict.fromkeys(names, 0.5), what=names[1])
    size_of(tmp_path / "images.png")


def chart():
    lines = [Series("one", range(5), np.linspace(0, 1, 5), np.full(5, 0.1)), Series("$two$", range(3), [0.2, 0.4, 0.3])]
    return lines_figure(lines, "step", level=("level", 0.5), marks=[(1, 0.2)], events=[2])


def test_svg_has_ids_of_its_own_the_wanted_colours_and_text_as_text():
    first, second = (svg(chart(), name, {"#222222": "currentColor"}) for name in ("first", "second"))
    assert first == svg(chart(), "first", {"#222222": "currentColor"})
    ids = [set(re.findall(r'\bid="([^"]*)"', drawn)) for drawn in (first, second)]
    assert all(name.startswith("first-") for name in ids[0])
    assert not ids[0] & ids[1]
    for drawn, own in zip((first, second), ids, strict=True):
        assert set(re.findall(r"url\(#([^)]*)\)", drawn)) | set(re.findall(r'href="#([^"]*)"', drawn)) <= own
    assert "currentColor" in first
    assert "#222222" not in first
    assert ">$two$</text>" in first
    assert "http" not in first
    assert re.match(r'<svg viewBox="[^"]*" version="1.1">', first)
    ElementTree.fromstring(first.replace("xlink:", ""))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: lines_figure([Series("", [3], [0.5])], "step"),
        lambda: lines_figure([Series("", range(4), [1e-3, 1, 10, 1e3])], "step", per_cent=False, log=True),
        lambda: lines_figure([Series("", range(4), [float("nan")] * 4)], "step"),
        lambda: bars_figure([Bar("x" * 100, 1.0, 0.5, "ours", "100"), Bar("b", 0.0, 0.0, "other", "0")]),
        lambda: dots_figure(
            ["a", "b"], [Series("one", (), [0.2, float("nan")]), Series("two", (), [float("nan")] * 2)]
        ),
        lambda: heat_figure(np.eye(30)),
        lambda: steps_figure(jnp.ones(1), 4.2, 11, ""),
    ],
    ids=["a point", "many decades", "no numbers", "bars", "dots", "heat", "one step"],
)
def test_odd_charts_are_drawn(draw):
    ElementTree.fromstring(svg(draw(), "chart", {}).replace("xlink:", ""))


def test_a_long_name_keeps_its_beginning_and_its_end():
    assert shortened("a rather long class name 59", 12) == "a rathe…e 59"
    assert shortened("short", 12) == "short"


def test_pictures_are_small_and_whole():
    grey = np.repeat(np.random.default_rng(0).uniform(size=(20, 30, 1)), 3, -1)
    colour = grey * [1.0, 0.5, 0.2]
    assert png_size(png(grey)) == (30, 20)
    assert len(png(grey)) < 0.6 * len(png(colour))
    assert png_size(smaller_png(png(colour), 4)) == (8, 5)
    for damaged in (b"", b"GIF89a", png(grey)[:20], b"\x89PNG\r\n\x1a\n" + bytes(40)):
        assert png_size(damaged) is None
