"""Sets whose records are more than an image and a label, written with the tools of TFDS itself."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from dd_jax.data import load_dataset
from dd_jax.data.detection import pixel_box
from dd_jax.data.tfds_sets import read_tfds
from dd_jax.errors import DataError

NAMES = ("bird", "car", "dog")
SKY = (10, 20, 30)
COLOURS = {"bird": (250, 0, 0), "car": (0, 250, 0), "dog": (0, 0, 250)}


@pytest.fixture(autouse=True)
def sets(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "sets"


def write_set(folder, features, splits, keys=None):
    """A prepared set: `splits` maps names to lists of examples as a TFDS builder yields them."""
    array_record = pytest.importorskip("array_record.python.array_record_module")
    from tensorflow_datasets.core.example_serializer import ExampleSerializer

    folder.mkdir(parents=True)
    features.save_config(folder)
    template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
    info = {"name": "tiny", "version": folder.name, "fileFormat": "array_record"}
    info["splits"] = [
        {"name": name, "shardLengths": [str(len(examples))], "numBytes": "1", "filepathTemplate": template}
        for name, examples in splits.items()
    ]
    if keys:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in keys]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    serializer = ExampleSerializer(features.get_serialized_info())
    for name, examples in splits.items():
        path = folder / f"tiny-{name}.array_record-00000-of-00001"
        writer = array_record.ArrayRecordWriter(str(path), "group_size:1")
        for example in examples:
            writer.write(serializer.serialize_example(features.encode_example(example)))
        writer.close()


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(file, "PNG")
    file.seek(0)
    return file


def voc_features(**box_options):
    import tensorflow_datasets as tfds

    f = tfds.features
    label = f.ClassLabel(names=NAMES)
    objects = {
        "label": label,
        "bbox": f.BBoxFeature(**box_options),
        "pose": f.ClassLabel(names=["left", "right"]),
        "is_truncated": np.bool_,
        "is_difficult": np.bool_,
    }
    return f.FeaturesDict(
        {
            "image": f.Image(),
            "image/filename": f.Text(),
            "objects": f.Sequence(objects),
            "labels": f.Sequence(label),
            "labels_no_difficult": f.Sequence(label),
        }
    )


def voc_example(objects, shape=(20, 40), name="0.jpg"):
    """A sky with boxes of known colours; `objects` are (class, (top, left, bottom, right) in pixels)."""
    from tensorflow_datasets.core.features import BBox

    height, width = shape
    pixels = np.full((*shape, 3), SKY, np.uint8)
    annotated = []
    for number, (kind, (top, left, bottom, right)) in enumerate(objects):
        pixels[top:bottom, left:right] = COLOURS[kind]
        box = BBox(top / height, left / width, bottom / height, right / width)
        more = {"pose": "left", "is_truncated": False, "is_difficult": bool(number % 2)}
        annotated.append({"label": kind, "bbox": box, **more})
    kinds = sorted({kind for kind, _ in objects})
    return {
        "image": png(pixels),
        "image/filename": name,
        "objects": annotated,
        "labels": kinds,
        "labels_no_difficult": kinds,
    }


def street():
    """Three images with three, none and one object: more than one object an image, and fewer."""
    return [
        voc_example([("car", (2, 3, 9, 17)), ("bird", (11, 20, 19, 37)), ("car", (0, 30, 7, 40))]),
        voc_example([]),
        voc_example([("dog", (1, 1, 32, 13))], shape=(33, 15)),
    ]


def write_voc(sets, splits, **box_options):
    write_set(sets / "voc" / "2007" / "5.0.0", voc_features(**box_options), splits)


def test_every_box_is_one_image_of_its_own_colour_and_label(sets):
    write_voc(sets, {"train": street()})
    images, labels = read_tfds("voc2007", image_size=6).train
    assert images.shape == (4, 6, 6, 3)
    np.testing.assert_array_equal(labels, [1, 0, 1, 2])
    for image, label in zip(images, labels, strict=True):
        np.testing.assert_array_equal(image, np.broadcast_to(COLOURS[NAMES[label]], (6, 6, 3)))


def test_crops_are_not_a_pixel_off(sets):
    from tensorflow_datasets.core.features import BBox

    framed = voc_example([("car", (2, 3, 9, 17))])
    framed["objects"][0]["bbox"] = BBox(1 / 20, 2 / 40, 10 / 20, 18 / 40)  # a pixel of sky all around the car
    write_voc(sets, {"train": [framed]})
    (image,) = read_tfds("voc2007", image_size=(9, 16)).train[0]
    expected = np.full((9, 16, 3), SKY, np.uint8)
    expected[1:-1, 1:-1] = COLOURS["car"]
    np.testing.assert_array_equal(image, expected)


def test_train_is_the_published_train_and_validation_when_there_is_a_test_split(sets):
    def one(kind):
        return [voc_example([(kind, (0, 0, 9, 9))])]

    write_voc(sets, {"test": one("car"), "train": one("bird"), "validation": one("dog")})
    raw = read_tfds("voc/2007", image_size=4)
    assert raw.train[1].tolist() == [0, 2]
    assert raw.train[0][:, 0, 0].tolist() == [[250, 0, 0], [0, 0, 250]]
    assert raw.test[1].tolist() == [1]
    assert raw.validation is None
    assert raw.class_names == NAMES


def test_an_unannotated_test_split_leaves_validation_to_be_the_test_split(sets):
    write_voc(sets, {"train": street(), "validation": street()[2:], "test": [voc_example([]), voc_example([])]})
    raw = read_tfds("voc2007", image_size=4)
    assert (len(raw.train[1]), raw.test[1].tolist(), raw.validation) == (4, [2], None)
    write_set(sets / "bare" / "1.0.0", voc_features(), {"train": [voc_example([])]})
    with pytest.raises(DataError, match="train split of bare should have labels, but no image has one"):
        read_tfds("bare", image_size=4)


def test_load_dataset_carves_validation_and_keeps_the_users_name(sets):
    streets = [example for _ in range(9) for example in street()]
    write_voc(sets, {"train": streets, "validation": street(), "test": street()})
    dataset = load_dataset("voc2007", image_size=8, channels=1)
    assert dataset.name == "voc2007"
    assert dataset.image_shape == (8, 8, 1)
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [36, 4, 4]
    assert dataset.class_names == NAMES


def test_the_size_is_required(sets):
    write_voc(sets, {"train": street()})
    with pytest.raises(DataError, match=r"voc/2007 train is a detection set.*image_size=224"):
        load_dataset("voc2007")


def test_boxes_in_another_format_are_refused(sets):
    write_voc(sets, {"train": [voc_example([])]}, bbox_format="XYWH")
    with pytest.raises(DataError, match="boxes are in format XYWH; expected REL_YXYX"):
        read_tfds("voc2007", image_size=4)


def test_boxes_without_a_format_are_relative(sets):
    write_voc(sets, {"train": street()}, bbox_format=None)
    assert len(read_tfds("voc2007", image_size=4).train[1]) == 4


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((0, 0, 1, 1), (0, 0, 10, 20)),
        ((0.25, 0.3, 0.5, 0.8), (3, 5, 8, 10)),
        ((0.5, 0.5, 0.5, 0.5), (5, 10, 6, 11)),  # nothing becomes one pixel
        ((1, 1, 1, 1), (9, 19, 10, 20)),  # also at the edge, and inside the image
        ((-0.1, -0.2, 1.3, 1.1), (0, 0, 10, 20)),
    ],
)
def test_pixel_boxes(box, expected):
    assert pixel_box(box, width=10, height=20) == expected


def test_pixel_boxes_give_back_the_annotated_pixels_of_any_image():
    generator = np.random.default_rng(0)
    for _ in range(200):
        width, height = generator.integers(2, 501, 2)
        left, upper = generator.integers(0, width), generator.integers(0, height)
        right, lower = generator.integers(left + 1, width + 1), generator.integers(upper + 1, height + 1)
        box = np.array([upper / height, left / width, lower / height, right / width], np.float32)
        assert pixel_box(box, int(width), int(height)) == (left, upper, right, lower)


def bird_features():
    import tensorflow_datasets as tfds

    f = tfds.features
    return f.FeaturesDict(
        {
            "image": f.Image(),
            "image/filename": f.Text(),
            "label": f.ClassLabel(num_classes=2),
            "label_name": f.Text(),
            "bbox": f.BBoxFeature(),
            "segmentation_mask": f.Image(shape=(None, None, 1)),
        }
    )


def test_a_set_with_masks_and_boxes_beside_its_label_gives_whole_images(sets):
    from tensorflow_datasets.core.features import BBox

    def bird(index, shape):
        return {
            "image": png(np.full((*shape, 3), (index, 2, 99))),
            "image/filename": f"{index}.jpg",
            "label": index % 2,
            "label_name": "a bird",
            "bbox": BBox(0.0, 0.0, 0.5, 0.5),
            "segmentation_mask": png(np.full(shape, 255)),
        }

    splits = {"train": [bird(i, (4 + i % 3, 6)) for i in range(20)], "test": [bird(i, (5, 5)) for i in range(4)]}
    write_set(sets / "caltech_birds2011" / "0.2.0", bird_features(), splits, keys=("image", "label"))
    raw = read_tfds("cub200", image_size=5)
    np.testing.assert_array_equal(raw.train[0][:, 2, 2], [(i, 2, 99) for i in range(20)])
    np.testing.assert_array_equal(raw.train[1], np.arange(20) % 2)
    dataset = load_dataset("cub200", image_size=5)
    assert (dataset.name, dataset.image_shape, len(dataset.test.labels)) == ("cub200", (5, 5, 3), 4)
