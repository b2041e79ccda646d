"""A classifier with an external memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import attached_trainer
from longtail_lightning._number_range import require_number
from longtail_lightning.backbones import Backbone
from longtail_lightning.callbacks import BranchReport
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.heads import Fusion, Head, LinearHead, NormalizedSum
from longtail_lightning.losses import LogitAdjustedLoss, LongTailLoss
from longtail_lightning.modules._looks_up import LooksUp
from longtail_lightning.modules._lookup import Exclude, Lookup, Remember
from longtail_lightning.modules._retrieval_fit import made_encoder, made_head
from longtail_lightning.modules.base_classifier import BaseClassifier, HeadCallable, StepOutput
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd, with_slow_parts
from longtail_lightning.retrieval import RetrievalMemory
from longtail_lightning.text import BagOfWords, JoinedTexts, TextEncoder

Branches = Literal["both", "base", "retrieval"]


class RetrievalAugmented(LooksUp):
    r"""Train a classifier beside a branch that reads the texts of similar images in a memory.

    A frozen `encoder` looks an image up in the memory; the texts of its k nearest items go through the text
    encoder and a head of their own. The logits of both branches are fused and trained together. Editing the memory
    changes what the model knows, without any training. Accuracy of each branch is logged, and drawn after a test.

    A checkpoint does not hold the memory: `load(path, parts={"memory": "FOLDER"})`.

    Args:
        class_counts: training images per class; the CLI takes them from the data.
        memory: a `RetrievalMemory` or its folder.
        encoder: gives the queries; the one that has made the memory, with its weights, and never trained: a
            checkpoint of this library, or a backbone. One that needs images of another size or normalization than
            `backbone` goes into a `PreparedBackbone`, as that of a checkpoint does by itself.
        backbone: the base branch, as in `BaseClassifier`.
        head: of the base branch.
        text_encoder: from texts to features; `BagOfWords()` by default. It is trained where it can be.
        retrieval_head: from features of texts to logits.
        fusion: of both branches; `NormalizedSum()` by default.
        k: neighbors of an image.
        branches: `"both"`, or one alone: `"base"`, `"retrieval"`.
        exclude: what a training image does not find: `"id"`, itself, by its id in the memory; `"first"`, its nearest
            item, as in the paper; or `"none"`. An image that finds itself is told its own class.
        own_source: the memory's source that holds the training images.
        neighbors: `"exact"`: those of the image as the model sees it, augmented. `"cached"`: those of the image without
            augmentation, found once for the run, so that no step encodes a query.
        join: how the texts of the neighbors become one, `JoinedTexts()` by default.
        backbone_lr_factor: learning rate of backbone and text encoder over that of the rest.
        loss: as in `BaseClassifier`; the logit-adjusted loss with label smoothing 0.1 by default.
        optimizer: from parameters to optimizer.
        lr_scheduler: from optimizer to scheduler.
        pretrained: download weights for a backbone given by name.
        weights: file of a checkpoint that the backbone's weights are read from, see `load_weights`.
        compile: run backbone and head through `torch.compile`.
        channels_last: keep images and weights in channels-last order.
        many: classes with more training images are many-shot.
        few: classes with fewer training images are few-shot.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        class_names: one name per class; by default those of the data module.

    Examples:
        >>> from longtail_lightning import FeatureBank, IdentityBackbone
        >>> bank = FeatureBank.from_arrays(torch.eye(4), texts=["cat", "lynx", "dog", "wolf"])
        >>> model = RetrievalAugmented(
        ...     [90, 10], memory=RetrievalMemory.build(bank), encoder=IdentityBackbone(4), backbone="resnet10", k=2)
        >>> model.retrieval_logits(model.find(torch.rand(3, 4))).shape
        torch.Size([3, 2])

    **Paper.** Long et al., Retrieval Augmented Classification for Long-Tail Visual Recognition, CVPR 2022.

    **Differences from the paper.** The scale of the fusion is 8 instead of half the number of classes
    (`fusion=NormalizedSum("paper")`); an image is excluded by its id instead of its rank; bags of words are the
    default in the place of CLIP's text encoder (`text_encoder=CLIPText(...)`). The sign of eq. 4 is against that of
    eq. 3 there: a margin has to lower the true logit, as in `LDAMLoss`.
    """

    parts: ClassVar[tuple[str, ...]] = (
        *BaseClassifier.parts,
        *("encoder", "text_encoder", "retrieval_head", "fusion", "join"),
    )
    start_only: ClassVar[Mapping[str, Any]] = {**BaseClassifier.start_only, "memory": None, "encoder": None}

    def __init__(
        self,
        class_counts: ClassCounts | Sequence[int],
        *,
        memory: str | Path | RetrievalMemory | None = None,
        encoder: str | Path | Backbone | None = None,
        backbone: str | Backbone = "cifar_resnet32",
        head: HeadCallable | Head = LinearHead,
        text_encoder: TextEncoder | None = None,
        retrieval_head: HeadCallable | Head = LinearHead,
        fusion: Fusion | None = None,
        k: int = 30,
        branches: Branches = "both",
        exclude: Exclude = "id",
        own_source: str = "train",
        neighbors: Remember = "exact",
        join: JoinedTexts | None = None,
        backbone_lr_factor: float = 1.0,
        loss: LongTailLoss | None = None,
        optimizer: OptimizerCallable = default_sgd,
        lr_scheduler: LRSchedulerCallable = WarmupCosine,
        pretrained: bool = False,
        weights: str | Path | None = None,
        compile: bool = False,
        channels_last: bool = True,
        many: int = 100,
        few: int = 20,
        convention: Convention = "kang",
        class_names: Sequence[str] | None = None,
    ) -> None:
        if branches not in ("both", "base", "retrieval"):
            raise LongTailError(f"Unknown branches={branches!r}: choose 'both', 'base' or 'retrieval'.")
        super().__init__(
            class_counts,
            backbone=backbone,
            head=head,
            loss=loss or LogitAdjustedLoss(label_smoothing=0.1),
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            pretrained=pretrained,
            weights=weights,
            compile=compile,
            channels_last=channels_last,
            many=many,
            few=few,
            convention=convention,
            class_names=class_names,
        )
        require_number(self, "backbone_lr_factor", backbone_lr_factor, 0)
        self.branches, self.backbone_lr_factor = branches, backbone_lr_factor
        texts: Any = text_encoder or BagOfWords()
        self.encoder = made_encoder(encoder)
        self.text_encoder: nn.Module = texts
        self.retrieval_head = made_head(retrieval_head, texts, len(self.class_counts))
        self.fusion: nn.Module = fusion or NormalizedSum()
        self.join = join or JoinedTexts()
        self.truncated = 0.0  # share of the last batch whose texts were cut off
        self.lookup = Lookup(memory, k=k, exclude=exclude, own_source=own_source, neighbors=neighbors)
        self._freeze()

    # -- logits ----------------------------------------------------------------------------------

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images; see `BaseClassifier.forward`."""
        return self.branch_logits(images)["logits"]

    def branch_logits(
        self, images: Tensor, *, split: str | None = None, index: Tensor | None = None
    ) -> dict[str, Tensor]:
        """`"logits"`, and those of each branch, `"base"` and `"retrieval"`, where both are used.

        Args:
            images: `(batch, channels, height, width)`, or several views of each.
            split: that the images are of; images of `"train"` do not find themselves.
            index: places of the images in the split.
        """
        if images.ndim == 5:
            views, each = images.shape[1], None if index is None else index.repeat_interleave(images.shape[1])
            found = self.branch_logits(images.flatten(0, 1), split=split, index=each)
            return {name: z.view(-1, views, z.shape[1]).mean(1) for name, z in found.items()}
        if self.branches == "base":
            return {"logits": super().forward(images)}
        if self.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        retrieved = self.retrieval_logits(self.find(images, split, index))
        if self.branches == "retrieval":
            return {"logits": retrieved}
        base = super().forward(images)
        return {"logits": self.fusion(base, retrieved), "base": base, "retrieval": retrieved}

    @torch.no_grad()
    def find(self, images: Tensor, split: str | None = None, index: Tensor | None = None) -> Tensor:
        """`(batch, k)`: numbers of the texts that a batch of images finds, see `branch_logits`."""
        if self.lookup.remembers(split):
            return self.lookup.find(None, split, index)
        self.lookup.require_checked(self.encoder)
        return self.lookup.find(self.encoder(images), split, index)

    def retrieval_logits(self, text_numbers: Tensor) -> Tensor:
        """Logits of the retrieval branch.

        Args:
            text_numbers: `(batch, k)`: which of the memory's different texts, those of the nearest item first.
        """
        encoded = self.join(self.text_encoder, text_numbers, self.memory.different_texts)  # type: ignore[arg-type]
        self.truncated = encoded.truncated
        logits: Tensor = self.retrieval_head(encoded.features)
        return logits

    # -- steps -----------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, target, *index = batch
        if target.is_floating_point():
            self.lookup.refuse_mixed()
        found = self.branch_logits(images, split="train", index=index[0] if index else None)
        loss: Tensor = self.loss(found["logits"], target)
        self.log("train/loss", loss, prog_bar=True)
        if self.branches != "base":
            size, name = len(images), "train/truncated"
            self.log(name, self.truncated, on_step=False, on_epoch=True, sync_dist=True, batch_size=size)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> StepOutput:
        return self._evaluate(batch, "val")

    def _evaluate(self, batch: Any, split: str = "test") -> StepOutput:
        images, *more = batch if isinstance(batch, (list, tuple)) else (batch,)
        named = dict(zip(("target", "index"), more))
        found = self.branch_logits(images, split=split, index=named.get("index"))
        return {name: z.to(torch.promote_types(z.dtype, torch.float32)) for name, z in found.items()} | named

    # -- what is trained -------------------------------------------------------------------------

    def _freeze(self) -> None:
        idle = {"base": ("text_encoder", "retrieval_head", "fusion"), "retrieval": ("backbone", "head", "fusion")}
        for name in ("encoder", *idle.get(self.branches, ())):
            getattr(self, name).requires_grad_(False)
        self.encoder.eval()

    def train(self, mode: bool = True) -> Self:
        """Training mode for all parts but the encoder."""
        super().train(mode)
        self.encoder.eval()
        return self

    def build_optimizer(self) -> Optimizer:
        """With a learning rate of its own for backbone and text encoder, if asked."""
        slow = [self.backbone, self.text_encoder]
        return with_slow_parts(self, self.optimizer, slow, self.backbone_lr_factor)

    # -- hooks -----------------------------------------------------------------------------------

    def configure_callbacks(self) -> list[L.Callback]:
        """A report of each branch, unless the trainer has one already."""
        callbacks, trainer = list(super().configure_callbacks()), attached_trainer(self)
        if self.branches == "both" and not any(isinstance(c, BranchReport) for c in trainer.callbacks):
            callbacks.append(BranchReport())
        return callbacks

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._freeze()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        # Lightning warns of every module in evaluation mode before it calls the next hook; ours is in it on purpose.
        self.encoder.train()

    def on_train_start(self) -> None:
        super().on_train_start()
        self.encoder.eval()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._freeze()
