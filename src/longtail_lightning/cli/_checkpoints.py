"""Checkpoints, read without running code from them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from longtail_lightning._errors import LongTailError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds: tensors and plain values."""
    try:
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # what torch raises depends on what the file holds
        if foreign := re.search(r"GLOBAL (\S+)", str(error)):
            raise LongTailError(
                f"{path} holds a {foreign[1]}, and the command line reads plain values only, as others can run code: "
                "leave it out of the checkpoint with save_hyperparameters(ignore=[...]), or keep it as text."
            ) from error
        raise LongTailError(f"{path} is no checkpoint, or a damaged one: give another --ckpt_path.") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise LongTailError(f"{path} is no checkpoint of Lightning: give another --ckpt_path.")
    return checkpoint
