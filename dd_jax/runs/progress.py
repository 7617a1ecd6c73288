"""What a person sees while a run goes on: a bar on a terminal, a few plain lines elsewhere; and tables."""

import contextlib
import numbers
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

from dd_jax.errors import DataWarning
from dd_jax.evaluation import ProtocolWarning

Update: TypeAlias = Callable[..., None]  # update(step, **fields)

PLAIN_SECONDS = 5.0  # between two plain lines at least
PLAIN_SHARE = 0.1  # of the steps between two plain lines at least, ...
PLAIN_LONGEST = 600.0  # ... unless so many seconds have passed, ...
PLAIN_LONGEST_OTHER = 30.0  # ... or so many where it isn't steps that are counted

_PERCENTAGES = ("validation", "test", "accuracy")  # fields that hold fractions of one
_SIZES = ("memory",)  # fields that hold bytes
_muted = False  # in all but the first of several processes
_consoles: list[Any] = []  # the console of the live bar, if one is shown: `note` has to write above it


@contextlib.contextmanager
def progress(total: int, initial: int = 0, enabled: bool = True, unit: str = "step") -> Iterator[Update]:
    """Show on stderr how far a loop of `total` steps is; it starts after step `initial`.

    It never raises because of what stderr is or has become.

    Args:
        unit: what there are so many of, in a word.

    Yields:
        `update(step, **fields)`, to be called after `step` steps are done. Fields are shown behind the bar: strings as
        they are, numbers shortened, "validation", "test" and "accuracy" as percentages, "memory" in MiB.
    """
    clock = _clock(total, unit)
    if not enabled or _muted:
        yield lambda step, **fields: None
    elif _is_terminal():
        with _bar(total, initial, clock) as update:
            yield update
    else:
        yield _plain_lines(total, initial, clock, unit)


def mute() -> None:
    """Show nothing from now on: another process speaks for this one."""
    global _muted
    _muted = True


def note(message: str) -> None:
    """Tell the user something on stderr, above the bar if one is shown."""
    if _muted:
        return
    if _consoles:
        with contextlib.suppress(OSError, ValueError):
            _consoles[-1].print(message, markup=False, highlight=False, soft_wrap=True)
    else:
        _print(message)


@contextlib.contextmanager
def warnings_as_notes() -> Iterator[None]:
    """Tell the library's own warnings as notes, each once, as soon as they are given; and not that JAX can't cache."""
    said: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, DataWarning | ProtocolWarning):
            usual(message, category, *where, **more)
        elif str(message) not in said:
            said.add(str(message))
            note(f"Note: {message}")

    with warnings.catch_warnings():
        for ours in (DataWarning, ProtocolWarning):
            warnings.simplefilter("always", ours)
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
        usual, warnings.showwarning = warnings.showwarning, show
        yield


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print a table on stdout. Where that is no terminal no column is cut short, however wide it gets."""
    if _muted:
        return
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    shown = Table(title=Text(title), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[index], numbers.Number) for row in rows)
        shown.add_column(Text(column), justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        shown.add_row(*[Text(_value("", cell)) for cell in row])
    if not console.is_terminal:
        unlimited = console.options.update(max_width=100_000)
        console = Console(width=max(console.measure(shown, options=unlimited).maximum, len(title)))
    console.print(shown)


def _is_terminal() -> bool:
    """Whether stderr can show a bar that moves."""
    from rich.console import Console

    try:
        console = Console(stderr=True)
        return console.is_terminal and not console.is_dumb_terminal
    except (OSError, ValueError, AttributeError):  # closed, or none at all
        return False


@contextlib.contextmanager
def _bar(total: int, initial: int, clock: Callable[[int], str]) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[clock]}"),
        TextColumn("{task.fields[shown]}"),
    )
    bar = Progress(*columns, console=console, refresh_per_second=4)
    task = bar.add_task("", total=total, completed=initial, clock="", shown="")

    known: dict[str, Any] = {}  # fields that come seldom, such as validation, stay in sight

    def update(step: int, **fields: Any) -> None:
        known.update(fields)
        with contextlib.suppress(OSError, ValueError):
            bar.update(task, completed=step, clock=clock(step), shown=_line(known))

    with contextlib.suppress(OSError, ValueError):
        bar.start()
    _consoles.append(bar.console)
    try:
        yield update
    finally:
        _consoles.pop()
        with contextlib.suppress(OSError, ValueError):
            bar.stop()


def _plain_lines(total: int, initial: int, clock: Callable[[int], str], unit: str) -> Update:
    shown_step, shown_time = initial, time.monotonic()
    longest = PLAIN_LONGEST if unit == "step" else PLAIN_LONGEST_OTHER
    known: dict[str, Any] = {}

    def update(step: int, **fields: Any) -> None:
        nonlocal shown_step, shown_time
        known.update(fields)
        now, pace = time.monotonic(), clock(step)
        due = now - shown_time >= (PLAIN_SECONDS if step - shown_step >= PLAIN_SHARE * total else longest)
        if due or (step >= total > shown_step and unit == "step"):
            shown_step, shown_time = step, now
            _print("  ".join(filter(None, [f"{unit} {step}/{total}", pace, _line(known)])))

    return update


def _print(line: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        print(line, file=sys.stderr, flush=True)


def _clock(total: int, unit: str = "step") -> Callable[[int], str]:
    """A function step -> "12.3 steps/s  0:01:05 left", from the times at which it is called.

    The rate is that of the time since the first call: what came before was mostly compilation.
    """
    calls: list[tuple[int, float]] = []

    def read(step: int) -> str:
        calls.append((step, time.monotonic()))
        del calls[1:-1]
        (first, then), (last, now) = calls[0], calls[-1]
        if last <= first or now <= then:
            return ""
        rate = (last - first) / (now - then)
        return f"{rate:.3g} {unit}s/s  {_duration((total - step) / rate)} left"

    return read


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


def _line(fields: dict[str, Any]) -> str:
    return "  ".join(f"{name} {_value(name, value)}" for name, value in fields.items() if value is not None)


def _value(name: str, value: Any) -> str:
    if name in _SIZES:
        return f"{value / 2**30:.1f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"
    if isinstance(value, str | int) or not hasattr(value, "__float__"):
        return str(value)
    return f"{float(value):.1%}" if name in _PERCENTAGES else f"{float(value):.3g}"
