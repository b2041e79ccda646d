"""Follow a guide word for word."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from longtail_lightning._rooms import ROOT
from longtail_lightning.cli.main import main

REPOSITORY = ROOT.parent.parent


def text_of(guide: str) -> str:
    """The guide of a name."""
    return (REPOSITORY / "docs" / "guides" / f"{guide}.md").read_text(encoding="utf-8")


def run_commands(text: str, more: Mapping[str, Sequence[str]]) -> None:
    """Run every command of a guide, one after the other, for what one leaves serves the next.

    Args:
        text: the guide.
        more: name of a command -> words that make it small.
    """
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for command in filter(str.strip, block.splitlines()):
            program, *words = shlex.split(command)
            assert program == "ltl"
            name = words[1] if words[0] in ("class", "memory") else words[0]
            assert main([*words, *more.get(name, [])]) == 0, command


def run_python(text: str) -> dict[str, Any]:
    """Run the Python of a guide; gives what it has defined."""
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "guide", "exec"), names)
    return names


def draw_pictures(*files: str) -> None:
    """Pictures that differ."""
    for number, file in enumerate(files):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
