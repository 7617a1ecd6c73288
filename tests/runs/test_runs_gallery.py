"""Sets of several methods in one picture, and the pictures of a run as a film."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

import dd_jax as dd
from dd_jax.figures.encode import animated_png, figure_png, png, png_pixels
from dd_jax.figures.gallery import gallery_figure
from dd_jax.figures.sheet import sheet_of
from dd_jax.runs.pictures import read_frames


@pytest.fixture
def sets():
    """Two sets of three classes: of two batches, and of four images of each class."""
    draw = np.random.default_rng(0)
    names = ("a", "b", "c")
    ordered = dd.distilled_from_arrays(
        draw.random((2, 3, 4, 4, 1), np.float32),
        np.tile(np.arange(3), (2, 1)),
        step_sizes=np.ones(2),
        class_names=names,
    )
    many = dd.distilled_from_arrays(draw.random((12, 4, 4, 3), np.float32), np.arange(12) % 3, class_names=names)
    return {"ordered": ordered, "many": many}


def test_a_gallery_has_a_row_for_each_set_and_an_image_for_each_class(sets):
    figure = gallery_figure(sets, "Three classes")
    said = [text.get_text() for text in figure.texts]
    assert {"ordered", "many", "a", "b", "c", "Three classes"} <= set(said)
    assert len(figure.axes) == 2 * 3
    first = sheet_of(sets["ordered"], max_rows=1).rows[0].images[0]
    drawn = np.asarray(figure.axes[0].images[0].get_array())
    factor = drawn.shape[0] // 4
    np.testing.assert_allclose(drawn[::factor, ::factor], first)
    assert figure_png(figure).startswith(b"\x89PNG")


def test_a_gallery_of_nothing_or_of_other_classes_is_refused(sets):
    with pytest.raises(dd.OptionError, match="at least one"):
        gallery_figure({}, "none")
    other = dataclasses.replace(sets["many"], class_names=("x", "y", "z"))
    with pytest.raises(dd.OptionError, match="other has x, y, z and ordered has a, b, c"):
        gallery_figure({"ordered": sets["ordered"], "other": other}, "two")


def test_a_film_has_all_frames_enlarged_and_in_order():
    frames = [np.full((2, 3, 3), level) for level in (0.0, 0.4, 1.0)]
    frames[1][0, 0] = np.nan
    with Image.open(io.BytesIO(animated_png(frames, scale=2, milliseconds=100, last=300))) as film:
        assert film.n_frames == 3
        assert film.size == (6, 4)
        seen, shown = [], []
        for number in range(3):
            film.seek(number)
            seen.append(np.asarray(film.convert("L")))
            shown.append(film.info["duration"])
    assert shown == [100, 100, 300]
    assert [image[-1, -1] for image in seen] == [0, 102, 255]
    assert (seen[1][:2, :2] == 255).all(), "an empty pixel is white"
    with pytest.raises(dd.OptionError, match=r"\(2, 3, 3\), \(3, 3, 3\)"):
        animated_png([frames[0], np.zeros((3, 3, 3))])


def test_frames_are_read_in_the_order_of_their_steps(tmp_path):
    for step in (100, 20, 3):
        pixels = np.full((2, 2, 3), step / 255)
        pixels[0, 1] = np.nan
        (tmp_path / f"step_{step:08d}.png").write_bytes(png(pixels))
    found = read_frames(tmp_path)
    assert [round(255 * frame[0, 0, 0]) for frame in found] == [3, 20, 100]
    assert all(np.isnan(frame[0, 1]).all() for frame in found)
    np.testing.assert_allclose(png_pixels(png(found[0])), found[0])
