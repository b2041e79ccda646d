"""Configs that are made to fill the memory."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from longtail_lightning import LongTailError
from longtail_lightning.cli._read_config import read_config


def bomb(depth):
    lines = ["l0: &l0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, depth)]
    return "\n".join([*lines, "data: *l0"])


def merges(depth):
    lines = [f"b{n}: &b{n} {{<<: [{', '.join([f'*b{n - 1}'] * 40)}]}}" for n in range(1, depth)]
    return "\n".join(["b0: &b0 {x: 1}", *lines])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (bomb(9), "holds more than 1,000,000 values"),
        (merges(8), "holds more than"),
        ("a: &a [*a]", "holds more than"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested without end"),
        ("- 1", "it holds a list"),
        ("a: b: c", "this is not YAML"),
        ("a: 2001-99-99", "this is no config"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("staged", [False, True])
def test_a_config_that_cannot_be_one(ltl, text, words, staged):
    Path("x.yaml").write_text(text + ("\nstages: {}" if staged and not text.startswith("-") else ""))
    with pytest.raises(LongTailError, match=words):
        read_config(Path("x.yaml"))
    status, _, err = ltl("fit", "--config", "x.yaml")
    assert status == 2
    assert words in err


def test_anchors_in_reason_are_fine():
    text = bomb(4) + "\nbase: &base {a: [1, 2], b: {c: 3}}\nother: {<<: *base, d: 4}\n"
    Path("x.yaml").write_text(text)
    assert read_config(Path("x.yaml")) == yaml.safe_load(text)
