import importlib.metadata
import json
from pathlib import Path

import pytest

import dd_jax as dd
from dd_jax.data import missing
from dd_jax.data.missing import install_command, not_there


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with two npz files and a picture, which is the current directory."""
    monkeypatch.chdir(tmp_path)
    for name in ("digits.npz", "weather.npz", "picture.png"):
        (tmp_path / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ("digit.npz", "There is no file digit.npz. Did you mean digits.npz? Expected one."),
        (
            "nothing.npz",
            "There is no file nothing.npz. In the current directory there are: digits.npz, weather.npz. Expected one.",
        ),
        ("x.npz", "There is no file x.npz. In the current directory there are: digits.npz, weather.npz. Expected one."),
        ("there/x.npz", "There is no file there/x.npz, nor a folder there. Expected one."),
        ("x.csv", "There is no file x.csv (seen from {here}). Expected one."),
        ("{here}/x.csv", "There is no file {here}/x.csv. Expected one."),
        ("{here}/weathr.npz", "There is no file {here}/weathr.npz. Did you mean {here}/weather.npz? Expected one."),
    ],
)
def test_what_is_near_a_missing_file_is_said(place, asked, said):
    path = type(place)(asked.format(here=place))
    assert str(not_there("file", path, "Expected one.")) == said.format(here=place)


@pytest.mark.parametrize(
    "read",
    [
        lambda: dd.load_dataset("npz:digit.npz"),
        lambda: dd.load_dataset("folder:digit.npz"),
        lambda: dd.load_pretrained("digit.npz"),
        lambda: dd.load_distilled("digit.npz"),
        lambda: dd.import_distilled(["digit.npz"], format="frepo"),
    ],
)
def test_whatever_reads_a_file_says_what_is_near(place, read):
    with pytest.raises(
        dd.DataError, match=r"There is no (file|folder) .*digit\.npz\. Did you mean .*digits\.npz\? [A-Z]"
    ):
        read()


@pytest.mark.parametrize(
    ("installed", "command"),
    [
        ("clone", 'pip install -e "{clone}[cuda]"'),  # the code is in the clone
        ("copy", 'pip install "{clone}[cuda]"'),  # pip copied it from there
        ("gone", 'pip install "dd-jax[cuda]"'),  # from a folder that is there no longer
        ("index", 'pip install "dd-jax[cuda]"'),
    ],
)
def test_an_extra_is_installed_from_where_the_library_came_from(monkeypatch, tmp_path, installed, command):
    clone, folder = tmp_path / "my clone", tmp_path / "site-packages" / "dd_jax"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    there = clone / "dd_jax" if installed == "clone" else folder
    monkeypatch.setattr(missing, "__file__", str(there / "data" / "missing.py"))
    url = (clone if installed == "copy" else tmp_path / "gone").as_uri()

    class Found:
        def read_text(self, name):
            assert name == "direct_url.json"
            return None if installed == "index" else json.dumps({"url": url, "dir_info": {}})

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Found())
    assert install_command("cuda") == command.format(clone=clone)


def test_this_source_is_a_clone():
    assert install_command("prepare") == f'pip install -e "{Path(__file__).parents[2]}[prepare]"'
