"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli._read_config import read_config

FOLDER = Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """Names such as `quickstart` or `cifar100_lt/ldam_drw`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find_config(name: str) -> Path:
    """A config file by path, or a recipe by name; a file of that name wins."""
    if (path := Path(name)).is_file():
        read_config(path)  # refused here, with its name
        return path
    if name.removesuffix(".yaml") in recipe_names():
        return FOLDER / f"{name.removesuffix('.yaml')}.yaml"
    hint = did_you_mean(name, recipe_names(), listing="ltl list recipes")
    raise LongTailError(f"--config {name}: there is no such file, and no such recipe. {hint}")


def summary(path: Path) -> str:
    """The first comment of a recipe."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""
