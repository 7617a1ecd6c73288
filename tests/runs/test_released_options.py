"""Options of an import beside its files: none overrides them or is ignored; what is odd or was assumed is said."""

import json
import warnings

import numpy as np
import pytest

import dd_jax as dd
from dd_jax.cli import main
from dd_jax.data.characters import of_characters
from dd_jax.errors import DataError, DataWarning, OptionError

torch = pytest.importorskip("torch")  # some files are written as the released code writes them

COUNT = 20
LABELS = np.repeat(np.arange(10), 2)
DIGITS = {"preprocessing": "dataset"}


@pytest.fixture(scope="module")
def images(digits):
    return np.asarray(digits.train.images[:COUNT])


@pytest.fixture
def save(tmp_path):
    """Save a content under a name: arrays by name as npz, anything else by PyTorch."""

    def saved(name, content):
        if name.endswith(".npz"):
            np.savez(tmp_path / name, **content)
        else:
            torch.save(content, tmp_path / name)
        return tmp_path / name

    return saved


@pytest.fixture
def files(save, images):
    """Of each format: its files, of digits."""
    first = torch.tensor(np.moveaxis(images, -1, 1).copy())
    classes = torch.tensor(LABELS)
    return {
        "dc": save("res_DSA_MNIST_ConvNet_2ipc.pt", {"data": [[first, classes], [first, classes]]}),
        "mtt": [
            save("images_best.pt", first),
            save("labels_best.pt", classes),
            save("lr_best.pt", torch.tensor(0.02)),
        ],
        "idc": save("data.pt", [torch.sigmoid(first), classes]),
        "frepo": save("step.npz", {"image": images, "label": np.eye(10)[LABELS] - 0.1}),
        "npz": save("set.npz", {"images": images, "labels": LABELS, "step_sizes": [0.1, 0.2, 0.3]}),
    }


def quietly(*arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        return dd.import_distilled(*arguments, **options)


def told(*arguments, **options):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        made = dd.import_distilled(*arguments, **options)
    return made, [str(warning.message) for warning in found]


# Options beside files.


@pytest.mark.parametrize(
    ("format", "option", "words"),
    [
        ("mtt", {"step_size": 0.05}, "should be what .*lr_best.pt says, 0.02, but is 0.05. Leave out step_size"),
        ("npz", {"step_size": 0.1}, "should be what .*set.npz says, 0.1, 0.2, 0.3, but is 0.1"),
        ("npz", {"labels": (0, 0, 1, 2, *LABELS[4:])}, "1 of 20 are not: label 3 is 2 in the option and 1 in the file"),
        ("frepo", {"labels": tuple(LABELS)}, r"has soft labels \(20, 10\). Leave out labels"),
        ("dc", {"soft_labels": "logits"}, "is 'logits' where the labels are classes"),
    ],
)
def test_an_option_that_says_otherwise_than_the_file_is_refused(files, digits, format, option, words):
    with pytest.raises(OptionError, match=words):
        quietly(files[format], format, digits, **DIGITS, **option)


def test_an_option_that_says_what_the_file_says_is_taken(files, digits):
    same = quietly(files["mtt"], "mtt", digits, **DIGITS, step_size=0.02, labels=tuple(LABELS))
    assert same.step_sizes.tolist() == pytest.approx([0.02])
    np.testing.assert_array_equal(same.labels[0], LABELS)


@pytest.mark.parametrize(
    ("format", "option", "value"),
    [
        ("dc", "step_size", 0.3),
        ("frepo", "step_size", 0.3),
        ("gcond", "step_size", 0.3),
        ("gcond", "preprocessing", "identity"),
        ("gcond", "soft_labels", "logits"),
        ("dc", "formation", "multi"),
        ("npz", "factor", 2),
        ("mtt", "index", 0),
    ],
)
def test_an_option_that_means_nothing_to_the_format_is_refused(format, option, value):
    with pytest.raises(OptionError, match=f"{option} has no meaning for the format '{format}', but is {value!r}"):
        quietly("none", format, **{option: value})


def test_a_step_size_has_a_meaning_where_the_protocol_needs_one(files, digits):
    found = quietly(files["dc"], "dc", digits, **DIGITS, protocol="as-distilled", step_size=0.3)
    assert found.step_sizes.tolist() == pytest.approx([0.3])


def test_a_bad_step_size_of_the_file_is_refused_whatever_the_option_says(save, images, digits):
    path = save("negative.npz", {"images": images, "labels": LABELS, "step_sizes": [-0.1]})
    with pytest.raises(DataError, match=r"negative.npz: step sizes should be positive.* but are -0.1"):
        quietly(path, "npz", digits, **DIGITS, step_size=0.1)


@pytest.mark.parametrize("format", ["npz", "mtt", "dc", "frepo"])
def test_labels_of_files_without_any_are_those_of_the_option(save, files, images, digits, format):
    first = torch.tensor(np.moveaxis(images, -1, 1).copy())
    bare = {
        "npz": save("bare.npz", {"images": images}),
        "mtt": [files["mtt"][0], files["mtt"][2]],
        "dc": save("res_DC_digits.pt", {"data": [[first, None]]}),
        "frepo": save("frepo.npz", {"image": images}),
    }[format]
    protocol = {"protocol": "dc"} if format == "npz" else {}
    found = quietly(bare, format, digits, **DIGITS, **protocol, labels=LABELS)
    np.testing.assert_array_equal(found.labels[0], LABELS)
    with pytest.raises(OptionError, match=r"There should be labels .* Name a file that has them, or give labels"):
        quietly(bare, format, digits, **DIGITS, **protocol)


# Protocols.


def test_which_names_are_of_digits_and_letters():
    for name in ("digits", "mnist:3.0.1", "emnist/letters", "svhn", "usps:~/usps", "npz:a/mnist.npz", "folder:a/SVHN/"):
        assert of_characters(name), name
    for name in ("fashion_mnist", "cifar10", "npz:mine.npz", "folder:mnist/cars", "", "digits-graph"):
        assert not of_characters(name), name


@pytest.mark.parametrize(("format", "protocol"), [("dc", "dsa"), ("mtt", "mtt"), ("idc", "idc"), ("frepo", "frepo")])
def test_digits_are_not_mirrored_and_a_line_says_so(files, digits, format, protocol):
    options = {**DIGITS, **({"factor": 1} if format == "idc" else {})}
    found, said = told(files[format], format, digits, **options)
    assert found.protocol.name == f"{protocol}-digits"
    assert any(
        f"the protocol is '{protocol}-digits'" in line and "dataset 'digits' is of digits" in line for line in said
    )
    assert quietly(files[format], format, digits, **options, protocol=protocol).protocol.name == protocol


def test_digits_are_known_without_their_dataset(save, files):
    found, said = told(files["dc"], "dc", preprocessing="identity")
    assert found.protocol.name == "dsa-digits"
    assert any("MNIST in the file name means digits" in line for line in said)
    assert quietly(files["mtt"], "mtt", preprocessing="mnist").protocol.name == "mtt-digits"
    assert quietly(files["mtt"], "mtt", preprocessing="fashion_mnist").protocol.name == "mtt"


def test_protocols_of_graphs_and_images_stay_apart(files, digits):
    with pytest.raises(OptionError, match="'gcond' trains on the nodes of a graph, but these are images"):
        quietly(files["npz"], "npz", digits, **DIGITS, protocol="gcond")
    for protocol in ("dsa", "kip", "as-distilled", "mtt-plain"):
        with pytest.raises(OptionError, match=f"'{protocol}' is for sets of images"):
            quietly("none", "gcond", protocol=protocol)


# Odd sets.


def test_odd_sets_are_told(save, images, digits):
    def said(images=images, labels=LABELS):
        path = save("odd.npz", {"images": images, "labels": labels})
        return " ".join(told(path, "npz", digits, **DIGITS, protocol="dc")[1])

    assert said() == ""
    assert "All 20 labels in" in said(labels=0 * LABELS)
    assert "give no image to 1 of 10 classes: 9." in said(labels=LABELS - (LABELS == 9))
    assert "All 20 labels in" in said(labels=np.eye(10)[0 * LABELS])
    assert "give no image to 8 of 10 classes: 2, 3, 4, 5, 6, ..." in said(labels=np.eye(10)[LABELS % 2])
    assert "all pixels of the images have the same value, 0" in said(0 * images)
    blank = np.array(images)
    blank[3:5] = 0.5
    assert "2 of 20 images have one value throughout, the first at index 3" in said(blank)


def test_a_huge_label_takes_no_memory(save, images):
    labels = np.array([2**31 - 2, *LABELS[1:]])
    path = save("huge.npz", {"images": images, "labels": labels})
    _, said = told(path, "npz", preprocessing="identity", protocol="dc")
    assert any("give no image to" in line and "..." in line for line in said)


def test_odd_graphs_are_told(save):
    files = [save("x.pt", torch.rand(35, 5)), save("a.pt", torch.zeros(35, 35))]
    said = " ".join(told(files, "gcond", labels=(0,) * 35)[1])
    assert "a.pt: all weights of edges are 0" in said
    assert "All 35 option labels are of one class, 0" in said


def test_a_softmax_of_shares_is_told(save, images, digits):
    path = save("shares.npz", {"images": images, "labels": np.full((COUNT, 10), 0.1)})
    _, said = told(path, "npz", digits, **DIGITS, protocol="dc", soft_labels="logits")
    assert any("are shares that sum to 1 already" in line for line in said)


# Wrong calls.


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            {"dataset": "digits"},
            r"should be a Dataset, but is 'digits', a str. Load it with dd_jax.load_dataset\('digits",
        ),
        ({"format": None}, "format should be one of gcond.* but is None"),
        ({"files": b"set.npz"}, "files should be a path .* but are b'set.npz'"),
        ({"files": 5}, "files should be a path .* but are 5"),
        ({"format": "dc", "index": 1.5}, "index should be a whole number from 0, but is 1.5"),
        ({"format": "dc", "index": True}, "index should be a whole number from 0, but is True"),
        (
            {"protocol": dd.Training()},
            r"should be a name.* but is a Training.*dd_jax.evaluate\(..., protocol=training\)",
        ),
        ({"protocol": 5}, "protocol should be one of as-distilled.* but is 5"),
        ({"preprocessing": 5}, "preprocessing should be one of dataset.* but is 5"),
        ({"step_size": "0.1"}, "step_size should be a positive number, but is '0.1'"),
        ({"step_size": -1}, "step_size should be a positive number, but is -1"),
        ({"soft_labels": "share"}, "Unknown soft_labels 'share'. Did you mean 'shares'"),
    ],
)
def test_values_of_another_kind_are_named(call, words):
    with pytest.raises(OptionError, match=words):
        dd.import_distilled(**{"files": "none.npz", "format": "npz", **call})


def test_labels_that_are_no_sequence_are_named(files, digits):
    with pytest.raises(OptionError, match="labels should be a sequence of classes, one for each image, but is 5"):
        quietly(files["npz"], "npz", digits, **DIGITS, labels=5)


# Messages about files.


def test_labels_beyond_the_classes_are_named_with_their_place(save, images, digits):
    for labels, words in (
        (
            np.array([0, 0, 0, 10, *LABELS[4:]]),
            "labels in .*set.npz should be from 0 to 9.* such as 10 at index 3. Give",
        ),
        (np.full((COUNT, 9), 1 / 9), r"labels in .*set.npz should be \(20, 10\).* but are \(20, 9\). Give the dataset"),
    ):
        path = save("set.npz", {"images": images, "labels": labels})
        with pytest.raises(DataError, match=words):
            quietly(path, "npz", digits, **DIGITS, protocol="dc")


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_another_program_are_named(tmp_path, files, digits, zipped):
    torch.save({"data": []}, tmp_path / "theirs.pt", _use_new_zipfile_serialization=zipped)
    for format in ("npz", "frepo"):
        with pytest.raises(
            DataError, match=r"should be an npz file.* but is a file of torch.save. Import it with --format dc"
        ):
            quietly(tmp_path / "theirs.pt", format, digits, **DIGITS)
    for format in ("dc", "mtt", "gcond"):
        with pytest.raises(
            DataError, match=r"should be a file of torch.save, but is an npz file. Import it with --format npz"
        ):
            quietly(files["npz"], format, **({"protocol": "dc"} if format == "dc" else {}))


def test_each_file_is_named_for_what_it_holds(save, files, digits):
    pixels, classes, _ = files["mtt"]

    def refused(words, third):
        with pytest.raises(DataError, match=words):
            quietly([pixels, classes, third], "mtt", digits, **DIGITS)

    refused("lr_best.pt should hold a single step size, but holds 2", save("lr_best.pt", torch.tensor([0.1, 0.2])))
    refused("lr_best.pt: step sizes should be positive.* but are -0.02", save("lr_best.pt", torch.tensor(-0.02)))
    refused("step sizes in lr_best.pt should be finite", save("lr_best.pt", torch.tensor(np.nan)))
    refused(r"more.pt \(2,\) would be a second file of labels, beside labels_best.pt", save("more.pt", torch.ones(2)))
    nodes = save("x.pt", torch.rand(6, 5))
    for weights, words in (
        (torch.triu(torch.rand(6, 6), 1), "a.pt: adjacency should be symmetric"),
        (torch.full((6, 6), np.nan), "adjacency in a.pt should be finite"),
    ):
        with pytest.raises(DataError, match=words):
            quietly([nodes, save("a.pt", weights)], "gcond", labels=(0, 1) * 3)


def test_a_graph_is_not_sent_to_npz(save):
    for content in ({"x": torch.rand(6, 5)}, torch.eye(6).to_sparse()):
        with pytest.raises(
            DataError, match=r"torch.save\(features, 'feat.pt'\), and torch.save\(adjacency.to_dense"
        ) as found:
            quietly(save("x.pt", content), "gcond", labels=(0, 1) * 3)
        assert "npz" not in str(found.value)


def test_a_pair_that_is_none_is_described(save):
    for content, words in (
        ([torch.zeros(1), "b"], "list of 2: a tensor and a str"),
        ([None, torch.zeros(1)], "list of 2: None and a tensor"),
    ):
        with pytest.raises(DataError, match=words):
            quietly(save("data.pt", content), "idc", preprocessing="identity")


# The command.


def test_a_command_that_lacks_something_says_what(capsys):
    for words, lacks in (
        (["a.pt", "--format", "dc"], "The command lacks -o, a folder for the set. Expected"),
        (
            ["a.pt", "b.pt", "--format", "gcond", "-o", "x"],
            "lacks --dataset, which gives the labels of a graph. Expected",
        ),
        (
            ["a.npz", "--format", "npz", "--preprocessing", "dataset"],
            "lacks --dataset, which gives the preprocessing; -o",
        ),
        ([], "lacks the files; --format, one of gcond, dc, mtt, idc, frepo, npz; -o"),
    ):
        assert main(["import", *words]) == 2
        assert lacks in capsys.readouterr().err


def test_a_place_where_no_set_may_be_is_refused(files, tmp_path, capsys):
    words = ["import", str(files["npz"]), "--format", "npz", "--preprocessing", "identity", "-o"]
    assert main([*words, str(files["npz"])]) == 2
    said = capsys.readouterr().err
    assert f"-o should be a folder for the set, but {files['npz']} is a file. Name another one." in said
    assert main([*words, str(files["npz"] / "below")]) == 2
    said = capsys.readouterr().err
    assert "there is a file where a directory is expected" in said
    assert "checkpoint" not in said
    (tmp_path / "config.json").write_text("{}")
    assert main([*words, str(tmp_path)]) == 2
    assert "is a run directory. Name another one" in capsys.readouterr().err


def test_options_about_images_of_no_dataset_are_refused(files, capsys):
    words = ["import", str(files["npz"]), "--format", "npz", "--preprocessing", "identity", "-o", "nowhere"]
    for more, said in (
        (["--image-size", "8"], "--image-size is about the images of the dataset, but none is named"),
        (["--zca", "--dataset", "digits"], "--zca is for --preprocessing dataset, but the preprocessing is 'identity'"),
    ):
        assert main([*words, *more]) == 2
        assert said in capsys.readouterr().err


def test_what_was_taken_is_kept_and_info_prints_it(files, tmp_path, capsys):
    out = tmp_path / "set"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    words = ["import", str(files["dc"]), "--format", "dc", "--preprocessing", "dataset", "--dataset", "digits"]
    assert main([*words, "-o", str(out)]) == 0
    assert "is replaced" not in capsys.readouterr().err
    assert main([*words, "-o", str(out)]) == 0
    assert f"the set that was in {out} is replaced" in capsys.readouterr().err
    assert (out / "notes.txt").read_text() == "mine"
    made = json.loads((out / "distilled.json").read_text())["provenance"]["imported"]
    assert made["taken"] == {"protocol": "dsa-digits", "index": 1, "sets_in_file": 2}
    assert main(["info", str(out)]) == 0
    printed = capsys.readouterr().out
    for line in ("size: 20 images", "image_shape: 8, 8, 1", "classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9", "index: 1",
                 "sets_in_file: 2", "protocol: dsa-digits", "transform: standardise", "labels: classes"):  # fmt: skip
        assert f"  {line}\n" in printed


def test_the_order_of_labels_of_a_graph_is_kept(save, tmp_path, capsys):
    data = dd.load_dataset("digits-graph")
    nodes = save("x.pt", torch.rand(20, data.image_shape[2]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        order = dd.import_distilled(nodes, "gcond", data).labels[0, ::2].tolist()
    words = ["import", str(nodes), "--format", "gcond", "--dataset", "digits-graph", "-o", str(tmp_path / "set")]
    assert main(words) == 0
    capsys.readouterr()
    assert main(["info", str(tmp_path / "set")]) == 0
    printed = capsys.readouterr().out
    assert f"label_order: {', '.join(map(str, order))}\n" in printed
    assert "size: 20 nodes\n" in printed


def test_a_set_of_images_is_not_measured_on_a_graph(files, digits, tmp_path, capsys):
    found = quietly(files["npz"], "npz", digits, **DIGITS, protocol="dc")
    dd.save_distilled(tmp_path / "set", found, {})
    assert main(["audit", str(tmp_path / "set"), "--dataset", "digits-graph", "--model", "gcn"]) == 2
    said = capsys.readouterr().err
    assert "is a set of images, but digits-graph is a graph. Give a dataset of 8 x 8 images with 1 channels" in said
