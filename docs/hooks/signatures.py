"""An extension of griffe, which reads the library's source for the reference pages."""

from typing import Any

from griffe import Alias, Attribute, Class, Extension, Function, Module, Parameter, ParameterKind, Parameters


class Signatures(Extension):
    """Gives NamedTuples a signature, and finds functions that have the name of their file."""

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
