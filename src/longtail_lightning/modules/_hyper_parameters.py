"""Which arguments of a module are no hyper-parameters."""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from longtail_lightning._lightning import from_command_line
from longtail_lightning._spec import plain_items


def not_plain(module: nn.Module) -> list[str]:
    """Names of arguments that are modules, callables and the like; none in the CLI, where the config is plain.

    Args:
        module: from whose `__init__` this is called; the arguments of its children's are meant, too.
    """
    if from_command_line():
        return []
    found: dict[str, Any] = {}
    frame = inspect.currentframe()
    while (frame := frame.f_back if frame else None) is not None and frame.f_locals.get("self") is module:
        found = {**frame.f_locals, **found}
    return sorted(found.keys() - plain_items(found).keys())
