"""What `ltl data check` prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from longtail_lightning.counts import ClassCounts
from longtail_lightning.curation.clean_lists import root_of
from longtail_lightning.curation.data_report import FAULTS, NOTES
from longtail_lightning.datasets.read_text import shown
from longtail_lightning.report.tables import print_class_counts

FIT = "ltl fit --model BaseClassifier --model.backbone resnet50"


def print_report(report: Any, out: Path) -> None:
    """Tables of what was found, and where the report lies."""
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


def print_lists(found: Any, lists: dict[str, Path], written: dict[str, int]) -> None:
    """Where the clean lists lie, and the command that trains on them."""
    for split, number in written.items():
        print(f"{split:11} {lists[split]} ({number:,} images)")
    flags = [f"--data.root {shlex.quote(str(root_of(found)))}"]
    flags += [f"--data.{split}_list {shlex.quote(str(lists[split]))}" for split in written]
    flags += [f"--data.class_names {shlex.quote(str(lists['classes']))}"]
    print(f"train on it {FIT} --data ImageListLT {' '.join(flags)}")
