"""The floors of the library: who may import whom, where each heavy library lives, and what pure floors don't do."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Files of one package import each other; packages on the same floor don't, and no pair has needed to so far.
# The exceptions are floor 0, whose files may use each other, and floor 8: the command line and the experiments
# are users of the library's face, dd_jax/__init__.py, which itself may import everything below.
FLOORS = {
    "types": 0,
    "errors": 0,
    "renamed": 0,
    "values": 0,
    "seeds": 0,
    "own": 0,
    "parameterisation": 0,
    "outcomes": 1,
    "data": 1,
    "models": 1,
    "inner": 2,
    "figures": 2,
    "synthetic": 3,
    "methods": 4,
    "evaluation": 4,
    "storage": 5,
    "runs": 6,
    "presets": 7,
    "applications": 7,
    "__init__": 8,
    "cli": 8,
    "experiments": 8,
}
OPEN_FLOORS = (0, 8)
PURE = 4  # floors up to this one take arrays and give arrays
READS_FILES = ("data",)  # the one pure-floor package whose job is reading

HOMES = {
    "tensorflow": (),
    "tensorflow_datasets": ("dd_jax/data/",),
    "array_record": ("dd_jax/data/",),
    "PIL": (
        "dd_jax/data/",
        "dd_jax/figures/",
        "dd_jax/runs/export/pictures.py",
        "experiments/own_image_folder.py",
        "experiments/photo_folder.py",
    ),
    "grain": ("dd_jax/data/streaming.py",),
    "flax": ("dd_jax/models/", "experiments/own_arrays_and_module.py", "experiments/own_networks.py"),
    "msgpack": ("dd_jax/storage/released.py",),
    "orbax": ("dd_jax/storage/checkpoint.py",),
    "matplotlib": ("dd_jax/figures/", "dd_jax/runs/export/sheets.py", "experiments/photo_folder.py"),
    "rich": ("dd_jax/runs/progress.py",),
    "tensorboardX": ("dd_jax/runs/tensorboard.py",),
    "safetensors": ("dd_jax/storage/weights.py", "dd_jax/storage/pretrained.py", "dd_jax/storage/expert_files.py"),
    "sklearn": ("dd_jax/data/", "dd_jax/synthetic/", "dd_jax/evaluation/", "experiments/photo_folder.py"),
    "torch": (
        "dd_jax/runs/export/train_torch.py",
        "experiments/benchmark_peer.py",
        "experiments/benchmark_matching_peer.py",
        "experiments/benchmark_trajectories_peer.py",
        "experiments/benchmark_published_peer.py",
        "experiments/own_networks.py",
    ),  # scripts that are run alone
    "tyro": ("dd_jax/cli/", "experiments/"),
}
TOP_LEVEL = ("flax", "torch", "tyro")  # paid for by every import of their homes, and meant to be
CLOCKS = ("time", "datetime")
FILE_CALLS = ("open", "read_text", "read_bytes", "write_text", "write_bytes", "unlink", "mkdir")


def package_of(path: str) -> str:
    parts = Path(path).with_suffix("").parts
    return parts[0] if parts[0] == "experiments" else parts[1]


def package_of_module(module: str) -> str:
    parts = module.split(".")
    return "__init__" if len(parts) == 1 else parts[1]


def imports(tree: ast.Module) -> Iterator[tuple[str, bool, int]]:
    """(module, whether inside a function, line); `from dd_jax import models` counts as dd_jax.models."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            if node.level:
                names = ["." * node.level + (node.module or "")]
            elif node.module == "dd_jax":
                packages = [alias.name for alias in node.names if alias.name in FLOORS]
                names = [f"dd_jax.{name}" for name in packages] or names
        yield from ((name, id(node) in inside, node.lineno) for name in names)


def may_import(package: str, other: str) -> bool:
    if package == other or FLOORS[other] < FLOORS[package]:
        return True
    return FLOORS[other] == FLOORS[package] and FLOORS[package] in OPEN_FLOORS


def breaches(path: str, source: str) -> list[str]:
    """What is wrong with a file, as sentences; empty when all is well."""
    tree, package = ast.parse(source), package_of(path)
    if package not in FLOORS:
        return [f"{path}: {package} has no floor; give it one in FLOORS."]
    found = []
    for module, inside, line in imports(tree):
        library, where = module.split(".")[0], f"{path}:{line}"
        if module.startswith("."):
            found.append(f"{where}: relative import of {module}; imports are absolute.")
        elif library in ("dd_jax", "experiments"):
            other = "experiments" if library == "experiments" else package_of_module(module)
            if other not in FLOORS or not may_import(package, other):
                found.append(f"{where}: {package} (floor {FLOORS[package]}) imports {module}.")
        elif library in HOMES:
            if not path.startswith(HOMES[library] or "nowhere"):
                found.append(f"{where}: {library} lives in {HOMES[library]}.")
            if not inside and library not in TOP_LEVEL:
                found.append(f"{where}: {library} is heavy; import it inside the function that needs it.")
        elif library in CLOCKS and FLOORS[package] <= PURE:
            found.append(f"{where}: {library} on a pure floor.")
    return found + (list(impurities(path, tree, package)) if FLOORS[package] <= PURE else [])


def impurities(path: str, tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "jax.config":
            yield f"{path}:{node.lineno}: jax.config is the user's."
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name == "print" and isinstance(node.func, ast.Name):
            yield f"{path}:{node.lineno}: prints."
        in_memory = any(ast.unparse(argument).startswith("io.BytesIO(") for argument in node.args)
        if name in FILE_CALLS and package not in READS_FILES and not in_memory:
            yield f"{path}:{node.lineno}: {name} touches a file."


def sources() -> list[Path]:
    return [path for folder in ("dd_jax", "experiments") for path in sorted((ROOT / folder).rglob("*.py"))]


def test_no_file_breaches_the_floors():
    found = [breach for path in sources() for breach in breaches(path.relative_to(ROOT).as_posix(), path.read_text())]
    assert not found, "\n".join(found)


def test_the_walk_sees_the_library():
    seen = {package_of(path.relative_to(ROOT).as_posix()) for path in sources()}
    assert seen >= set(FLOORS) - {"experiments"}


@pytest.mark.parametrize(
    ("path", "source", "words"),
    [
        ("dd_jax/types.py", "from dd_jax.models import Model", "types (floor 0) imports dd_jax.models"),
        ("dd_jax/data/load.py", "from dd_jax.models import Model", "data (floor 1) imports dd_jax.models"),
        ("dd_jax/models/base.py", "import dd_jax.data.load", "models (floor 1) imports dd_jax.data.load"),
        ("dd_jax/inner/unroll.py", "from dd_jax.synthetic.base import Synthetic", "inner (floor 2)"),
        ("dd_jax/synthetic/base.py", "def f():\n    from dd_jax import methods", "imports dd_jax.methods"),
        ("dd_jax/methods/base.py", "from dd_jax import evaluation", "methods (floor 4)"),
        ("dd_jax/evaluation/evaluate.py", "import dd_jax.runs", "evaluation (floor 4)"),
        ("dd_jax/runs/distill.py", "import dd_jax", "runs (floor 6) imports dd_jax"),
        ("dd_jax/runs/distill.py", "from dd_jax import distill", "runs (floor 6) imports dd_jax"),
        ("dd_jax/runs/distill.py", "from dd_jax.cli import main", "imports dd_jax.cli"),
        ("dd_jax/runs/distill.py", "from dd_jax.storage.files import x\nfrom . import files", "relative"),
        ("dd_jax/runs/distill.py", "def f():\n    import tensorflow_datasets", "lives in"),
        ("dd_jax/data/load.py", "def f():\n    import tensorflow", "lives in"),
        ("dd_jax/data/load.py", "import tensorflow_datasets", "inside the function"),
        ("dd_jax/methods/base.py", "from flax import linen", "flax lives in"),
        ("dd_jax/runs/distill.py", "def f():\n    import orbax.checkpoint as ocp", "orbax lives in"),
        ("dd_jax/figures/plots.py", "from matplotlib.figure import Figure", "inside the function"),
        ("dd_jax/presets/", "import tyro", "tyro lives in"),
        ("dd_jax/inner/unroll.py", "import time", "time on a pure floor"),
        ("dd_jax/inner/unroll.py", "print(1)", "prints"),
        ("dd_jax/evaluation/x.py", "open('a')", "touches a file"),
        ("dd_jax/models/x.py", "def f(p):\n    return p.read_text()", "touches a file"),
        ("dd_jax/models/x.py", "import jax\njax.config.update('jax_enable_x64', True)", "the user's"),
        ("dd_jax/distributed/x.py", "import jax", "has no floor"),
    ],
)
def test_a_breach_is_found(path, source, words):
    assert any(words in breach for breach in breaches(path, source)), breaches(path, source)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("dd_jax/methods/x.py", "from dd_jax.inner import unroll\nfrom dd_jax import models\nimport optax"),
        ("dd_jax/evaluation/x.py", "def f():\n    from sklearn.cluster import KMeans"),
        ("dd_jax/data/x.py", "def f():\n    from PIL import Image\n    return open('a')"),
        ("dd_jax/cli/commands.py", "import tyro\nimport dd_jax\nfrom dd_jax.runs import distill"),
        ("experiments/x.py", "from dd_jax import cli\nfrom dd_jax.cli import main\nimport tyro"),
        ("dd_jax/types.py", "from dd_jax.errors import DataError"),
        ("dd_jax/__init__.py", "from dd_jax import methods\nfrom dd_jax.runs import distill"),
    ],
)
def test_what_is_allowed_is_no_breach(path, source):
    assert breaches(path, source) == []
