"""Imports stay light: a loss or a sampler must not bring a training framework along."""

from __future__ import annotations

import subprocess
import sys

import pytest

import longtail_lightning
from longtail_lightning._rooms import exports


def loaded_after(code: str) -> set[str]:
    """Top-level packages that a fresh interpreter holds after running `code`."""
    script = f"{code}\nimport sys\nprint(' '.join({{name.split('.')[0] for name in sys.modules}}))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(result.stdout.split("\n")[-2].split())


HEAVY = {
    "torch",
    "numpy",
    "lightning",
    "torchvision",
    "timm",
    "transformers",
    "faiss",
    "matplotlib",
    "rich",
    "torchmetrics",
}


def test_the_package_imports_nothing():
    assert not loaded_after("import longtail_lightning") & HEAVY


@pytest.mark.parametrize("room", ["losses", "samplers", "heads", "text", "features", "methods"])
def test_torch_only_rooms(room):
    names = exports(room)
    loaded = loaded_after(f"import longtail_lightning.{room}; from longtail_lightning import {next(iter(names))}")
    assert "torch" in loaded
    assert not loaded & (HEAVY - {"torch", "numpy"})


@pytest.mark.parametrize(
    "command", [["--help"], ["list"], ["list", "losses"], ["list", "backbones"], ["show", "CosineHead"]]
)
def test_looking_commands_do_not_import_torch(command):
    assert not loaded_after(f"from longtail_lightning.cli.main import main; assert main({command}) == 0") & HEAVY


def test_copying_a_recipe_does_not_import_torch(tmp_path):
    command = ["cp", "quickstart", str(tmp_path / "mine.yaml")]
    assert not loaded_after(f"from longtail_lightning.cli.main import main; assert main({command}) == 0") & HEAVY


def test_unknown_names_suggest_close_ones():
    with pytest.raises(AttributeError, match="Did you mean LogitAdjustedLoss"):
        _ = longtail_lightning.LogitAdjustLoss


def test_dir_names_everything():
    assert {"BaseClassifier", "losses", "ClassCounts"} <= set(dir(longtail_lightning))
