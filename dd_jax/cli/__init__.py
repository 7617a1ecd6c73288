"""The command line, dd-jax COMMAND, and what experiment scripts do."""

import dataclasses
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import dd_jax
from dd_jax.cli.commands import COMMANDS, distill
from dd_jax.cli.options import join, take_flag, take_option
from dd_jax.cli.streams import give_up_output, open_streams, why_full
from dd_jax.errors import DDJaxError, unknown_name
from dd_jax.runs.experiment import Experiment
from dd_jax.runs.naming import default_out
from dd_jax.runs.progress import warnings_as_notes

__all__ = ["COMMANDS", "main", "run_function", "run_script", "run_table"]

_INTERRUPTED, _PIPE_CLOSED = 130, 141  # exit statuses
_USAGE = """usage: dd-jax COMMAND [OPTIONS]     (dd-jax COMMAND --help prints a command's options)

commands:
  distill     learn a distilled set, compare it with every baseline, leave a run directory
  pretrain    train many networks on a dataset, to distil sets for them or to learn from them
  estimate    predict the time and memory of an experiment, without running it
  evaluate    train fresh networks on the distilled set of a run directory
  train       train networks on a distilled set, as it was learnt or from scratch as in the papers
  baselines   measure as many real images under the same protocol
  audit       print what a set is good for, and where it is not better than real images
  score       compute DC-BENCH's and DD-Ranking's scores of a distilled set
  transfer    train other networks on a distilled set, beside random real images
  export      write the distilled set as arrays, pictures, for PyTorch, or as a folder with a dataset card
  import      read a distilled set that others released: GCond, DC, MTT, IDC, FRePo, arrays
  report      write a page for a browser on one run or several: images, curves, baselines, settings
  runs        list runs, or compare some: results, best baselines, settings that differ
  compare     test whether methods differ, over several distillations of each and their networks
  board       write a page that ranks sets, to sort and filter in a browser
  info        print versions, devices and presets, or the contents of a dataset or a run directory
  apply       use distilled sets: search architectures (apply nas), learn task by task (apply continual),
              measure what they give away (apply privacy)
  completion  print a script that makes your shell complete commands and options: bash, zsh or fish
  help        print this text; help COMMAND prints a command's options
  version     print the version of dd_jax

every command can run as several processes, on one machine or many:
  --distributed                                                   started by SLURM, Open MPI or on Cloud TPU
  --coordinator HOST:PORT --num-processes N --process-id I        started by hand

Without options `dd-jax distill` distils scikit-learn's digits in well under a minute."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line; the exit status: 0, 2 for a mistake that has a message, 130 when interrupted."""
    open_streams()
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] in (["--version"], ["version"]):
        print(dd_jax.__version__)
        return 0
    if argv[:1] == ["help"] and len(argv) > 1:
        argv = [argv[1], "--help"]
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_USAGE)
        return 0 if argv else 2
    return _guarded([lambda argv: _command(argv[0])(argv[1:])], argv)


def run_script(default: Experiment, paper: Experiment, argv: Sequence[str] | None = None) -> int:
    """What an experiment script does: the options of `dd-jax distill` over its own record, --paper and --smoke."""
    wanted, rest = take_flag(sys.argv[1:] if argv is None else argv, "--paper")
    if wanted and paper.out is None:
        paper = dataclasses.replace(paper, out=default_out(paper, paper, None, "paper"))
    return _guarded([lambda argv: distill(argv, paper if wanted else default)], rest)


def run_table(
    experiments: Mapping[str, Experiment], paper: Mapping[str, Experiment], argv: Sequence[str] | None = None
) -> int:
    """What a script of several experiments does: those that are named, or all, one after another, whatever fails.

    Options are those of `run_script`, for every one of them; each has its run directory, by its name, in runs/ or in
    what --out says.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    names = []
    while argv and not argv[0].startswith("-"):
        names.append(argv.pop(0))
    if unknown := [name for name in names if name not in experiments]:
        print(f"dd-jax: {unknown_name('experiment', unknown[0], experiments)}", file=sys.stderr)
        return 2
    wanted, argv = take_flag(argv, "--paper")

    def run(name: str) -> Callable[[Sequence[str]], None]:
        def one(argv: Sequence[str]) -> None:
            print(f"{name}:", flush=True)
            folder, argv = take_option(argv, "--out")
            out = str(Path(folder or "runs") / (f"{name}-paper" if wanted else name))
            record = dataclasses.replace((paper if wanted else experiments)[name], out=out)
            distill([*argv, "--out", out] if folder else argv, record)

        return one

    return _guarded([run(name) for name in names or experiments], argv)


def run_function(function: Callable[..., object], description: str | None) -> int:
    """What a script with options of its own does: the arguments of `function`, and mistakes in a sentence."""
    import tyro

    open_streams()
    return _caught(lambda argv: tyro.cli(function, description=description, args=argv), sys.argv[1:])


def _guarded(commands: Sequence[Callable[[Sequence[str]], None]], argv: Sequence[str]) -> int:
    """Run the commands with the same options, one after another, whatever fails; the worst exit status."""
    from dd_jax.runs.runtime import check_settings, keep_compiled_programs, use_cores

    open_streams()
    several = False

    def start(words: Sequence[str]) -> None:
        nonlocal several, argv
        check_settings()
        keep_compiled_programs()
        use_cores()
        several, argv = join(words)

    status = _caught(start, argv)
    for command in [] if status else commands:
        status = max(status, _caught(command, argv))
        if status == _INTERRUPTED:
            break
    if status and several:  # the others may be gone, and an orderly exit would wait for them
        sys.stderr.flush()
        os._exit(status)
    return status


def _caught(run: Callable[[Sequence[str]], object], argv: Sequence[str]) -> int:
    from dd_jax.runs.runtime import platform_problem

    try:
        try:
            with warnings_as_notes():
                run(argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever reads, `head` perhaps, has seen enough
        give_up_output()
        return _PIPE_CLOSED
    except DDJaxError as error:
        return _told(str(error))
    except OSError as error:
        if (why := why_full(error)) is None:
            raise
        give_up_output()
        return _told(f"Standard output can't be written: {why}. What belongs to a run is in its directory.")
    except (RuntimeError, AssertionError):
        if (problem := platform_problem()) is None:
            raise
        return _told(problem)
    except KeyboardInterrupt as interrupt:
        print(f"dd-jax: {str(interrupt) or 'interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    return 0


def _told(mistake: str) -> int:
    """Say what is wrong on standard error; the exit status of a mistake that has a message."""
    print(f"dd-jax: {mistake}", file=sys.stderr)
    return 2


def _command(name: str) -> Callable[[Sequence[str]], None]:
    if name not in COMMANDS:
        raise unknown_name("command", name, COMMANDS)
    return COMMANDS[name]
