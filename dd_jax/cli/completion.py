"""Scripts that let shells complete commands, options, and the names of presets and methods."""

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal
from unittest import mock

import tyro

from dd_jax.cli.options import parse

_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


@dataclasses.dataclass(frozen=True)
class Completion:
    """Print a script for your shell, which then completes commands, options, presets and methods.

    In ~/.bashrc: eval "$(dd-jax completion bash)"; in ~/.zshrc the same with zsh; for fish: dd-jax completion fish >
    ~/.config/fish/completions/dd-jax.fish
    """

    shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional]
    """Shell to write for: "bash", "zsh" or "fish"."""


def completion(argv: Sequence[str], commands: Mapping[str, Callable[[Sequence[str]], None]]) -> None:
    """dd-jax completion SHELL: a script that its shell reads."""
    from dd_jax.methods import METHODS
    from dd_jax.presets import PAPERS, PRESETS

    shell = parse(Completion, argv, "dd-jax completion").shell
    options = {name: _options(run) for name, run in commands.items()}
    values = {"--preset": tuple(PRESETS), "--method": (*PAPERS, *METHODS)}
    print(_fish(options, values) if shell == "fish" else _bash(options, values, shell == "zsh"))


def _options(command: Callable[[Sequence[str]], None]) -> tuple[str, ...]:
    """The options of a command, as its help has them."""
    printed = io.StringIO()
    wide = mock.patch.dict(os.environ, {"COLUMNS": "200", "NO_COLOR": "1"})
    with wide, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        command(["--help"])
    return tuple(sorted(set(_OPTION.findall(printed.getvalue()))))


def _bash(options: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]], zsh: bool) -> str:
    by_command = "\n".join(f"    {name}) words='{' '.join(mine)}' ;;" for name, mine in options.items())
    by_option = "\n".join(f"    {name}) words='{' '.join(mine)}' ;;" for name, mine in values.items())
    start = "autoload -U +X bashcompinit && bashcompinit\n" if zsh else ""
    return f"""{start}_dd_jax() {{
  local words= current="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    words='{" ".join((*options, "help", "version"))}'
  else
    case "${{COMP_WORDS[1]}}" in
{by_command}
    help) words='{" ".join(options)}' ;;
    esac
    case "$before" in
{by_option}
    *) case "$current" in -*) ;; *) [ "${{COMP_WORDS[1]}}" = help ] || words= ;; esac ;;
    esac
  fi
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}}
complete -o default -F _dd_jax dd-jax"""


def _fish(options: Mapping[str, Sequence[str]], values: Mapping[str, Sequence[str]]) -> str:
    lines = [f'complete -c dd-jax -n __fish_use_subcommand -f -a "{" ".join((*options, "help", "version"))}"']
    for command, mine in options.items():
        for option in mine:
            given = f' -x -a "{" ".join(values[option])}"' if option in values else ""
            lines.append(f'complete -c dd-jax -n "__fish_seen_subcommand_from {command}" -l {option[2:]}{given}')
    return "\n".join(lines)
