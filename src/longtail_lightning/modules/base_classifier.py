"""The module that all others build on: backbone, head, loss, and metrics per split."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MetricCollection

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import SHARDED, is_compiled
from longtail_lightning._random import mix
from longtail_lightning.backbones import Backbone, create_backbone, load_weights
from longtail_lightning.callbacks.non_finite_loss import NonFiniteLossGuard
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.heads import Head, LinearHead
from longtail_lightning.losses import CrossEntropyLoss, LongTailLoss, WrapLoss
from longtail_lightning.metrics import ExpectedCalibrationError, ShotAccuracy
from longtail_lightning.metrics._mean_loss import MeanLoss
from longtail_lightning.modules._checkpoint import MissingPart
from longtail_lightning.modules._described_module import DescribedModule
from longtail_lightning.modules._hyper_parameters import not_plain
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd, when_to_step

HeadCallable = Callable[[int, int], Head]
StepOutput = dict[str, Tensor]
_MORE = ("target", "index")  # what a batch holds behind the images


class BaseClassifier(DescribedModule):
    """Train a backbone and a head with any long-tail loss.

    A method is a choice of loss, sampler, head and callbacks; there are no flags for methods. To
    make your own, subclass and override `training_step`, or change the parts:
    `model.head = CosineHead(model.backbone.num_features, 100)`.

    A checkpoint holds a plain description of backbone, head and loss, so
    `BaseClassifier.load_from_checkpoint(path)` needs nothing else.

    Args:
        class_counts: training images per class; the CLI takes them from the data.
        backbone: a name (`"cifar_resnet32"`, any timm or torchvision name), a `Backbone`, or any
            module with `num_features`.
        head: from (num_features, num_classes) to a head, for example `CosineHead`; or a head.
        loss: a loss of this library, or any module called as `loss(logits, target)`;
            cross-entropy by default. Class counts are bound here.
        optimizer: from parameters to optimizer; SGD with Nesterov momentum by default.
        lr_scheduler: from optimizer to scheduler. The default, `WarmupCosine`, steps per batch;
            any other steps per epoch.
        pretrained: download weights for a backbone given by name.
        weights: file of a checkpoint that the backbone's weights are read from, see `load_weights`.
        compile: run backbone and head through `torch.compile`.
        channels_last: keep images and weights in channels-last order, faster for convolutions.
        many: classes with more training images are many-shot.
        few: classes with fewer training images are few-shot.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        class_names: one name per class; by default those of the data module.

    Examples:
        >>> model = BaseClassifier([90, 10], backbone="cifar_resnet20")
        >>> model(torch.zeros(4, 3, 32, 32)).shape
        torch.Size([4, 2])
    """

    parts: ClassVar[tuple[str, ...]] = ("backbone", "head", "loss")
    start_only: ClassVar[Mapping[str, Any]] = {"pretrained": False, "weights": None}

    def __init__(
        self,
        class_counts: ClassCounts | Sequence[int],
        *,
        backbone: str | Backbone = "cifar_resnet32",
        head: HeadCallable | Head = LinearHead,
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
        super().__init__()
        self.class_counts = ClassCounts(class_counts)
        class_counts = self.class_counts.tolist()  # save_hyperparameters reads this local: keep it plain
        self.save_hyperparameters(ignore=not_plain(self))
        self.backbone: nn.Module = (
            create_backbone(backbone, pretrained=pretrained) if isinstance(backbone, str) else backbone
        )
        if weights is not None:
            rank_zero_info(f"Weights of the backbone: {load_weights(self.backbone, weights).summary()}")
        self.head: nn.Module = (
            head if isinstance(head, nn.Module) else head(self._num_features(), len(self.class_counts))
        )
        self.loss: nn.Module = _as_loss(loss)
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self.compile_parts = compile
        self.many, self.few, self.convention = many, few, convention
        self.channels_last = channels_last
        self.val_loss, self.test_loss = MeanLoss(), MeanLoss()
        self.set_classes(self.class_counts, class_names)
        self._bind_parts()

    def set_classes(self, class_counts: ClassCounts | Sequence[int], class_names: Sequence[str] | None = None) -> None:
        super().set_classes(class_counts, class_names)
        bounds: dict[str, Any] = {"many": self.many, "few": self.few, "convention": self.convention}
        metrics = ShotAccuracy(self.class_counts, **bounds).to(self.device)
        ece = ExpectedCalibrationError(len(self.class_counts)).to(self.device)
        self.val_metrics = MetricCollection({"shots": metrics}, prefix="val/")
        self.test_metrics = MetricCollection({"shots": metrics.clone(), "ece": ece}, prefix="test/")

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images, `(batch, channels, height, width)`.

        Several views of each image, `(batch, views, channels, height, width)`, give their mean logits.
        """
        if images.ndim == 5:
            return self(images.flatten(0, 1)).unflatten(0, images.shape[:2]).mean(1)  # type: ignore[no-any-return]
        if self.channels_last and images.ndim == 4:  # not features
            images = images.contiguous(memory_format=torch.channels_last)
        logits: Tensor = self.head(self.backbone(images))
        return logits

    # -- steps -----------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, target = batch[0], batch[1]
        loss: Tensor = self.loss(self(images), target)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> StepOutput:
        return self._evaluate(batch)

    def test_step(self, batch: Any, batch_idx: int) -> StepOutput:
        return self._evaluate(batch)

    def predict_step(self, batch: Any, batch_idx: int) -> StepOutput:
        return self._evaluate(batch)

    def on_validation_epoch_start(self) -> None:
        _reset(self.val_metrics, self.val_loss)

    def on_test_epoch_start(self) -> None:
        _reset(self.test_metrics, self.test_loss)

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(outputs, "validation_step", self.val_metrics, self.val_loss)

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self._score(outputs, "test_step", self.test_metrics, self.test_loss)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val/loss", self.val_metrics, self.val_loss)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test/loss", self.test_metrics, self.test_loss)

    def _evaluate(self, batch: Any) -> StepOutput:
        """Logits, at least in float32; labels and places of the items in the split, if the batch has them."""
        images, *more = batch if isinstance(batch, (list, tuple)) else (batch,)
        logits: Tensor = self(images)
        return {"logits": logits.to(torch.promote_types(logits.dtype, torch.float32)), **dict(zip(_MORE, more))}

    def _score(self, outputs: Any, step: str, metrics: MetricCollection, mean_loss: MeanLoss) -> None:
        """Metrics and loss of a batch, from the logits as callbacks have left them."""
        if not isinstance(outputs, dict) or not {"logits", "target"} <= outputs.keys():
            raise LongTailError(
                f"{step} of {type(self).__name__} returned {type(outputs).__name__}: return what super().{step}(...) "
                'gives, {"logits": logits, "target": labels}, which metrics and callbacks read.'
            )
        logits, target = outputs["logits"], outputs["target"]
        metrics.update(logits, target)
        with self.trainer.precision_plugin.forward_context():
            loss = self.loss(logits, target)
        mean_loss.update(loss / len(target) if getattr(self.loss, "reduction", "") == "sum" else loss, len(target))

    def _log_metrics(self, loss_key: str, metrics: MetricCollection, mean_loss: MeanLoss) -> None:
        values = metrics.compute()
        accuracy = loss_key.split("/")[0] + "/acc"
        # The values are those of all ranks already; sync_dist only tells Lightning so.
        self.log(loss_key, mean_loss.compute(), sync_dist=True)
        self.log(accuracy, values.pop(accuracy), prog_bar=True, sync_dist=True)
        self.log_dict(values, sync_dist=True)

    # -- optimization ----------------------------------------------------------------------------

    def build_optimizer(self) -> Optimizer:
        """The optimizer over what is trained; a child may make groups."""
        return self.optimizer([p for p in self.parameters() if p.requires_grad])

    def configure_optimizers(self) -> Any:
        optimizer = self.build_optimizer()
        return {"optimizer": optimizer, "lr_scheduler": when_to_step(self.lr_scheduler(optimizer), self.trainer)}

    def configure_callbacks(self) -> list[L.Callback]:
        return [NonFiniteLossGuard()]

    def setup(self, stage: str) -> None:
        """Parts may have been replaced since `__init__`: check and bind them once more."""
        super().setup(stage)
        if isinstance(self.trainer.strategy, SHARDED):
            # Shards are pieces of flat tensors: weights in another order cannot be saved.
            self.channels_last = False
            self.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        self._bind_parts()
        datamodule = getattr(self.trainer, "datamodule", None)
        counts = getattr(datamodule, "class_counts", None)
        if stage == "fit" and counts is not None and ClassCounts(counts) != self.class_counts:
            rank_zero_warn(
                f"The model was made for {self.class_counts!r} but the data have {ClassCounts(counts)!r}: "
                "pass class_counts=datamodule.class_counts unless the difference is intended."
            )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        # Dropout and the like become a function of (seed, step, rank), so that resuming is exact.
        if (seed := os.environ.get("PL_GLOBAL_SEED")) is not None:
            torch.manual_seed(mix(int(seed), self.global_step, batch_idx, self.global_rank))

    # -- parts -----------------------------------------------------------------------------------

    def _num_features(self) -> int:
        if not isinstance(width := getattr(self.backbone, "num_features", None), int):
            raise LongTailError(
                f"The backbone {type(self.backbone).__name__} has no `num_features`: "
                "set it to the width of the features that its forward returns."
            )
        return width

    def _bind_parts(self) -> None:
        if any(isinstance(part, MissingPart) for part in (self.backbone, self.head)):
            return  # a checkpoint brings them
        num_classes = len(self.class_counts)
        for name, made_for, needed in (
            ("num_classes", getattr(self.head, "num_classes", num_classes), num_classes),
            ("num_features", getattr(self.head, "num_features", self._num_features()), self._num_features()),
        ):
            if made_for != needed:
                source = "class_counts have" if name == "num_classes" else "the backbone gives"
                raise LongTailError(
                    f"The head was made for {name}={made_for} but {source} {needed}: "
                    "build it as Head(model.backbone.num_features, len(class_counts))."
                )
        for part in self.modules():
            bind = getattr(part, "bind_class_counts", None)
            # Counts that were given to a part on purpose stay.
            own: Any = getattr(part, "class_counts", None)
            if bind is not None and own is None:
                bind(self.class_counts)
            elif bind is not None and ClassCounts(own) != self.class_counts:
                rank_zero_warn(
                    f"{type(part).__name__} keeps class counts of its own ({ClassCounts(own)!r}), which differ from "
                    f"those of the model ({self.class_counts!r}): leave them out, unless it is intended."
                )
        for part in (self.backbone, self.head):
            if self.channels_last:
                part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            if self.compile_parts and not is_compiled(part):
                part.compile()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._bind_parts()


def _reset(metrics: MetricCollection, mean_loss: MeanLoss) -> None:
    """Start the metrics at zero: drop what an interrupted evaluation left, and sums shared with spawned processes."""
    # Lightning validates in inference mode, except during `fit`: tensors made here must serve both.
    with torch.inference_mode(False):
        metrics.reset()
        mean_loss.reset()


def _as_loss(loss: nn.Module | None) -> LongTailLoss:
    if loss is None:
        return CrossEntropyLoss()
    if getattr(loss, "reduction", "mean") == "none":
        raise LongTailError(f"{type(loss).__name__}(reduction='none') gives no single loss to train on: use 'mean'.")
    return loss if isinstance(loss, (LongTailLoss, MissingPart)) else WrapLoss(loss)  # type: ignore[return-value]
