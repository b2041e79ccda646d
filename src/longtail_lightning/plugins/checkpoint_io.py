"""Checkpoints that are whole or not there, and that run no code when they are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from longtail_lightning._torch_files import load_torch_file, write_torch_file


class WholeCheckpointIO(TorchCheckpointIO):
    """Write each checkpoint beside its place, wait until it is on the disk, and rename it.

    **What it changes.** A kill or a full disk leaves the checkpoint before or the new one, on any file system.
    Lightning's own writer copies from the temporary folder where that is another file system, and a kill in
    between leaves half a file. Each file also carries a checksum, which `ltl verify` and
    `load(path, verify=True)` compare; torch, Lightning and others read it as ever. Reading runs no code from the
    file, unless `weights_only=False` is passed.

    `ltl` uses it. So does any trainer that gets it as a plug-in. Addresses such as `s3://...` are written and read
    by Lightning, and strategies that write their state in shards do that themselves.

    **When it helps, when it hurts.** Always; the checksum costs about a second for two gigabytes.

    Examples:
        >>> import lightning as L
        >>> from longtail_lightning.plugins import WholeCheckpointIO
        >>> trainer = L.Trainer(plugins=[WholeCheckpointIO()], logger=False)
    """

    def __init__(self) -> None:
        super().__init__()
        self._addresses: set[str] = set()  # that were written

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        if storage_options is not None or _is_address(path):
            self._addresses.add(str(path))
            super().save_checkpoint(checkpoint, path, storage_options)
        else:
            write_torch_file(path, checkpoint)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Callable[..., Any] | None = lambda storage, _: storage,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        weights_only = weights_only is not False
        if _is_address(path) or not Path(path).is_file():
            return super().load_checkpoint(path, map_location, weights_only)
        loaded: dict[str, Any] = load_torch_file(path, map_location=map_location, weights_only=weights_only)
        _resolve_paths(loaded)
        return loaded

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a file that a `ModelCheckpoint` no longer keeps; never a folder, nor an address that it did not write.

        Args:
            path: the file. In a resumed run, the checkpoint that it resumes may have brought it.
        """
        if str(path) in self._addresses if _is_address(path) else Path(path).is_file():
            super().remove_checkpoint(path)


def _resolve_paths(checkpoint: Any) -> None:
    """Write the paths of callbacks without `..`.

    A resumed `ModelCheckpoint` removes files that its state names, if their path begins with its folder. One that
    goes on with `..` leads elsewhere.
    """
    states = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    for state in states.values() if isinstance(states, dict) else ():
        if not isinstance(state, dict):
            continue
        for key, value in state.items():
            if isinstance(value, str) and str(key).endswith("_path"):
                state[key] = _resolved(value)
        if isinstance(kept := state.get("best_k_models"), dict):
            state["best_k_models"] = {_resolved(path): score for path, score in kept.items()}


def _resolved(path: str) -> str:
    return os.path.normpath(path) if path and not _is_address(path) else path


def _is_address(path: str | Path) -> bool:
    return "://" in str(path)
