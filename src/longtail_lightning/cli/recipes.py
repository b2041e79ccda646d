"""The recipes that come with the package."""

from __future__ import annotations

from pathlib import Path

from longtail_lightning._errors import LongTailError, did_you_mean

FOLDER = Path(__file__).parent.parent / "recipes"


def recipe_names() -> list[str]:
    """Names such as `quickstart` or `cifar100_lt/ldam_drw`."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.yaml"))


def find_config(name: str) -> Path:
    """A config file by path, or a recipe by name; a file of that name wins."""
    if (path := Path(name)).is_file():
        _check_config(path)
        return path
    if name.removesuffix(".yaml") in recipe_names():
        return FOLDER / f"{name.removesuffix('.yaml')}.yaml"
    hint = did_you_mean(name, recipe_names(), listing="ltl list recipes")
    raise LongTailError(f"--config {name}: there is no such file, and no such recipe. {hint}")


def summary(path: Path) -> str:
    """The first comment of a recipe."""
    first = path.read_text(encoding="utf-8").split("\n", 1)[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _check_config(path: Path) -> None:
    """Refuse a file that is not a config, and name it: jsonargparse, which reads it later, would only show its text."""
    import yaml

    try:
        text = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or "it is not text"
        raise LongTailError(f"--config {path}{where}: this is not YAML ({what}).") from error
    if not isinstance(text, dict):
        told = "the file is empty" if text is None else f"it holds a {type(text).__name__}, not `key: value`"
        raise LongTailError(f"--config {path}: {told}. `ltl cp quickstart` writes one to begin with.")
