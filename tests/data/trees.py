"""Small trees of tiny images, in the layouts that the readers expect."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

CLASSES = {"cat": 6, "dog": 3, "owl": 2}
"""Training images per class; each class has one validation and two test images."""
_SIZES = {"train": CLASSES, "val": dict.fromkeys(CLASSES, 1), "test": dict.fromkeys(CLASSES, 2)}


def image(path: Path, shade: int = 0) -> Path:
    """A JPEG of 20x16 pixels in one shade of gray."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 16), (shade % 256,) * 3).save(path)
    return path


def images(root: Path, split: str) -> list[tuple[str, str]]:
    """Write the images of a split to `root/split/class/N.jpg`; gives (path below root, class)."""
    written = []
    for name, count in _SIZES[split].items():
        for number in range(count):
            file = f"{split}/{name}/{number}.jpg"
            image(root / file, 40 * number)
            written.append((file, name))
    return written


def folders(root: Path) -> Path:
    """`train`, `val` and `test`, each with class folders."""
    for split in _SIZES:
        images(root, split)
    return root


def flat(root: Path, **counts: int) -> Path:
    """Class folders alone."""
    for name, count in (counts or {"cat": 20, "dog": 10, "owl": 2}).items():
        for number in range(count):
            image(root / name / f"{number}.jpg", 10 * number)
    return root


def lists(root: Path) -> Path:
    """The layout of ImageNet-LT and Places-LT: an image folder and `path label` lists."""
    for split in _SIZES:
        lines = [f"{file} {list(CLASSES).index(name)}" for file, name in images(root, split)]
        (root / f"My_LT_{split}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return root


def inaturalist(root: Path, version: int = 2018) -> Path:
    """The layout of iNaturalist: COCO-style json files, category ids with gaps."""
    ids = {"cat": 3, "dog": 5, "owl": 11}
    groups = {"cat": "Mammals", "dog": "Mammals", "owl": "Birds"}
    # Not in the order of their ids.
    categories = [
        {"id": ids[name], "name": f"the {name}", "supercategory": groups[name]} for name in ("owl", "cat", "dog")
    ]
    for split in ("train", "val"):
        entries = list(enumerate(images(root, split), start=100))
        content = {
            "images": [{"id": number, "file_name": file} for number, (file, _) in entries],
            # Nor is the order of the annotations that of the images.
            "annotations": [{"image_id": number, "category_id": ids[name]} for number, (_, name) in reversed(entries)],
            "categories": categories,
        }
        name = f"{split}.json" if version == 2021 else f"{split}{version}.json"
        (root / name).write_text(json.dumps(content), encoding="utf-8")
    return root


def table(root: Path) -> Path:
    """One CSV with a column of splits."""
    rows = [(split, file, name) for split in _SIZES for file, name in images(root, split)]
    lines = ["split,path,label", *(",".join(row) for row in rows)]
    (root / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    return root / "table.csv"
