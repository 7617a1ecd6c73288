"""Standard output and error that can be written to, whatever they are."""

import codecs
import errno
import os
import sys

ANY_ENCODING = "dd_jax"  # how characters that an encoding does not have are written

_ALIKE = {"±": "+-", "–": "-", "…": "...", "×": "x", "→": "->", "\u00a0": " "}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def open_streams() -> None:
    """Let standard output and error take every character, and what was closed at the start take what is written."""
    codecs.register_error(ANY_ENCODING, _alike)
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            _to_nowhere(number)
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=ANY_ENCODING)


def give_up_output() -> None:
    """Write standard output nowhere from now on, so that leaving the process does not fail once more."""
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def why_full(error: OSError) -> str | None:
    """What the system says of standard output that takes no more; None of any other error."""
    return error.strerror if error.errno in _FULL and error.filename is None else None


def _alike(error: UnicodeError) -> tuple[str | bytes, int]:
    """Signs that look alike for those that we use, and escapes of their code for other characters."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    first = error.object[error.start]
    if first in _ALIKE:
        return _ALIKE[first], error.start + 1
    return codecs.backslashreplace_errors(
        UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, "")
    )


def _to_nowhere(number: int) -> None:
    """Give a file descriptor that is closed a file, or the next one that is opened would get what is written there."""
    try:
        os.fstat(number)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        if nowhere != number:
            os.dup2(nowhere, number)
            os.close(nowhere)
