"""What a checkpoint tells the command line, read without running code from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._argv import value_of
from longtail_lightning.modules._checkpoint import KEY


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: tensors and plain values."""
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what torch raises depends on what the file holds
        if foreign := _foreign_class(path):
            raise LongTailError(
                f"{path} holds a {foreign}, and the command line reads plain values only, as others can run code: "
                "leave it out of the checkpoint with save_hyperparameters(ignore=[...]), or keep it as text."
            ) from error
        raise LongTailError(f"{path} is no checkpoint, or a damaged one: give another --ckpt_path.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise LongTailError(f"{path} is no checkpoint of Lightning: give another --ckpt_path.")
    return checkpoint


def _foreign_class(path: str | Path) -> str | None:
    """The first class in a file that `weights_only=True` does not admit."""
    try:
        return next(iter(torch.serialization.get_unsafe_globals_in_checkpoint(path)), None)
    except Exception:  # no file of torch at all
        return None


@dataclass(frozen=True)
class Saved:
    """What a checkpoint says about its model.

    Args:
        class_path: its class; None when it was made in Python, which does not tell.
        hparams: its arguments, without the class counts.
        describes_parts: whether a `BaseClassifier` can be built from it with nothing passed.
        class_counts: of its classes, as far as it says.
        class_names: of its classes, likewise.
    """

    class_path: str | None
    hparams: dict[str, Any]
    describes_parts: bool
    class_counts: list[int] | None
    class_names: list[str] | None

    @classmethod
    def of(cls, path: str | Path) -> Saved:
        """Read it from a file."""
        checkpoint = read_checkpoint(path)
        hparams = dict(checkpoint.get("hyper_parameters", {}))
        card = checkpoint.get("longtail_lightning", {}).get("card", {})
        hparams.pop("_instantiator", None)
        class_path, counts = hparams.pop("_class_path", None), hparams.pop("class_counts", None)
        return cls(class_path, hparams, KEY in checkpoint, card.get("class_counts", counts), card.get("class_names"))


def with_model_of_checkpoint(args: list[str]) -> list[str]:
    """`ltl test --ckpt_path FILE --data CLASS`: take the model's class from the checkpoint."""
    path = value_of(args, "--ckpt_path")
    told = any(arg.split("=")[0] in ("--config", "-c", "--model") for arg in args)
    if args[0] == "fit" or told or path is None or not Path(path).is_file():
        return args
    saved = Saved.of(path)
    default = "longtail_lightning.BaseClassifier" if saved.describes_parts else None
    model = saved.class_path or default
    return args if model is None else [*args, f"--model={model}"]
