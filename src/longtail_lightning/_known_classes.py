"""Which classes a file may name: those of this package, and of modules that are imported already."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from types import FunctionType
from typing import Any, get_type_hints

from longtail_lightning._errors import LongTailError

PACKAGE = "longtail_lightning"


class UnknownClassError(LongTailError):
    """A file names a class that it may not name.

    Args:
        class_path: what it names.
    """

    def __init__(self, class_path: Any = None) -> None:
        self.class_path = class_path
        module = str(class_path).rpartition(".")[0]
        super().__init__(
            f"The checkpoint or the config beside it names {class_path}, which is no class of this library or of "
            f"modules that you have imported: if it is yours, import {module} first, on the command line with "
            f"--import {module}."
        )


def class_named(path: Any) -> type | None:
    """The class at a dotted path, without running code of any module that nobody has imported.

    Args:
        path: what a file says, of any type.

    Returns:
        The class; None when there is none, or when its module would have to be imported first.

    Examples:
        >>> class_named("longtail_lightning.losses.FocalLoss").__name__
        'FocalLoss'
        >>> class_named("antigravity.Fly") is class_named("os.system") is None
        True
    """
    module, _, name = path.rpartition(".") if isinstance(path, str) else ("", "", "")
    if module.partition(".")[0] == PACKAGE:
        with suppress(ImportError, RecursionError):  # a path of ten thousand names
            import_module(module)
    found = getattr(sys.modules.get(module), name, None)
    return found if isinstance(found, type) else None


def require_known(path: str, kinds: tuple[type, ...], named: Sequence[str] = ()) -> None:
    """Refuse an import path from a file, unless it leads to what may be built.

    Args:
        path: the import path.
        kinds: bases of the classes that may be built. Classes of this package may be, too.
        named: texts of the user's own. What is named in them is the user's decision.
    """
    word = re.compile(rf"(?<![\w.]){re.escape(path)}(?![\w.])")
    if not _may_be_built(path, kinds) and not any(map(word.search, named)):
        raise UnknownClassError(path)


def _may_be_built(path: str, kinds: tuple[type, ...]) -> bool:
    if (cls := class_named(path)) is not None:
        return cls.__module__.partition(".")[0] == PACKAGE or issubclass(cls, kinds)
    module, _, name = path.rpartition(".")
    made_by = getattr(sys.modules.get(module), name, None)
    if module.partition(".")[0] != PACKAGE or not isinstance(made_by, FunctionType):
        return False
    made = get_type_hints(made_by).get("return")  # of this package's functions, those that make such a thing
    return isinstance(made, type) and issubclass(made, kinds)
