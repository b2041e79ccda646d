"""Each sentence of SECURITY.md is backed by a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "SECURITY.md"


@pytest.fixture(scope="module")
def page():
    if not PAGE.is_file():
        pytest.skip("the page is not part of the package")
    return PAGE.read_text(encoding="utf-8")


def test_the_files_and_tests_that_it_names_exist(page):
    files = [ROOT / target for target in re.findall(r"\]\((tests/[^)]+)\)", page)]
    assert len(files) > 8
    assert all(file.is_file() for file in files)
    text = "\n".join(file.read_text(encoding="utf-8") for file in files)
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 12
    assert [name for name in names if f"def {name}(" not in text] == []


def test_every_sentence_of_a_list_has_one(page):
    for item in re.findall(r"^- (.*(?:\n  .*)*)", page, re.MULTILINE):
        assert "tests/" in item or "`test_" in item, item
