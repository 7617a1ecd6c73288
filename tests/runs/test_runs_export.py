"""What an export holds, format by format, beside the artefact that it was made from."""

import csv
import json
import re
import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.images import decode_image
from dd_jax.errors import DataError, OptionError, RunError
from dd_jax.runs.export import FORMATS
from dd_jax.runs.export.contents import read_contents
from dd_jax.runs.export.names import folder_names, safe_name, safe_names
from dd_jax.runs.export.sheets import PAGE, cell, stretched
from dd_jax.runs.export.words import quoted
from dd_jax.storage.artefact import load_artefact

HOSTILE = ["a/b", "..", ".", "", "été", "猫", "A/B", "con", "x" * 300, "a\\b", 'q"uo\nte: #', "a_b", "$x$", "\udc80"]


def made(folder, seed=0, steps=2, epochs=3, per_class=1, names=("cat", "dog", "fox"), channels=3, size=5, **changes):
    """A set of random images in model space, many of them beyond black and white, as a run would leave it."""
    rng = np.random.default_rng(seed)
    num_classes = changes.pop("num_classes", len(names))
    labels = np.tile(np.repeat(np.arange(num_classes, dtype=np.int32), per_class), (steps, 1))
    if changes.pop("soft", False):
        labels = rng.dirichlet(np.ones(num_classes), labels.shape).astype(np.float32)
    statistics = {"mean": jnp.linspace(0.3, 0.5, channels), "std": jnp.linspace(0.2, 0.3, channels)}
    fields = {
        "images": jnp.asarray(rng.normal(size=(*labels.shape[:2], size, size + 1, channels)), jnp.float32),
        "labels": jnp.asarray(labels),
        "step_sizes": jnp.asarray(rng.uniform(0.01, 0.1, steps * epochs), jnp.float32),
        "transform": dd.Transform("standardise", statistics),
        "class_names": tuple(names),
        "protocol": dd.Protocol(),
    }
    provenance = changes.pop("provenance", {"model": {"name": "mlp", "hidden": [8]}, "dataset": {"name": "pets"}})
    fields |= changes
    dd.save_distilled(folder / "distilled", dd.DistilledData({"images": fields.pop("images")}, **fields), provenance)
    return load_artefact(folder)


def table(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def picture(path, channels=None):
    return decode_image(path, str(path), None, channels)


def files_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_all_formats_lie_in_the_run_and_the_artefact_is_left_alone(tmp_path):
    made(tmp_path)
    before = files_of(tmp_path)
    found = dd.export(tmp_path)
    assert [one.format for one in found] == list(FORMATS)
    for one in found:
        assert one.path == tmp_path / "export" / one.format
        assert (one.num_files, one.num_bytes) == (len(files_of(one.path)), sum(map(len, files_of(one.path).values())))
    after = files_of(tmp_path)
    assert {name: data for name, data in after.items() if not name.startswith("export/")} == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["distilled", "export"]


def test_the_same_set_gives_the_same_bytes(tmp_path):
    made(tmp_path)
    dd.export(tmp_path, tmp_path / "a")
    dd.export(tmp_path / "distilled", tmp_path / "b")
    first, second = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert first == second


@pytest.mark.parametrize("soft", [False, True])
def test_npz_holds_the_artefacts_arrays_to_the_bit(tmp_path, soft):
    artefact = made(tmp_path, soft=soft)
    (written,) = dd.export(tmp_path, tmp_path / "out", formats=["npz"])
    with np.load(written.path / "distilled.npz", allow_pickle=False) as npz:
        arrays = dict(npz)
    np.testing.assert_array_equal(arrays.pop("order"), [0, 1, 0, 1, 0, 1])
    assert arrays.keys() == artefact.arrays.keys()
    for name, array in artefact.arrays.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
    meta = json.loads((written.path / "distilled.json").read_bytes())
    for name in ("class_names", "protocol", "provenance", "transform"):
        assert meta[name] == artefact.meta[name]
    sizes = {"images": 4 * 2 * 3 * 5 * 6 * 3, "labels": 4 * 2 * 3 * (3 if soft else 1), "step_sizes": 24, "pixels": 540}
    assert meta["bytes"] == sizes


def test_an_exported_npz_is_an_artefact_and_can_be_exported_again(tmp_path):
    artefact = made(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps(results()))
    dd.export(tmp_path, tmp_path / "out", formats=["npz"])
    again = dd.load_distilled(tmp_path / "out" / "npz")
    assert np.array_equal(again.images, artefact.distilled.images)
    assert (again.protocol, again.class_names) == (artefact.distilled.protocol, artefact.distilled.class_names)
    dd.export(tmp_path / "out" / "npz", tmp_path / "second", formats=["folder"])
    assert "| **distilled** | 81.2 ± 1.5 | 200 |" in (tmp_path / "second" / "folder" / "README.md").read_text()


def test_the_share_of_clipped_values_is_measured(tmp_path):
    pixels = np.array([0.0, 1.0, -0.001, 1.001, -0.1, 1.1, 0.5, 0.5], np.float32).reshape(1, 2, 2, 2, 1)
    identity = dd.Transform("identity", {})
    made(tmp_path, steps=1, epochs=1, names=("a", "b"), images=jnp.asarray(pixels), transform=identity)
    assert read_contents(tmp_path).clipped == 0.25  # what rounding takes away is not clipped


def test_names_sort_in_the_order_learnt_and_pixels_are_the_artefacts(tmp_path):
    artefact = made(tmp_path, steps=11, epochs=2, per_class=5, names=("b", "a"))
    dd.export(tmp_path, tmp_path / "out", formats=["images"])
    folder = tmp_path / "out" / "images"
    rows = table(folder / "index.csv")
    assert [row["file"] for row in rows] == sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.png"))
    assert [(int(row["step"]), int(row["position"])) for row in rows] == [(s, b) for s in range(11) for b in range(10)]
    assert rows[0]["file"] == "step_00/00-b.png"
    for row in rows:
        step, position = int(row["step"]), int(row["position"])
        assert np.array_equal(picture(folder / row["file"]), artefact.arrays["pixels"][step, position])
        assert int(row["label"]) == artefact.arrays["labels"][step, position]
        assert row["class"] == "ba"[int(row["label"])]
        sizes = np.array(row["step_sizes"].split(), np.float32)
        assert np.array_equal(sizes, artefact.arrays["step_sizes"][[step, 11 + step]])


def test_soft_labels_are_in_the_tables_to_the_bit(tmp_path):
    artefact = made(tmp_path, soft=True)
    dd.export(tmp_path, tmp_path / "out", formats=["images", "folder"])
    for file in ("images/index.csv", "folder/data/train/metadata.csv"):
        for row in table(tmp_path / "out" / file):
            label = artefact.arrays["labels"][int(row["step"]), int(row["position"])]
            assert np.array_equal(np.array(row["soft_label"].split(), np.float32), label)
            assert int(row["label"]) == label.argmax()


def test_sheets_show_every_image_in_its_place(tmp_path):
    artefact = made(tmp_path, per_class=2)
    dd.export(tmp_path, tmp_path / "out", formats=["sheet"])
    contents, found = read_contents(tmp_path), {}
    for kind in ("true", "stretched"):
        sheet = picture(tmp_path / "out" / "sheet" / f"sheet-{kind}.png")
        for step in range(2):
            for position in range(6):
                found[kind, step, position] = place(sheet, cell(contents, kind, step, position))
    for kind in ("true", "stretched"):
        tops = [[found[kind, step, 2 * k + i][0] for k in range(3)] for step in range(2) for i in range(2)]
        assert all(len(set(row)) == 1 for row in tops)
        assert [row[0] for row in tops] == sorted({row[0] for row in tops})
        lefts = [{found[kind, step, 2 * k + i][1] for step in range(2) for i in range(2)} for k in range(3)]
        assert all(len(column) == 1 for column in lefts)
        assert lefts == sorted(lefts, key=min)
    shown = cell(contents, "true", 1, 3)
    assert np.array_equal(shown[5::10, 5::10], artefact.arrays["pixels"][1, 3])


def place(sheet, image):
    """Where on the sheet the image is, pixel by pixel; it has to be there once."""
    (found,) = places(sheet, image)
    return found


def places(sheet, image):
    sheet, image = (pixels @ np.array([1, 256, 65536]) for pixels in (sheet, image))
    (height, width), down, across = image.shape, sheet.shape[0] + 1, sheet.shape[1] + 1
    corners = np.ones((down - height, across - width), bool)
    for y, x in np.random.default_rng(0).integers(0, (height, width), (6, 2)):  # few places survive these
        corners &= sheet[y : y + down - height, x : x + across - width] == image[y, x]
    return [
        (top, left)
        for top, left in np.argwhere(corners)
        if np.array_equal(sheet[top : top + height, left : left + width], image)
    ]


def test_many_images_take_several_pages_and_none_is_left_out(tmp_path):
    made(tmp_path, steps=7, epochs=1, per_class=2, channels=1, size=8, names=[f"class {i}" for i in range(60)])
    dd.export(tmp_path, tmp_path / "out", formats=["sheet"])
    contents = read_contents(tmp_path)
    sheets = [picture(page, 3) for page in sorted((tmp_path / "out" / "sheet").glob("sheet-true-*.png"))]
    assert len(sheets) == len(list((tmp_path / "out" / "sheet").glob("sheet-stretched-*.png"))) == 3
    assert all(max(sheet.shape) < PAGE + 250 for sheet in sheets)
    for step, position in [(0, 0), (0, 1), (0, 119), (3, 60), (6, 0), (6, 119)]:
        image = cell(contents, "true", step, position)
        assert sum(len(places(sheet, image)) for sheet in sheets) == 1


def test_contrast_is_symmetric_about_the_mean():
    image = np.random.default_rng(0).normal(size=(8, 8, 1))
    shown, flipped = stretched(image).astype(int), stretched(-3 * image + 7).astype(int)
    assert np.abs(shown + flipped - 255).max() <= 1
    assert (shown.min(), shown.max()) == (0, 255)
    assert (stretched(np.full((2, 2, 3), 0.3)) == 128).all()


def test_the_folder_format_comes_back_as_a_dataset(tmp_path):
    artefact = made(tmp_path, names=("fox", "cat", "dog"))
    dd.export(tmp_path, tmp_path / "out", formats=["folder"])
    data = tmp_path / "out" / "folder" / "data"
    for name in ("0-fox", "1-cat", "2-dog"):  # as it were, real images to test on
        (data / "test" / name).mkdir(parents=True)
        shutil.copy(data / "train" / name / f"step_00-0{name[0]}.png", data / "test" / name / "real.png")
    found = dd.load_dataset(f"folder:{data}", transform="identity", validation_fraction=0)
    assert found.class_names == ("0-fox", "1-cat", "2-dog")
    pixels = artefact.arrays["pixels"].swapaxes(0, 1).reshape(-1, 5, 6, 3)  # class by class, then step by step
    np.testing.assert_array_equal(np.round(255 * np.asarray(found.train.images)), pixels)
    np.testing.assert_array_equal(found.train.labels, [0, 0, 1, 1, 2, 2])


def test_the_folder_format_lists_its_pictures_and_holds_the_set(tmp_path):
    artefact = made(tmp_path, channels=1)
    dd.export(tmp_path, tmp_path / "out", formats=["folder"])
    folder = tmp_path / "out" / "folder"
    rows = table(folder / "data" / "train" / "metadata.csv")
    assert list(rows[0]) == ["file_name", "label", "step", "position"]
    for row in rows:
        shown = picture(folder / "data" / "train" / row["file_name"])
        assert np.array_equal(shown, artefact.arrays["pixels"][int(row["step"]), int(row["position"])])
        assert row["file_name"].split("/")[0] == ("cat", "dog", "fox")[int(row["label"])]
    assert np.array_equal(dd.load_distilled(folder / "distilled").images, artefact.distilled.images)


@pytest.mark.parametrize("channels", [2, 5])
def test_what_is_neither_grey_nor_rgb_is_shown_channel_by_channel(tmp_path, channels):
    artefact = made(tmp_path, channels=channels)
    found = {one.format: one for one in dd.export(tmp_path)}
    assert found["folder"].path is None
    assert "grey or RGB" in found["folder"].what
    assert not (tmp_path / "export" / "folder").exists()
    rows = table(tmp_path / "export" / "images" / "index.csv")
    assert len(rows) == 2 * 3 * channels
    for row in rows:
        expected = artefact.arrays["pixels"][int(row["step"]), int(row["position"]), :, :, int(row["channel"])]
        assert np.array_equal(picture(tmp_path / "export" / "images" / row["file"])[..., 0], expected)
    sheet = picture(tmp_path / "export" / "sheet" / "sheet-true.png", 3)
    image = cell(read_contents(tmp_path), "true", 1, 2)
    assert image.shape[1] == channels * image.shape[0] * 6 // 5
    assert len(places(sheet, image)) == 1
    with pytest.raises(DataError, match=f"these have {channels} channels. Export them as npz"):
        dd.export(tmp_path, formats=["npz", "folder"])


def test_hostile_class_names_make_safe_files(tmp_path):
    made(tmp_path, names=HOSTILE, steps=1, epochs=1)
    dd.export(tmp_path, tmp_path / "out")
    outside = {p.name for p in tmp_path.iterdir()}
    assert outside == {"distilled", "out"}
    folders = sorted(p.name for p in (tmp_path / "out" / "folder" / "data" / "train").iterdir() if p.is_dir())
    assert len(folders) == len(HOSTILE)
    assert all(len(name.encode()) <= 80 and not re.search(r'[/\\:*?"<>|.\s]', name) for name in folders)
    rows = table(tmp_path / "out" / "images" / "index.csv")
    assert [row["class"] for row in rows][:-1] == HOSTILE[:-1]
    assert len({row["file"] for row in rows}) == len(HOSTILE)
    card = (tmp_path / "out" / "folder" / "README.md").read_text()
    assert "`04-été` holds class 4, `été`" in card


def test_safe_names_differ_even_without_capitals():
    assert safe_names(["cat", "Cat", "cat", "cat_2"]) == ["cat", "Cat_3", "cat_4", "cat_2"]
    assert safe_names(["a/b", "a b", "a.b"]) == ["a_b", "a_b_2", "a_b_3"]
    assert safe_names(["", "..", "class"]) == ["class", "class_2", "class_3"]
    for names in (HOSTILE, ["a"] * 30, ["a", "a_2", "A", "a_2", "a_3"]):
        found = safe_names(names)
        assert len({name.casefold() for name in found}) == len(names)
        assert all(found)


def test_a_safe_name_keeps_every_script_and_stays_short():
    assert safe_name("traffic light") == "traffic_light"
    assert safe_name("e\u0301te\u0301") == "été"
    assert safe_name("हिन्दी") == "हिन्दी"
    assert len(safe_name("猫" * 100).encode()) <= 60
    assert safe_name("NUL").casefold() != "nul"


def test_folders_sort_in_the_order_of_the_classes():
    assert folder_names(["airplane", "bird", "cat"]) == ["airplane", "bird", "cat"]
    assert folder_names(["dog", "cat"]) == ["0-dog", "1-cat"]
    hundred = folder_names([str(i) for i in range(100)])
    assert (hundred[0], hundred[99]) == ("00", "99")
    for names in (HOSTILE, [str(i) for i in range(100)], ["b", "a"] * 8):
        found = folder_names(names)
        assert sorted(found) == found


def test_a_set_of_a_hundred_classes_is_exported_whole(tmp_path):
    made(tmp_path, names=[str(i) for i in range(100)], steps=1, epochs=1, channels=1)
    dd.export(tmp_path)
    train = tmp_path / "export" / "folder" / "data" / "train"
    assert len([p for p in train.iterdir() if p.is_dir()]) == 100
    assert {row["file_name"].split("/")[0] for row in table(train / "metadata.csv") if row["label"] == "7"} == {"07"}


def test_a_set_without_class_names_has_numbers(tmp_path):
    made(tmp_path, names=(), num_classes=3)
    dd.export(tmp_path)
    assert sorted(p.name for p in (tmp_path / "export/folder/data/train").iterdir()) == ["0", "1", "2", "metadata.csv"]


def results():
    accuracies = {"mean": 0.812, "std": 0.0151, "n": 200, "split": "test", "accuracies": [0.8], "chosen": ""}
    random_real = {**accuracies, "mean": 0.5, "n": 1, "chosen": "step_size 0.1"}
    return {"results": {"distilled": accuracies, "random real": random_real}}


def test_the_card_says_what_the_set_is_and_what_it_reaches(tmp_path):
    made(tmp_path, provenance={
        "method": {"name": "unrolled", "init_images": "kmeans"},
        "model": {"name": "lenet", "initialiser": "xavier"},
        "dataset": {"name": "folder:/home/someone/photos/pets"},
        "validation": {"accuracy": 0.9, "nets": 10, "step": 5},
    })  # fmt: skip
    (tmp_path / "results.json").write_text(json.dumps(results()))
    dd.export(tmp_path, formats=["folder"])
    card = (tmp_path / "export" / "folder" / "README.md").read_text()
    clipped = read_contents(tmp_path).clipped
    assert 0.01 < clipped < 0.5
    for words in (
        "# pets distilled into 6 images",
        "6 synthetic images",
        "`lenet` (initialiser xavier)",
        "2 batches in their order, each of 3 images, gone through 3 times",
        "2,208 bytes train a network: 2,160 of images (float32), 24 of labels, 24 of step sizes",
        "| **distilled** | 81.2 ± 1.5 | 200 |  |",
        "| random real | 50.0 | 1 | step_size 0.1 |",
        "90.0 % (n=10)",
        f"{100 * clipped:.1f} % of their values were clipped",
        'dd.load_dataset("folder:PATH-OF-THE-REAL-DATA", image_size=(5, 6), channels=3)',
        "dd.models.make(\"lenet\", data, initialiser='xavier')",
        "They started as centres of clusters",
    ):
        assert words in card, words
    assert "/home/someone" not in card
    assert "Fixed init" not in card
    assert "attack" not in card


def test_the_card_knows_what_was_not_measured(tmp_path):
    made(tmp_path, provenance={})
    dd.export(tmp_path, formats=["folder"])
    card = (tmp_path / "export" / "folder" / "README.md").read_text()
    assert "Not measured on test." in card
    assert "**Network**: not recorded." in card
    assert "validation" not in card


@pytest.mark.parametrize(
    ("protocol", "words"),
    [
        (
            dd.Protocol(init="fixed", init_seed=7),
            ["**Fixed init**", "seed 7 in dd_jax", "dd.train_on(distilled, model)"],
        ),
        (dd.Protocol(pretrained="abc"), ["`abc`", "params=start", "pretrained=dd.load_pretrained("]),
        (dd.Protocol(attack=(0, 2)), ["**This set is an attack.**", "takes `cat` for `fox`"]),
    ],
)
def test_the_card_warns_of_sets_that_are_special(tmp_path, protocol, words):
    made(tmp_path, protocol=protocol)
    dd.export(tmp_path, formats=["folder"])
    card = (tmp_path / "export" / "folder" / "README.md").read_text()
    assert all(word in card for word in words)


def test_an_attacks_table_tells_how_far_it_succeeds(tmp_path):
    made(tmp_path, protocol=dd.Protocol(attack=(0, 2)))
    found = results()
    found["results"]["distilled"]["attacked"] = {"success": [0.9, 0.7], "others": [0.5, 0.5], "fooled": [0.6, 0.6]}
    (tmp_path / "results.json").write_text(json.dumps(found))
    dd.export(tmp_path, formats=["folder"])
    card = (tmp_path / "export" / "folder" / "README.md").read_text()
    assert "| **distilled** | 80.0 ± 10.0 % | 50.0 ± 0.0 % | 200 |  |" in card


def test_the_front_matter_tells_one_set_from_another(tmp_path):
    """Or Hugging Face's `datasets` would take one for the other, out of its cache."""
    fronts = []
    for seed in (0, 1):
        made(tmp_path, seed=seed)
        dd.export(tmp_path, formats=["folder"])
        fronts.append((tmp_path / "export" / "folder" / "README.md").read_text().split("---\n")[1])
    assert fronts[0] != fronts[1]


def test_classes_without_an_image_are_named(tmp_path):
    labels = jnp.asarray([[0, 2, 2], [0, 0, 2]], jnp.int32)
    made(tmp_path, labels=labels)
    dd.export(tmp_path, formats=["folder", "sheet"])
    assert "Classes without an image: `dog`." in (tmp_path / "export" / "folder" / "README.md").read_text()


def test_the_front_matter_is_yaml(tmp_path):
    yaml = pytest.importorskip("yaml")
    made(tmp_path, provenance={"dataset": {"name": 'npz:/x/a "b": #c\n\\d\u2028\U0001f431'}})
    dd.export(tmp_path, formats=["folder"])
    text = (tmp_path / "export" / "folder" / "README.md").read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    found = yaml.safe_load(front)
    assert found["license"] == "unknown"
    assert found["task_categories"] == ["image-classification"]
    assert found["size_categories"] == ["n<1K"]
    assert found["pretty_name"] == 'a "b": #c\n\\d\u2028\U0001f431 distilled into 6 images'
    paths = {one["config_name"]: one["data_files"][0]["path"] for one in found["configs"]}
    folder = tmp_path / "export" / "folder"
    assert len(list(folder.glob(paths["default"]))) == 6
    assert {p.name for p in folder.glob(paths["steps"] + "/*") if p.suffix == ".csv"} == {"metadata.csv"}
    for name in HOSTILE[:-1]:
        assert yaml.safe_load(quoted(name)) == name
    assert body


@pytest.mark.parametrize(
    ("formats", "words"),
    [
        (["npzz"], "Unknown format 'npzz'. Did you mean 'npz'"),
        ("tourch", "Unknown format 'tourch'. Did you mean 'torch'"),
        ([], "formats is empty"),
    ],
)
def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path, formats, words):
    made(tmp_path)
    with pytest.raises(OptionError, match=words):
        dd.export(tmp_path, formats=formats)
    assert not (tmp_path / "export").exists()


def test_what_holds_no_set_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nowhere\. Expected a run directory, or a distilled set"):
        dd.export(tmp_path / "nowhere", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_set_that_is_exported_is_not_replaced_by_its_export(tmp_path):
    made(tmp_path)
    dd.export(tmp_path, formats="npz")
    before = files_of(tmp_path)
    with pytest.raises(RunError, match="holds the set that is to be exported"):
        dd.export(tmp_path / "export" / "npz", tmp_path / "export", formats=["sheet"])
    assert files_of(tmp_path) == before
