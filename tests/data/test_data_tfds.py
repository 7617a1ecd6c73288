import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dd_jax.data import load_dataset
from dd_jax.data import tfds_sets as tfds_module
from dd_jax.data.tfds_find import KNOWN, find_prepared, tfds_name
from dd_jax.data.tfds_sets import read_tfds
from dd_jax.errors import DataError, DataWarning, OptionError

FEATURES = "tensorflow_datasets.core.features."
BRIGHT = 100  # the pixels of the first image


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def image_feature(channels=1, dtype="uint8"):
    shape = {"dimensions": ["-1", "-1", str(channels)]}
    return {"image": {"dtype": dtype, "shape": shape}, "pythonClassName": FEATURES + "image_feature.Image"}


def label_feature(classes=2):
    return {
        "classLabel": {"numClasses": str(classes)},
        "pythonClassName": FEATURES + "class_label_feature.ClassLabel",
    }


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.squeeze()).save(buffer, "PNG")
    return buffer.getvalue()


def write_split(path, examples):
    array_record = pytest.importorskip("array_record.python.array_record_module")
    from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

    writer = array_record.ArrayRecordWriter(str(path), "group_size:1")
    for example in examples:
        features = {
            key: tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[png(value)]))
            if isinstance(value, np.ndarray)
            else tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[value]))
            for key, value in example.items()
        }
        writer.write(tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=features)).SerializeToString())
    writer.close()


def prepare(folder, splits, features=None, keys=("image", "label"), file_format="array_record"):
    """Write a set as TFDS would: `splits` maps their names to lists of examples."""
    folder.mkdir(parents=True)
    features = features or {"image": image_feature(), "label": label_feature()}
    python_class = FEATURES + "features_dict.FeaturesDict"
    (folder / "features.json").write_text(
        json.dumps({"featuresDict": {"features": features}, "pythonClassName": python_class})
    )
    info = {
        "name": "tiny",
        "version": folder.name,
        "fileFormat": file_format,
        "splits": [
            {
                "name": name,
                "shardLengths": [str(len(examples))],
                "numBytes": "1",
                "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            }
            for name, examples in splits.items()
        ],
    }
    if keys:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in keys]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    for name, examples in splits.items():
        write_split(folder / f"tiny-{name}.{file_format}-00000-of-00001", examples)
    return folder


def examples(count, start=0, shape=(4, 5, 1), **more):
    return [{"image": np.full(shape, BRIGHT + start + i, np.uint8), "label": i % 2, **more} for i in range(count)]


def test_reads_what_was_written(folders):
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(10), "test": examples(4, 50)})
    raw = read_tfds("tiny")
    np.testing.assert_array_equal(raw.train[0][:, 0, 0, 0], BRIGHT + np.arange(10))
    np.testing.assert_array_equal(raw.train[1], np.arange(10) % 2)
    np.testing.assert_array_equal(raw.test[0][:, 3, 4, 0], BRIGHT + np.arange(50, 54))
    assert raw.train[0].shape == (10, 4, 5, 1)
    assert raw.class_names == ("0", "1")
    assert load_dataset("tiny").image_shape == (4, 5, 1)


@pytest.mark.parametrize(
    ("splits", "expected"),
    [
        ({"train": 8}, (8, None, None)),
        ({"train": 8, "validation": 4}, (8, None, 4)),
        ({"train": 8, "validation": 4, "test": 6}, (8, 4, 6)),
    ],
)
def test_published_splits(folders, splits, expected):
    prepare(folders / "sets" / "tiny" / "1.0.0", {name: examples(count) for name, count in splits.items()})
    raw = read_tfds("tiny")
    assert tuple(pair and len(pair[1]) for pair in (raw.train, raw.validation, raw.test)) == expected


def test_an_unlabelled_test_split_is_no_test_split(folders):
    unlabelled = [{**example, "label": -1} for example in examples(4)]
    splits = {"train": examples(8), "validation": examples(6), "test": unlabelled}
    prepare(folders / "sets" / "tiny" / "1.0.0", splits)
    assert len(read_tfds("tiny").test[1]) == 6


def test_splits_that_are_left_out_are_told_from_the_cache_too(folders):
    unlabelled = [{**example, "label": -1} for example in examples(4)]
    splits = {"train": examples(8), "validation": examples(6), "test": unlabelled, "extra": examples(3)}
    prepare(folders / "sets" / "tiny" / "1.0.0", splits)
    for _ in range(2):
        with pytest.warns(DataWarning) as told:
            load_dataset("tiny")
        assert [str(warning.message) for warning in told] == [
            "tiny: left out the split extra.",
            "tiny: left out the test split, which has no labels.",
        ]


def test_records_that_cannot_be_read_are_named_or_left_out(folders, monkeypatch):
    real = tfds_module.decode_image

    def decode(source, where, *arguments):
        if where in ("tiny train image 2", "tiny train image 5"):
            raise DataError(f"Can't read {where} as an image.")
        return real(source, where, *arguments)

    monkeypatch.setattr(tfds_module, "decode_image", decode)
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(8)})
    with pytest.raises(DataError, match=r"image 2 as an image\.\n.*image 5 as an image\.\n2 of 8 images can't be read"):
        read_tfds("tiny")
    raw = read_tfds("tiny", skip_broken=True)
    np.testing.assert_array_equal(raw.train[0][:, 0, 0, 0], BRIGHT + np.array([0, 1, 3, 4, 6, 7]))
    np.testing.assert_array_equal(raw.train[1], [0, 1, 1, 0, 0, 1])
    assert raw.notes == ("Left out 2 of 8 images that can't be read: tiny train image 2, tiny train image 5.",)


def test_versions_and_configurations(folders):
    base = folders / "sets" / "tiny"
    for version in ("1.0.0", "1.10.0", "1.9.0"):
        prepare(base / version, {"train": examples(2)})
    assert find_prepared("tiny").name == "1.10.0"
    assert find_prepared("tiny:1.0.0").name == "1.0.0"
    assert find_prepared("tiny:1.9.*").name == "1.9.0"
    with pytest.raises(DataError, match=r"'tiny:2.0.0' is not prepared.*versions there: 1.0.0, 1.9.0, 1.10.0"):
        find_prepared("tiny:2.0.0")

    prepare(folders / "sets" / "letters" / "big" / "1.0.0", {"train": examples(2)})
    assert find_prepared("letters").parent.name == "big"
    prepare(folders / "sets" / "letters" / "small" / "1.0.0", {"train": examples(2)})
    assert find_prepared("letters/small:1.0.0").parent.name == "small"
    with pytest.raises(DataError, match="Name one of them: letters/big, letters/small"):
        find_prepared("letters")
    (folders / "sets" / "letters" / ".config").mkdir()
    (folders / "sets" / "letters" / ".config" / "metadata.json").write_text('{"default_config_name": "small"}')
    assert find_prepared("letters").parent.name == "small"


def test_the_declared_label_wins_and_ambiguity_is_explained(folders):
    features = {"image": image_feature(), "label": label_feature(), "coarse": label_feature()}
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(2, coarse=1)}, features)
    np.testing.assert_array_equal(read_tfds("tiny").train[1], [0, 1])
    prepare(folders / "sets" / "twice" / "1.0.0", {"train": examples(2, coarse=1)}, features, keys=None)
    with pytest.raises(
        DataError, match=r"one ClassLabel feature, but has 2 among coarse: ClassLabel, image: Image, label"
    ):
        read_tfds("twice")


def test_colour_images_of_differing_sizes(folders):
    mixed = examples(3, shape=(4, 5, 3)) + examples(3, shape=(6, 6, 3))
    features = {"image": image_feature(3), "label": label_feature()}
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": mixed}, features)
    with pytest.raises(DataError, match=r"tiny train image 0 is 4x5, tiny train image 3 is 6x6.*image_size"):
        read_tfds("tiny")
    assert read_tfds("tiny", image_size=3).train[0].shape == (6, 3, 3, 3)
    assert read_tfds("tiny", image_size=(2, 3)).train[0].shape == (6, 2, 3, 3)


def test_kinds_of_sets_that_can_not_be_read(folders):
    sets = folders / "sets"
    deep = {"image": image_feature(1, "uint16"), "label": label_feature()}
    prepare(sets / "deep" / "1.0.0", {"train": examples(2)}, deep)
    prepare(sets / "records" / "1.0.0", {"train": examples(2)}, file_format="tfrecord")
    prepare(sets / "untrained" / "1.0.0", {"test": examples(2)})
    for name, message in [
        ("deep", "should be 8-bit"),
        ("records", "not in array_record format.*\n.*file_format='array_record'"),
        ("untrained", "should have a train split, but has test"),
    ]:
        with pytest.raises(DataError, match=message):
            read_tfds(name)


def test_missing_shard(folders):
    folder = prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(2)})
    next(folder.glob("*.array_record-*")).unlink()
    with pytest.raises(DataError, match="damaged or not in array_record format"):
        read_tfds("tiny")


def test_second_read_comes_from_the_cache_until_the_source_changes(folders, monkeypatch):
    folder = prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(6), "test": examples(2)})
    decoded = []
    original = tfds_module._read_prepared
    monkeypatch.setattr(tfds_module, "_read_prepared", lambda *a: decoded.append(1) or original(*a))
    first, second = read_tfds("tiny"), read_tfds("tiny:1.0.0")
    assert len(decoded) == 1
    np.testing.assert_array_equal(first.train[0], second.train[0])
    assert second.class_names == first.class_names
    assert second.validation is None
    kept = list((folders / "cache" / "dd_jax" / "datasets").iterdir())
    assert [path.name.startswith("tiny-1.0.0-") for path in kept] == [True]

    read_tfds("tiny", image_size=2)
    assert len(decoded) == 2
    write_split(folder / "tiny-train.array_record-00000-of-00001", examples(6, 100))
    assert read_tfds("tiny").train[0][0, 0, 0, 0] == BRIGHT + 100
    assert len(decoded) == 3


def test_a_damaged_cache_is_rebuilt(folders):
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(6)})
    read_tfds("tiny", cache_dir=folders / "mine")
    (kept,) = (folders / "mine").iterdir()
    whole = kept.read_bytes()
    flipped = bytearray(whole)
    flipped[500] ^= 1
    for content in (b"", whole[:200], whole[:-30], b"text", bytes(flipped)):
        kept.write_bytes(content)
        raw = read_tfds("tiny", cache_dir=folders / "mine")
        np.testing.assert_array_equal(raw.train[0][:, 0, 0, 0], BRIGHT + np.arange(6))
        assert kept.read_bytes() == whole


def test_an_unwritable_cache_only_warns(folders):
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(6)})
    (folders / "file").touch()
    with pytest.warns(UserWarning, match="Can't keep the decoded dataset"):
        assert len(read_tfds("tiny", cache_dir=folders / "file" / "below").train[1]) == 6


def test_channels_convert_and_have_their_own_cache(folders):
    colour = [{"image": np.full((4, 5, 3), (255 - i, 0, 0), np.uint8), "label": i % 2} for i in range(10)]
    features = {"image": image_feature(3), "label": label_feature()}
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": colour}, features)
    for channels, pixel in ((None, [255, 0, 0]), (1, [76]), (3, [255, 0, 0])):
        assert read_tfds("tiny", channels=channels).train[0][0, 0, 0].tolist() == pixel
    assert load_dataset("tiny", channels=1, image_size=7).image_shape == (7, 7, 1)


def test_resizing_is_bicubic(folders):
    edge = np.zeros((4, 8, 1), np.uint8)
    edge[:, 4:] = 200
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": [{"image": edge, "label": i} for i in range(2)]})
    expected = Image.fromarray(edge[..., 0]).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(read_tfds("tiny", image_size=16).train[0][0, ..., 0], np.asarray(expected))


def test_other_names_of_sets(folders):
    prepare(folders / "sets" / "svhn_cropped" / "3.1.0", {"train": examples(20)})
    assert load_dataset("svhn").name == "svhn"
    for name in ("svhn", "svhn:3.*.*"):
        assert len(read_tfds(name).train[1]) == 20
    with pytest.raises(DataError, match=r"'svhn_cropped:1.\*.\*' is not prepared.*\(versions there: 3.1.0\)"):
        read_tfds("svhn:1.*.*")
    with pytest.raises(DataError, match=r"(?s)tfds.builder\('voc/2007', file.*contains 'voc'"):
        load_dataset("voc2007")
    assert tfds_name("cub200") == "caltech_birds2011"
    assert tfds_name("mnist:3.0.1") == "mnist:3.0.1"


def test_unprepared_sets_say_how_to_prepare_them(folders):
    with pytest.raises(DataError) as caught:
        load_dataset("fashion_mnist")
    for part in (
        str(folders / "sets" / "fashion_mnist"),
        f'pip install -e "{Path(__file__).parents[2]}[prepare]"',
        "tfds.builder('fashion_mnist', file_format='array_record').download_and_prepare()",
        "TFDS_DATA_DIR",
    ):
        assert part in str(caught.value)


def test_a_set_outside_the_short_list_is_known_to_tfds():
    assert "plant_village" not in KNOWN
    with pytest.raises(DataError, match="'plant_village' is not prepared"):
        load_dataset("plant_village")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("fashon_mnist", "fashion_mnist"),
        ("digit", "digits"),
        ("CIFAR10", "cifar10"),
        ("SVHN", "svhn"),
        ("VOC2007", "voc2007"),
        ("usp", "usps"),
    ],
)
def test_unknown_names(name, nearest):
    with pytest.raises(OptionError, match=f"Unknown dataset '{name}'. Did you mean '{nearest}'"):
        load_dataset(name)


def test_no_tensorflow_is_imported_and_heavy_imports_wait(folders):
    prepare(folders / "sets" / "tiny" / "1.0.0", {"train": examples(10), "test": examples(4)})
    script = (
        "import sys, dd_jax.data as data\n"
        "heavy = {'tensorflow_datasets', 'sklearn', 'PIL', 'array_record'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "data.load_dataset('tiny')\n"
        "assert 'tensorflow_datasets' in sys.modules\n"
        "try: data.load_dataset('fashion_mnist')\n"
        "except ValueError: pass\n"
        "try: data.load_dataset('no such set')\n"
        "except ValueError: pass\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", script], check=True, timeout=60)
