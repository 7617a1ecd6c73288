"""Breaks central lines of the library one by one, in a copy, and says which of the quick tests notice.

Command:   python tests/mutants.py            some minutes; exit status 1 if a broken line goes unnoticed
           python tests/mutants.py unroll     only those whose name contains this

Each is tried with the quick tests of the part that it belongs to, until one fails.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]


class Mutant(NamedTuple):
    """A line of a file, what takes its place, and the tests that should notice."""

    name: str
    file: str
    line: str
    broken: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant("sign in unroll", "inner/rules.py", "p - size.astype(p.dtype) * g",
           "p + size.astype(p.dtype) * g", ("tests/inner", "tests/methods/test_unrolled.py")),
    Mutant("gradient of step sizes", "inner/rules.py", "p - size.astype(p.dtype) * g",
           "p - jax.lax.stop_gradient(size).astype(p.dtype) * g", ("tests/inner", "tests/methods/test_unrolled.py")),
    Mutant("class-wise distance", "methods/matched_gradients.py", "return values.sum(), gradient",
           "return values.mean(), gradient", ("tests/methods/test_matched_gradients.py",)),
    Mutant("order of checkpoint and set", "runs/loop.py",
           "            checkpoint.save(self.directory.checkpoints, self.step, self.progress)\n"
           "            save_distilled(self.directory.distilled, self.best(), self._provenance())\n",
           "            save_distilled(self.directory.distilled, self.best(), self._provenance())\n"
           "            append_metrics(self.directory, rows[:0])\n"
           "            checkpoint.save(self.directory.checkpoints, self.step - 1, self.progress)\n",
           ("tests/runs/test_distill.py", "tests/runs/test_runs_checkpoint.py", "tests/faults")),
    Mutant("shuffled label", "methods/sampling.py", "return Batch(images, split.labels[indices])",
           "return Batch(images, split.labels[indices[::-1]])", ("tests/methods",)),
    Mutant("validation is test", "runs/loop.py",
           'split="validation" if len(self.dataset.validation.labels) else "train"',
           'split="test"', ("tests/runs/test_distill.py", "tests/methods/test_every_method.py")),
    Mutant("ZCA inverse", "data/zca.py", "_turned(arrays[\"axes\"], flat, 1 / jnp.asarray(arrays[\"scales\"]))",
           "_turned(arrays[\"axes\"], flat, jnp.asarray(arrays[\"scales\"]))", ("tests/data/test_data_zca.py",)),
    Mutant("regulariser of the regression", "inner/ridge.py", "shift = regulariser * jnp.trace(gram) / size",
           "shift = regulariser * jnp.trace(gram)", ("tests/inner/test_ridge.py", "tests/methods/test_frepo.py")),
    Mutant("symmetry of a condensed graph", "synthetic/graph.py", "jax.nn.sigmoid((pairs + pairs.T) / 2)",
           "jax.nn.sigmoid(pairs)", ("tests/methods/test_graph_condensation.py",)),
    Mutant("key of a resumed step", "runs/dispatch.py", "jax.random.fold_in(key, first + i)",
           "jax.random.fold_in(key, i)", ("tests/methods/test_every_method.py", "tests/runs/test_distill.py")),
    Mutant("a number that stays compiled in", "methods/base.py", "with_numbers(options, arrays.numbers)", "options",
           ("tests/methods/test_every_method.py",)),
    Mutant("a key without types", "values.py", "return type(value), value.hex()", "return value",
           ("tests/test_values.py",)),
)  # fmt: skip


def noticed(mutant: Mutant, folder: Path) -> str:
    """The first test that fails, or nothing."""
    file = folder / "dd_jax" / mutant.file
    whole = file.read_text()
    assert whole.count(mutant.line) == 1, f"{mutant.name}: the line is not there once: {mutant.line}"
    file.write_text(whole.replace(mutant.line, mutant.broken))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", *mutant.tests]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    file.write_text(whole)
    found = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode and not found:
        raise RuntimeError(done.stdout[-2000:] + done.stderr[-2000:])
    return found[1] if found else ""


def main(words: list[str]) -> int:
    """Try them."""
    missed = 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "dd_jax"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", ".*_cache", "site", "runs"))
        shutil.copytree(ROOT / "dd_jax" / "runs", copy / "dd_jax" / "runs")
        shutil.copytree(ROOT / "tests" / "runs", copy / "tests" / "runs")
        for mutant in [m for m in MUTANTS if all(word in m.name for word in words)]:
            started = time.monotonic()
            found = noticed(mutant, copy)
            missed += not found
            print(f"{mutant.name}: {found or 'NOT NOTICED'} ({time.monotonic() - started:.0f} s)", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
