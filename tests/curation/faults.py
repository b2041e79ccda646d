"""A tree of small images with one of each fault in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from tests.bombs import png_bomb

CLASSES = {"ant": 5, "bee": 4, "cat": 3, "dog élan": 3}


def picture(seed: int, width: int = 24, height: int = 20) -> Image.Image:
    """Smooth noise, another one for each seed."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def clean_tree(root: Path) -> Path:
    """Folders `train`, `val` and `test`; all images differ."""
    seed = 0
    for split, counts in (("train", CLASSES), ("val", dict.fromkeys(CLASSES, 1)), ("test", dict.fromkeys(CLASSES, 2))):
        for name, count in counts.items():
            for number in range(count):
                path = root / split / name / f"{number} a.{'png' if number == 1 else 'jpg'}"
                path.parent.mkdir(parents=True, exist_ok=True)
                picture(seed).save(path)
                seed += 1
    return root


def plant(root: Path) -> dict[str, set[str]]:
    """Put faults into a clean tree of folders; gives the planted files or classes of each kind."""
    train, val, test = (root / split for split in ("train", "val", "test"))
    os.symlink("nowhere.jpg", train / "ant/link.jpg")
    (train / "ant/empty.jpg").touch()
    data = (train / "ant/0 a.jpg").read_bytes()
    (train / "ant/half.jpg").write_bytes(data[: len(data) // 2])
    data = (test / "bee/1 a.png").read_bytes()
    (test / "bee/half.png").write_bytes(data[: len(data) // 2])
    (val / "cat/page.jpg").write_text("<html>404 not found</html>")
    (train / "bee/huge.png").write_bytes(png_bomb())
    (train / "bee/notes.txt").write_text("ask Ben")
    picture(100).save(train / "loose.jpg")
    (train / "eel").mkdir()
    for split in (train, val, test):
        (split / "fox").mkdir()
    picture(101).save(train / "fox/1.jpg")
    (test / "gnu").mkdir()
    picture(102).save(test / "gnu/1.jpg")
    shutil.copyfile(train / "ant/0 a.jpg", train / "ant/copy.jpg")
    shutil.copyfile(train / "ant/2 a.jpg", train / "cat/wrong.jpg")
    shutil.copyfile(test / "cat/0 a.jpg", train / "cat/leaked.jpg")
    shutil.copyfile(test / "bee/0 a.jpg", val / "bee/leaked.jpg")
    return {
        "missing": {"train/ant/link.jpg"},
        "empty": {"train/ant/empty.jpg"},
        "truncated": {"train/ant/half.jpg", "test/bee/half.png"},
        "unreadable": {"val/cat/page.jpg"},
        "huge": {"train/bee/huge.png"},
        "stray": {"train/bee/notes.txt", "train/loose.jpg"},
        "gap": {"class 4 (eel)"},
        "unknown": {"class 6 (gnu)"},
        "single": {"class 5 (fox)"},
        "duplicate": {"train/ant/copy.jpg"},
        "contradiction": {"train/ant/2 a.jpg", "train/cat/wrong.jpg"},
        "leak": {"train/cat/leaked.jpg", "val/bee/leaked.jpg"},
    }


def lists(root: Path, first: int = 0) -> None:
    """`train.txt`, `val.txt` and `test.txt` of a tree of folders, `path label`, labels from `first`."""
    names = sorted(
        {path.name for split in ("train", "val", "test") for path in (root / split).iterdir() if path.is_dir()}
    )
    for split in ("train", "val", "test"):
        files = sorted(path for path in (root / split).rglob("*/*.*") if path.suffix in (".jpg", ".png"))
        lines = [f"{path.relative_to(root).as_posix()} {first + names.index(path.parent.name)}" for path in files]
        (root / f"{split}.txt").write_text("\n".join(lines), encoding="utf-8")
