"""A grid of experiments, and one table of what they reach beside baselines and papers, in Markdown and HTML.

Command:   python experiments/benchmark_table.py                      the grid below; what is done is not repeated
           python experiments/benchmark_table.py PRESET PRESET ...    other presets of dd-jax distill
           python experiments/benchmark_table.py --show RUN RUN ...   a table of runs that are there
Options:   --out FOLDER for the runs and the table (runs/table); those of dd-jax distill, for every experiment; --smoke
"""

import sys
from pathlib import Path

from dd_jax.cli import run_table
from dd_jax.cli.options import take_option
from dd_jax.presets import PRESETS
from dd_jax.runs.report.benchmark_table import write_benchmark_table

GRID = ("mnist-dc", "mnist-dsa", "mnist-dm", "mnist-dcc", "mnist-idc")


def main(argv: list[str]) -> int:
    """Run what isn't done yet, whatever fails, and write the table; the worst exit status."""
    folder, rest = take_option(argv, "--out")
    out = Path(folder or "runs/table")
    if rest[:1] == ["--show"]:
        status, runs = 0, [Path(word) for word in rest[1:]]
    else:
        names = [word for word in rest if word in PRESETS]
        status = run_table(PRESETS, {}, [*([] if names else GRID), *rest, "--out", str(out)])
        runs = [out / name for name in names or GRID if (out / name / "config.json").is_file()]
    if runs:
        written = write_benchmark_table(runs, out)
        print(written[0].read_text())
        print(f"Also as a page: {written[1]}")
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
