"""`ltl features`: one pass of a trained backbone over the data, kept in a folder."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from longtail_lightning._errors import LongTailError, did_you_mean

HELP = """\
usage: ltl features --ckpt_path FILE --out FOLDER [options]

Runs the backbone of a checkpoint over the data and writes FOLDER/train, FOLDER/val and FOLDER/test, each a
FeatureBank. Stopped, it continues with the same command. The data are those of the run, unless --data or
--config say others, as for `ltl test`.

  --out          folder of the banks
  --split        train, val, test or several with commas (default: all that the data have)
  --views        augmented views of each training image (default 1, not augmented)
  --dtype        float16 (default), float32 or float64
  --batch_size   images at a time (default: that of the data)
  --num_workers  processes that load images (default: that of the data)
  --precision    bf16 or 16 to run the backbone in (default 32)
  --device       cpu, cuda, cuda:1 ... (default: a GPU, if there is one)
  --overwrite    delete what is in FOLDER/train and so on

Several processes share the work: torchrun --nproc_per_node 4 -m longtail_lightning.cli.main features ...
"""
_OPTIONS = ("--out", "--split", "--views", "--dtype", "--batch_size", "--num_workers", "--precision", "--device")
_NUMBERS = ("--views", "--batch_size", "--num_workers")
_SPLITS: tuple[Literal["train", "val", "test"], ...] = ("train", "val", "test")


def features(args: list[str]) -> int:
    """Write one bank per split."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    options, overwrite, rest = _parse(args)
    from longtail_lightning.cli._argv import value_of

    for flag, path in (("--out", options.get("--out")), ("--ckpt_path", value_of(rest, "--ckpt_path"))):
        if path is None:
            raise LongTailError(f"`ltl features` needs {flag}: ltl features --ckpt_path FILE --out FOLDER")
    with _process_group():
        return _extract(args, options, overwrite, rest)


def _extract(args: list[str], options: dict[str, str], overwrite: bool, rest: list[str]) -> int:
    import torch
    import torch.distributed as dist

    from longtail_lightning.cli.app import load_trained
    from longtail_lightning.features._source import source_of
    from longtail_lightning.features.extract import extract
    from longtail_lightning.features.extraction import Extraction

    dtypes = {"float16": torch.float16, "float32": torch.float32, "float64": torch.float64}
    if (name := options.get("--dtype", "float16")) not in dtypes:
        raise LongTailError(f"--dtype {name}: choose one of {', '.join(dtypes)}.")
    given = options.get("--split")
    if wrong := [name for name in (given or "").split(",") if given and name not in _SPLITS]:
        raise LongTailError(f"--split {wrong[0]}: there is no such split. {did_you_mean(wrong[0], _SPLITS)}")
    model, data = load_trained(rest)
    backbone = getattr(model, "backbone", None)
    if not isinstance(backbone, torch.nn.Module):
        raise LongTailError(
            f"{type(model).__name__} has no `backbone`, so there is nothing to extract features with: "
            "call the part that gives features self.backbone."
        )
    splits = [split for split in _SPLITS if (split in given.split(",") if given else data.dataset(split) is not None)]
    numbers = {flag: int(value) for flag, value in options.items() if flag in _NUMBERS}
    first = not dist.is_initialized() or dist.get_rank() == 0
    continued = [arg for arg in args if arg != "--overwrite"]
    for split in splits:
        views = numbers.get("--views", 1) if split == "train" else 1
        folder = Path(options["--out"]) / split
        try:
            bank = extract(
                backbone,
                source_of(data, split),
                folder,
                Extraction(
                    views=views,
                    dtype=dtypes[name],
                    batch_size=numbers.get("--batch_size"),
                    num_workers=numbers.get("--num_workers"),
                    device=options.get("--device", "auto"),
                    precision=options.get("--precision"),
                    overwrite=overwrite,
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


def _parse(args: list[str]) -> tuple[dict[str, str], bool, list[str]]:
    """Own options, whether to overwrite, and what says which model and data."""
    options: dict[str, str] = {}
    overwrite, rest = False, []
    words = [part for arg in args for part in (arg.split("=", 1) if arg.split("=")[0] in _OPTIONS else [arg])]
    while words:
        word = words.pop(0)
        if word == "--overwrite":
            overwrite = True
        elif word in _OPTIONS:
            if not words or words[0].startswith("--"):
                raise LongTailError(f"{word} needs a value.")
            options[word] = words.pop(0)
        else:
            rest.append(word)
    for flag in _NUMBERS:
        if flag in options and not options[flag].isdigit():
            raise LongTailError(f"{flag} is a number, got {options[flag]!r}.")
    return options, overwrite, rest


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
