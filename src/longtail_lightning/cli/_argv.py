"""What happens to the command line before jsonargparse reads it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli.recipes import find_config

CONFIG_FILE = "config_fit.yaml"


def with_recipes(args: list[str]) -> list[str]:
    """Replace the recipe name after `--config` by its file."""
    result, previous = [], ""
    for arg in args:
        if previous in ("--config", "-c"):
            arg = str(find_config(arg))
        elif arg.startswith("--config="):
            arg = f"--config={find_config(arg.removeprefix('--config='))}"
        result.append(arg)
        previous = arg
    return result


def with_config_of_checkpoint(args: list[str]) -> list[str]:
    """`ltl test --ckpt_path FILE` alone: take the config that the run saved beside the checkpoint."""
    checkpoint = value_of(args, "--ckpt_path")
    if checkpoint is None or checkpoint in ("registry", "null"):
        return args
    if not Path(checkpoint).is_file():
        raise LongTailError(f"--ckpt_path {checkpoint}: there is no such file.")
    if any(arg.split("=")[0] in ("--config", "-c", "--data", "--model") for arg in args):
        return args
    if (config := config_beside(checkpoint)) is not None:
        return [args[0], "--config", str(config), *args[1:]]
    raise LongTailError(
        f"No {CONFIG_FILE} beside {checkpoint}, so the data are unknown: add --config FILE or --data CLASS."
    )


def config_beside(checkpoint: str | Path) -> Path | None:
    """The config that a run saved: in the folder of its checkpoint, or, as `ltl fit` does, in the one above that."""
    folder = Path(checkpoint).resolve().parent
    folders = [folder, folder.parent] if folder.name == "checkpoints" else [folder]
    return next((file for place in folders if (file := place / CONFIG_FILE).is_file()), None)


def own_words(args: Sequence[str]) -> list[str]:
    """What the user says himself: the words of the command line, and the texts of the configs that they name.

    The name of the checkpoint is left out, as who made it may have chosen it.
    """
    words, texts = [], []
    for flag, word in zip(["", *args], args):
        name, equals, value = word.partition("=")
        if _abbreviates(flag) or (equals and _abbreviates(name)):
            continue
        words.append(word)
        if flag in ("--config", "-c") or (equals and name == "--config"):
            texts.append(find_config(value if equals else word).read_text("utf-8", "replace"))
    return [*words, *texts]


def _abbreviates(flag: str) -> bool:
    return len(flag) > len("--c") and "--ckpt_path".startswith(flag)


def with_checkpoint_last(args: list[str]) -> list[str]:
    """Put --ckpt_path last: a config that a run saved says `ckpt_path: null`, which would win over an earlier one."""
    path = value_of(args, "--ckpt_path")
    if path is None:
        return args
    place = next(i for i, arg in enumerate(args) if arg.partition("=")[0] == "--ckpt_path")
    width = 1 if "=" in args[place] else 2
    return [*args[:place], *args[place + width :], f"--ckpt_path={path}"]


def value_of(args: Sequence[str], *flags: str) -> str | None:
    """The value after the first of these flags."""
    for i, arg in enumerate(args):
        name, equals, value = arg.partition("=")
        if name in flags:
            return value if equals else (args[i + 1] if i + 1 < len(args) else None)
    return None


def flatten(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values, without the levels that class paths add."""
    if isinstance(value, dict):
        for key, item in value.items():
            skip = key in ("init_args", "dict_kwargs", "class_path")
            yield from flatten(prefix if skip and key != "class_path" else f"{prefix}.{key}", item)
    else:
        yield prefix, value


def plain_key(flag: str) -> str:
    """The dotted key of a flag, likewise."""
    parts = [
        part for part in flag.removeprefix("--").rstrip("+").split(".") if part not in ("init_args", "dict_kwargs")
    ]
    return ".".join(parts)
