"""Every public component is documented, in one form, and its documentation is true."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import longtail_lightning
from longtail_lightning import LongTailDataModule
from longtail_lightning._rooms import ROOMS, exports
from longtail_lightning.cli.catalog import ROOT, all_components, components
from longtail_lightning.data import options as data_options
from longtail_lightning.data.options import DataOptions
from tests.contracts.discover import public_classes

REPOSITORY = ROOT.parent.parent
PUBLIC = [(room, name) for room in ROOMS for name in exports(room)]
each_public = pytest.mark.parametrize(("room", "name"), PUBLIC, ids=[name for _, name in PUBLIC])


@pytest.mark.parametrize("room", ROOMS)
def test_the_lazy_table_is_what_the_rooms_export(room):
    exported = getattr(longtail_lightning, room).__all__
    others = {name for other in ROOMS if other != room for name in exports(other)}
    assert sorted(exports(room)) == sorted(set(exported) - others)
    assert {component.name for component in components(room)} == set(exports(room))


@each_public
def test_importable_from_the_top(room, name):
    assert getattr(longtail_lightning, name) is getattr(getattr(longtail_lightning, room), name)


@each_public
def test_documented_arguments_are_the_real_ones(room, name):
    component = getattr(longtail_lightning, name)
    if inspect.isabstract(component) and "Args:" not in (component.__doc__ or ""):
        return
    documented = _documented_arguments(inspect.getdoc(component) or "")
    # Options that a room shares are one entry, which points to where they are described.
    real = [
        parameter.name
        for parameter in inspect.signature(component).parameters.values()
        if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL) or _shared_options(parameter)
    ]
    if name in ("ShotSplits", "SyntheticImages", "Backbone", "FeatureBank"):  # fields and items are described in prose
        real = [argument for argument in real if argument in documented]
    assert sorted(documented) == sorted(real)


@each_public
def test_has_an_executed_example(room, name):
    component = getattr(longtail_lightning, name)
    if inspect.isabstract(component):
        return
    assert ">>>" in (inspect.getdoc(component) or ""), f"{name} has no doctest"


@pytest.mark.parametrize("room", ["losses", "samplers"])
def test_follows_the_recipe(room):
    for cls in public_classes(room):
        doc = inspect.getdoc(cls) or ""
        for part in ("What it changes", "Formula", "Shapes", "When it helps", "Classes without images", "Paper"):
            assert f"**{part}" in doc or (room == "samplers" and cls.__name__ == "EvaluationSampler"), (
                f"{cls.__name__}: {part}"
            )


@each_public
def test_has_a_row_in_contents(room, name):
    assert f"`{name}`" in (REPOSITORY / "CONTENTS.md").read_text(encoding="utf-8")


def test_no_kwargs_hide_parameters():
    # jsonargparse and the reader see only what is spelled out. Metrics pass torchmetrics' own options on.
    # Options that a room shares are spelled out in a TypedDict.
    for room in ("losses", "samplers", "heads", "backbones", "features", "data", "modules", "callbacks"):
        for cls in public_classes(room):
            for parameter in inspect.signature(cls).parameters.values():
                assert parameter.kind != parameter.VAR_KEYWORD or _shared_options(parameter), cls


def test_shared_options_are_described_where_they_are_pointed_to():
    base = inspect.signature(LongTailDataModule).parameters
    described = set(_documented_arguments(inspect.getdoc(LongTailDataModule) or ""))
    assert set(DataOptions.__annotations__) | {"transforms"} == described
    for name, kind in DataOptions.__annotations__.items():
        assert base[name].kind is inspect.Parameter.KEYWORD_ONLY
        assert kind.__forward_arg__ == base[name].annotation, f"{name} has another type in LongTailDataModule"
    for cls in public_classes("data"):
        for parameter in inspect.signature(cls).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                (entry,) = re.findall(r"^    options: (.*(?:\n {8}.*)*)", inspect.getdoc(cls) or "", re.MULTILINE)
                assert "`LongTailDataModule`" in entry
                shown = all_components()[cls.__name__].options
                assert set(_shared_options(parameter)) <= set(shown), f"`ltl show {cls.__name__}` leaves options out"
                assert "options" not in shown


def test_rooms_import_only_downward():
    order = ["counts", *ROOMS, "cli"]
    for room in order[1:]:
        for file in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
                names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
                for imported in names:
                    parts = imported.split(".")
                    if parts[0] == "longtail_lightning" and len(parts) > 1 and parts[1] in order:
                        assert order.index(parts[1]) <= order.index(room), f"{file} imports {imported}"


def _shared_options(parameter: inspect.Parameter) -> list[str]:
    """What a parameter `**options: Unpack[SomeTypedDict]` stands for; nothing for another one."""
    match = re.fullmatch(r"Unpack\[(\w+)\]", str(parameter.annotation))
    return list(getattr(data_options, match[1]).__annotations__) if match else []


def _documented_arguments(doc: str) -> list[str]:
    match = re.search(r"^Args:\n((?:    .*\n?|\n)+)", doc, re.MULTILINE)
    return re.findall(r"^    (\w+):", match[1], re.MULTILINE) if match else []
