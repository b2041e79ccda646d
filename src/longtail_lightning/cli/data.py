"""`ltl data check` and `ltl data prepare`: what is done to images before training."""

from __future__ import annotations

import json
import os
import shlex
import sys
from argparse import Namespace
from pathlib import Path

from longtail_lightning._errors import LongTailError
from longtail_lightning._progress import progress_bar
from longtail_lightning.cli._source import source_of

_LARGE = 200  # from this many images on, starting processes pays off


def check(asked: Namespace) -> int:
    """`ltl data check`."""
    source = source_of(asked, "check")
    from longtail_lightning.cli._check_tables import print_lists, print_report
    from longtail_lightning.curation._splits import splits_of
    from longtail_lightning.curation.check import check_splits
    from longtail_lightning.curation.clean_lists import list_files, refuse_existing, write_lists
    from longtail_lightning.curation.data_report import is_report

    out = Path(asked.out)
    if out.exists() and not is_report(out):
        raise LongTailError(f"--out {out}: the file exists and is not a report of `ltl data check`; give another name.")
    found = splits_of(source)
    lists = list_files(asked.fix, found) if asked.fix else {}
    refuse_existing(list(lists.values()))
    total = sum(len(part.labels) for part in found.parts)
    with progress_bar("Reading", total, shown=_is_watched() and not asked.json) as progress:
        report = check_splits(
            found, num_workers=_workers(asked.num_workers, total), pixels=asked.pixels, progress=progress
        )
    report.save(out)
    written = write_lists(found, report, lists) if lists and not report.stopped else {}
    if asked.json:
        print(json.dumps(report.as_dict(), indent=1))
    else:
        print_report(report, out)
        if written:
            print_lists(found, lists, written)
    if report.stopped == "interrupted":
        return 130
    if report.stopped:
        raise LongTailError(report.stopped)
    return 0 if report.clean else 1


def prepare(asked: Namespace) -> int:
    """`ltl data prepare`."""
    source = source_of(asked, "prepare")
    from longtail_lightning.cli._check_tables import FIT
    from longtail_lightning.curation.prepare import prepare_shards

    try:
        with progress_bar("Copying", 0, shown=_is_watched()) as progress:
            written = prepare_shards(
                source,
                asked.out,
                shard_size=asked.shard_size,
                resize=asked.resize,
                quality=asked.quality,
                num_workers=_workers(asked.num_workers, _LARGE),
                progress=progress,
            )
    except KeyboardInterrupt:
        print(f"\nStopped; the same command continues {asked.out}.", file=sys.stderr)
        return 130
    folder = Path(asked.out).expanduser()
    files = list(folder.glob("*.arrow"))
    size = sum(file.stat().st_size for file in files)
    for split, images in written.items():
        print(f"{split:7} {images:,} images")
    print(f"{folder}: {len(files)} files, {size / 1e6:,.1f} MB")
    print(f"train   {FIT} --data ShardsLT --data.root {shlex.quote(str(folder))}")
    return 0


def _workers(wanted: int | None, total: int) -> int:
    if wanted is not None:
        return wanted
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores if total >= _LARGE else 0


def _is_watched() -> bool:
    """Whether a person sees what goes to stderr."""
    return sys.stderr.isatty()
