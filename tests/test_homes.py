"""One home per concern: what a word may be said in, what the host loop must not know, what is declared once."""

import ast
import dataclasses
import inspect
import re
import typing
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import jaxtyping
import numpy as np
import pytest

from dd_jax.errors import OptionError
from dd_jax.inner import AUGMENTS, SMOOTH_AUGMENTS
from dd_jax.inner.policies import POLICIES
from dd_jax.methods import METHODS
from dd_jax.models import Shapes, architecture, gcn, infinite_mlp, mlp
from dd_jax.runs.experiment import Experiment
from dd_jax.types import Experts

ROOT = Path(__file__).parents[1]

# Files that are about an attack, and how many lines of others may name it.
ATTACKS = ("dd_jax/outcomes/attack.py", "dd_jax/methods/attack_options.py", "dd_jax/presets/attacks.py")
NAME_AN_ATTACK = {
    "dd_jax/types.py": 2,  # the field of a protocol
    "dd_jax/outcomes/__init__.py": 2,  # the outcomes that there are
    "dd_jax/methods/unrolled.py": 2,  # its options
    "dd_jax/methods/unrolled_options.py": 4,
    "dd_jax/presets/table.py": 2,  # its presets
}

HOST_LOOP = ("loop", "estimates", "dispatch", "rollback", "metrics")  # of dd_jax/runs/

BLOCK = 6  # lines that may not stand twice
PAIR = 2  # options next to each other that may not be declared alike twice


def library() -> Mapping[str, str]:
    return {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted(ROOT.glob("dd_jax/**/*.py"))}


def lines_with(word: str, source: str) -> int:
    """Lines that have the word or one with it inside, whatever its case."""
    return sum(word in line.lower() for line in source.splitlines())


def test_an_attack_is_known_where_it_lives():
    files = library()
    assert set(ATTACKS) <= set(files)
    found = {path: lines_with("attack", source) for path, source in files.items() if path not in ATTACKS}
    too_many = {path: count for path, count in found.items() if count > NAME_AN_ATTACK.get(path, 0)}
    assert not too_many, f"Ask the outcome (dd_jax/outcomes/) in these, which have so many lines: {too_many}"


def said(source: str) -> Iterator[str]:
    """The strings of a source, without docstrings, and the names of attributes that it looks up by string."""
    tree = ast.parse(source)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def method_words() -> set[str]:
    """Names of the options that methods have, but for those that experiments have too."""
    names = {field.name for spec in METHODS.values() for field in dataclasses.fields(spec.options)}
    run = {field.name for field in dataclasses.fields(Experiment)}
    return names - run - {"protocol", "gradient"}  # also words of a run


def method_words_in(source: str) -> set[str]:
    words = {word for text in said(source) for word in re.findall(r"\w+", text)}
    return words & (method_words() | set(METHODS))


@pytest.mark.parametrize("name", HOST_LOOP)
def test_the_host_loop_knows_no_method(name):
    path = ROOT / "dd_jax" / "runs" / f"{name}.py"
    found = method_words_in(path.read_text())
    assert not found, f"{path.name} names options of methods, which `Method` should say: {sorted(found)}"


def test_an_option_that_the_host_loop_names_is_found():
    assert method_words_in('raise Error("Try a smaller init_step_size.")') == {"init_step_size"}
    assert method_words_in('advice = options.get("remat")') == {"remat"}
    assert method_words_in('def f():\n    """A remat."""\n    return "loss"') == set()


MODELS = dict.fromkeys(METHODS, mlp(Shapes((8, 8, 1), 10), hidden=(4,))) | {
    "kernel_inducing_points": infinite_mlp(Shapes((8, 8, 1), 10)),
    "graph_condensation": gcn(Shapes((1, 1, 5), 3), hidden=4),
}


# Experts of that network with as many epochs as the defaults need, and no weights.
EXPERTS = Experts(
    "experts", "mlp", architecture(MODELS["trajectory_matching"]), (8, 8, 1), 10, "", np.zeros((1, 22), np.float32),
    "validation", np.arange(22, dtype=np.float32), lambda *_: None, 0, {}, "",
)  # fmt: skip


@pytest.mark.parametrize("name", METHODS)
def test_advice_names_options_that_the_method_has(name):
    """Made with everything on, so that all that it can say is said."""
    spec = METHODS[name]
    options = {field.name for field in dataclasses.fields(spec.options)}
    experts = {"experts": EXPERTS} if name == "trajectory_matching" else {}
    method = spec.make(MODELS[name], spec.options(**{"num_inits": 2} if "num_inits" in options else {}), **experts)
    said = re.sub(r'"\w+"', "", " ".join((method.advice.diverged, *method.advice.memory)))  # without values
    words = re.findall(r"\w+_\w+|\bremat\b|\bgradient\b", said)
    assert words, "no advice"
    assert set(words) <= options
    assert set(words) <= set(method.hyperparameters)
    assert "loss" in method.shown


def options_of(kind: type) -> list[str]:
    """The options that a class declares itself, each with its help, in order."""
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    declared: list[str] = []
    for node in body:
        if isinstance(node, ast.AnnAssign):
            declared.append(ast.unparse(node))
        elif isinstance(node, ast.Expr) and declared:
            declared[-1] += "\n" + ast.unparse(node)
    return declared


def repeated(sequences: Mapping[str, Sequence[str]], count: int) -> list[tuple[list[str], tuple[str, ...]]]:
    """Blocks of so many entries that stand in several places: where they do, and the block."""
    places = defaultdict(list)
    for name, entries in sequences.items():
        for start in range(len(entries) - count + 1):
            places[tuple(entries[start : start + count])].append(name)
    return [(names, block) for block, names in places.items() if len(names) > 1]


def option_classes() -> dict[str, type]:
    """The dataclasses of options with what they inherit from."""
    found = [part for spec in METHODS.values() for part in spec.options.__mro__[:-1]]
    return {part.__qualname__: part for part in found}


def test_options_that_several_methods_have_are_declared_once():
    classes = option_classes()
    assert {"UnrolledOptions", "OuterOptions", "SamplingOptions"} <= set(classes)
    again = repeated({name: options_of(kind) for name, kind in classes.items()}, PAIR)
    assert not again, f"Declare these options in one class that the others inherit from: {again}"


def choices(source: str) -> tuple[list[frozenset[str]], list[frozenset[str]]]:
    """The choices of a source that are a `Literal`, and those that are a tuple with a name."""

    def words(node: ast.expr) -> frozenset[str]:
        entries = node.elts if isinstance(node, ast.Tuple) else []
        texts = [entry.value for entry in entries if isinstance(entry, ast.Constant) and isinstance(entry.value, str)]
        return frozenset(texts) if len(texts) == len(entries) > 1 else frozenset()

    nodes = list(ast.walk(ast.parse(source)))
    literals = [words(n.slice) for n in nodes if isinstance(n, ast.Subscript) and ast.unparse(n.value) == "Literal"]
    tuples = [words(n.value) for n in nodes if isinstance(n, ast.Assign)]
    return [one for one in literals if one], [one for one in tuples if one]


def test_a_literal_and_what_checks_it_are_one_thing():
    found = {path: choices(source) for path, source in library().items()}
    literals = {one for mine, _ in found.values() for one in mine}
    assert frozenset({"cosine", "step", "constant"}) in literals
    twice = {path: one for path, (_, tuples) in found.items() for one in tuples if one in literals}
    assert not twice, f"Let these be `typing.get_args` of the Literal, or use `check_choices`: {twice}"
    assert choices('A = Literal["a", "b"]\nB = ("b", "a")') == ([frozenset("ab")], [frozenset("ab")])


def test_trainings_take_every_augmentation_that_there_is():
    assert (*SMOOTH_AUGMENTS, *POLICIES) == AUGMENTS


@pytest.mark.parametrize("name", METHODS)
def test_a_choice_that_there_is_not_is_refused(name, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    spec = METHODS[name]
    hints = typing.get_type_hints(spec.options)
    chosen = [option for option, kind in hints.items() if typing.get_origin(kind) is typing.Literal]
    assert chosen
    for option in chosen:
        with pytest.raises(OptionError, match=rf"Unknown {option} 'odd'"):
            spec.make(MODELS[name], spec.options(**{option: "odd"}))


def lines_that_say_something(source: str) -> list[str]:
    """Lines of code without imports, brackets, and arguments that are handed on by their names."""
    tree = ast.parse(source)
    imports = {
        line
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = [line.strip() for number, line in enumerate(source.splitlines(), 1) if number not in imports]
    return [line for line in lines if not re.fullmatch(r"[()\[\]{},]*|(\w+=)?\w+,", line)]


def test_no_six_lines_of_the_methods_stand_twice():
    files = {path: source for path, source in library().items() if path.startswith("dd_jax/methods/")}
    again = repeated({path: lines_that_say_something(source) for path, source in files.items()}, BLOCK)
    assert not again, again


def test_a_block_that_stands_twice_is_found():
    block = "\n".join(f"x{i} = f({i})" for i in range(BLOCK))
    files = {"a.py": f"import os\n{block}\n", "b.py": f"y = 1\n{block}\nz = 2\n"}
    found = repeated({path: lines_that_say_something(source) for path, source in files.items()}, BLOCK)
    assert [names for names, _ in found] == [["a.py", "b.py"]]
    other = files | {"b.py": files["b.py"].replace("f(3)", "f(4)")}
    assert not repeated({path: lines_that_say_something(source) for path, source in other.items()}, BLOCK)


_ENTRY = re.compile(r"^(?P<names>[a-z]\w*(?:, [a-z]\w*)*): \S")  # at the left margin, where no section is


def names_in(node: ast.FunctionDef | ast.ClassDef) -> set[str]:
    """Arguments of a function, fields of a class."""
    if isinstance(node, ast.FunctionDef):
        return {argument.arg for argument in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)}
    fields = [part for part in node.body if isinstance(part, ast.AnnAssign) and isinstance(part.target, ast.Name)]
    return {part.target.id for part in fields}  # type: ignore[union-attr]


def outside_of_sections(source: str) -> list[str]:
    """What docstrings say of arguments and fields outside of the sections Args and Attributes, as "where: line"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            for line in (ast.get_docstring(node) or "").splitlines():
                entry = _ENTRY.match(line)
                if entry and set(entry["names"].split(", ")) <= names_in(node):
                    found.append(f"{node.name}: {line}")
    return found


def test_docstrings_have_the_sections_of_the_google_style():
    found = [f"{path}: {line}" for path, source in library().items() for line in outside_of_sections(source)]
    assert not found
    assert outside_of_sections('def f(a, b):\n    """It.\n\n    a: one.\n    """') == ["f: a: one."]
    assert not outside_of_sections('def f(a):\n    """It.\n\n    Args:\n        a: one.\n    """')
