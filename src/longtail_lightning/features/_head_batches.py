"""Which features each step of the training of a head sees."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from longtail_lightning._random import generator
from longtail_lightning.features._arguments import made
from longtail_lightning.features._memory import free_memory
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.features.head_training import HeadTraining
from longtail_lightning.samplers import ClassBalancedSampler, InstanceBalancedSampler, LongTailSampler

_SHARE = 0.5  # of the free memory that a bank may take


class Batches:
    """The batches of each epoch: features and labels on the device."""

    def __init__(self, bank: FeatureBank, training: HeadTraining, where: torch.device) -> None:
        labels = bank.require_labels("The training of a head")
        default = _each_input_once if bank.multi_hot else ClassBalancedSampler
        self._order = _Order(labels, training.sampler or default, training.seed)
        self._bank, self._size, self._where = bank, training.batch_size, where
        self._labels = labels.to(where)
        self._features: Tensor | None = None
        self.per_epoch = -(-len(self._order) // self._size)

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        if self._features is None or self._bank.num_views > 1:
            self._features = _placed(self._bank, epoch, self._where)
        chosen = self._order.epoch(epoch)
        # Rows are picked where the features are: on the device, or in the file.
        rows = chosen.to(self._features.device).split(self._size)  # type: ignore[no-untyped-call]
        targets = self._labels.index_select(0, chosen.to(self._where)).split(self._size)  # type: ignore[no-untyped-call]
        for indices, target in zip(rows, targets):
            yield self._features.index_select(0, indices).to(self._where), target


class _Order:
    """Which features each epoch draws, as one tensor."""

    def __init__(self, labels: Tensor, make: Callable[[Any], Any], seed: int) -> None:
        self.sampler = made("sampler", make, labels)
        if isinstance(self.sampler, LongTailSampler):
            self.sampler.seed = self.sampler.seed or seed

    def __len__(self) -> int:
        if isinstance(self.sampler, LongTailSampler):
            group = self.sampler.group
            return -(-self.sampler.epoch_size // group) * group
        return len(self.sampler)

    def epoch(self, epoch: int) -> Tensor:
        """The indices of an epoch, those of all ranks."""
        if hasattr(self.sampler, "set_epoch"):
            self.sampler.set_epoch(epoch)
        if isinstance(self.sampler, LongTailSampler):
            return torch.cat(list(self.sampler.draw(len(self), generator(self.sampler.seed, epoch)))).long()
        return torch.tensor(list(self.sampler), dtype=torch.int64)


def _placed(bank: FeatureBank, view: int, where: torch.device) -> Tensor:
    """A view on the device when it fits, otherwise where it is."""
    features = bank.view(view)
    free = free_memory(where)
    if free is not None and features.numel() * features.element_size() > _SHARE * free:
        return features
    # Rows picked from a mapped file are read page by page, from a copy at the speed of the memory.
    return features.to(where, copy=bank.path is not None)


def _each_input_once(labels: Tensor) -> InstanceBalancedSampler:
    return InstanceBalancedSampler(range(len(labels)))
