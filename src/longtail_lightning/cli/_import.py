"""`--import MODULE`: the user's own modules, of which a checkpoint may hold classes."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from longtail_lightning._errors import LongTailError

FLAG = "--import"


def with_imports(args: Sequence[str]) -> list[str]:
    """Import each MODULE of `--import MODULE`, and give the command line without them."""
    rest: list[str] = []
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name != FLAG:
            rest.append(word)
            continue
        _import(value if equals else next(words, ""))
    return rest


def _import(name: str) -> None:
    if not name or name.startswith("-"):
        raise LongTailError(f"{FLAG} needs the name of a module of yours, as in {FLAG} my_project.nets.")
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, and what it imports is not
        raise LongTailError(
            f"{FLAG} {name}: there is no such module; install it, or add the folder that holds it to PYTHONPATH."
        ) from error
