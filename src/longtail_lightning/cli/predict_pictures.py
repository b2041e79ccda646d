"""`ltl predict --images`: what a trained model says of pictures that belong to no data set."""

from __future__ import annotations

import csv
import io
import sys
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from longtail_lightning._errors import LongTailError


def predict(asked: Namespace) -> int:
    """Write a row per picture, and name those that cannot be read."""
    path = Path(asked.path)
    if path.suffix != ".csv":
        raise LongTailError(f"--predictions.path {path}: predictions of pictures are written as .csv.")
    if (missing := next((name for name in asked.images if not Path(name).expanduser().exists()), None)) is not None:
        raise LongTailError(f"--images {missing}: there is no such file or folder.")
    from longtail_lightning._files import replace_file
    from longtail_lightning.modules import load

    parts = {} if asked.memory is None else {"memory": asked.memory}
    classifier = load(asked.ckpt_path, device=asked.device, parts=parts)
    lookup = getattr(classifier.module, "lookup", None)
    if lookup is not None and lookup.memory is None:
        was = "FOLDER" if lookup.was_at is None else lookup.was_at
        raise LongTailError(f"The model looks pictures up in a memory: give it with --memory {was}.")
    predictions = classifier.stream(
        asked.images,
        top_k=asked.top_k,
        prior=asked.prior,
        reject_below=asked.reject_below,
        batch_size=asked.batch_size,
        progress=sys.stderr.isatty(),
    )
    places = range(1, min(asked.top_k, len(classifier.class_names)) + 1)
    header = ["item", "predicted", "probability", "score"]
    header += [f"{column}_{place}" for place in places for column in ("top", "probability")]
    broken = []

    def rows() -> Iterator[list[Any]]:
        for told in predictions:
            if told.probability is None:
                broken.append(told.error)
                yield [told.file, *("" for _ in header[1:]), told.error]
                continue
            top = [value for name, probability in told.top for value in (name, round(probability, 6))]
            yield [told.file, told.name, round(told.probability, 6), told.score, *top, ""]

    def write(file: IO[bytes]) -> None:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="surrogateescape", newline="")
        csv.writer(text).writerows([[*header, "error"]])
        csv.writer(text).writerows(rows())
        text.flush()
        text.detach()

    replace_file(path, write)
    for line in broken:
        print(line, file=sys.stderr)
    print(f"predictions {path}")
    return 0
