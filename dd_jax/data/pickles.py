"""Looking through a pickle before an unpickler that refuses all but a few classes loads it."""

import io
import pickle
import pickletools
from typing import Any

_MAX_BITS = 1024  # of a number; the longest in PyTorch's files has 77
_MAX_WORK = 50  # parts of objects looked at, for every opcode; PyTorch's own files need about 4
_SPARE_WORK = 10_000
_MAX_TUPLES = 20_000  # in a pickle: nested ones deeper than that exhaust the interpreter's stack; AlexNet has about 100
MALFORMED = (  # what loading a garbled pickle raises
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)


def check_opcodes(stream: io.BytesIO, start: int) -> None:
    """Go through a pickle in `stream` from `start` to its end without loading it.

    Raises pickle.UnpicklingError if loading it could take time or memory that its size doesn't explain.
    """
    tuples, extents = 0, _Extents()
    for opcode, argument, position in pickletools.genops(stream):
        tuples += "TUPLE" in opcode.name
        if tuples > _MAX_TUPLES:
            raise pickle.UnpicklingError("more tuples than such files need")
        if isinstance(argument, int) and argument.bit_length() > _MAX_BITS:
            raise pickle.UnpicklingError("a number longer than such files need")
        if opcode.name.startswith("EXT"):  # looks objects up elsewhere than in find_class
            raise pickle.UnpicklingError("an extension code")
        if opcode.name.endswith("PUT") and int(argument or 0) > (position or 0) - start:  # would claim the memory
            raise pickle.UnpicklingError("a memo larger than the pickle")
        extents.follow(opcode, argument)


class _Extents:
    """How many parts each object on the unpickler's stack has, counted as often as hashing it would meet them.

    A tuple that holds another twice, which holds another twice, ... is small in the file, and as the key of a
    dictionary never done with.
    """

    def __init__(self) -> None:
        self.stack: list[int | None] = []  # None is a mark
        self.memo: dict[int, int | None] = {}
        self.work, self.opcodes = 0, 0

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """What the opcode does to the stack and the memo."""
        name, stack = opcode.name, self.stack
        if name == "MARK":
            stack.append(None)
        elif name == "DUP":
            stack.append(stack[-1])
        elif name.endswith("PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name.endswith("GET"):
            stack.append(self.memo[int(argument)])
        else:
            extent = 1 + self._take(opcode)
            self.work, self.opcodes = self.work + extent, self.opcodes + 1
            if self.work > _MAX_WORK * self.opcodes + _SPARE_WORK:
                raise pickle.UnpicklingError("tuples that repeat each other more often than such files need")
            stack += [extent if "TUPLE" in name or name == "FROZENSET" else 1] * len(opcode.stack_after)

    def _take(self, opcode: pickletools.OpcodeInfo) -> int:
        """Take from the stack what the opcode does; its extent."""
        taken, count = 0, len(opcode.stack_before)
        if pickletools.markobject in opcode.stack_before:
            while (extent := self.stack.pop()) is not None:
                taken += extent
            count = opcode.stack_before.index(pickletools.markobject)
        return taken + sum(self.stack.pop() or 0 for _ in range(count))
