import importlib.metadata
import json
from pathlib import Path

import pytest

from dd_jax import errors
from dd_jax.errors import install_command, unknown_name


def test_an_unknown_name_comes_with_the_nearest_all_and_what_else_there_is():
    said = str(unknown_name("colour", "bleu", ["red", "blue"], "Or mix your own."))
    assert said == "Unknown colour 'bleu'. Did you mean 'blue'? Known: blue, red. Or mix your own."
    assert str(unknown_name("colour", "bleu", [])) == "Unknown colour 'bleu'. There are none."


def test_of_many_names_the_nearest_are_said_and_not_all():
    known = [f"{one}-{two}" for one in ("red", "blue", "green") for two in range(20)]
    said = str(unknown_name("colour", "red-191", known, "A page lists them."))
    assert said == (
        "Unknown colour 'red-191'. Did you mean 'red-19' or 'red-11' or 'red-1' or 'red-9'? "
        "There are 60. A page lists them."
    )


def test_the_first_value_that_is_too_small_is_named():
    errors.values_at_least(1, first=1, second=None)
    with pytest.raises(errors.OptionError, match="third must be at least 1, but is 0"):
        errors.values_at_least(1, first=1, second=None, third=0, fourth=-1)


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
    monkeypatch.setattr(errors, "__file__", str(there / "errors.py"))
    url = (clone if installed == "copy" else tmp_path / "gone").as_uri()

    class Found:
        def read_text(self, name):
            assert name == "direct_url.json"
            return None if installed == "index" else json.dumps({"url": url, "dir_info": {}})

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Found())
    assert install_command("cuda") == command.format(clone=clone)


def test_this_source_is_a_clone():
    assert install_command("prepare") == f'pip install -e "{Path(__file__).parents[1]}[prepare]"'
