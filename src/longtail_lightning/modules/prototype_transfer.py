"""Knowledge transfer at the end of a fit: a cosine classifier, then everything that can be composed of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch.optim import Optimizer

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import attached_trainer
from longtail_lightning._number_range import require_number
from longtail_lightning.backbones import Backbone
from longtail_lightning.callbacks import ClassifierRetraining
from longtail_lightning.callbacks._banks import has_split
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.heads import CosineHead, Head
from longtail_lightning.heads.knowledge_transfer import Attention
from longtail_lightning.losses import LongTailLoss
from longtail_lightning.methods import AdjustedLogits, KnowledgeTransfer, Prototypes, Retraining
from longtail_lightning.modules.base_classifier import BaseClassifier, HeadCallable
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd, with_slow_parts


class PrototypeTransfer(BaseClassifier):
    """Train a cosine classifier, then compose classifiers for rare classes from it without training, and compare them.

    The fit is that of `BaseClassifier`; give the data module `sampler=SquareRootSampler`, as the paper does. At its
    end all rows of the paper's table 1 are shown, with two controls, adjusted logits and the plain mean of the donors
    (`tau` 0), and with the accuracy among the classes of each split alone: rows that only name rare classes
    more often are as good there as the cosine classifier. The model gets the best head on validation images, or the
    ensemble without any. Classes are added to it with `load(path).add_classes(...)` or `ltl class add`.

    Args:
        class_counts: training images per class; the CLI takes them from the data.
        k: classes with more training images give knowledge; one classifier for each.
        tau: temperature of the attention, or `"val"`: chosen on validation images.
        attention: who asks and who answers, see `KnowledgeTransferHead`.
        keep: name of the row whose head the model gets; `"auto"`: the best on validation images, or the ensemble,
            `"kt"`, without any.
        test: also show all rows on the test images; nothing depends on them.
        backbone_lr_factor: learning rate of the backbone over that of the head.
        backbone: as in `BaseClassifier`.
        head: what is trained; the paper requires a cosine classifier.
        loss: as in `BaseClassifier`; cross-entropy by default.
        optimizer: from parameters to optimizer.
        lr_scheduler: from optimizer to scheduler.
        pretrained: download weights for a backbone given by name.
        weights: file of a checkpoint that the backbone's weights are read from, see `load_weights`.
        compile: run backbone and head through `torch.compile`.
        channels_last: keep images and weights in channels-last order.
        many: classes with this many training images or more are many-shot.
        few: classes with this many training images or fewer are few-shot.
        convention: side of these bounds, `"oltr"` (>=, <=) as in the paper, or `"kang"` (>, <).
        class_names: one name per class; by default those of the data module.

    Examples:
        >>> model = PrototypeTransfer([500, 90, 10], backbone="cifar_resnet20", k=(0, 20))
        >>> [method.name for method in model.methods()][-3:]
        ['continual', 'continual_p', 'mean_of_donors']

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022.

    **Differences from the paper.** The two controls, and the choice on validation images.
    """

    def __init__(
        self,
        class_counts: ClassCounts | Sequence[int],
        *,
        k: Sequence[int] = (0, 20, 100),
        tau: float | Literal["val"] = 10.0,
        attention: Attention = "p->w",
        keep: str = "auto",
        test: bool = False,
        backbone_lr_factor: float = 1.0,
        backbone: str | Backbone = "cifar_resnet32",
        head: HeadCallable | Head = CosineHead,
        loss: LongTailLoss | None = None,
        optimizer: OptimizerCallable = default_sgd,
        lr_scheduler: LRSchedulerCallable = WarmupCosine,
        pretrained: bool = False,
        weights: str | Path | None = None,
        compile: bool = False,
        channels_last: bool = True,
        many: int = 100,
        few: int = 20,
        convention: Convention = "oltr",
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__(
            class_counts,
            backbone=backbone,
            head=head,
            loss=loss,
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
        self.k = tuple(k)
        self.tau = tau
        self.attention: Attention = attention
        self.keep = keep
        self.test_too = test
        require_number(self, "backbone_lr_factor", backbone_lr_factor, 0)
        self.backbone_lr_factor = backbone_lr_factor
        self.methods()  # impossible values are refused here

    def methods(self) -> list[Retraining]:
        """The rows of the comparison, after the cosine classifier's."""
        options: dict[str, Any] = {"tau": self.tau, "attention": self.attention}
        above = [k for k in self.k if k > 0] or list(self.k)
        continual: dict[str, Any] = {**options, "parts": ("transfer", "prototype")}
        return [
            AdjustedLogits(),
            Prototypes(),
            KnowledgeTransfer(k=0, parts=("prototype", "classifier"), name="p_plus_w"),
            KnowledgeTransfer(k=(), also=("prototypes", "classifier"), name="p_plus_w_votes"),
            *(KnowledgeTransfer(k=k, name=f"w_h_{k}", **options) for k in self.k),
            KnowledgeTransfer(k=self.k, **options),
            *(KnowledgeTransfer(k=k, name=f"w_hc_{k}", **continual) for k in above),
            KnowledgeTransfer(k=above, name="continual", **continual),
            KnowledgeTransfer(k=above, also=("prototypes",), name="continual_p", **continual),
            KnowledgeTransfer(k=above[0], attention=self.attention, tau=0.0, name="mean_of_donors"),
        ]

    def build_optimizer(self) -> Optimizer:
        """With a learning rate of its own for the backbone, if asked."""
        if self.backbone_lr_factor == 1.0:
            return super().build_optimizer()
        return with_slow_parts(self, self.optimizer, [self.backbone], self.backbone_lr_factor)

    def configure_callbacks(self) -> list[L.Callback]:
        """The comparison at the end of a fit, unless the trainer has one already."""
        callbacks, trainer = list(super().configure_callbacks()), attached_trainer(self)
        if trainer is None or trainer.state.fn != "fit":
            return callbacks
        largest = int(self.class_counts.tensor.max())
        if self.k and max(self.k) >= largest:
            raise LongTailError(
                f"k={max(self.k)}: no class has more than {max(self.k)} training images, so none can give knowledge. "
                f"The largest k possible is {largest - 1}."
            )
        if not any(isinstance(callback, ClassifierRetraining) for callback in trainer.callbacks):
            keep = self.keep if self.keep != "auto" else "best" if has_split(trainer, "val") else "kt"
            start: Literal["best", "last"] = "best" if has_split(trainer, "val") else "last"
            callbacks.append(
                ClassifierRetraining(
                    self.methods(), keep=keep, start=start, test=self.test_too, save="kept", within=True
                )
            )
        return callbacks
