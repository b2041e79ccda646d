"""What pyproject.toml requires."""

from __future__ import annotations

from pathlib import Path

import pytest
from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:  # Python 3.10
    tomllib = pytest.importorskip("tomli")

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def test_malicious_releases_of_lightning_are_not_installed():
    listed = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["dependencies"]
    (lightning,) = [wanted for text in listed if (wanted := Requirement(text)).name == "lightning"]
    assert {"2.6.0", "2.6.1", "2.6.6"} <= set(lightning.specifier.filter(["2.6.0", "2.6.1", "2.6.2", "2.6.3", "2.6.6"]))
    assert not lightning.specifier.contains("2.6.2")
    assert not lightning.specifier.contains("2.6.3")
