"""The guide to one's own images, followed word for word."""

from __future__ import annotations

import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import pytest

from longtail_lightning.cli.catalog import ROOT
from longtail_lightning.cli.main import main
from tests.data import trees

GUIDE = (ROOT.parent.parent / "docs" / "guides" / "your_images.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines() if line.strip()
]
EXTRAS = {"parquet": "pyarrow", "HuggingFaceLT": "datasets"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """What the guide takes for granted: the images, and the files that it describes."""
    folder = tmp_path_factory.mktemp("guide")
    trees.folders(folder / "photos")
    rows = [("file", "species", "split")]
    rows += [(path, kind, split) for split in ("train", "val", "test") for path, kind in listed(folder, split)]
    (folder / "photos/photos.csv").write_text("\n".join(map(",".join, rows)))
    lines = [f"{path} {list(trees.CLASSES).index(kind)}" for path, kind in listed(folder, "train")]
    (folder / "photos_train.txt").write_text("\n".join(lines))
    trees.inaturalist(folder / "inaturalist")
    (folder / "names.txt").write_text("house cat\ndog\nbarn owl\n")
    if find_spec("pyarrow"):
        import pyarrow as pa
        import pyarrow.parquet as pq

        images = [(folder / "photos" / path).read_bytes() for path, _ in listed(folder, "train")]
        labels = [kind for _, kind in listed(folder, "train")]
        pq.write_table(pa.table({"image": images, "label": labels}), folder / "photos.parquet")
    (block,) = re.findall(r"`photos.yaml`.*?```yaml\n(.*?)```", GUIDE, re.DOTALL)
    (folder / "photos.yaml").write_text(block)
    return folder


def listed(folder, split):
    photos = folder / "photos"
    return [(path.relative_to(photos).as_posix(), path.parent.name) for path in sorted((photos / split).rglob("*.jpg"))]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded")
def test_commands(folder, monkeypatch, capsys):
    """One after the other, for what a command leaves serves the next."""
    monkeypatch.chdir(folder)
    for command in COMMANDS:
        if all(find_spec(library) for word, library in EXTRAS.items() if word in command):
            program, *args = shlex.split(command)
            assert program == "ltl"
            capsys.readouterr()
            status = main(args)
            out, err = capsys.readouterr()
            assert status == 0, f"{command}\n{err}"
            check(args, command, out)


def check(args, command, out):
    if args[0] == "counts":
        factor = "3" if "imbalance_factor" in command else "11 images, imbalance factor 3"
        assert factor in out, command
        assert ("barn owl" if "names.txt" in command else "owl") in out, command
    if args[0] == "predict":
        rows = Path("predictions.csv").read_text().splitlines()
        assert rows[1].startswith("test/cat/0.jpg,")
        assert len(rows) == 7


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL))
def test_python_blocks(block):
    exec(compile(block, "your_images.md", "exec"), {})
