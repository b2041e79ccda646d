"""`ltl data check` and `ltl data prepare`: what is done to images before training."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli._argv import options_of, value_of

HELP = """\
usage: ltl data COMMAND ...

  check      find what is wrong with images and labels   ltl data check FOLDER
  prepare    copy images into a few large files          ltl data prepare FOLDER --out SHARDS

`ltl data COMMAND --help` tells more.
"""

CHECK_HELP = """\
usage: ltl data check FOLDER
       ltl data check LIST.txt [--root FOLDER] [--val LIST.txt] [--test LIST.txt]
       ltl data check TABLE.csv [--root FOLDER] [--path_column NAME] [--label_column NAME]
                                [--split_column NAME] [--val TABLE.csv] [--test TABLE.csv]
       ltl data check --data CLASS [--data.OPTION VALUE ...]
       ltl data check --config FILE_OR_RECIPE

Reads and decodes every image once: files that are missing, empty, damaged or no images, labels with gaps,
images that occur twice, under two labels, or in training and evaluation. Changes nothing. The exit status
is 0 when all is well and 1 when something was found.

  --num_workers  processes that read (default: one per core)
  --pixels       compare decoded pixels, not files: finds copies that were saved again without loss
  --out          the report (default data_check.json)
  --fix list     write the good images to train_clean.txt, ..., for ImageListLT; or --fix FILE.txt
  --json         print the report to stdout instead of tables
"""

PREPARE_HELP = """\
usage: ltl data prepare FOLDER --out SHARDS [--resize PIXELS]
       ltl data prepare LIST.txt --out SHARDS [--root FOLDER] [--val LIST.txt] [--test LIST.txt]
       ltl data prepare TABLE.csv --out SHARDS [--root FOLDER] [--path_column NAME] [--label_column NAME]
                                  [--split_column NAME] [--val TABLE.csv] [--test TABLE.csv]
       ltl data prepare --data CLASS [--data.OPTION VALUE ...] --out SHARDS

Copies the images into a few large Arrow files, from which `--data ShardsLT --data.root SHARDS` trains with
the same result. Worth it on network drives and for millions of files; with --resize also on a local disk.
When it is interrupted, the same command continues.

  --out          a new folder
  --resize       length of the shorter side to which larger images are reduced, for example 256
  --quality      of the JPEGs that this makes (default 95)
  --shard_size   megabytes per file (default 500)
  --num_workers  processes that read (default: one per core)
"""

_FIT = "ltl fit --model BaseClassifier --model.backbone resnet50"
_LARGE = 200  # images from which starting processes pays


def data(args: list[str]) -> int:
    """`ltl data COMMAND`."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if args[0] not in _COMMANDS:
        raise LongTailError(f"There is no command `ltl data {args[0]}`. {did_you_mean(args[0], _COMMANDS)}")
    return _COMMANDS[args[0]](args[1:])


def check(args: list[str]) -> int:
    """`ltl data check`."""
    if not args or args[0] in ("-h", "--help"):
        print(CHECK_HELP, end="")
        return 0
    values = {"--num_workers": "", "--out": "data_check.json", "--fix": ""}
    given, switches, rest = options_of(args, {**values, **_SOURCE_OPTIONS}, _SWITCHES)
    num_workers = _whole_number("--num_workers", given["--num_workers"])

    from longtail_lightning.curation._splits import splits_of
    from longtail_lightning.curation.check import check_splits
    from longtail_lightning.curation.clean_lists import list_files, refuse_existing, write_lists
    from longtail_lightning.curation.data_report import is_report

    out = Path(given["--out"])
    if out.exists() and not is_report(out):
        raise LongTailError(f"--out {out}: the file exists and is no report of `ltl data check`, give another name.")
    found = splits_of(_source(given, rest, "check", [*values, *_SWITCHES]))
    lists = list_files(given["--fix"], found) if given["--fix"] else {}
    refuse_existing(list(lists.values()))
    total = sum(len(part.labels) for part in found.parts)
    with _progress_bar("Reading", total, quiet="--json" in switches) as progress:
        report = check_splits(
            found,
            num_workers=_workers(num_workers, total),
            pixels="--pixels" in switches,
            progress=progress,
        )
    report.save(out)
    written = write_lists(found, report, lists) if lists and not report.stopped else {}
    if "--json" in switches:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        _print_report(report, out)
        if written:
            _print_lists(found, lists, written)
    if report.stopped == "interrupted":
        return 130
    if report.stopped:
        raise LongTailError(report.stopped)
    return 0 if report.clean else 1


def prepare(args: list[str]) -> int:
    """`ltl data prepare`."""
    if not args or args[0] in ("-h", "--help"):
        print(PREPARE_HELP, end="")
        return 0
    values = {"--out": "", "--resize": "", "--quality": "95", "--shard_size": "500", "--num_workers": ""}
    given, _, rest = options_of(args, {**values, **_SOURCE_OPTIONS})
    if not given["--out"]:
        raise LongTailError("`ltl data prepare` needs a folder to write to: --out FOLDER.")
    numbers = {flag: _whole_number(flag, given[flag]) for flag in values if flag != "--out"}

    from longtail_lightning.curation.prepare import prepare_shards

    source = _source(given, rest, "prepare", list(values))
    try:
        with _progress_bar("Copying", 0, quiet=False) as progress:
            written = prepare_shards(
                source,
                given["--out"],
                shard_size=numbers["--shard_size"] or 0,
                resize=numbers["--resize"],
                quality=numbers["--quality"] or 0,
                num_workers=_workers(numbers["--num_workers"], _LARGE),
                progress=progress,
            )
    except KeyboardInterrupt:
        print(f"\nStopped; the same command continues {given['--out']}.", file=sys.stderr)
        return 130
    folder = Path(given["--out"]).expanduser()
    files = list(folder.glob("*.arrow"))
    size = sum(file.stat().st_size for file in files)
    for split, images in written.items():
        print(f"{split:7} {images:,} images")
    print(f"{folder}: {len(files)} files, {size / 1e6:,.1f} MB")
    print(f"train   {_FIT} --data ShardsLT --data.root {shlex.quote(str(folder))}")
    return 0


_COMMANDS = {"check": check, "prepare": prepare}
_SWITCHES = ("--pixels", "--json")
_SOURCE_OPTIONS = {
    "--root": "", "--val": "", "--test": "", "--path_column": "", "--label_column": "", "--split_column": "",
}  # fmt: skip


def _source(given: dict[str, str], rest: Sequence[str], command: str, own: Sequence[str]) -> Any:
    """The data module of a folder, a list, a table, or of `--data` and `--config`."""
    wanted = {flag.removeprefix("--"): given[flag] for flag in _SOURCE_OPTIONS if given[flag]}
    if unknown := [word.partition("=")[0] for word in rest if word.startswith("-")]:
        if value_of(rest, "--data", "--config", "-c") is None:
            options = [*own, *_SOURCE_OPTIONS, "--data", "--config"]
            raise LongTailError(f"`ltl data {command}` has no option {unknown[0]}. {did_you_mean(unknown[0], options)}")
        if wanted:
            raise LongTailError(f"--{next(iter(wanted))} is for a list or a table: write --data.OPTION with --data.")
        from longtail_lightning.cli.app import instantiate_data

        return instantiate_data(list(rest))
    if len(rest) != 1:
        raise LongTailError(f"`ltl data {command}` takes one folder, list or table, or --data; see --help.")
    return source_of_path(Path(rest[0]).expanduser(), wanted)


def source_of_path(path: Path, options: dict[str, str]) -> Any:
    """The data module that reads a folder, a list or a table.

    Args:
        path: what to read.
        options: `root`, `val`, `test`, `path_column`, `label_column`, `split_column`, as far as given.
    """
    from longtail_lightning.data import CSVLT, ImageFolderLT, ImageListLT, ShardsLT
    from longtail_lightning.datasets.image_shards import MANIFEST
    from longtail_lightning.datasets.read_text import suffix_of

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


def _whole_number(flag: str, value: str) -> int | None:
    if value and not value.isdigit():
        raise LongTailError(f"{flag} {value}: a whole number is expected.")
    return int(value) if value else None


def _workers(wanted: int | None, total: int) -> int:
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if total >= _LARGE else 0


@contextmanager
def _progress_bar(title: str, total: int, *, quiet: bool) -> Iterator[Any]:
    """A function that shows how many of all images are done; on stderr, and only for a person."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            return Text(f"{task.finished_speed or task.speed or 0:,.0f} images/s")

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Speed(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _print_report(report: Any, out: Path) -> None:
    from rich.console import Console

    from longtail_lightning.counts import ClassCounts
    from longtail_lightning.curation.data_report import FAULTS, NOTES
    from longtail_lightning.datasets.read_text import shown
    from longtail_lightning.report.tables import print_class_counts

    console = Console()
    if report.class_counts:
        print_class_counts(ClassCounts(report.class_counts), [shown(name) for name in report.class_names])
    images = ", ".join(f"{count:,} {split}" for split, count in report.images.items())
    rate = report.read / max(report.seconds, 1e-9)
    console.print(
        f"\nRead {report.read:,} images ({images}) in {report.seconds:.1f} s, {rate:,.0f} images/s.", highlight=False
    )
    if report.notes:
        _print_found(console, "No faults, but worth knowing", NOTES, report.notes)
    if report.faults:
        _print_found(console, f"{len(report.faults):,} faults", FAULTS, report.faults)
    elif not report.stopped:
        console.print("Nothing is wrong.")
    if report.stopped:
        console.print(f"Not all images were read: {report.stopped}.".replace("..", "."), highlight=False)
    console.print(f"report      {out}", highlight=False, markup=False)


def _print_found(console: Any, title: str, kinds: Any, found: Sequence[Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    from longtail_lightning.datasets.read_text import shown

    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("the first", overflow="fold")
    table.add_column("what to do" if title[0].isdigit() else "what happens")
    for kind, (name, advice) in kinds.items():
        group = [fault for fault in found if fault.kind == kind]
        if group:
            first = [
                f"{shown(fault.where)}{f' ({shown(fault.detail)})' if fault.detail else ''}" for fault in group[:3]
            ]
            table.add_row(name, f"{len(group):,}", Text("\n".join(first)), advice)
    console.print(table)


def _print_lists(found: Any, lists: dict[str, Path], written: dict[str, int]) -> None:
    from longtail_lightning.curation.clean_lists import root_of

    for split, number in written.items():
        print(f"{split:11} {lists[split]} ({number:,} images)")
    flags = [f"--data.root {shlex.quote(str(root_of(found)))}"]
    flags += [f"--data.{split}_list {shlex.quote(str(lists[split]))}" for split in written]
    flags += [f"--data.class_names {shlex.quote(str(lists['classes']))}"]
    print(f"train on it {_FIT} --data ImageListLT {' '.join(flags)}")
