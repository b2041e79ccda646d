"""Refuse, in one sentence, a bank that cannot serve."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning.features.bank import FeatureBank


def require_bank(bank: Any, argument: str = "bank") -> None:
    """Refuse anything but a bank, such as its folder."""
    if isinstance(bank, (str, Path)):
        raise LongTailError(f"{argument}={str(bank)!r} is a path: open the bank, FeatureBank.load({str(bank)!r}).")
    if not isinstance(bank, FeatureBank):
        raise LongTailError(
            f"{argument} is a {type(bank).__name__}, not a FeatureBank: make one with extract_features or "
            "FeatureBank.from_arrays."
        )


def require_fits(train: FeatureBank, other: FeatureBank, called: str) -> None:
    """Refuse a bank of another split if its encoder or its classes differ from the first bank's."""
    if (
        other.num_features != train.num_features
        or other.num_classes > train.num_classes
        or (train.given_names and other.given_names and list(train.given_names) != list(other.given_names))
    ):
        raise LongTailError(
            f"{called}, {other!r}, does not go with {train!r}: extract both with one encoder, of splits with "
            "the same classes."
        )


def refuse_test(bank: FeatureBank, what: str) -> None:
    """Refuse a bank of test features: nothing may be chosen on it."""
    data: Any = bank.fingerprint.get("data") or {}
    if data.get("split") == "test":
        raise LongTailError(
            f"{what} is never chosen on test images, and this bank holds those of {data.get('name', 'a test set')}: "
            "pass a bank of the validation or training split."
        )
