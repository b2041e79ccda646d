"""Deferred re-sampling (DRS)."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, DistributedSampler, Sampler

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._deferred_start import check_start, start_epoch
from longtail_lightning.data.datamodule import SamplerCallable
from longtail_lightning.datasets.labels import labels_of
from longtail_lightning.samplers import ClassBalancedSampler


class DeferredResampling(L.Callback):
    """Train with the loader's own sampler, then with another for the last part of the training.

    **What it changes.** The order of the training images, from the first epoch of the deferred part on. The
    length of an epoch stays that of the loader's own sampler.

    **Formula.** Epoch t draws from the loader's sampler for t < start and from `sampler` from then on, a
    function of the epoch alone: there is nothing to save, and a resumed run switches where it should.

    **When it helps, when it hurts.** The tail gains once the features are learned; drawn this way from the
    first epoch on, its few images are overfitted.

    **Classes without images** are never drawn.

    Args:
        start: first epoch of the deferred part (int, counted from 0), or the fraction of the epochs
            before it (float).
        sampler: from labels to the sampler of the deferred part, for example `EffectiveNumberSampler`.

    Examples:
        >>> trainer = L.Trainer(max_epochs=200, callbacks=[DeferredResampling(start=160)], logger=False)

    **Paper.** Cao et al., Learning Imbalanced Datasets with Label-Distribution-Aware Margin Loss, NeurIPS 2019,
    section 4 (DRS).

    **Differences from the authors' code.** The released code has no deferred re-sampling: it makes a
    sampler in each epoch that never reaches the loader. That sampler weighs images by effective
    number with beta 0.9999 (`EffectiveNumberSampler`), all but class-balanced on their data.
    """

    def __init__(self, start: int | float = 0.8, sampler: SamplerCallable = ClassBalancedSampler) -> None:
        check_start(start)
        self.start = start
        self.sampler = sampler

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._attach(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._attach(trainer)  # the Trainer may have asked for a new loader

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        batches: Any = trainer.train_dataloader.batch_sampler  # type: ignore[union-attr]
        batches.sampler = batches.sampler.own

    def _attach(self, trainer: L.Trainer) -> None:
        loader: Any = trainer.train_dataloader
        if not isinstance(loader, DataLoader) or not hasattr(loader.batch_sampler, "sampler"):
            raise LongTailError(
                f"DeferredResampling needs one training DataLoader with a batch_size, got {type(loader).__name__}."
            )
        batches: Any = loader.batch_sampler
        if not isinstance(batches.sampler, SwitchingSampler):
            deferred = self.sampler(labels_of(loader.dataset))  # type: ignore[arg-type]
            # A loader reads this sampler only when an epoch begins, and Lightning tells the epoch to it.
            batches.sampler = SwitchingSampler(batches.sampler, deferred, start_epoch(self.start, trainer))
            batches.sampler.set_epoch(trainer.current_epoch)


class SwitchingSampler(DistributedSampler[int]):
    """One sampler before an epoch and another from it on, both as long as the first.

    Args:
        own: sampler of the epochs before the switch.
        deferred: sampler from the switch on; at least as long.
        start: first epoch of the second sampler.

    Examples:
        >>> switching = SwitchingSampler(range(4), range(9, 0, -1), start=2)
        >>> before = list(switching)
        >>> switching.set_epoch(2)
        >>> before, list(switching)
        ([0, 1, 2, 3], [9, 8, 7, 6])
    """

    def __init__(self, own: Sampler[int], deferred: Sampler[int], start: int) -> None:
        # DistributedSampler.__init__ is skipped on purpose: the parts know the ranks.
        if len(deferred) < len(own):  # type: ignore[arg-type]
            raise LongTailError(
                f"The deferred sampler has {len(deferred)} images per epoch and process but the loader's own "  # type: ignore[arg-type]
                f"has {len(own)}: give it a larger num_samples."  # type: ignore[arg-type]
            )
        self.own = own
        self.deferred = deferred
        self.start = start
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Tell the epoch to both samplers."""
        self.epoch = epoch
        for sampler in (self.own, self.deferred):
            if hasattr(sampler, "set_epoch"):
                sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.own)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.current), len(self))

    @property
    def current(self) -> Any:
        """The sampler of this epoch."""
        return self.deferred if self.epoch >= self.start else self.own
