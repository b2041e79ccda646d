"""The data that `ltl data` looks at: a folder, a list, a table, or what `--data` and `--config` describe."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError

_OPTIONS = ("root", "val", "test", "path_column", "label_column", "split_column")


def data_of(asked: Namespace, command: str) -> Any:
    """The data module that a command was given."""
    options = {name: value for name in _OPTIONS if (value := getattr(asked, name)) is not None}
    if (asked.source is None) == (not asked.components):
        raise LongTailError(f"`ltl data {command}` takes one folder, list or table, or --data; see --help.")
    if asked.source is not None:
        return source_of_path(Path(asked.source).expanduser(), options)
    if options:
        raise LongTailError(f"--{next(iter(options))} is for a list or a table: write --data.OPTION with --data.")
    from longtail_lightning.cli.instantiate import instantiate_data

    return instantiate_data(asked.components)


def source_of_path(path: Path, options: dict[str, str]) -> Any:
    """The data module that reads a folder, a list or a table.

    Args:
        path: what to read.
        options: `root`, `val`, `test`, `path_column`, `label_column`, `split_column`, as far as given.
    """
    from longtail_lightning.data import CSVLT, ImageFolderLT, ImageListLT, ShardsLT
    from longtail_lightning.datasets.read_text import suffix_of
    from longtail_lightning.datasets.shard_manifest import MANIFEST

    if not path.exists():
        raise LongTailError(f"{path}: there is no such folder, list or table.")
    columns: dict[str, Any] = {
        name: int(value) if value.isdigit() else value for name, value in options.items() if "column" in name
    }
    files: dict[str, Any] = {name: value for name, value in options.items() if name in ("val", "test")}
    if path.is_dir():
        if "root" in options or columns:
            raise LongTailError(f"{path} is a folder: --root and columns are for lists and tables.")
        if (path / MANIFEST).exists():
            return ShardsLT(path)
        return ImageFolderLT(path, **files)
    root = Path(options["root"]).expanduser() if "root" in options else None
    if suffix_of(path) in (".csv", ".tsv", ".parquet", ".pq"):
        return CSVLT(path, root=root, **{f"{name}_file": value for name, value in files.items()}, **columns)
    if columns:
        raise LongTailError(f"{path} is a list of `path label`: columns are for .csv, .tsv and .parquet.")
    if root is None:
        root = _root_of_list(path)
    return ImageListLT(root, path, files.get("val"), files.get("test"))


def _root_of_list(path: Path) -> Path:
    """Where its paths start when nobody says: here or beside the list, whichever has the first file."""
    from longtail_lightning.datasets.read_image_list import read_image_list

    first = read_image_list(path)[0][0]
    return Path() if Path(first).exists() or not (path.parent / first).exists() else path.parent
