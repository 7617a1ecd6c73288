import contextlib
import io
import os
import pickle
from pathlib import Path

import jax
import numpy as np
import pytest

import dd_jax as dd
from dd_jax.data.planetoid import PARTS, read_planetoid
from dd_jax.errors import DataError, DataWarning, OptionError

PUBLISHED = [
    folder
    for home in filter(None, [os.environ.get("TFDS_DATA_DIR")])
    for folder in (Path(home) / "planetoid", Path(home).absolute().parent / "planetoid")
    if (folder / "ind.cora.graph").is_file()
]

RING = {
    "features": np.arange(18.0).reshape(6, 3),
    "edges": np.array([[0, 1, 2, 3, 4, 5, 2], [1, 2, 3, 4, 5, 0, 2]]),
    "labels": np.array([0, 1, 0, 1, -1, 1]),
    "train": [0, 1],
    "validation": [2],
    "test": [3, 5],
    "normalise_rows": True,
}


def matrix(nodes):
    """The adjacency of a graph, all pairs."""
    size, edges = len(nodes.features), nodes.adjacency
    dense = np.zeros((size, size))
    np.add.at(dense, (edges.receivers, edges.senders), edges.weights)
    return dense


def test_edges_go_both_ways_once_and_loops_count_nothing():
    mixed = np.concatenate([RING["edges"], [[1], [0]]], axis=1)
    with pytest.warns(DataWarning, match="5 of 7 edges are given in one direction only"):
        nodes = dd.graph_from_arrays(**{**RING, "edges": mixed}).train.images
    ring = np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0)
    np.testing.assert_array_equal(matrix(nodes), ring)
    assert (np.diff(nodes.adjacency.receivers) >= 0).all(), "sorted, as segment_sum is told"


def test_features_are_divided_by_their_sum():
    data = dd.graph_from_arrays(**RING)
    np.testing.assert_allclose(np.asarray(data.train.images), RING["features"][:2, None, None] / [[[[3]]], [[[12]]]])
    raw = dd.graph_from_arrays(**{**RING, "normalise_rows": False})
    np.testing.assert_array_equal(raw.test.images.features, RING["features"])
    assert raw.fingerprint != data.fingerprint


def test_nodes_are_as_an_array_of_images():
    data = dd.graph_from_arrays(**RING)
    assert (data.image_shape, data.num_classes, len(data.test.images)) == ((1, 1, 3), 2, 2)
    picked = data.test.images[np.array([[1, 0], [0, 0], [1, 1]])]
    assert picked.shape == (3, 2, 1, 1, 3)
    np.testing.assert_array_equal(np.asarray(picked), np.asarray(data.test.images)[[[1, 0], [0, 0], [1, 1]]])


def test_transductive_parts_share_one_graph():
    data = dd.graph_from_arrays(**RING)
    assert data.train.images.features is data.validation.images.features is data.test.images.features
    np.testing.assert_array_equal(data.test.images.rows, [3, 5])


def test_inductive_training_sees_neither_validation_nor_test():
    data = dd.graph_from_arrays(**RING, inductive=True)
    whole = np.roll(np.eye(6), 1, 0) + np.roll(np.eye(6), -1, 0)
    for part, seen in (("train", [0, 1, 4]), ("validation", [0, 1, 2, 4]), ("test", range(6))):
        split = getattr(data, part)
        np.testing.assert_array_equal(matrix(split.images), whole[np.ix_(list(seen), list(seen))])
        expected = dd.graph_from_arrays(**RING)
        np.testing.assert_array_equal(np.asarray(split.images), np.asarray(getattr(expected, part).images))
        np.testing.assert_array_equal(split.labels, RING["labels"][RING[part]])


def test_masks_are_as_good_as_numbers():
    masks = {part: np.isin(np.arange(6), RING[part]) for part in ("train", "validation", "test")}
    assert dd.graph_from_arrays(**{**RING, **masks}).fingerprint == dd.graph_from_arrays(**RING).fingerprint


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"features": np.zeros(6)}, r"features should be numbers of shape \(N, F\)"),
        ({"features": np.full((6, 3), np.nan)}, "features must be finite, but those of node 0 are not"),
        ({"edges": np.zeros((3, 4), int)}, r"node numbers \(2, E\)"),
        ({"edges": np.array([[0], [6]])}, "join nodes 0 to 6; expected 0 to 5"),
        ({"labels": np.zeros(6)}, "labels should be 6 integers"),
        ({"train": [0, 1, 4]}, "Every train node needs a label, but 1 of them have none, such as node 4"),
        ({"train": [0, 1, 2]}, "Node 2 is listed more than once"),
        ({"test": [9]}, "test nodes are 9 to 9; expected 0 to 5"),
        ({"test": []}, "The test split has no nodes"),
        ({"train": np.ones(5, bool)}, r"train mask should be \(6,\)"),
        ({"labels": np.eye(6)[RING["labels"]]}, r"one-hot. Convert with labels.argmax"),
        ({"features": -RING["features"]}, "6 nodes, such as 0, have negative ones"),
        ({"features": np.ma.masked_equal(RING["features"], 4)}, "1 values of the features are masked"),
        ({"features": RING["features"] * 1j}, "complex"),
        ({"train": np.ma.masked_equal([0, 1], 1)}, "1 values of the train nodes are masked"),
        ({"test": [3, [5]]}, "test nodes are ragged"),
        ({"weights": [1, [2]]}, "weights are ragged"),
        (
            {"train": np.array([0, 1, 0, 0, 0, 0])},
            "zeros and ones, which could be numbers or a mask. Give a mask as bool",
        ),
        ({"weights": np.ones(6)}, r"weights should be numbers \(7,\)"),
        ({"weights": np.arange(7)}, "positive and finite, but are from 0 to 6"),
        ({"edges": np.triu(np.ones((6, 6))) + 1}, "between nodes 0 and 1 has two weights"),
        ({"edges": np.eye(6), "weights": np.ones(6)}, "whose values are the weights already. Leave out weights"),
        ({"labels": np.array([0, 1, 0, 2, -1, 1])}, "label 2, but the training nodes have only the 2 classes"),
    ],
)
def test_bad_graphs_say_what_was_expected(changes, words):
    with pytest.raises(DataError, match=words):
        dd.graph_from_arrays(**{**RING, **changes})


@pytest.mark.parametrize("negative", [False, True])
@pytest.mark.parametrize("fraction", [False, True])
def test_only_counts_are_divided_by_their_sum_unless_the_user_says_so(negative, fraction):
    features = RING["features"] + 0.5 * fraction
    features[2, 1] *= -1 if negative else 1
    given = {**RING, "features": features, "normalise_rows": None}
    why = "negative values" if negative else "fractions, such as 0.5"
    told = f"have {why}, so they are not counts" if negative or fraction else "are counts, so .* divided by their sum"
    with pytest.warns(DataWarning, match=f"The features {told}"):
        found = dd.graph_from_arrays(**given)
    expected = dd.graph_from_arrays(**{**given, "normalise_rows": not (negative or fraction)})
    assert found.fingerprint == expected.fingerprint
    largest = np.abs(np.asarray(found.train.images.features)).max()
    assert largest <= (1 if not (negative or fraction) else np.abs(features).max())


@pytest.mark.parametrize("weighted", [False, True])
def test_every_way_to_give_edges_gives_the_same_graph(weighted):
    from scipy.sparse import coo_array, csr_matrix

    ring, weights = RING["edges"][:, :6], np.arange(1.0, 7) if weighted else np.ones(6)
    dense = np.zeros((6, 6))
    dense[tuple(ring)] = weights
    more = {"weights": weights} if weighted else {}
    prints = {
        dd.graph_from_arrays(**{**RING, **given}).fingerprint
        for given in (
            {"edges": ring, **more},
            {"edges": ring.T, **more},
            {"edges": np.concatenate([ring, ring[::-1]], 1), **{name: np.tile(w, 2) for name, w in more.items()}},
            {"edges": dense},
            {"edges": dense + dense.T},
            {"edges": csr_matrix(dense)},
            {"edges": coo_array(dense + dense.T), "features": csr_matrix(RING["features"])},
        )
    }
    assert len(prints) == 1
    nodes = dd.graph_from_arrays(**{**RING, "edges": dense}, inductive=True).test.images
    np.testing.assert_array_equal(matrix(nodes), dense + dense.T)


def test_weights_are_what_networks_see():
    light, heavy = (dd.graph_from_arrays(**RING, weights=[1, weight, 1, 1, 1, 1, 1]) for weight in (1, 9))
    plain = dd.graph_from_arrays(**RING)
    np.testing.assert_array_equal(matrix(light.train.images), matrix(plain.train.images))
    model = dd.models.sgc(plain)
    params = model.init(jax.random.key(0))
    answers = [np.asarray(model.apply(params, data.train.images)) for data in (plain, light, heavy)]
    np.testing.assert_array_equal(answers[0], answers[1])
    assert np.abs(answers[2] - answers[0]).max() > 1e-3


def test_labels_in_a_column_and_bool_features_are_taken():
    column = dd.graph_from_arrays(**{**RING, "labels": RING["labels"][:, None]})
    assert column.fingerprint == dd.graph_from_arrays(**RING).fingerprint
    words = RING["features"] % 2 == 1
    as_bool, as_counts = (dd.graph_from_arrays(**{**RING, "features": x}) for x in (words, words.astype(int)))
    assert as_bool.fingerprint == as_counts.fingerprint


# Files of one's own.

OWN = {name: value for name, value in RING.items() if name != "normalise_rows"}


def masks(*names):
    return {name: np.isin(np.arange(6), RING[part]) for name, part in zip(names, ("train", "validation", "test"))}  # noqa: B905


def test_a_graph_in_a_file(tmp_path):
    from scipy.sparse import csr_matrix

    ring = np.zeros((6, 6), int)
    ring[tuple(RING["edges"][:, :6])] = 1
    adj, attr = csr_matrix(ring), csr_matrix(RING["features"])
    by_parts = {f"{name}_{part}": getattr(m, part) for name, m in (("adj_matrix", adj), ("attr_matrix", attr))
                for part in ("data", "indices", "indptr", "shape")}  # fmt: skip
    expected = dd.graph_from_arrays(**RING, class_names=["no", "yes"])
    names = {"class_names": ["no", "yes"]}
    for arrays in (
        {**OWN, **names},
        {"x": RING["features"], "edge_index": RING["edges"], "y": RING["labels"][:, None],
         **masks("train_mask", "val_mask", "test_mask"), **names},
        {**by_parts, "labels": RING["labels"], "idx_train": [0, 1], "idx_val": [2], "idx_test": [3, 5], **names},
    ):  # fmt: skip
        np.savez(tmp_path / "ring.npz", **arrays)
        with pytest.warns(DataWarning, match="features are counts"):
            data = dd.load_dataset(f"graph:{tmp_path / 'ring.npz'}")
        assert (data.fingerprint, data.class_names) == (expected.fingerprint, ("no", "yes"))
    with pytest.warns(DataWarning, match="features are counts"):
        inductive = dd.load_dataset(f"graph:{tmp_path / 'ring.npz'}/inductive")
    assert len(inductive.train.images.features) == 3


def test_a_graph_in_a_file_lacks_nothing_and_has_nothing_twice(tmp_path):
    path = tmp_path / "ring.npz"
    np.savez(path, **{**OWN, "extra": np.ones(3)})
    with pytest.warns(DataWarning) as told:
        dd.load_dataset(f"graph:{path}")
    assert str(told[0].message) == f"{path}: left out 'extra'."
    with pytest.raises(DataError, match="For a graph use graph:PATH"):
        dd.load_dataset(f"npz:{path}")
    np.savez(path, **{**OWN, "x": np.ones(3)})
    with pytest.raises(DataError, match="has the features under two names, 'features' and 'x'"):
        dd.load_dataset(f"graph:{path}")
    np.savez(path, **{name: value for name, value in OWN.items() if name not in ("validation", "edges")})
    with pytest.raises(DataError, match=r"has no edges, validation\. Expected features"):
        dd.load_dataset(f"graph:{path}")
    with pytest.raises(DataError, match="There is no file"):
        dd.load_dataset(f"graph:{tmp_path / 'no.npz'}")


ODD = [
    np.array(1), np.array([]), np.array(["0"] * 6), np.array([b"x"]), np.zeros((0, 3)), np.array([1j]),
    np.array([np.nan]), np.array(["2020"], "M8[Y]"), np.array([5], "m8[s]"), np.full((2, 2), 2**62), np.array([-1]),
    np.ones((6, 6, 2)), np.array([True]), np.array([10**9, 10**9]), np.zeros((6, 0)), np.array([2**63], np.uint64),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::dd_jax.DataWarning")
def test_whatever_is_in_a_file_is_read_or_refused(tmp_path):
    from scipy.sparse import csr_matrix

    matrix, path = csr_matrix(np.roll(np.eye(6), 1, 0)), tmp_path / "odd.npz"
    parts = {f"adj_{part}": np.asarray(getattr(matrix, part)) for part in ("data", "indices", "indptr", "shape")}
    by_parts = {**{name: value for name, value in OWN.items() if name != "edges"}, **parts}
    refused = 0
    for arrays in (OWN, by_parts):
        for name in arrays:
            for odd in ODD:
                np.savez(path, **{**arrays, name: odd})
                try:
                    assert dd.load_dataset(f"graph:{path}").num_classes == 2
                except DataError:
                    refused += 1
    assert refused > 200


# The Planetoid files.


class Asks:
    """Unpickled by calling something else."""

    def __reduce__(self):
        return os.getenv, ("HOME",)


def python2(obj):
    """A pickle as Python 2 wrote them: the names of its modules, and bytes as its text."""
    buffer = io.BytesIO()

    class Pickler(pickle._Pickler):
        dispatch = pickle._Pickler.dispatch.copy()

        def save_bytes(self, text):
            self.write(b"T" + len(text).to_bytes(4, "little") + text)

        dispatch[bytes] = save_bytes

        def save_str(self, text):
            self.save_bytes(text.encode("latin1"))

        dispatch[str] = save_str

    Pickler(buffer, 2).dump(obj)
    return buffer.getvalue().replace(b"numpy._core", b"numpy.core").replace(b"scipy.sparse._csr", b"scipy.sparse.csr")


def write(folder, **changes):
    """Files of a graph of 520 nodes: 7 for training, 503 more, and 10 to test, among which node 512 is missing."""
    from collections import defaultdict

    from scipy.sparse import csr_matrix

    generator = np.random.default_rng(0)
    test = [519, 510, 511, 513, 514, 515, 516, 517, 518]
    classes = np.arange(520) % 7
    features = generator.integers(0, 2, (520, 5)).astype(np.float32)
    graph = defaultdict(list, {node: [(node + 1) % 520] for node in range(520) if node != 512})
    parts = {
        "y": np.eye(7, dtype=np.int32)[classes[:7]],
        "allx": csr_matrix(features[:510]),
        "ally": np.eye(7, dtype=np.int32)[classes[:510]],
        "tx": csr_matrix(features[test]),
        "ty": np.eye(7, dtype=np.int32)[classes[test]],
        "graph": graph,
        **changes,
    }
    folder.mkdir(parents=True, exist_ok=True)
    for part, obj in parts.items():
        (folder / f"ind.cora.{part}").write_bytes(obj if isinstance(obj, bytes) else python2(obj))
    (folder / "ind.cora.test.index").write_text("".join(f"{node}\n" for node in test))
    return features, classes, test


def test_test_nodes_are_where_their_index_says_and_missing_ones_are_isolated(tmp_path):
    features, classes, test = write(tmp_path)
    read = read_planetoid("cora", tmp_path)
    features[512], classes[512] = 0, -1
    np.testing.assert_array_equal(read["features"], features)
    np.testing.assert_array_equal(read["labels"], classes)
    np.testing.assert_array_equal(read["test"], sorted(test))
    assert (len(read["train"]), len(read["validation"]), read["edges"].shape) == (7, 500, (2, 2 * 519))


def test_graphs_have_names(tmp_path, monkeypatch):
    write(tmp_path / "planetoid")
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    data = dd.load_dataset("cora")
    assert (data.name, data.num_classes, len(data.test.labels)) == ("cora", 7, 9)
    assert dd.load_dataset(f"planetoid:{tmp_path}/planetoid/cora").fingerprint == data.fingerprint
    inductive = dd.load_dataset("cora/inductive")
    assert len(inductive.train.images.features) == 520 - 500 - 9
    assert len(inductive.test.images.features) == 520
    with pytest.raises(OptionError, match="cora is a graph"):
        dd.load_dataset("cora", image_size=28)
    with pytest.raises(OptionError, match=r"Unknown Planetoid graph 'citeseen'\. Did you mean 'citeseer'"):
        dd.load_dataset(f"planetoid:{tmp_path}/planetoid/citeseen")
    with pytest.raises(DataError, match=r"ind.pubmed.graph.* in .*\n    mkdir -p .*\n    for part in y tx") as caught:
        dd.load_dataset("pubmed")
    assert '"planetoid:PATH/pubmed"' in str(caught.value)


def test_pickles_that_ask_for_more_are_refused(tmp_path):
    write(tmp_path, ally=pickle.dumps(Asks(), 2))
    with pytest.raises(DataError, match=r"ind.cora.ally asks for '\w+.getenv', which no graph needs; it was not run"):
        read_planetoid("cora", tmp_path)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "test.index"])
def test_damaged_files_are_named(tmp_path, part):
    write(tmp_path)
    path = tmp_path / f"ind.cora.{part}"
    whole = path.read_bytes()
    for content in (b"", b"<html>", whole[: len(whole) // 2], whole[:-9] + b"\0" * 9, pickle.dumps("text", 2)):
        path.write_bytes(content)
        with pytest.raises(DataError, match=rf"ind\.cora\.{part}|belongs|should be matrices"):
            read_planetoid("cora", tmp_path)


def test_bytes_changed_at_random_do_no_harm(tmp_path):
    """Whatever a file is turned into is read or refused."""
    write(tmp_path)
    generator = np.random.default_rng(0)
    for part in ("tx", "graph"):
        path = tmp_path / f"ind.cora.{part}"
        whole = path.read_bytes()
        for _ in range(60):
            garbled = bytearray(whole)
            for place in generator.integers(0, min(len(whole), 600), 3):
                garbled[place] = generator.integers(0, 256)
            path.write_bytes(bytes(garbled))
            with contextlib.suppress(DataError):
                read_planetoid("cora", tmp_path)
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"graph": {0: [520]}}, "edges between nodes 0 to 520, expected 0 to 519"),
        ({"graph": {0: ["1"]}}, "should hold lists of node numbers"),
        ({"graph": {}}, "has no edges"),
        ({"ty": np.eye(7, dtype=np.int32)[[0, 1]]}, "has 2 rows for 9 test nodes"),
        (
            {"ally": np.eye(6, dtype=np.int32)[np.arange(510) % 6], "ty": np.eye(6, dtype=np.int32)[[0] * 9]},
            "belongs to 6",
        ),
    ],
)
def test_files_that_do_not_fit_each_other(tmp_path, changes, words):
    write(tmp_path, **changes)
    with pytest.raises(DataError, match=words):
        read_planetoid("cora", tmp_path)


@pytest.mark.skipif(not PUBLISHED, reason="the published Planetoid files are not here")
@pytest.mark.parametrize(
    ("name", "nodes", "edges", "features", "classes"),
    [("cora", 2708, 5278, 1433, 7), ("citeseer", 3327, 4552, 3703, 6)],
)
def test_the_published_graphs(name, nodes, edges, features, classes):
    data = dd.load_dataset(name)
    graph = data.test.images
    assert (graph.features.shape, len(graph.adjacency.weights)) == ((nodes, features), 2 * edges)
    assert [len(batch.labels) for batch in (data.train, data.validation, data.test)] == [20 * classes, 500, 1000]
    assert np.bincount(data.train.labels).tolist() == [20] * classes
    degrees = np.bincount(graph.adjacency.receivers, minlength=nodes)
    assert int(degrees.max()) == {"cora": 168, "citeseer": 99}[name]
    assert (degrees == 0).sum() == {"cora": 0, "citeseer": 48}[name]
    sums = np.asarray(graph.features).sum(1)
    assert np.isclose(sums, 1, atol=1e-5).sum() == nodes - {"cora": 0, "citeseer": 15}[name]
