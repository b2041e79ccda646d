"""What the library holds, read from its source files: no import, so listing takes milliseconds."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cache
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
        node, arguments = self.node, _arguments_of(self.node)
        while arguments is None:  # a base in the same file may have them
            near = _classes(self.file)
            if (base := next((b.id for b in node.bases if isinstance(b, ast.Name) and b.id in near), None)) is None:
                return None
            node = near[base]
            arguments = _arguments_of(node)
        return _spelled_out(arguments)

    @property
    def signature(self) -> str:
        """How to make or call it."""
        if self._arguments is None:
            return f"{self.name}(...)"
        arguments = ast.unparse(self._arguments).removeprefix("self, ").removeprefix("self")
        return f"{self.name}({arguments})"


def _arguments_of(node: ast.ClassDef) -> ast.arguments | None:
    inits = (n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__")
    return next((init.args for init in inits), None)


def _spelled_out(arguments: ast.arguments) -> ast.arguments:
    """The options that all data modules share, in the place of `**options: Unpack[DataOptions]`."""
    annotation = arguments.kwarg.annotation if arguments.kwarg else None
    if not isinstance(annotation, ast.Subscript) or ast.unparse(annotation.value) != "Unpack":
        return arguments
    names = _option_names(ast.unparse(annotation.slice))
    base = _arguments_of(_classes(ROOT / "data/datamodule.py")["LongTailDataModule"])
    assert base is not None
    shared = [pair for pair in zip(base.kwonlyargs, base.kw_defaults) if pair[0].arg in names]
    return ast.arguments(
        posonlyargs=arguments.posonlyargs,
        args=arguments.args,
        defaults=arguments.defaults,
        kwonlyargs=[*arguments.kwonlyargs, *(option for option, _ in shared)],
        kw_defaults=[*arguments.kw_defaults, *(default for _, default in shared)],
    )


def _option_names(options: str) -> set[str]:
    node = _classes(ROOT / "data/options.py").get(options)
    if node is None:  # TypedDict itself
        return set()
    own = {
        line.target.id for line in node.body if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
    }
    return own.union(*(_option_names(ast.unparse(base)) for base in node.bases))


def _classes(file: Path) -> dict[str, ast.ClassDef]:
    return {name: node for name, node in _definitions(file).items() if isinstance(node, ast.ClassDef)}


@cache
def _definitions(file: Path) -> dict[str, ast.ClassDef | ast.FunctionDef]:
    """The classes and functions of a file."""
    nodes = ast.parse(file.read_text(encoding="utf-8")).body
    return {node.name: node for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))}


def components(room: str) -> list[Component]:
    """The public components of a room, in alphabetical order."""
    found = []
    for name, module in exports(room).items():
        file = ROOT / Path(*module.split(".")).with_suffix(".py")
        found.append(Component(name, room, file, _definitions(file)[name]))
    return sorted(found, key=lambda component: component.name.lower())


def all_components() -> dict[str, Component]:
    """Every public component by name."""
    return {component.name: component for room in ROOMS for component in components(room)}
