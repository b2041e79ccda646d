"""Continue a run in the middle of an epoch, and with the same images."""

from __future__ import annotations

from abc import abstractmethod
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.trainer.states import TrainerFn
from torch import nn
from torch.utils.data import Sampler
from typing_extensions import Self

from longtail_lightning import _lightning
from longtail_lightning._errors import LongTailError
from longtail_lightning._known_classes import require_known
from longtail_lightning._lightning import checked_imports, known_instantiators
from longtail_lightning.data._splits import Splits
from longtail_lightning.datasets.loader import ResumableLoader
from longtail_lightning.datasets.long_tail import SubsetId


class ResumableData(L.LightningDataModule):
    """Saves in a checkpoint how far the epoch is and which images it uses, and resumes from there."""

    batch_size: int
    _resume_at: dict[str, Any] | None = None

    @classmethod
    def load_from_checkpoint(  # type: ignore[override]
        cls,
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Lightning's method, with its arguments; no code of the file is run, and no module imported because of it.

        Args:
            checkpoint_path: the file.
            map_location: where tensors go, as in `torch.load`.
            hparams_file: hyper-parameters in the place of those of the checkpoint.
            weights_only: only tensors and plain values are read; False runs code of the file.
            kwargs: arguments of the data module.
        """
        with checked_imports(partial(require_known, kinds=(nn.Module, Sampler))), known_instantiators():
            return super().load_from_checkpoint(
                checkpoint_path, map_location, hparams_file, weights_only is not False, **kwargs
            )

    def state_dict(self) -> dict[str, Any]:
        """Batches of the running epoch that have been trained on, 0 between epochs, and which images they come from.

        The loader tells Lightning the same, but Lightning forgets it when the number of steps was
        estimated before the run, as learning-rate schedules do.
        """
        if self.trainer is None:
            return {"batches": 0, "epoch": 0}
        return {
            "batches": _lightning.trained_batches(self.trainer),
            "epoch": self.trainer.current_epoch,
            "batch_size": self._images_per_step,
            **self._origin,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Let the next training loader begin after so many batches."""
        if self.trainer is not None and self.trainer.state.fn != TrainerFn.FITTING:
            return  # Lightning restores data modules for evaluation too; a later fit must start at batch 0
        origin = self._origin
        subset, held_out = origin["subset"], origin["held_out"]
        if (saved := state_dict.get("subset", subset)) != subset:
            raise LongTailError(
                f"The checkpoint was trained on {f'the subset {saved}' if saved else 'all images'}, this run has "
                f"{subset or 'all images'}: "
                "resume with the same data, imbalance_factor, profile and subset_seed."
            )
        if (saved := state_dict.get("held_out", held_out)) != held_out:
            raise LongTailError(
                f"The checkpoint was trained with {saved or 'no held-out images'}, this run has "
                f"{held_out or 'none'}: resume with the same val_split and seed, or images of the one part "
                "come into the other."
            )
        self._resume_at = dict(state_dict)

    def resumed(self, loader: ResumableLoader) -> ResumableLoader:
        """The training loader, told where to begin."""
        state, self._resume_at = self._resume_at, None
        if state is None:
            return loader
        size = self._images_per_step
        if state["batches"] and state.get("batch_size", size) != size:
            raise LongTailError(
                f"The checkpoint stands in the middle of an epoch of {state['batch_size']} images per step, "
                f"this run has {size}: resume with the same batch size and number of devices, "
                "or from the end of an epoch."
            )
        loader.begin_at(state["batches"], state["epoch"])
        return loader

    def _running_epoch(self) -> int:
        return self.trainer.current_epoch if self.trainer else 0

    @property
    @abstractmethod
    def _splits(self) -> Splits:
        """The data sets of the splits."""

    @property
    def _images_per_step(self) -> int:
        return self.batch_size * (self.trainer.world_size if self.trainer else 1)

    @property
    def _origin(self) -> dict[str, str | None]:
        subset = self.subset_id
        return {"subset": None if subset is None else str(subset), "held_out": self.held_out}

    @property
    def subset_id(self) -> SubsetId | None:
        """Which images of the training set a long-tailed subset keeps; None when all of them are used."""
        return self._splits.subset_id

    @property
    def held_out(self) -> str | None:
        """Which training images are held out for validation, in words; None when none are."""
        return self._splits.held_out
