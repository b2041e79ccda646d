"""`ltl features`: one pass of a backbone over the data, kept in a folder."""

from __future__ import annotations

import os
import shlex
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from longtail_lightning._errors import LongTailError

if TYPE_CHECKING:
    from torch import nn

    from longtail_lightning.data import LongTailDataModule

_SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def features(asked: Namespace) -> int:
    """Write one bank per split."""
    if (asked.ckpt_path is None) == (asked.encoder is None):
        raise LongTailError("`ltl features` needs --ckpt_path FILE or --encoder NAME: give one of the two.")
    if asked.weights is not None and asked.encoder is None:
        raise LongTailError("--weights are those of an --encoder; a checkpoint has its own.")
    if asked.encoder is not None and not asked.components:
        raise LongTailError("An --encoder knows no data: add --data CLASS, or --config FILE_OR_RECIPE.")
    with _process_group():
        return _extract(asked)


def _encoder(asked: Namespace) -> tuple[nn.Module, LongTailDataModule]:
    """The encoder that gives the features, and the data to run it on."""
    from torch import nn

    from longtail_lightning.cli.instantiate import instantiate_data, load_trained

    if asked.encoder is None:
        model, data = load_trained(asked.ckpt_path, asked.components)
        backbone = getattr(model, "backbone", None)
        if not isinstance(backbone, nn.Module):
            raise LongTailError(
                f"{type(model).__name__} has no `backbone`, so there is nothing to extract features with: "
                "call the part that gives features self.backbone."
            )
        return backbone, data
    from longtail_lightning._distributed import on_rank_zero
    from longtail_lightning.backbones import create_backbone, load_weights

    if asked.weights is None:
        return _with_downloaded_weights(asked.encoder), instantiate_data(asked.components)
    encoder = create_backbone(asked.encoder)
    loaded = load_weights(encoder, asked.weights)
    on_rank_zero(lambda: print(loaded.summary()))
    return encoder, instantiate_data(asked.components)


def _with_downloaded_weights(name: str) -> nn.Module:
    from longtail_lightning.backbones import TimmBackbone, TorchvisionBackbone, create_backbone

    if not isinstance(create_backbone(name), (TimmBackbone, TorchvisionBackbone)):
        raise LongTailError(f"There are no weights of {name} to download: give a file of them, --weights PATH.")
    try:
        return create_backbone(name, pretrained=True)
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, LongTailError):
            raise
        reason = str(error).splitlines()[0]
        raise LongTailError(
            f"The weights of {name} were not downloaded ({reason}): give a file of them, --weights PATH."
        ) from error


def _extract(asked: Namespace) -> int:
    import torch

    from longtail_lightning._distributed import rank_and_world_size
    from longtail_lightning.features._source import source_of
    from longtail_lightning.features.extract import extract
    from longtail_lightning.features.extraction import Extraction

    backbone, data = _encoder(asked)
    splits = [split for split in _SPLITS if split in (asked.split or _SPLITS)]
    if asked.split is None:
        splits = [split for split in splits if data.dataset(split) is not None]
    continued = [word for word in asked.words if word != "--overwrite"]
    first = rank_and_world_size()[0] == 0
    for split in splits:
        views = asked.views if split == "train" else 1
        folder = Path(asked.out) / split
        try:
            bank = extract(
                backbone,
                source_of(data, split),
                folder,
                Extraction(
                    views=views,
                    dtype=getattr(torch, asked.dtype),
                    batch_size=asked.batch_size,
                    num_workers=asked.num_workers,
                    device=asked.device,
                    precision=asked.precision,
                    overwrite=asked.overwrite,
                ),
                resume=f"`ltl features {shlex.join(continued)}`",
                instead="give another --out, or --overwrite",
            )
        except KeyboardInterrupt as interrupt:
            if first:
                print(f"\n{interrupt}", file=sys.stderr)
            return 130
        if first:
            print(f"{folder}  {bank}")
    return 0


@contextmanager
def _process_group() -> Iterator[None]:
    """Under torchrun, let the processes find each other."""
    import torch
    import torch.distributed as dist

    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
