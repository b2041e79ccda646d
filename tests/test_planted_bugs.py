"""The list of bugs that tools/plant_bugs.py plants fits the source; `nox -s plant_bugs` plants them."""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tools" / "planted_bugs.py"


@pytest.fixture(scope="module")
def bugs():
    if not LIST.is_file():
        pytest.skip("the tools are not part of the package")
    spec = importlib.util.spec_from_file_location("planted_bugs", LIST)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.BUGS


def test_each_can_be_planted(bugs):
    for bug in bugs:
        text = (ROOT / "src" / "longtail_lightning" / bug.file).read_text(encoding="utf-8")
        assert text.count(bug.old) == 1, bug
        assert bug.new != bug.old
        compile(text.replace(bug.old, bug.new), bug.file, "exec")
        assert all((ROOT / test).exists() for test in bug.tests)


def test_there_are_many_in_every_room(bugs):
    rooms = Counter(bug.file.partition("/")[0] for bug in bugs)
    assert len(bugs) >= 60
    named = ("losses", "samplers", "heads", "metrics", "features", "methods", "modules")
    assert min(rooms[room] for room in named) >= 8
