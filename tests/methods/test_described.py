"""Factories tell their options to `help`, notebooks and type checkers; the dataclass of options is the one source."""

import dataclasses
import inspect
import pydoc
from pathlib import Path

import pytest

import dd_jax as dd
from dd_jax.methods.described import described, descriptions
from dd_jax.methods.registry import METHODS

ROOT = Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Base:
    rate: float = 0.5
    """How fast,
    or slow."""
    bare: int = 1


@dataclasses.dataclass(frozen=True)
class Derived(Base):
    size: "int | None" = None
    """How large."""


def test_descriptions_are_those_below_the_fields_inherited_ones_first():
    assert descriptions(Derived) == {"rate": "How fast,\n    or slow.", "size": "How large."}
    assert list(descriptions(Derived)) == ["rate", "size"]


def test_a_factory_is_called_as_before_and_tells_more():
    @described(Derived)
    def make(model, options=None, *, experts=None, **overrides):
        """Make it."""
        return model, options, experts, overrides

    assert make(1, None, experts=2, rate=3.0, odd=4) == (1, None, 2, {"rate": 3.0, "odd": 4})
    text = "(model, options=None, *, experts=None, rate: float = 0.5, bare: int = 1, size: 'int | None' = None)"
    assert str(inspect.signature(make)) == text
    assert inspect.getdoc(make) == (
        "Make it.\n\nOptions:\n    rate: float = 0.5\n        How fast,\n        or slow.\n    bare: int = 1\n"
        "    size: 'int | None' = None\n        How large."
    )


@pytest.mark.parametrize("name", METHODS)
def test_help_shows_every_option_of_a_method_with_its_default_and_description(name):
    shown = " ".join(pydoc.plain(pydoc.render_doc(METHODS[name].make)).split())
    known = descriptions(METHODS[name].options)
    for field in dataclasses.fields(METHODS[name].options):
        assert f"{field.name}: {inspect.formatannotation(field.type)} = {field.default!r}" in shown
        assert " ".join(known[field.name].split()) in shown


@pytest.mark.slow
def test_notebooks_complete_options():
    jedi = pytest.importorskip("jedi")
    found = jedi.Interpreter("dd.methods.unrolled(model, num_ba", [{"dd": dd, "model": None}]).complete()
    assert "num_batches=" in {one.name for one in found}


@pytest.mark.slow
def test_type_checkers_and_so_editors_see_the_options(tmp_path):
    """As types, by a ParamSpec: editors that ask a type checker complete them."""
    api = pytest.importorskip("mypy.api")
    script = tmp_path / "script.py"
    lines = ["import dd_jax as dd", *(f"reveal_type(dd.methods.{name})" for name in METHODS)]
    script.write_text("\n".join(lines) + "\n")
    config = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    told, errors, _ = api.run([str(script), *config])
    revealed = [line for line in told.splitlines() if "Revealed type" in line]
    assert len(revealed) == len(METHODS), told + errors
    for line, method in zip(revealed, METHODS.values(), strict=True):
        for field in dataclasses.fields(method.options):
            assert f"{field.name}: " in line, (method.name, field.name)
