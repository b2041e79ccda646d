"""What a checkpoint tells the command line about its model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from longtail_lightning._known_classes import class_named, require_known
from longtail_lightning._lightning import HYPER_PARAMETERS
from longtail_lightning._spec import without_starts
from longtail_lightning.cli._argv import value_of
from longtail_lightning.modules._checkpoint import read_checkpoint
from longtail_lightning.modules._description import KEY, PARTS, require_description

# Arguments of the modules here that say where a new run starts, most of them files.
STARTS = frozenset({"pretrained", "weights", "checkpoint", "encoder", "teachers", "cache"})


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says about its model.

    Args:
        class_path: its class, if it says.
        hparams: its arguments, without the class counts; None when it was made in Python, which does not tell all.
        class_counts: training images of each of its classes, if it says.
        class_names: names of its classes, likewise.
    """

    class_path: str | None
    hparams: dict[str, Any] | None
    class_counts: list[int] | None
    class_names: list[str] | None

    @classmethod
    def of(cls, path: str | Path) -> Saved:
        """Read it from a file."""
        checkpoint = read_checkpoint(path)
        require_description(checkpoint, path)
        described, hparams = checkpoint.get(KEY, {}), dict(checkpoint.get(HYPER_PARAMETERS, {}))
        card = described.get("card", {})
        hparams.pop("_instantiator", None)
        class_path, counts = hparams.pop("_class_path", None), hparams.pop("class_counts", None)
        module = class_named(class_path or described.get("class_path"))
        for name in getattr(module, "outside", ()):
            hparams.pop(name, None)
        # Files that its settings name are not opened: anybody may have written them.
        empty = getattr(module, "start_only", {})
        hparams.update({name: value for name, value in empty.items() if name in hparams})
        for name in STARTS - empty.keys():  # of a class that is not imported yet
            hparams.pop(name, None)
        return cls(
            class_path or described.get("class_path"),
            without_starts(hparams) if class_path is not None else None,
            card.get("class_counts", counts),
            card.get("class_names"),
        )

    def hparams_of(self, run: str) -> dict[str, Any]:
        """The arguments for a run; one that goes on takes what it needs again from its config.

        Args:
            run: `"fit"`, `"validate"`, `"test"` or `"predict"`.
        """
        again = getattr(class_named(self.class_path), "needed_to_resume", ()) if run == "fit" else ()
        return {name: value for name, value in (self.hparams or {}).items() if name not in again}

    def require_known_class(self, named: Sequence[str] = ()) -> None:
        """Refuse to import a class because a checkpoint says so.

        Args:
            named: texts of the user's own, which may name it.
        """
        require_known(str(self.class_path), PARTS, named)


def with_model_of_checkpoint(args: list[str]) -> list[str]:
    """`ltl test --ckpt_path FILE --data CLASS`: take the model's class from the checkpoint."""
    path = value_of(args, "--ckpt_path")
    told = any(arg.split("=")[0] in ("--config", "-c", "--model") for arg in args)
    if args[0] == "fit" or told or path is None or not Path(path).is_file():
        return args
    saved = Saved.of(path)
    if saved.class_path is None:
        return args
    saved.require_known_class()
    return [*args, f"--model={saved.class_path}"]
