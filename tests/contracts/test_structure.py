"""The house: small files, small functions, rooms that build on each other, no circles."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from longtail_lightning._rooms import ROOMS, ROOT

FILES = sorted(ROOT.rglob("*.py"))
ORDER = ["counts", *ROOMS, "cli"]
TREES = {file: ast.parse(file.read_text(encoding="utf-8")) for file in FILES}


def name_of(file: Path) -> str:
    """The dotted name of a file."""
    parts = file.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(file) for file in FILES}


def imported(tree: ast.AST) -> set[str]:
    """Modules of this package that a piece of code imports."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from room import file` takes a file, not what the room's __init__ has gathered.
            files = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= files & MODULES
            found |= set() if files <= MODULES else {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & MODULES


def when_loaded(tree: ast.Module) -> set[str]:
    """What is imported as soon as the module is: not in functions, nor for type checkers only."""
    statements = [
        node
        for node in tree.body
        if not isinstance(node, (ast.FunctionDef, ast.ClassDef))
        and not (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
    ]
    return imported(ast.Module(statements, []))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_files_and_functions_are_small(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 300
    for node in ast.walk(TREES[file]):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name


def test_rooms_import_only_downward():
    for file, tree in TREES.items():
        room = file.relative_to(ROOT).parts[0].removesuffix(".py")
        if room not in ORDER:
            continue
        for name in imported(tree):
            other = name.split(".")[1] if "." in name else ""
            if other in ORDER:
                assert ORDER.index(other) <= ORDER.index(room), f"{file} imports {name}"


def test_no_circles():
    # A room's __init__ gathers what its files hold: they do not depend on it, and who imports the room depends on all.
    graph = {name_of(file): when_loaded(tree) - {name_of(file)} for file, tree in TREES.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_private_names_of_lightning_are_in_one_file():
    allowed = {"_lightning.py"}
    for file, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or file.name in allowed:
                continue
            foreign = (node.module or "").split(".")[0] in ("lightning", "jsonargparse", "torch", "torchmetrics")
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            private = [name for name in names if name.startswith("_") and not name.startswith("__")]
            assert not (foreign and private), f"{file} imports {private}: name it in _lightning.py, with a test"
