"""Canvases: crops on a torus, in batches and in sets, without seams, saved, shown, tiled and used by the methods."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import dd_jax as dd
from dd_jax.errors import DataError, OptionError
from dd_jax.figures.evolution import frame
from dd_jax.figures.sheet import sheet_of
from dd_jax.methods import distribution_matching, unrolled
from dd_jax.runs.tiles import tiled
from dd_jax.synthetic import PARAMETERISATIONS, canvas, on_canvas, pixels, soft_labels, step_batches
from dd_jax.synthetic.canvas import canvases_of, check_canvas, crops, decode_canvas, draw_canvas, seam_ratio

SIZES = {"height": 4, "width": 3, "samples": 2}


@pytest.fixture(scope="module")
def numbered():
    """Two batches of three canvases of 8 x 9 pixels, each pixel another number."""
    return np.arange(2 * 3 * 8 * 9, dtype=np.float32).reshape(2, 3, 8, 9, 1)


def by_roll(canvas, place):
    """A crop as the paper draws it: the canvas rolled, and its corner cut off."""
    return np.roll(canvas, (-place[0], -place[1]), (0, 1))[:4, :3]


def all_crops(canvas):
    return {by_roll(canvas, (row, column)).tobytes() for row in range(8) for column in range(9)}


def test_a_crop_is_the_corner_of_the_rolled_canvas_wherever_it_is(numbered):
    places = np.asarray([(row, column) for row in range(8) for column in range(9)])
    found = crops(jnp.asarray(numbered[0, 0]), jnp.asarray(places), 4, 3)
    for place, crop in zip(places, found, strict=True):
        np.testing.assert_array_equal(crop, by_roll(numbered[0, 0], place))


def test_crops_of_a_rolled_canvas_are_crops_of_the_canvas(numbered):
    rolled = np.roll(numbered, (5, -2), (2, 3))
    places = np.random.default_rng(0).integers(0, 8, (2, 3, 4, 2))
    found = crops(jnp.asarray(rolled), jnp.asarray((places + np.asarray([5, -2])) % np.asarray([8, 9])), 4, 3)
    np.testing.assert_array_equal(found, crops(jnp.asarray(numbered), jnp.asarray(places), 4, 3))
    assert all_crops(rolled[0, 0]) == all_crops(numbered[0, 0])


def test_drawn_crops_are_at_any_place_and_each_at_its_own(numbered):
    learnt, keys = {"canvases": jnp.asarray(numbered)}, jax.random.split(jax.random.key(0), 400)
    drawn = np.asarray(jax.vmap(lambda key: draw_canvas(learnt, key, **SIZES))(keys))
    assert drawn.shape == (400, 2, 6, 4, 3, 1)
    for step in range(2):
        for position in range(6):
            known = all_crops(numbered[step, position // 2])
            mine = [crop.tobytes() for crop in drawn[:, step, position]]
            assert set(mine) <= known
            assert len(set(mine)) > 0.95 * len(known)
    assert not np.array_equal(drawn[0, 0, 0], drawn[0, 0, 1])
    np.testing.assert_array_equal(draw_canvas(learnt, keys[3], **SIZES), drawn[3])


def test_every_pixel_of_a_canvas_is_seen_equally_often():
    """In the gradient of the sum of all crops: without the torus those at the edges would be seen less."""
    canvases, places = jnp.zeros((6, 6, 1)), jnp.asarray([(r, c) for r in range(6) for c in range(6)])
    seen = jax.grad(lambda canvas: crops(canvas, places, 4, 3).sum())(canvases)
    np.testing.assert_array_equal(seen, 12)


@pytest.mark.parametrize("samples", [1, 3])
def test_batches_labels_and_sets_go_together(tiny_data, samples):
    synthetic = on_canvas(pixels(3, 2, "noise"), (4, 4, 1), 2, samples)
    learnable = synthetic.init(jax.random.key(0), tiny_data)
    assert learnable.images.shape == (6, 8, 8, 1)
    batch = synthetic.batch(learnable, jax.random.key(1), jnp.int32(0))
    assert batch.images.shape == (6 * samples, 4, 4, 1)
    np.testing.assert_array_equal(batch.labels, np.repeat([0, 0, 1, 1, 2, 2], samples))
    other = synthetic.batch(learnable, jax.random.key(1), jnp.int32(1))
    assert not np.array_equal(batch.images, other.images), "every inner step has crops of its own"
    distilled = synthetic.decode(learnable)
    assert distilled.images.shape == (1, 6 * samples, 4, 4, 1)
    np.testing.assert_array_equal(distilled.labels[0], batch.labels)
    np.testing.assert_array_equal(distilled.images[0, ::samples], learnable.images[:, :4, :4])
    assert dd.storage_bytes(distilled) == 4 * (6 * 64 + 6 * samples + 1)
    found = canvases_of(distilled)
    np.testing.assert_array_equal(found.images[0], learnable.images)
    np.testing.assert_array_equal(found.labels[0], [0, 0, 1, 1, 2, 2])


def test_canvases_are_for_steps_and_learnt_labels_too(tiny_data):
    steps = on_canvas(step_batches(3, num_batches=2, num_epochs=1), (4, 4, 1), 2, 2)
    learnable = steps.init(jax.random.key(0), tiny_data)
    assert learnable.images.shape == (2, 3, 8, 8, 1)
    assert steps.decode(learnable).images.shape == (2, 6, 4, 4, 1)
    assert steps.batch(learnable, jax.random.key(0), jnp.int32(1)).images.shape == (6, 4, 4, 1)
    soft = soft_labels(on_canvas(pixels(3), (4, 4, 1), 2, 2), 3)
    learnable = soft.init(jax.random.key(0), tiny_data)
    assert soft.batch(learnable, jax.random.key(0), jnp.int32(0)).labels.shape == (6, 3)


def test_a_canvas_starts_as_images_side_by_side(tiny_data):
    learnable = on_canvas(pixels(3, 1, "real"), (4, 4, 1), 2).init(jax.random.key(0), tiny_data)
    known = {np.asarray(image).tobytes(): int(label) for image, label in zip(*tiny_data.train, strict=True)}
    for label, whole in enumerate(np.asarray(learnable.images)):
        tiles = [whole[row : row + 4, column : column + 4].tobytes() for row in (0, 4) for column in (0, 4)]
        assert [known[tile] for tile in tiles] == 4 * [label]
        assert len(set(tiles)) > 1


@pytest.mark.parametrize("size", [2, 4])
def test_a_mirrored_canvas_is_one_image_without_seams(tiny_data, size):
    """Every crop of 2 x 2 that lies across a join, or across the edges, has pairs of equal neighbours there."""
    learnable = on_canvas(pixels(3, 1, "real"), (4, 4, 1), size, start="mirrored").init(jax.random.key(0), tiny_data)
    whole = np.asarray(learnable.images)
    plain = pixels(3, 1, "real").init(jax.random.key(0), tiny_data).images
    np.testing.assert_array_equal(whole[:, :4, :4], plain)
    for row in range(size):
        for column in range(size):
            image = plain[:, :: -1 if row % 2 else 1, :: -1 if column % 2 else 1]
            np.testing.assert_array_equal(whole[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4], image)
    for axis in (1, 2):
        across = np.abs(whole - np.roll(whole, 1, axis)).mean((0, 3 - axis, 3))
        assert (across[::4] == 0).all()
        assert np.delete(across, np.s_[::4]).min() > 0
    assert seam_ratio(whole) == 0


def seam(canvases):
    """Mean difference of neighbours across the edges, as a share of that of all others."""
    ratios = []
    for axis in (2, 3):
        across = np.abs(np.diff(canvases, axis=axis, append=np.take(canvases, [0], axis)))
        at_edge = np.take(across, [-1], axis).mean()
        ratios.append(at_edge / np.delete(across, -1, axis).mean())
    return max(ratios)


def test_seams_are_told_by_what_neighbours_differ_in():
    """Waves that close, in all phases, have none; a ramp of eight steps jumps back by seven; both directions count."""
    ramp = np.broadcast_to(np.arange(8.0)[:, None, None], (8, 8, 1))
    wave = np.sin(2 * np.pi * np.arange(8) / 8)
    wave = (wave[:, None] + wave[None])[..., None]
    phases = np.stack([np.roll(wave, (i, j), (0, 1)) for i in range(8) for j in range(8)])
    np.testing.assert_allclose(seam_ratio(phases), 1, rtol=1e-9)
    np.testing.assert_allclose(seam_ratio(ramp), 7)
    np.testing.assert_allclose(seam_ratio(np.swapaxes(ramp, 0, 1)), 7)


def test_what_is_learnt_has_no_seam(digits, digits_mlp, monkeypatch):
    """From noise, whose edges fit as badly as all else: learnt smoothness goes on across them."""

    def learnt():
        method = distribution_matching(digits_mlp, canvas_size=2, canvas_samples=8, augment="none", batch_size=128,
                                       init_images="noise", learning_rate=0.5, schedule="cosine")  # fmt: skip
        state, arrays = method.init(jax.random.key(0), digits, 600), method.arrays(digits)
        keys = jax.random.split(jax.random.key(1), 600)
        state, _ = jax.jit(lambda state, keys: jax.lax.scan(lambda s, k: method.step(k, s, arrays), state, keys))(
            state, keys
        )
        return np.asarray(method.distilled(state).learnt["canvases"])

    found = learnt()
    assert seam(found) < 1.2
    with monkeypatch.context() as patch:

        def inside(key, shape, samples):
            return jax.random.randint(key, (*shape[:-3], samples, 2), 0, shape[-2] // 2 + 1)

        patch.setattr(canvas, "_places", inside)
        jax.clear_caches()
        edged = learnt()
    jax.clear_caches()
    assert seam(edged) > 1.2, "crops that end at the edges leave them as they are"


def test_methods_learn_canvases_and_networks_are_trained_on_crops(digits, digits_mlp, tmp_path):
    """Saved, loaded, shown as whole canvases, evaluated on crops, tiled."""
    for name, method in (
        ("dm", distribution_matching(digits_mlp, canvas_size=2, canvas_samples=2, augment="none", batch_size=16)),
        ("steps", unrolled(digits_mlp, num_batches=2, num_epochs=1, canvas_size=2, num_inits=1, batch_size=16)),
    ):
        out = tmp_path / name
        assert "canvases of 16 x 16 pixels" in method.summary
        run = dd.distill(method, digits, num_outer_steps=2, out=out, num_eval_nets=1, show_progress=False)
        loaded = dd.load_distilled(out)
        assert loaded.parameterisation == run.distilled.parameterisation
        np.testing.assert_array_equal(loaded.learnt["canvases"], run.distilled.learnt["canvases"])
        quick = dd.Training(epochs=3) if name == "dm" else None
        found = dd.evaluate(loaded, digits_mlp, digits, num_nets=2, protocol=quick)
        assert 0 <= found.mean <= 1
        sheet = sheet_of(loaded)
        assert sheet.rows[0].images[0].shape == (16, 16, 3)
        assert len(sheet.rows) == (1 if name == "dm" else 2)
        assert frame(loaded).shape[1] == 10 * 17 - 1
        assert dd.report(out).is_file()
        assert dd.export(out, formats=["npz", "images"])[1].num_files >= 20
        files = dd.save_tiles(out, repeat=3, scale=2)
        assert len(files) == (10 if name == "dm" else 20)
        picture = np.asarray(Image.open(files[3]))
        assert picture.shape == (3 * 16 * 2, 3 * 16 * 2)
        np.testing.assert_array_equal(picture, np.roll(picture, 32, 0))
        np.testing.assert_array_equal(picture[::2, ::2], picture[1::2, 1::2])
        assert np.ptp(picture[:32, :32]) > 0


def test_networks_see_other_crops_every_epoch(digits, digits_mlp):
    """A network that is trained on the set is the one that is trained on its draws, by hand."""
    method = distribution_matching(digits_mlp, canvas_size=2, augment="none")
    distilled = method.distilled(method.init(jax.random.key(0), digits, 1))
    training = dd.Training(epochs=3, optimiser="sgd", learning_rate=0.1, schedule="constant", momentum=0.0)
    moved = dd.train_on(distilled, digits_mlp, jax.random.key(5), protocol=training)
    still = dataclasses.replace(distilled, learnt={"images": distilled.images}, parameterisation=dd.DistilledData(
        {"images": distilled.images}, distilled.labels, distilled.step_sizes).parameterisation)  # fmt: skip
    fixed = dd.train_on(still, digits_mlp, jax.random.key(5), protocol=training)
    apart = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), moved, fixed)
    assert max(jax.tree.leaves(apart)) > 1e-4


def test_a_whitened_dataset_is_refused(digits, digits_mlp):
    whitened = dd.load_dataset("digits", zca=True)
    method = distribution_matching(digits_mlp, canvas_size=2)
    with pytest.raises(DataError, match="a crop of a whitened canvas is not a whitened image"):
        method.init(jax.random.key(0), whitened, 1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"canvas_size": 0}, "canvas_size must be at least 1"),
        ({"canvas_samples": 2}, "Set canvas_size to 2 or more"),
        ({"canvas_size": 2, "canvas_samples": 0}, "canvas_samples must be at least 1"),
        ({"canvas_size": 2, "factor": 2}, "A canvas can't be tiled"),
        ({"canvas_start": "mirrored"}, "but canvas_size is 1. Use canvas_size=2, or canvas_start"),
        (
            {"canvas_size": 3, "canvas_start": "mirrored"},
            "join at the edges of a canvas if their number across is even",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(digits_mlp, options, words):
    with pytest.raises(OptionError, match=words):
        distribution_matching(digits_mlp, **options)


def test_an_unknown_start_of_canvases_has_its_neighbour_named():
    with pytest.raises(OptionError, match=r"canvas_start.*mirrored"):
        canvas.check_canvas_start("mirored", 2)


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ((2, 3, 8, 9, 1), SIZES, ""),
        ((3, 8, 9, 1), SIZES, "should be 'canvases' (steps, batch, H, W, C)"),
        ((2, 3, 3, 9, 1), SIZES, "found 4 x 3 of 3 x 9"),
        ((2, 3, 8, 9, 1), SIZES | {"samples": 0}, "samples should be a number from 1"),
        ((2, 3, 8, 9, 1), SIZES | {"height": "4"}, "height should be a number from 1, found '4'"),
    ],
)
def test_arrays_from_a_disk_are_checked(shape, settings, words):
    found = check_canvas({"canvases": np.zeros(shape, np.float32)}, **settings)
    assert words in found
    assert bool(found) == bool(words)
    assert PARAMETERISATIONS["canvas"].decode is decode_canvas


def test_tiles_of_other_sets_are_refused(digits, digits_mlp, tmp_path):
    run = dd.distill(unrolled(digits_mlp, num_batches=1, num_epochs=1, num_inits=1), digits, num_outer_steps=1,
                     out=tmp_path, num_eval_nets=1, show_progress=False)  # fmt: skip
    with pytest.raises(DataError, match=r"has images\. Learn one with canvas_size=2"):
        dd.save_tiles(run.out)
    with pytest.raises(OptionError, match="scale must be at least 1"):
        dd.save_tiles(run.out, scale=0)
    canvas = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    np.testing.assert_array_equal(tiled(canvas, 3, 2)[::2, ::2], np.tile(canvas, (3, 3, 1)))


@pytest.fixture(scope="module")
def tiny_data():
    generator, labels = np.random.default_rng(0), np.arange(90) % 3
    return dd.dataset_from_arrays(generator.uniform(size=(90, 4, 4, 1)), labels)
