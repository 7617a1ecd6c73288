import io
import sys

import pytest

from dd_jax.runs import progress as module
from dd_jax.runs.progress import note, progress, table


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "160")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)

    def install():  # within the test: before it, pytest sets its own stderr once more
        monkeypatch.setattr(sys, "stderr", Terminal())
        return sys.stderr

    return install


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_come_after_a_tenth_and_five_seconds(capsys, clock):
    with progress(100, initial=50) as update:
        for step in range(51, 101):
            clock[0] += 1.0
            update(step, loss=0.52345, validation=0.813)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "step 60/100  1 steps/s  0:00:40 left  loss 0.523  validation 81.3%"
    assert [line.split()[1] for line in lines] == ["60/100", "70/100", "80/100", "90/100", "100/100"]


def test_quick_steps_give_few_lines_and_slow_ones_a_line_now_and_then(capsys, clock):
    with progress(10_000) as update:
        for step in range(1, 10_001):
            clock[0] += 0.001
            update(step)
    assert len(capsys.readouterr().err.splitlines()) <= 3
    with progress(10_000) as update:
        for step in range(1, 100):
            clock[0] += 60.0
            update(step)
    assert len(capsys.readouterr().err.splitlines()) == 9


def test_fields_are_shown_as_what_they_are(capsys, clock):
    with progress(1) as update:
        update(1, loss=1234567.0, note="best so far", count=12345, test=0.5, nothing=None)
    assert capsys.readouterr().err == "step 1/1  loss 1.23e+06  note best so far  count 12345  test 50.0%\n"


def test_it_can_be_switched_off(capsys):
    with progress(2, enabled=False) as update:
        update(1, loss=1.0)
        update(2)
    assert capsys.readouterr() == ("", "")


def test_a_bar_on_a_terminal_with_notes_above_it(terminal):
    shown = terminal()
    with progress(4, initial=1) as update:
        update(2, loss=0.5, validation=0.813)
        note("checkpoint [damaged]")
        update(4, loss=0.25)
    text = shown.getvalue()
    assert "4/4" in text
    assert "loss 0.25  validation 81.3%" in text
    assert "checkpoint [damaged]" in text
    assert module._consoles == []


def test_an_error_within_ends_the_bar(terminal):
    shown = terminal()
    with pytest.raises(KeyError), progress(4):
        raise KeyError
    assert module._consoles == []
    assert "\x1b[?25h" in shown.getvalue()  # the cursor is back


def test_a_dumb_terminal_gets_lines(terminal, monkeypatch, clock):
    shown = terminal()
    monkeypatch.setenv("TERM", "dumb")
    with progress(1) as update:
        update(1, loss=0.5)
    assert shown.getvalue() == "step 1/1  loss 0.5\n"


@pytest.mark.parametrize("stream", ["closed", None, "broken"])
def test_a_stderr_that_is_gone_does_no_harm(monkeypatch, stream):
    class Broken(io.StringIO):
        def write(self, _):
            raise BrokenPipeError

    gone = Broken()
    if stream == "closed":
        gone.close()
    monkeypatch.setattr(sys, "stderr", None if stream is None else gone)
    with progress(1) as update:
        update(1, loss=0.5)
        note("hello")


def test_a_terminal_that_goes_away_does_no_harm(terminal):
    shown = terminal()
    with progress(2) as update:
        update(1)
        shown.close()
        update(2, loss=1.0)
        note("hello")


def test_notes_without_a_bar_are_lines(capsys):
    note("resuming from step 3")
    assert capsys.readouterr().err == "resuming from step 3\n"


def test_a_table_is_not_cut_short_where_there_is_no_terminal(capsys):
    wide = "a method with a very long name " * 6 + "end"
    table("Results", ["method", "accuracy", "n"], [[wide, "81.3 ± 0.4 [best]", 200], ["k-means", "57.2", 5]])
    lines = capsys.readouterr().out.splitlines()
    assert any(wide in line and "81.3 ± 0.4 [best]" in line and line.rstrip().endswith("200") for line in lines)
    assert "…" not in "".join(lines)
    table("Nothing", ["method"], [])
    assert "method" in capsys.readouterr().out
