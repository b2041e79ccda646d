"""A model and data small enough for hundreds of runs."""

from __future__ import annotations

from typing import Any

import lightning as L

from longtail_lightning import BaseClassifier, CIFARResNet, SyntheticLongTail


def tiny_data(**options: Any) -> SyntheticLongTail:
    """38 training images of 6 classes: 12, 9, 6, 5, 3 and 3."""
    defaults = {"num_classes": 6, "max_count": 12, "imbalance_factor": 4, "val_per_class": 3, "test_per_class": 3}
    return SyntheticLongTail(**{**defaults, "batch_size": 8, **options})


def tiny_model(data: SyntheticLongTail, **options: Any) -> BaseClassifier:
    """A ResNet-8 of width 4; many-shot classes have more than 8 images, few-shot ones fewer than 4."""
    defaults = {"backbone": CIFARResNet(8, width=4), "many": 8, "few": 4}
    return BaseClassifier(data.class_counts, **{**defaults, **options})


def tiny_trainer(**options: Any) -> L.Trainer:
    """Silent, on the CPU, no files."""
    defaults = {
        "max_epochs": 2,
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return L.Trainer(**{**defaults, **options})
