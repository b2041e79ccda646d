"""Files of torch and of safetensors, read without running code from them."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from longtail_lightning._errors import LongTailError


def read_torch_file(path: str | Path) -> Any:
    """Tensors and plain values of a file that `torch.save` or safetensors has written.

    Args:
        path: the file.
    """
    path = Path(path)
    if not path.is_file():
        raise LongTailError(f"{path}: there is no such file.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        # Many public checkpoints hold the settings of their training script as a Namespace, which runs no code.
        with torch.serialization.safe_globals([Namespace]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what torch raises depends on what the file holds
        if foreign := _foreign_classes(path):
            if any(name.startswith("torch.nn.modules.") for name in foreign):
                raise LongTailError(
                    f"{path} holds a whole module, which can only be read by running code from the file: save its "
                    "weights instead, torch.save(module.state_dict(), path)."
                ) from error
            raise LongTailError(
                f"{path} holds a {foreign[0]}, and only tensors and plain values are read, as others can run code: "
                "leave it out of the checkpoint with save_hyperparameters(ignore=[...]), or keep it as text."
            ) from error
        raise LongTailError(f"{path} is not a checkpoint, or is damaged: give another file.") from error


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise LongTailError(f"{path} is not a safetensors file, or is damaged: give another file.") from error


def _foreign_classes(path: Path) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # not a torch file
        return []
