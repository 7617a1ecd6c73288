import numpy as np
import pytest
from PIL import Image

from dd_jax.data import load_dataset
from dd_jax.data.folder import read_folder
from dd_jax.data.images import as_size, decode_image
from dd_jax.errors import DataError, OptionError


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def fill(root, classes=("cat", "ant"), count=4, shape=(4, 6)):
    for label, name in enumerate(classes):
        for index in range(count):
            save(root / name / f"{index}.png", np.full(shape, 40 * label + index))
    return root


def test_class_folders_are_the_sorted_classes(tmp_path):
    raw = read_folder(fill(tmp_path))
    images, labels = raw.train
    assert raw.class_names == ("ant", "cat")
    assert images.shape == (8, 4, 6, 1)
    np.testing.assert_array_equal(images[:, 0, 0, 0], [40, 41, 42, 43, 0, 1, 2, 3])
    np.testing.assert_array_equal(labels, [0, 0, 0, 0, 1, 1, 1, 1])


def test_load_dataset_carves_what_is_missing(tmp_path):
    dataset = load_dataset(f"folder:{fill(tmp_path, count=10)}")
    assert [len(batch.labels) for batch in (dataset.train, dataset.validation, dataset.test)] == [14, 2, 4]


def test_split_layout_is_kept(tmp_path):
    for part, count in (("train", 3), ("test", 2), ("val", 1)):
        fill(tmp_path / part, count=count)
    raw = read_folder(tmp_path)
    assert [len(pair[1]) for pair in (raw.train, raw.validation, raw.test)] == [6, 2, 4]


def test_validation_alone_is_the_test_split(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "validation", count=1)
    raw = read_folder(tmp_path)
    assert raw.validation is None
    assert len(raw.test[1]) == 2


def test_a_class_called_train_is_no_split(tmp_path):
    assert read_folder(fill(tmp_path, classes=("train", "bus"))).class_names == ("bus", "train")


def test_one_colour_image_makes_all_colour_in_every_split(tmp_path):
    fill(tmp_path / "train")
    save(tmp_path / "test" / "ant" / "0.png", np.stack(np.broadcast_arrays(np.ones((4, 6)), 2, 3), -1)[:, :, :])
    raw = read_folder(tmp_path)
    np.testing.assert_array_equal(raw.test[0][0, 0, 0], [1, 2, 3])
    np.testing.assert_array_equal(raw.train[0][0, 0, 0], [40, 40, 40])
    save(tmp_path / "train" / "cat" / "9.png", np.full((4, 6, 3), (7, 8, 9)))
    np.testing.assert_array_equal(read_folder(tmp_path).train[0][[0, -1], 0, 0], [[40, 40, 40], [7, 8, 9]])


def test_jpeg_transparency_palettes_nested_and_other_files(tmp_path):
    fill(tmp_path)
    Image.new("RGBA", (6, 4), (9, 8, 7, 0)).save(tmp_path / "ant" / "a.png")
    palette = Image.new("P", (6, 4), 1)
    palette.putpalette([0, 0, 0, 5, 6, 7])
    palette.save(tmp_path / "ant" / "b.png", transparency=b"\x80\x80")
    save(tmp_path / "ant" / "images" / "c.JPEG", np.full((4, 6, 3), 100))
    (tmp_path / "ant" / "notes.txt").write_text("not an image")
    raw = read_folder(tmp_path)
    images = raw.train[0]
    assert raw.notes == (
        f"{tmp_path}: left out 1 files that aren't images (.txt: 1), such as {tmp_path}/ant/notes.txt.",
        f"2 of 11 images are transparent in places: what lies beneath is read, such as {tmp_path}/ant/a.png.",
        f"8 of 11 images are grey among others in colour: they get three equal channels, such as {tmp_path}/ant/0.png.",
    )
    np.testing.assert_array_equal(images[4:7, 0, 0], [[9, 8, 7], [5, 6, 7], [100, 100, 100]])


def test_image_size_resizes(tmp_path):
    fill(tmp_path)
    save(tmp_path / "ant" / "big.png", np.full((9, 9), 200))
    with pytest.raises(DataError, match=r"differ in size: .*0.png is 4x6, .*big.png is 9x9.*image_size=4"):
        read_folder(tmp_path)
    images = read_folder(tmp_path, image_size=(5, 3)).train[0]
    assert images.shape == (9, 5, 3, 1)
    np.testing.assert_array_equal(images[4], 200)
    assert load_dataset(f"folder:{tmp_path}", image_size=2).image_shape == (2, 2, 1)


def test_channels_are_the_same_in_every_split_whatever_the_files_are(tmp_path):
    fill(tmp_path / "train")
    save(tmp_path / "test" / "ant" / "0.png", np.full((4, 6, 3), (255, 0, 0)))
    grey = read_folder(tmp_path, channels=1)
    assert (grey.train[0].shape, grey.test[0].shape) == ((8, 4, 6, 1), (1, 4, 6, 1))
    assert grey.test[0][0, 0, 0, 0] == 76  # 0.299 * 255
    assert load_dataset(f"folder:{tmp_path / 'train'}", channels=3).image_shape == (4, 6, 3)


def test_missing_folders_and_classes(tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nowhere"):
        load_dataset(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(DataError, match="no class folders"):
        read_folder(tmp_path)
    (fill(tmp_path) / "bee").mkdir()
    with pytest.raises(DataError, match=r"class folder .*bee has no images"):
        read_folder(tmp_path)


def test_strange_test_class(tmp_path):
    fill(tmp_path / "train")
    fill(tmp_path / "test", classes=("ant", "dog"))
    with pytest.raises(DataError, match="class 'dog', but there is no such class among the training images"):
        read_folder(tmp_path)


def test_unreadable_images_are_named(tmp_path):
    fill(tmp_path, shape=(40, 60))
    whole = (tmp_path / "ant" / "1.png").read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"no image at all"):
        (tmp_path / "ant" / "1.png").write_bytes(content)
        with pytest.raises(DataError, match=r"Can't read .*ant/1.png as an image"):
            read_folder(tmp_path)


def test_photographs_are_turned_upright(tmp_path):
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: rotated by a quarter turn
    image.save(tmp_path / "photo.png", exif=exif)
    assert decode_image(tmp_path / "photo.png", "photo", None, None).shape == (3, 2, 1)


@pytest.mark.parametrize("size", [0, -3, (3,), (3, 0), (1, 2, 3), (2.5, 2)])
def test_senseless_image_sizes(size):
    with pytest.raises(OptionError, match="image_size must be"):
        as_size(size)
