"""Find what is wrong with a data folder before training starts."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_info

from longtail_lightning._errors import LongTailError
from longtail_lightning._open_file import not_a_file
from longtail_lightning.datasets.image_list import ImageList
from longtail_lightning.datasets.read_text import first_few, shown

_ARCHIVE = re.compile(r"(.+?)\.(zip|tar|tgz|tar\.\w+)", re.IGNORECASE)
_MANY = 50_000  # so many files take a noticeable time on a network drive
_CHUNK = 1000


def data_folder(root: str | Path, layout: str) -> Path:
    """The path of the data folder; refuse what is not a folder.

    Args:
        root: as given.
        layout: a small tree of what is expected in it.
    """
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    expected = f"Expected a folder such as\n{layout.strip(chr(10))}"
    if not folder.exists():
        close = next((parent for parent in folder.absolute().parents if parent.is_dir()), None)
        raise LongTailError(f"The data folder {folder} does not exist ({close} does). {expected}")
    if command := unpack(folder):
        raise LongTailError(f"{folder} is an archive: unpack it with `{command}`. {expected}")
    raise LongTailError(f"{folder} is a file. {expected}")


def unpack(file: Path) -> str | None:
    """How to unpack an archive; None when the file is none."""
    match = _ARCHIVE.fullmatch(file.name)
    if match is None:
        return None
    packed, folder = shlex.quote(str(file)), shlex.quote(str(file.with_name(match[1])))
    if match[2].lower() == "zip":
        return f"unzip -q {packed} -d {folder}"
    return f"mkdir -p {folder} && tar -xf {packed} -C {folder}"


def require_files(images: ImageList, source: str) -> None:
    """Refuse a list with files that do not exist, and guess where they are.

    Args:
        images: the list.
        source: what messages call it.
    """
    root = str(images.root) if images.root is not None else ""
    total = len(images)
    if total > _MANY:
        rank_zero_info(f"Looking for the {total:,} files of {source}; check_files=false skips this.")

    def missing(start: int) -> list[str]:
        files = (images.file(index) for index in range(start, min(start + _CHUNK, total)))
        return [file for file in files if not os.path.isfile(os.path.join(root, file))]

    # Waiting for a network drive takes the time, so more threads than cores.
    with ThreadPoolExecutor(16) as threads:
        lost = [file for chunk in threads.map(missing, range(0, total, _CHUNK)) for file in chunk]
    if lost:
        where = f" below {root}" if root else ""
        if (kind := not_a_file(os.path.join(root, lost[0]))) is not None:
            raise LongTailError(
                f"{source} lists {shown(lost[0])}, which cannot be read{where}, {kind}: correct the list."
            )
        raise LongTailError(
            f"{len(lost)} of {total} files of {source} do not exist{where} ({first_few(lost)}). "
            + _hint(images.root or Path(), lost[0], all_lost=len(lost) == total)
        )


def _hint(root: Path, file: str, *, all_lost: bool) -> str:
    if not root.is_dir():
        return f"There is no folder {root}."
    for folder in _neighbors(root):
        if (folder / file).exists():
            return f"They lie below {shown(folder)}: pass that as root."
    path = Path(file)
    if (root / path.parent.parent / path.name).exists():
        return f"Its images lie flat in {root / path.parent.parent}: move each into the folder that the list names."
    if (archives := [entry.name for entry in root.iterdir() if unpack(entry)]) and all_lost:
        return f"{root} holds archives ({first_few(archives)}): unpack them first."
    return "Is root the folder that the paths start from, and was everything unpacked?"


def _neighbors(root: Path) -> Iterator[Path]:
    """Folders that the user may have meant: one or two levels above, and one or two levels below."""
    absolute = root.absolute()
    yield from (absolute.parent, absolute.parent.parent)
    below = subfolders(root)[:100]
    yield from below
    for folder in below:
        yield from subfolders(folder)[:100]


def subfolders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted by name, without hidden ones."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())
    return [folder / name for name in names]


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden, or made by the system, such as `Thumbs.db`."""
    return name.startswith(".") or name in ("__MACOSX", "Thumbs.db", "desktop.ini")
