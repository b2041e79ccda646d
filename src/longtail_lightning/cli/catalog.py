"""What the library holds, read from its source files: no import, so listing takes milliseconds."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

from longtail_lightning._rooms import ROOMS, ROOT, exports


@dataclass(frozen=True)
class Component:
    """A public class or function."""

    name: str
    room: str
    file: Path
    node: ast.ClassDef | ast.FunctionDef

    @property
    def doc(self) -> str:
        """Its docstring."""
        return ast.get_docstring(self.node) or ""

    @property
    def summary(self) -> str:
        """First sentence of the docstring, without markup."""
        return " ".join(self.doc.split("\n\n")[0].split()).replace(r"\(", "").replace(r"\)", "").replace("`", "")

    @property
    def options(self) -> list[str]:
        """Names of its arguments."""
        arguments = self._arguments
        named = [] if arguments is None else [*arguments.args, *arguments.kwonlyargs]
        return [argument.arg for argument in named if argument.arg != "self"]

    @property
    def _arguments(self) -> ast.arguments | None:
        if isinstance(self.node, ast.FunctionDef):
            return self.node.args
        inits = (n for n in self.node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
        return next((init.args for init in inits), None)

    @property
    def signature(self) -> str:
        """How to make or call it."""
        if self._arguments is None:
            return f"{self.name}(...)"
        arguments = ast.unparse(self._arguments).removeprefix("self, ").removeprefix("self")
        return f"{self.name}({arguments})"


def components(room: str) -> list[Component]:
    """The public components of a room, in alphabetical order."""
    found = []
    for name, module in exports(room).items():
        file = ROOT / Path(*module.split(".")).with_suffix(".py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
                found.append(Component(name, room, file, node))
    return sorted(found, key=lambda component: component.name.lower())


def all_components() -> dict[str, Component]:
    """Every public component by name."""
    return {component.name: component for room in ROOMS for component in components(room)}
