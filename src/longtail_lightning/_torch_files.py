"""Files of torch and of safetensors: written whole, and read without running code from them."""

from __future__ import annotations

from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import IO, Any

import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import replace_file
from longtail_lightning._plain_tree import require_tree
from longtail_lightning._torch_checksum import check_checksum, check_members, write_with_checksum


def write_torch_file(path: str | Path, value: Any) -> Path:
    """Write what `torch.save` writes, as a whole, with a checksum inside.

    Args:
        path: the file.
        value: tensors and plain values.
    """
    return replace_file(path, lambda file: write_with_checksum(file, partial(torch.save, value)))


def read_torch_file(path: str | Path, *, verify: bool = False) -> Any:
    """Tensors and plain values of a file that `torch.save` or safetensors has written.

    Args:
        path: the file.
        verify: compare the whole file with its checksum, if it has one; parts of it are compared always.
    """
    path = Path(path)
    if not path.is_file():
        raise LongTailError(f"{path}: there is no such file.")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    return load_torch_file(path, map_location="cpu", verify=verify)


def load_torch_file(path: str | Path, *, map_location: Any, weights_only: bool = True, verify: bool = False) -> Any:
    """What `torch.load` gives, of a file whose parts are as they were written.

    Args:
        path: the file.
        map_location: where tensors go.
        weights_only: run no code of the file.
        verify: compare the whole file with its checksum, if it has one.
    """
    with open(path, "rb") as file:
        check_members(file)
        if verify:
            check_checksum(file)
        file.seek(0)
        if not weights_only:
            return torch.load(file, map_location=map_location, weights_only=False)
        try:
            # Many public checkpoints hold the settings of their training script as a Namespace, which runs no code.
            with torch.serialization.safe_globals([Namespace]):
                value = torch.load(file, map_location=map_location, weights_only=True)
        except Exception as error:  # what torch raises depends on what the file holds
            raise _refusal(path, file) from error
    require_tree(value, path)
    return value


def _refusal(path: str | Path, file: IO[bytes]) -> LongTailError:
    """Why torch has refused a file."""
    foreign = sorted(_foreign_classes(file), key=lambda name: (name.startswith("builtins."), name))
    if any(name.startswith("torch.nn.modules.") for name in foreign):
        return LongTailError(
            f"{path} holds a whole module, which can only be read by running code from the file: save its "
            "weights instead, torch.save(module.state_dict(), path)."
        )
    if foreign:
        return LongTailError(
            f"{path} holds a {foreign[0]}, and only tensors and plain values are read, as others can run code: "
            "leave it out of the checkpoint with save_hyperparameters(ignore=[...]), or keep it as text."
        )
    return LongTailError(f"{path} is not a checkpoint, or is damaged: give another file.")


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise LongTailError(f"{path} is not a safetensors file, or is damaged: give another file.") from error


def _foreign_classes(file: IO[bytes]) -> list[str]:
    file.seek(0)
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(file)
    except Exception:  # not a torch file
        return []
