"""Composable long-tail components for PyTorch Lightning.

Everything is importable from here and loaded on first use, so that `import longtail_lightning`
costs nothing: `from longtail_lightning import LogitAdjustedLoss`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from longtail_lightning._errors import LongTailError as LongTailError
    from longtail_lightning.backbones import *  # noqa: F403
    from longtail_lightning.callbacks import *  # noqa: F403
    from longtail_lightning.counts import ClassCounts as ClassCounts
    from longtail_lightning.counts import ShotSplits as ShotSplits
    from longtail_lightning.curation import *  # noqa: F403
    from longtail_lightning.data import *  # noqa: F403
    from longtail_lightning.features import *  # noqa: F403
    from longtail_lightning.heads import *  # noqa: F403
    from longtail_lightning.losses import *  # noqa: F403
    from longtail_lightning.methods import *  # noqa: F403
    from longtail_lightning.metrics import *  # noqa: F403
    from longtail_lightning.modules import *  # noqa: F403
    from longtail_lightning.samplers import *  # noqa: F403
    from longtail_lightning.text import *  # noqa: F403

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    from longtail_lightning._rooms import ROOMS, module_of

    if name in ROOMS or name == "counts":
        return import_module(f"{__name__}.{name}")
    names = module_of()
    if name == "__all__":
        return [*ROOMS, *names]
    if name in names:
        return getattr(import_module(f"{__name__}.{names[name]}"), name)
    from longtail_lightning._errors import did_you_mean

    raise AttributeError(f"longtail_lightning has no {name!r}. {did_you_mean(name, names, listing='ltl list')}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__getattr__("__all__")])
