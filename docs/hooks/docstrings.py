"""Docstrings as Markdown: their lines "name: text" become a list, "Raises ..." and "Source: ..." paragraphs.

An extension of griffe, which reads the library's source for the reference pages.
"""

import re
from typing import Any

from griffe import Alias, Attribute, Class, Extension, Function, Module, Object, Parameter, ParameterKind, Parameters

_ITEM = re.compile(r"(?P<names>[a-z]\w*(?:, [a-z]\w*)*): (?P<text>\S.*)")
_PARAGRAPH = re.compile(r"(?P<word>Raises|Returns|Source:) ")
_SECTION = re.compile(r"(Args|Attributes|Raises|Returns):$")  # of the Google style, which griffe understands itself


class ReadableDocstrings(Extension):
    """Rewrites every docstring, gives NamedTuples a signature, and finds functions that have the name of their file."""

    def on_instance(self, *, obj: Object, **_: Any) -> None:
        """Called for every object that is found in the source."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)

    def on_class_members(self, *, cls: Class, **_: Any) -> None:
        """Called when a class is read: a NamedTuple is made from its fields, which its source doesn't say."""
        fields = [
            field
            for field in cls.members.values()
            if isinstance(field, Attribute) and "NamedTuple" in map(str, cls.bases)
        ]
        if fields:
            kind = ParameterKind.positional_or_keyword
            made_from = [Parameter(f.name, annotation=f.annotation, kind=kind, default=f.value) for f in fields]
            cls.set_member("__init__", Function("__init__", parameters=Parameters(Parameter("self"), *made_from)))

    def on_package(self, *, pkg: Module, **_: Any) -> None:
        """Called when the library is read: `dd_jax.evaluate` is the function in dd_jax/evaluation/evaluate.py."""
        for name, member in list(pkg.members.items()):
            if isinstance(member, Alias) and _is_file(pkg, member.target_path):
                pkg.set_member(name, Alias(name, f"{member.target_path}.{name}"))


def _is_file(pkg: Module, path: str) -> bool:
    """Whether `path`, a name as imported, is a file with something of its own name in it."""
    found: Any = pkg
    for name in path.split(".")[1:]:
        found = found.members.get(name)
        if not isinstance(found, Module):
            return False
    return found.name in found.members and found is not pkg


def as_markdown(docstring: str) -> str:
    """The docstring with a list item for every "name: text" at the start of a line and its indented continuation."""
    found: list[str] = []
    lines = docstring.splitlines()
    in_item = False
    for number, line in enumerate(lines):
        if _SECTION.match(line):
            return "\n".join([*found, "", *lines[number:]])
        item, paragraph = _ITEM.match(line), _PARAGRAPH.match(line)
        if item:
            names = ", ".join(f"`{name}`" for name in item["names"].split(", "))
            found += [*([] if in_item else [""]), f"- {names}: {item['text']}"]
        elif paragraph:
            found += ["", f"**{paragraph['word']}** {line[paragraph.end() :]}"]
        elif in_item and line.startswith("    "):
            found.append(line.strip())
            continue
        else:
            found += ["", line] if in_item else [line]
        in_item = item is not None
    return "\n".join(found)
