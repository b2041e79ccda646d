"""All the networks that a student learns from, and what they remember of the training images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import from_command_line
from longtail_lightning.backbones import PreparedBackbone
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._source import source_of
from longtail_lightning.features.extract import extract
from longtail_lightning.features.extraction import Extraction
from longtail_lightning.modules._teacher import Source, open_teacher


class Taught(NamedTuple):
    """What teachers say about a batch: their features, and the log of their mean probability if it is asked for."""

    features: list[Tensor]
    logits: Tensor | None


def distance_of_a_constant(features: Sequence[Tensor]) -> Tensor:
    """How far features are, in the mean, from the one direction that is nearest to all of them.

    Args:
        features: of each teacher.
    """
    wide = torch.cat([F.normalize(one, dim=1) for one in features], dim=1)
    mean = F.normalize(wide, dim=1).mean(0)
    distance: Tensor = 1 - torch.linalg.vector_norm(mean)
    return distance


class Teachers:
    """One or several frozen networks, and what they remember of the training images.

    Args:
        sources: checkpoints of this library; modules with `backbone` and `head`, or from images to features, which
            are copied.
        bfloat16: whether they compute in bfloat16.
    """

    def __init__(self, sources: Sequence[Source] | Source, *, bfloat16: bool = False) -> None:
        given = [sources] if isinstance(sources, (str, Path, nn.Module)) else list(sources)
        self.all = [open_teacher(source) for source in given]
        if bfloat16:
            for teacher in self.all:
                teacher.to(torch.bfloat16)
        self.from_command_line = from_command_line()
        self._remembered: list[FeatureBank] = []

    def __len__(self) -> int:
        return len(self.all)

    @property
    def num_features(self) -> int:
        """Width of their features together."""
        return sum(teacher.num_features for teacher in self.all)

    def described(self) -> list[dict[str, str]]:
        """Where each came from, and a checksum of its weights."""
        return [{"name": teacher.name, "checksum": teacher.checksum} for teacher in self.all]

    def given(self, datamodule: Any) -> None:
        """Say how the student's images are normalized, so that each teacher undoes it.

        Args:
            datamodule: of the images; one that does not say leaves them as they are.
        """
        for teacher in self.all:
            backbone = teacher.backbone
            if isinstance(backbone, PreparedBackbone):
                known = isinstance(datamodule, LongTailDataModule)
                backbone.given(*((datamodule.mean, datamodule.std) if known else (backbone.mean, backbone.std)))

    def to(self, device: torch.device, *, channels_last: bool = False) -> None:
        """Move them.

        Args:
            device: where the student is.
            channels_last: the order of images and weights.
        """
        for teacher in self.all:
            teacher.to(device)
            if channels_last:
                teacher.to(memory_format=torch.channels_last)

    # -- what they say ---------------------------------------------------------------------------

    def look(self, images: Tensor, *, logits: bool) -> Taught:
        """Ask them about a batch.

        Args:
            images: as the student sees them.
            logits: whether to classify, too.
        """
        return self._taught([teacher.look(images) for teacher in self.all], logits)

    def recall(self, index: Tensor, view: Tensor, device: torch.device, *, logits: bool) -> Taught:
        """What they remember of a batch.

        Args:
            index: places of the images in the training split.
            view: which of its views each image shows.
            device: where the student is.
            logits: whether to classify, too.
        """
        rows = view.cpu(), index.cpu()
        return self._taught([bank.views[rows].to(device) for bank in self._remembered], logits)

    def _taught(self, features: list[Tensor], logits: bool) -> Taught:
        if not logits:
            return Taught(features, None)
        told = [teacher.classify(one) for teacher, one in zip(self.all, features)]
        return Taught(features, torch.stack(told).logsumexp(0))  # up to a constant, which no softmax sees

    def require_finite(self, features: Iterable[Tensor]) -> None:
        """Refuse features that are no numbers, which make the loss NaN.

        Args:
            features: of each teacher.
        """
        for teacher, one in zip(self.all, features):
            if not bool(torch.isfinite(one).all()):
                raise LongTailError(
                    f"The teacher {teacher.name} gives features that are not finite: it is broken, or overflows in "
                    "bfloat16; leave it out."
                )

    # -- the cache -------------------------------------------------------------------------------

    @property
    def remembers(self) -> bool:
        """Whether the features of all views are there, so that no teacher has to look."""
        return bool(self._remembered)

    def remember(self, datamodule: Any, views: int, folder: str | Path | None, *, device: Any, progress: bool) -> None:
        """Look at so many views of each training image.

        Args:
            datamodule: of the images.
            views: how many.
            folder: where the features are kept; in memory without one.
            device: where to look.
            progress: show a progress bar.
        """
        settings = Extraction(views=views, augment=True, dtype=torch.float32, device=device, progress=progress)
        for teacher in self.all:
            kind = next((p.dtype for p in teacher.backbone.parameters()), torch.float32)
            name = teacher.checksum[:16] + ("" if kind == torch.float32 else f"-{str(kind).removeprefix('torch.')}")
            path = None if folder is None else Path(folder) / name
            bank = extract(
                teacher.backbone,
                source_of(datamodule, "train", None),
                path,
                settings,
                resume="the same run",
                instead="give another cache (--model.cache FOLDER), or delete this one",
            )
            self._remembered.append(bank)

    def forget(self) -> None:
        """End of a run."""
        self._remembered = []

    # -- checks ----------------------------------------------------------------------------------

    def require_unchanged(self, before: Any) -> None:
        """Refuse to go on with other teachers than those that a run began with.

        Args:
            before: what `described` told then; anything that a file may hold.
        """
        if not isinstance(before, list) or not all(isinstance(one, dict) for one in before):
            return
        if len(before) != len(self):
            raise LongTailError(f"The run began with {len(before)} teachers and now has {len(self)}: {_GO_ON}.")
        for then, now in zip(before, self.described()):
            if then.get("checksum") != now["checksum"]:
                raise LongTailError(
                    f"The teacher {now['name']} is another one than {then.get('name')} with which the run began: "
                    f"{_GO_ON}."
                )

    def seen_validation(self, datamodule: Any) -> list[str]:
        """The teachers that were trained on images which are held out now.

        Args:
            datamodule: of the student.
        """
        held_out = getattr(datamodule, "held_out", None)
        if held_out is None:
            return []
        kind = type(datamodule).__qualname__
        told = {teacher.name: teacher.held_out.get(kind) for teacher in self.all}
        return [name for name, state in told.items() if isinstance(state, dict) and state.get("held_out") != held_out]


_GO_ON = "give those again, in their order, or begin a new run without ckpt_path"
