"""Annotations in the form of COCO, as iNaturalist publishes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from longtail_lightning._errors import LongTailError
from longtail_lightning.datasets.read_text import first_few, parse_json, read_text


def read_coco(file: Path) -> dict[str, Any]:
    """The content of a COCO-style file: images, annotations and categories."""
    content: dict[str, Any] = parse_json(read_text(file), file)
    lacking = [
        key for key in ("images", "annotations", "categories") if not isinstance(content, dict) or not content.get(key)
    ]
    if lacking:
        secret = " The labels of official test images are not public." if lacking[0] == "annotations" else ""
        raise LongTailError(
            f"{file.name} has no {first_few(lacking)}, expected images, annotations and categories.{secret}"
        )
    return content


def files_and_labels(content: Mapping[str, Any], file: Path) -> tuple[list[str], np.ndarray]:
    """Files and category ids of a COCO-style file, in the order of its images; those without a label are left out."""
    try:
        category = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
        images = [(entry["file_name"], category.get(entry["id"])) for entry in content["images"]]
        known = {entry["id"] for entry in content["categories"]}
    except KeyError as error:
        raise LongTailError(f"{file.name}: an entry has no {error}, expected a COCO-style file.") from error
    labeled = [(name, number) for name, number in images if number is not None]
    if unknown := sorted({number for _, number in labeled} - known):
        raise LongTailError(f"{file.name} annotates categories that it does not list ({first_few(unknown)}).")
    return [name for name, _ in labeled], np.array([number for _, number in labeled])
