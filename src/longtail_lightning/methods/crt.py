"""Classifier re-training."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import temporary_seed
from longtail_lightning._spec import build, spec_of
from longtail_lightning.features import FeatureBank, HeadTraining
from longtail_lightning.features._arguments import made, require_callable
from longtail_lightning.features.fit_head import train_head
from longtail_lightning.heads import (
    CosineHead,
    EnsembleHead,
    Head,
    LearnableScaleHead,
    LinearHead,
    LogitAdjustedHead,
    NearestClassMeanHead,
    TauNormalizedHead,
)
from longtail_lightning.heads._class_vectors import ClassVectorHead
from longtail_lightning.losses import LongTailLoss
from longtail_lightning.methods.base import Device, Retrained, Retraining
from longtail_lightning.samplers import LongTailSampler


class CRT(Retraining):
    """Classifier re-training: a new classifier, trained on class-balanced batches of frozen features.

    Args:
        head: from (num_features, num_classes) to the new head, such as `MLPHead`; by default of the kind
            of the trained one.
        epochs: as many features as the bank has are drawn in each; the paper has 10, and 30 on iNaturalist.
        lr: first learning rate, which falls to 0 along a cosine; the paper has 0.2 for batches of 512.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        batch_size: features per step.
        sampler: from labels to sampler; class-balanced by default.
        loss: cross-entropy by default.
        seed: seed of weights and order.
        name: what files are called.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> CRT(batch_size=8)(LinearHead(4, 4), bank).head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    name = "crt"
    title = "cRT"
    uses_views = True

    def __init__(
        self,
        *,
        head: Callable[[int, int], Head] | None = None,
        epochs: int = 10,
        lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 512,
        sampler: Callable[[Any], LongTailSampler] | None = None,
        loss: LongTailLoss | None = None,
        seed: int = 0,
        name: str = "crt",
    ) -> None:
        super().__init__(name)
        require_callable("head", head)
        self.head = head
        self.training = HeadTraining(
            epochs=epochs,
            sampler=sampler,
            loss=loss,
            lr=lr,
            momentum=momentum,
            weight_decay=weight_decay,
            batch_size=batch_size,
            seed=seed,
        )

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        with temporary_seed(self.training.seed):
            new = self._new(head, train.num_features, train.num_classes)
        training = replace(self.training, loss=copy.deepcopy(self.training.loss))  # a loss may learn too
        return Retrained(train_head(train, new, training, device=device), self.label)

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        with temporary_seed(0):
            self._new(head, *_sizes(head))
            check_sampler(self.training.sampler, head)

    def _new(self, head: nn.Module, num_features: int, num_classes: int) -> Head:
        if self.head is None:
            return new_head(head)
        new: Head = made("head", self.head, num_features, num_classes)
        return new


def check_sampler(sampler: Callable[[Any], Any] | None, head: nn.Module) -> None:
    """Try out a sampler on labels with two images per class of the head."""
    if sampler is not None:
        made("sampler", sampler, torch.arange(_sizes(head)[1]).repeat(2))


def new_head(head: nn.Module) -> Head:
    """An untrained head of the same kind as a trained one; a `LinearHead` if that one builds on another head.

    In the place of class vectors, which nothing trains, it is a `CosineHead`.
    """
    if isinstance(head, nn.Linear):
        return LinearHead(head.in_features, head.out_features, bias=head.bias is not None)
    if isinstance(head, (ClassVectorHead, EnsembleHead)):
        warnings.warn(
            f"A {type(head).__name__} has nothing to train: cRT trains a new CosineHead in its place. Say what else to "
            "train with CRT(head=...).",
            stacklevel=2,
        )
        return CosineHead(head.num_features, head.num_classes)
    if isinstance(head, (LearnableScaleHead, LogitAdjustedHead, TauNormalizedHead, NearestClassMeanHead)):
        return LinearHead(head.num_features, head.num_classes)
    if isinstance(head, Head) and (spec := spec_of(head)) is not None:
        return build(spec)  # type: ignore[return-value]
    raise LongTailError(f"cRT cannot make a new {type(head).__name__}: say what to train, CRT(head=LinearHead).")


def _sizes(head: nn.Module) -> tuple[int, int]:
    """Width and number of classes of a head, or 2 and 2 when it does not tell."""
    return (
        getattr(head, "num_features", getattr(head, "in_features", 2)),
        getattr(head, "num_classes", getattr(head, "out_features", 2)),
    )
