"""`--ckpt_path last | best | hpc`: the file that is meant, found before Lightning would train from scratch."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._argv import value_of, with_checkpoint_last

WORDS = ("last", "best", "hpc")


def with_newest_checkpoint(args: list[str]) -> list[str]:
    """Replace `last` and `best` by that file of the newest run that has one, `hpc` by what SLURM made Lightning save.

    Args:
        args: the command line. A config in it restricts the search to runs of its name.
    """
    word = value_of(args, "--ckpt_path")
    if word not in WORDS:
        return args
    found = _newest(_of_slurm(args) if word == "hpc" else _of_runs(args, word))
    if found is None:
        where = f"hpc_ckpt_N.ckpt in {_root(args)}" if word == "hpc" else f"{word}.ckpt in {_runs(args)}"
        raise LongTailError(f"--ckpt_path {word}: there is no {where}; give the file of a checkpoint.")
    print(f"--ckpt_path {word} is {found}", file=sys.stderr)
    rest = with_checkpoint_last(args)[:-1]
    return [*rest, f"--ckpt_path={found}"]


def _of_runs(args: list[str], word: str) -> Iterable[Path]:
    names = "" if _config(args) else "*/"
    return _runs(args).glob(f"{names}version_*/checkpoints/{word}.ckpt")


def _runs(args: list[str]) -> Path:
    """Where `ltl fit` writes runs of this command line; those of all configs when none is given."""
    return _save_dir(args) / _config(args)


def _config(args: list[str]) -> str:
    config = value_of(args, "--config", "-c")
    return "" if config is None else Path(config).stem


def _save_dir(args: list[str]) -> Path:
    return Path(value_of(args, "--trainer.logger.save_dir", "--trainer.logger.init_args.save_dir") or "runs")


def _of_slurm(args: list[str]) -> Iterable[Path]:
    return _root(args).glob("hpc_ckpt_*.ckpt")


def _root(args: list[str]) -> Path:
    return Path(value_of(args, "--trainer.default_root_dir") or ".")


def _newest(files: Iterable[Path]) -> Path | None:
    # A run that goes on with an older one is the newer, though its files may be as old.
    return max(files, key=lambda file: (file.stat().st_mtime, _number(file)), default=None)


def _number(file: Path) -> int:
    return int((re.findall(r"(?:version_|hpc_ckpt_)(\d+)", str(file)) or ["0"])[-1])
