"""Sets that others released: what each format's files become, and what is said where something is missing."""

import collections
import hashlib
import json
import os
import shutil
import warnings
from pathlib import Path

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.errors import DataError, DataWarning, OptionError
from dd_jax.storage.import_options import NORMALISATIONS

torch = pytest.importorskip("torch")  # the files are written as the released code writes them

ROOT = Path(__file__).parents[2]
COUNT, SIDE = 6, 8  # two images of each of three classes
IMAGES = np.random.default_rng(0).normal(size=(COUNT, 3, SIDE, SIDE)).astype(np.float32)
LABELS = np.repeat(np.arange(3), 2)


@pytest.fixture
def save(tmp_path):
    """Save a content under a name, in the zip format or the one before it."""

    def saved(content, name, zipped=True):
        torch.save(content, tmp_path / name, _use_new_zipfile_serialization=zipped)
        return tmp_path / name

    return saved


def channels_last(images):
    return np.moveaxis(images, 1, -1)


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return dd.import_distilled(*arguments, **options)


# Images.


@pytest.mark.parametrize("zipped", [True, False])
def test_several_distillations_in_one_file_of_dc(save, zipped):
    pairs = [[torch.tensor(IMAGES + i), torch.tensor(LABELS)] for i in range(3)]
    logged = {"ConvNet": [np.float64(0.5), 0.25], "MLP": np.arange(3.0), "torch": torch.zeros(2)}
    path = save({"data": pairs, "accs_all_exps": logged}, "res_DSA_CIFAR10_ConvNet_2ipc.pt", zipped)
    with pytest.warns(DataWarning) as told:
        found = dd.import_distilled(path, "dc", preprocessing="cifar10")
    said = " ".join(str(warning.message) for warning in told)
    assert "3 sets, one for each distillation; taken: number 2" in said
    assert "protocol is 'dsa', judging by the file name" in said
    np.testing.assert_array_equal(found.images[0], channels_last(IMAGES + 2))
    np.testing.assert_array_equal(found.labels[0], LABELS)
    assert (found.protocol.name, found.protocol.order) == ("dsa", "random")
    np.testing.assert_allclose(found.transform.arrays["mean"], NORMALISATIONS["cifar10"][0])
    first = quietly(path, "dc", preprocessing="cifar10", index=0, protocol="dc")
    np.testing.assert_array_equal(first.images[0], channels_last(IMAGES))
    with pytest.raises(OptionError, match="holds sets 0 to 2, but index is 3"):
        quietly(path, "dc", preprocessing="cifar10", index=3)


def test_trajectory_matching_has_a_file_each_and_a_step_size(save):
    files = [save(torch.tensor(LABELS), "labels_best.pt"), save(torch.tensor(IMAGES), "images_best.pt")]
    with pytest.raises(OptionError, match="'mtt' needs the learnt step size"):
        quietly(files, "mtt", preprocessing="cifar10")
    stated = quietly(files, "mtt", preprocessing="cifar10", step_size=0.02)
    read = quietly([*files, save(torch.tensor(0.02), "lr_best.pt")], "mtt", preprocessing="cifar10")
    for found in (stated, read):
        assert found.step_sizes.tolist() == pytest.approx([0.02])
        assert found.protocol.name == "mtt"
    with pytest.raises(DataError, match="would be a second file of images"):
        quietly([files[1], files[1]], "mtt", preprocessing="cifar10", step_size=0.02)
    with pytest.raises(DataError, match="Expected a file of images"):
        quietly(files[:1], "mtt", preprocessing="cifar10", step_size=0.02)


def test_soft_labels_are_shares_or_what_is_said(save):
    logits = np.random.default_rng(1).normal(size=(COUNT, 3)).astype(np.float32)
    images = save(torch.nn.Parameter(torch.tensor(IMAGES)), "images_best.pt")
    files = [images, save(torch.tensor(logits), "labels_best.pt")]
    given = {"preprocessing": "identity", "step_size": 0.1}
    with pytest.raises(OptionError, match="Give soft_labels='logits' or 'targets'"):
        quietly(files, "mtt", **given)
    found = quietly(files, "mtt", **given, soft_labels="logits").labels[0]
    np.testing.assert_allclose(found, torch.softmax(torch.tensor(logits), -1), rtol=1e-5)
    np.testing.assert_array_equal(quietly(files, "mtt", **given, soft_labels="targets").labels[0], logits)
    shares = [images, save(torch.softmax(torch.tensor(logits), -1), "labels.pt")]
    np.testing.assert_allclose(quietly(shares, "mtt", **given).labels[0], found, rtol=1e-5)


def test_images_of_idc_are_pixels_that_are_decoded_and_then_normalised(save):
    pixels = np.random.default_rng(2).uniform(size=(COUNT, 3, SIDE, SIDE)).astype(np.float32)
    path = save([torch.tensor(pixels), torch.tensor(LABELS)], "data.pt")
    with pytest.raises(OptionError, match="Give factor"):
        quietly(path, "idc", preprocessing="cifar10")
    found = quietly(path, "idc", preprocessing="cifar10", factor=2)
    assert found.images.shape == (1, 4 * COUNT, SIDE, SIDE, 3)
    np.testing.assert_array_equal(found.labels[0], np.repeat(LABELS, 4))
    assert dd.storage_bytes(found) < 1.1 * pixels.nbytes
    tile = torch.tensor(pixels[1:2, :, :4, 4:])  # the second of the four of the second stored image
    enlarged = torch.nn.functional.interpolate(tile, size=(SIDE, SIDE), mode="bilinear")[0]
    mean, std = (np.array(values, np.float32)[:, None, None] for values in NORMALISATIONS["cifar10"])
    np.testing.assert_allclose(np.moveaxis(found.images[0, 5], -1, 0), (enlarged - mean) / std, atol=1e-5)
    assert quietly(path, "idc", preprocessing="cifar10", factor=2, formation="multi").num_examples == 5 * COUNT
    normalised = save([torch.tensor(9 * IMAGES), torch.tensor(LABELS)], "data_normalised.pt")
    with pytest.raises(DataError, match="should hold pixels from 0 to 1"):
        quietly(normalised, "idc", preprocessing="cifar10", factor=2)


def test_frepo_as_arrays_and_as_a_checkpoint_of_flax(tmp_path):
    images, labels = channels_last(IMAGES), np.eye(3, dtype=np.float32)[LABELS] - 1 / 3
    np.savez(tmp_path / "step000010.npz", image=images, label=labels)
    arrays = {"x_proto": images, "y_proto": labels}
    packed = {
        name: msgpack.ExtType(1, msgpack.packb((array.shape, array.dtype.name, array.tobytes())))
        for name, array in arrays.items()
    }
    state = {"step": 10, "params": packed, "ema_hidden": {"count": msgpack.ExtType(3, b"xx")}, "opt_state": {}}
    (tmp_path / "checkpoint_10").write_bytes(msgpack.packb(state))
    for name in ("step000010.npz", "checkpoint_10"):
        found = quietly(tmp_path / name, "frepo", preprocessing="cifar10")
        np.testing.assert_array_equal(found.images[0], images)
        np.testing.assert_array_equal(found.labels[0], labels)
        assert found.protocol.name == "frepo"


def test_a_checkpoint_as_flax_writes_it(tmp_path):
    serialization = pytest.importorskip("flax.serialization")
    state = {"params": {"x_proto": channels_last(IMAGES), "y_proto": np.eye(3, dtype=np.float32)[LABELS]}}
    (tmp_path / "checkpoint_0").write_bytes(serialization.msgpack_serialize(state))
    found = quietly(tmp_path / "checkpoint_0", "frepo", preprocessing="identity")
    np.testing.assert_array_equal(found.images[0], channels_last(IMAGES))


def test_arrays_of_any_origin(tmp_path, digits):
    images, labels = np.asarray(digits.train.images[:20]), np.repeat(np.arange(10), 2)
    np.savez(tmp_path / "last.npz", images=images, labels=labels, step_sizes=[0.1, 0.2], by="me")
    with pytest.warns(DataWarning, match="left out by"):
        found = dd.import_distilled(tmp_path / "last.npz", "npz", digits, preprocessing="dataset")
    assert found.protocol.name == "as-distilled"
    assert found.class_names == digits.class_names
    first = np.moveaxis(images, -1, 1)
    np.savez(tmp_path / "first.npz", images_nchw=first, labels=labels)
    with pytest.raises(OptionError, match="Give step_size, or another protocol"):
        quietly(tmp_path / "first.npz", "npz", digits, preprocessing="dataset")
    other = quietly(tmp_path / "first.npz", "npz", digits, preprocessing="dataset", protocol="dc")
    np.testing.assert_array_equal(other.images, found.images)
    raw = np.round(255 * np.asarray(dd.to_pixels(digits.transform, images))).astype(np.uint8)
    np.savez(tmp_path / "bytes.npz", images=raw, labels=labels)
    with pytest.warns(DataWarning, match="bytes and are read as pixels"):
        seen = dd.import_distilled(tmp_path / "bytes.npz", "npz", digits, preprocessing="dataset", protocol="dc")
    np.testing.assert_allclose(seen.images[0], images, atol=0.02)


def test_what_is_missing_or_odd_is_said(save, digits):
    path = save([torch.tensor(IMAGES), torch.tensor(LABELS)], "set.pt")
    files = [save(torch.tensor(IMAGES), "images.pt"), save(torch.tensor(LABELS), "labels.pt")]

    def refused(error, words, files, format, *arguments, **options):
        with pytest.raises(error, match=words):
            quietly(files, format, *arguments, **options)

    refused(OptionError, "Unknown format 'mt'. Did you mean 'mtt'", files, "mt")
    refused(OptionError, "Unknown option 'facto'. Did you mean 'factor'", files, "mtt", facto=2)
    refused(OptionError, "don't tell how the images were preprocessed", files, "mtt", step_size=0.1)
    refused(OptionError, "Give dataset too", files, "mtt", step_size=0.1, preprocessing="dataset")
    refused(OptionError, "Unknown preprocessing 'cifar'", files, "mtt", step_size=0.1, preprocessing="cifar")
    refused(OptionError, "is for images of 1 channels", files, "mtt", step_size=0.1, preprocessing="mnist")
    refused(OptionError, "doesn't tell how networks are trained", path, "dc")
    refused(DataError, "should hold a dictionary whose 'data'", path, "dc", protocol="dc", preprocessing="identity")
    refused(DataError, "is one file, such as data.pt, but 2 files were named", files, "idc", preprocessing="identity")
    refused(DataError, "There is no file", "none.pt", "idc", preprocessing="identity")
    refused(OptionError, "index has no meaning for the format 'idc', but is 0: its files hold one set only. Leave out",
            path, "idc", index=0)  # fmt: skip
    refused(DataError, r"of digits, \(8, 8, 1\), but have \(8, 8, 3\)", files, "mtt", digits, step_size=0.1,
            preprocessing="identity")  # fmt: skip
    with pytest.warns(DataWarning, match="The images may have been preprocessed in another way"):
        dd.import_distilled(files, "mtt", preprocessing="identity", step_size=0.1)
    broken = IMAGES.copy()
    broken[2, 0, 0, 0] = np.nan
    refused(DataError, "values that are not finite", [save(torch.tensor(broken), "images.pt"), files[1]], "mtt",
            step_size=0.1, preprocessing="identity")  # fmt: skip


# Graphs.


@pytest.fixture(scope="module")
def graph():
    """30 nodes of 3 classes, of which the first six, two of each class, are for training: classes 2, 0, 1."""
    rng = np.random.default_rng(0)
    labels = np.array([2, 2, 0, 1, 0, 1, *rng.integers(0, 3, 24)])
    edges = np.stack([np.arange(29), np.arange(1, 30)])
    parts = {"train": np.arange(6), "validation": np.arange(6, 12), "test": np.arange(12, 30)}
    features = rng.random((30, 5)).astype(np.float32)
    return dd.graph_from_arrays(features, edges, labels, **parts, normalise_rows=False, name="little")


def adjacency(count):
    weights = np.random.default_rng(3).uniform(size=(count, count)).astype(np.float32)
    return (weights + weights.T) / 2 * (1 - np.eye(count, dtype=np.float32))


def test_a_graph_has_its_labels_in_the_order_of_the_training_nodes(save, graph):
    features = np.random.default_rng(4).random((12, 5)).astype(np.float32)
    files = [save(torch.tensor(adjacency(12)), "adj.pt"), save(torch.tensor(features), "feat.pt")]
    with pytest.warns(DataWarning, match="4 nodes of each class, classes in order of first appearance .* 2, 0, 1"):
        found = dd.import_distilled(files, "gcond", graph)
    np.testing.assert_array_equal(found.labels[0], np.repeat([2, 0, 1], 4))
    np.testing.assert_array_equal(found.learnt["features"], features)
    np.testing.assert_array_equal(found.learnt["adjacency"], adjacency(12))
    assert (found.protocol.name, found.unit) == ("gcond", "node")
    with pytest.warns(DataWarning) as told:
        bare = dd.import_distilled(files[1], "gcond", graph)
    assert "no file of edges" in str(told[0].message)
    assert not np.asarray(bare.images.adjacency).any()
    given = quietly(files, "gcond", labels=tuple(range(3)) * 4)
    assert given.labels[0].tolist() == [0, 1, 2] * 4
    for words, options in (
        ("Give labels, .* or dataset,", {}),
        ("for each of the 12 nodes, but has 2", {"labels": (0, 1)}),
    ):
        with pytest.raises(OptionError, match=words):
            quietly(files, "gcond", **options)
    eleven = [save(torch.tensor(adjacency(11)), "adj11.pt"), save(torch.tensor(features[:11]), "feat11.pt")]
    with pytest.raises(OptionError, match="equally many training nodes"):
        quietly(eleven, "gcond", graph)
    with pytest.raises(DataError, match="of the same N nodes"):
        quietly([files[1], eleven[0]], "gcond", graph)
    lopsided = adjacency(12)
    lopsided[0, 1] = 0.9
    with pytest.raises(DataError, match="adjacency should be symmetric"):
        quietly([save(torch.tensor(lopsided), "odd.pt"), files[1]], "gcond", graph)


@pytest.mark.slow
def test_a_graph_that_was_released_gives_what_was_measured(optimised):
    """Networks are those of the record, so that accuracies are the same but for rounding."""
    home = Path(os.environ.get("TFDS_DATA_DIR", "/nowhere"))
    released = home.parent / "released" / "gcond"
    if not (released.is_dir() and (home.parent / "planetoid").is_dir()):
        pytest.skip("there are no folders released/gcond and planetoid beside TFDS_DATA_DIR")
    record = json.loads((ROOT / "experiments" / "results" / "released-graphs.json").read_text())
    data = dd.load_dataset("cora")
    files = [released / f"{part}_cora_0.25_0.pt" for part in ("feat", "adj")]
    found = dd.evaluate(quietly(files, "gcond", data), dd.models.gcn(data), data, num_nets=1, num_curve_nets=0)
    assert found.accuracies[0] == pytest.approx(record["accuracies"]["cora"]["0"][0], abs=0.01)


# The command.


def test_from_files_to_an_artefact(save, tmp_path, capsys):
    data = collections.OrderedDict(data=[[torch.tensor(IMAGES[:, :1]), torch.tensor(LABELS)]], accs_all_exps={})
    path = save(data, "res_DC_MNIST_ConvNet_2ipc.pt")
    words = ["import", str(path), "--format", "dc", "--preprocessing", "mnist", "-o", str(tmp_path / "set")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "6 images with labels" in printed.out
    assert "judging by the file name" in printed.err
    kept = dd.load_distilled(tmp_path / "set")
    np.testing.assert_array_equal(kept.images[0], channels_last(IMAGES[:, :1]))
    about = json.loads((tmp_path / "set" / "distilled.json").read_text())["provenance"]["imported"]
    assert about["files"] == [{"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}]
    assert about["preprocessing"] == "mnist"
    shutil.rmtree(tmp_path / "set")
    path.write_bytes(path.read_bytes()[:-100])
    assert main(words) == 2
    assert "is a zip archive that is cut off" in capsys.readouterr().err
    assert main(["import", str(path), "--format", "dc"]) == 2
    assert "a folder for the set" in capsys.readouterr().err


def test_an_imported_set_trains_networks_as_the_same_arrays_do(tmp_path, digits, digits_mlp):
    images = np.asarray(digits.train.images[:20])
    np.savez(tmp_path / "set.npz", images=images, labels=digits.train.labels[:20])
    found = quietly(tmp_path / "set.npz", "npz", digits, preprocessing="dataset", protocol="dc")
    same = dd.distilled_from_arrays(
        images, np.asarray(digits.train.labels[:20]), transform=digits.transform, class_names=digits.class_names
    )
    options = {"num_nets": 1, "num_epochs": 1, "num_curve_nets": 0}
    one, other = (dd.evaluate(each, digits_mlp, digits, **options) for each in (found, same))
    np.testing.assert_array_equal(one.accuracies, other.accuracies)
    assert jnp.array_equal(found.step_sizes, same.step_sizes)
