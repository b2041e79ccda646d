"""`ltl list`, `ltl show` and `ltl cp`: no torch, no waiting."""

from __future__ import annotations

import json
import shutil
import textwrap
from argparse import Namespace
from fnmatch import fnmatch
from pathlib import Path

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._files import write_text
from longtail_lightning._rooms import ROOT, exports
from longtail_lightning.cli import catalog
from longtail_lightning.cli.parser import TOPICS
from longtail_lightning.cli.recipes import FOLDER, find_config, recipe_names, summary

_OWN = tuple(topic for topic in TOPICS if topic not in ("backbones", "recipes"))


def list_(asked: Namespace) -> int:
    """`ltl list [TOPIC] [PATTERN]`."""
    topic = asked.topic
    if topic is None:
        for room in _OWN:
            print(f"{room + ':':11}{', '.join(sorted(exports(room), key=str.lower))}")
        print(f"{'backbones:':11}{len(_backbones())} names, see `ltl list backbones`")
        print(f"{'recipes:':11}{', '.join(recipe_names())}")
    elif topic == "recipes":
        _table([(name, summary(FOLDER / f"{name}.yaml")) for name in recipe_names()])
    elif topic == "backbones":
        _list_backbones(asked.pattern)
    elif topic in _OWN:
        _table([(component.name, component.summary) for component in catalog.components(topic)])
    else:
        raise LongTailError(f"`ltl list {topic}`: there is no such topic. {did_you_mean(topic, TOPICS)}")
    return 0


def show(asked: Namespace) -> int:
    """`ltl show NAME`: a component's signature and documentation, or a recipe's text."""
    name = asked.name if "/" in asked.name else asked.name.rpartition(".")[2]
    if name in recipe_names():
        print(find_config(name).read_text(encoding="utf-8"), end="")
        return 0
    found = catalog.all_components()
    if name not in found:
        options = [*found, *recipe_names()]
        raise LongTailError(
            f"There is no component or recipe {name!r}. {did_you_mean(name, options, listing='ltl list')}"
        )
    component = found[name]
    print(f"longtail_lightning.{component.room}.{component.name}\n")
    print(textwrap.fill(component.signature, 100, subsequent_indent="    "))
    print(f"\n{component.doc}")
    return 0


def cp(asked: Namespace) -> int:
    """`ltl cp RECIPE [FILE]`: copy a recipe to edit it; never overwrites."""
    name = asked.recipe
    if name not in recipe_names():
        hint = did_you_mean(name, recipe_names(), listing="ltl list recipes")
        raise LongTailError(f"There is no recipe {name!r}. {hint}")
    own = f"{name.rpartition('/')[2]}.yaml"
    target = Path(asked.file or own)
    if target.is_dir():
        target = target / own
    if target.exists():
        raise LongTailError(f"{target} exists already: give another name, `ltl cp {name} FILE`.")
    write_text(target, find_config(name).read_text(encoding="utf-8"))
    print(f"{target}\nrun it with: ltl fit --config {target}")
    return 0


def _backbones() -> dict[str, int]:
    table: dict[str, int] = json.loads((ROOT / "backbones" / "parameters.json").read_text(encoding="utf-8"))
    return table


def _list_backbones(pattern: str | None) -> None:
    table = _backbones()
    own = [name for name in table if "/" not in name]
    if pattern is None:
        names = own + [name for name in table if name.startswith("torchvision/")]
    else:
        pattern = pattern if any(mark in pattern for mark in "*?[") else f"*{pattern}*"
        names = [name for name in table if fnmatch(name.rpartition("/")[2], pattern) or fnmatch(name, pattern)]
    if not names:
        hint = did_you_mean(pattern or "", [name.rpartition("/")[2] for name in table], listing="ltl list backbones")
        raise LongTailError(f"No backbone matches {pattern!r}. {hint}")
    _table([(name, f"{table[name] / 1e6:8.2f} M parameters") for name in names])
    if pattern is None:
        timm = sum(name.startswith("timm/") for name in table)
        print(f"\nand {timm} of timm: `ltl list backbones PATTERN`, for example 'vit*'. Sizes are without classifier.")


def _table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    columns = shutil.get_terminal_size().columns
    for name, text in rows:
        print(
            textwrap.fill(
                text, max(columns, width + 30), initial_indent=f"{name:{width}}  ", subsequent_indent=" " * (width + 2)
            )
        )
