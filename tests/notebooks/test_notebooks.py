"""Every notebook runs from top to bottom, on a CPU and without complaint, and is stored unexecuted."""

import ast
import os
import re
import sys
import time
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MAX_LINES = 10  # of a function
MAX_SECONDS = 240.0  # meant to take a minute on two idle cores; test machines are neither idle nor quick
COMPLAINT = re.compile(r"warning|traceback|\berror\b|deprecat", re.IGNORECASE)

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def long_functions(source: str) -> list[str]:
    """The functions that have more lines than allowed, decorators and docstrings among them."""
    functions = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    first = {f.name: min([f.lineno, *(d.lineno for d in f.decorator_list)]) for f in functions}
    return [f.name for f in functions if (f.end_lineno or 0) - first[f.name] + 1 > MAX_LINES]


@pytest.fixture(scope="module")
def kernels(tmp_path_factory) -> Path:
    """A folder of kernels with one in it: this very interpreter, whatever is installed on the machine or isn't."""
    from ipykernel.kernelspec import write_kernel_spec

    folder = tmp_path_factory.mktemp("jupyter")
    write_kernel_spec(str(folder / "kernels" / "python3"))
    return folder


@pytest.fixture
def jupyter(kernels, tmp_path, monkeypatch):
    """What a kernel inherits: where it is found, nothing of the user's, the tests' cache of compiled programs."""
    monkeypatch.setenv("JUPYTER_PATH", str(kernels))
    monkeypatch.setenv("JUPYTER_PREFER_ENV_PATH", "0")
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def test_there_are_notebooks():
    assert len(NOTEBOOKS) >= 4


@pytest.mark.slow
@each
def test_it_runs_on_a_cpu_in_time_and_without_complaint(path, jupyter):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(jupyter)}}
    )
    started = time.monotonic()
    client.execute()
    seconds = time.monotonic() - started
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    said = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stderr")
    assert not COMPLAINT.search(said), said
    assert any("image/png" in output.get("data", {}) for output in outputs), "no picture"
    assert all(cell.execution_count for cell in notebook.cells if cell.cell_type == "code")
    assert not list(jupyter.iterdir()), "leaves files where it is run"
    assert seconds < MAX_SECONDS


@pytest.mark.usefixtures("jupyter")
def test_the_kernel_is_this_interpreter():
    from jupyter_client.kernelspec import KernelSpecManager

    assert KernelSpecManager().get_kernel_spec("python3").argv[0] == sys.executable


@each
def test_it_is_valid_and_stored_unexecuted(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in code_cells(path):
        assert cell.outputs == [], cell.id
        assert cell.execution_count is None, cell.id
        assert "execution" not in cell.metadata, cell.id


@each
def test_it_defines_no_long_function(path):
    found = {cell.id: long_functions(cell.source) for cell in code_cells(path)}
    assert not any(found.values()), found


@each
def test_every_section_is_explained(path):
    """It begins with a title and never goes on for four cells of code without a word."""
    cells = nbformat.read(path, as_version=4).cells
    assert cells[0].source.startswith("# ")
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in cells)
    assert "cccc" not in kinds, kinds


def test_a_long_function_is_found():
    long = "\n".join(["@wrapped", "def f():", *["    x = 1"] * MAX_LINES])
    assert long_functions(long) == ["f"]
    assert long_functions("\n".join(["def f():", *["    x = 1"] * (MAX_LINES - 1)])) == []
    assert long_functions("class A:\n    def g(self):\n" + "        x = 1\n" * MAX_LINES) == ["g"]
