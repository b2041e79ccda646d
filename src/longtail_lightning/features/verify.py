"""Whether the files of a bank are still what was written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from longtail_lightning._files import size_and_checksum
from longtail_lightning.features._storage import DamagedBankError, read_header


@dataclass(frozen=True)
class BankReport:
    """The files of a bank, each with what is wrong with it.

    Args:
        path: folder of the bank.
        files: what is wrong with each file; an empty string where nothing is.

    Examples:
        >>> report = BankReport(Path("bank"), {"features.npy": "", "labels.npy": "is missing"})
        >>> report.ok, report.damaged, str(report)
        (False, ['labels.npy'], 'bank is damaged: labels.npy is missing')
    """

    path: Path
    files: Mapping[str, str]

    @property
    def damaged(self) -> list[str]:
        """Names of the files that are not as they were written."""
        return [name for name, wrong in self.files.items() if wrong]

    @property
    def ok(self) -> bool:
        """Whether all files are as they were written."""
        return not self.damaged

    def __str__(self) -> str:
        if self.ok:
            return f"{self.path} is whole: {len(self.files)} files are as they were written"
        return f"{self.path} is damaged: {', '.join(f'{name} {self.files[name]}' for name in self.damaged)}"


def verify_bank(path: str | Path) -> BankReport:
    """Compare every file of a bank with the size and the checksum in its header; it is read once from end to end.

    Args:
        path: folder of the bank.

    Examples:
        >>> import torch
        >>> from tempfile import mkdtemp
        >>> from longtail_lightning import FeatureBank
        >>> folder = FeatureBank.from_arrays(torch.randn(3, 8), [0, 2, 0]).save(mkdtemp())
        >>> verify_bank(folder).ok
        True
    """
    folder = Path(path)
    found: dict[str, str] = {}
    for written in read_header(folder)["files"].values():
        file = folder / written["name"]
        try:
            is_now = size_and_checksum(file)
        except OSError as error:
            found[file.name] = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
            continue
        if is_now["bytes"] != written["bytes"]:
            found[file.name] = f"has {is_now['bytes']} bytes instead of {written['bytes']}"
        else:
            found[file.name] = "" if is_now["sha256"] == written["sha256"] else "has other contents than were written"
    return BankReport(folder, found)


def require_whole(path: Path) -> None:
    """Refuse a bank of which a file is not as it was written."""
    report = verify_bank(path)
    if not report.ok:
        reason = ", ".join(f"{name} {report.files[name]}" for name in report.damaged)
        raise DamagedBankError.of(path, reason, report.damaged)
