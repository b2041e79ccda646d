"""The public names of each room (subpackage), read from its `__init__.py` without importing it."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent
ROOMS = (
    "losses",
    "samplers",
    "heads",
    "metrics",
    "backbones",
    "text",
    "datasets",
    "features",
    "methods",
    "retrieval",
    "data",
    "curation",
    "report",
    "plugins",
    "callbacks",
    "modules",
)
"""All rooms, lowest first: a room imports only from those before it."""

# Public names outside of the rooms, and their modules.
TOP = {"ClassCounts": "counts", "ShotSplits": "counts", "LongTailError": "_errors"}


@cache
def exports(room: str) -> dict[str, str]:
    """Public name -> the module that holds it, below this package.

    Examples:
        >>> exports("metrics")["ShotAccuracy"]
        'metrics.shot_accuracy'
    """
    text = (ROOT / room / "__init__.py").read_text(encoding="utf-8")
    # A name that a room re-exports from another room belongs to the other one.
    own = rf"^from longtail_lightning\.({room}\.\w+) import (\w+) as \2$"
    return {name: module for module, name in re.findall(own, text, re.MULTILINE)}


@cache
def module_of() -> dict[str, str]:
    """Every public name -> the module that holds it."""
    return {**TOP, **{name: module for room in ROOMS for name, module in exports(room).items()}}
