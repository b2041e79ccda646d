"""A student that learns from trained networks while it is trained on balanced batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones import Backbone, create_backbone, load_weights
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.heads import CosineHead, Head
from longtail_lightning.losses import FeatureDistillationLoss, LogitDistillationLoss, LongTailLoss
from longtail_lightning.modules._description import KEY
from longtail_lightning.modules._distillation_run import (
    as_wide,
    begin_run,
    end_run,
    require_options,
    require_same_teachers,
    show_views,
)
from longtail_lightning.modules._loss_of_each import loss_of_each
from longtail_lightning.modules._teacher import Source
from longtail_lightning.modules._teachers import Taught, Teachers, distance_of_a_constant
from longtail_lightning.modules.base_classifier import BaseClassifier, HeadCallable
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd

Distill = Literal["features", "logits", "both"]
TeachersLike = Sequence[Source] | Source


def fixed_cosine(num_features: int, num_classes: int) -> Head:
    """The paper's head: a cosine classifier whose scale is 20 and stays so.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
    """
    return CosineHead(num_features, num_classes, scale=20.0, learnable_scale=False)


class Distillation(BaseClassifier):
    r"""Train a student on balanced batches, close to what teachers see that were trained on the data as they are.

    Give the data module `sampler=ClassBalancedSampler`. The student starts from scratch; its features follow those of
    the teachers, while the balanced batches form its classifier. Several teachers become one student: it gets a layer
    `h` on top of its backbone that is as wide as all of them together, and its head sees what `h` gives.

    $$(1 - \alpha) \, \ell(z, y) + \alpha \, (\beta \, (1 - \cos(h(v), \hat V)) + \ell_{logits}(z, \hat z))$$

    Teachers are no part of the model: its checkpoints hold neither their weights nor a way to open them, and load, test
    and resume as those of any classifier. A run that resumes gets its teachers again, and refuses others.

    Args:
        class_counts: training images per class; the CLI takes them from the data.
        teachers: one or several: checkpoints of this library; LightningModules with `backbone` and `head`; or modules
            from images to features with `num_features`. They may have any width, image size, normalization and,
            as long as only features are distilled, other classes.
        backbone: of the student, as in `BaseClassifier`.
        head: of the student.
        distill: `"features"`, the paper's; `"logits"`, which also hands on the teachers' bias to the head classes; or
            `"both"`.
        alpha: share of distillation in the loss, from 0 to less than 1, since the rest trains the head.
        beta: factor of the distance between features.
        alpha_by_count: 0, or how much more the student heeds its teachers in rare classes: for class c, alpha becomes
            \(\alpha^{(n_c / \bar n)^{r}}\) with this number as r and the geometric mean of the counts.
        projection: what `h` is, `"linear"` as in the paper or `"linear_relu"` as in the authors' code. There is none
            for a single teacher as wide as the student.
        logit_loss: from the logits of the student and of the teachers to a loss, `LogitDistillationLoss()` by default;
            several teachers give the log of their mean probability.
        teacher_features: `"exact"`, of each batch; or `"cached"`: of `views` augmentations of each image, found before
            the training, which then shows no others.
        views: how many augmentations of each image there are, if features are cached.
        cache: folder in which the features are kept for later runs; in memory by default.
        teacher_precision: `"32"` or `"bf16"`, in which the teachers compute.
        loss: as in `BaseClassifier`; cross-entropy by default.
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
        >>> teachers = [BaseClassifier([90, 10], backbone="cifar_resnet20") for _ in range(2)]
        >>> student = Distillation([90, 10], teachers=teachers, backbone="cifar_resnet20")
        >>> student.backbone(torch.zeros(4, 3, 32, 32)).shape
        torch.Size([4, 128])

    **Paper.** Iscen et al., Class-Balanced Distillation for Long-Tailed Visual Recognition, BMVC 2021.

    **Differences from the authors' code.** Theirs puts a ReLU after h (`projection="linear_relu"`). Eq. 3 has the
    cross-entropy between predictions; `LogitDistillationLoss` has the divergence, whose gradient is the same.
    """

    start_only: ClassVar[Mapping[str, Any]] = {**BaseClassifier.start_only, "teachers": None, "cache": None}
    needed_to_resume: ClassVar[tuple[str, ...]] = ("teachers", "cache")
    parts: ClassVar[tuple[str, ...]] = (*BaseClassifier.parts, "logit_loss")

    def __init__(
        self,
        class_counts: ClassCounts | Sequence[int],
        *,
        teachers: TeachersLike | None = None,
        backbone: str | Backbone = "cifar_resnet32",
        head: HeadCallable | Head = fixed_cosine,
        distill: Distill = "features",
        alpha: float = 0.4,
        beta: float = 100.0,
        alpha_by_count: float = 0.0,
        projection: Literal["linear", "linear_relu"] = "linear",
        logit_loss: nn.Module | None = None,
        teacher_features: Literal["exact", "cached"] = "exact",
        views: int = 10,
        cache: str | Path | None = None,
        teacher_precision: Literal["32", "bf16"] = "32",
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
        require_options(locals())
        opened = Teachers(() if teachers is None else teachers, bfloat16=teacher_precision == "bf16")
        student: Any = create_backbone(backbone, pretrained=pretrained) if isinstance(backbone, str) else backbone
        if weights is not None:
            load_weights(student, weights)
        if len(opened) and distill != "logits":
            student = as_wide(student, opened, relu=projection == "linear_relu")
        super().__init__(
            class_counts,
            backbone=student,
            head=head,
            loss=loss,
            optimizer=optimizer,
            lr_scheduler=lr_scheduler,
            compile=compile,
            channels_last=channels_last,
            many=many,
            few=few,
            convention=convention,
            class_names=class_names,
        )
        self.teachers = opened
        self.distill = distill
        self.alpha, self.beta, self.alpha_by_count = alpha, beta, alpha_by_count
        self.projection = projection
        self.feature_loss = FeatureDistillationLoss()
        self.logit_loss: nn.Module = logit_loss if logit_loss is not None else LogitDistillationLoss()
        self.teacher_features, self.views, self.cache = teacher_features, views, cache
        self._began_with: Any = None  # what a checkpoint tells about its teachers

    # -- the loss --------------------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        images, target, *more = batch
        if self.channels_last and images.ndim == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        if images.ndim == 5:
            raise LongTailError("Distillation trains on one view of an image at a time: give (batch, channels, h, w).")
        taught = None if self.alpha == 0 else self._ask(images, target, more)
        features = self.backbone(images)
        logits = self.head(features)
        terms: dict[str, Tensor]
        if taught is None:
            terms = {"loss": self.loss(logits, target)}
        else:
            terms = self.loss_terms(features, logits, target, taught)
        for name, value in terms.items():
            self.log(f"train/{name}", value.detach(), prog_bar=name == "loss", batch_size=len(target))
        return terms["loss"]

    def loss_terms(self, features: Tensor, logits: Tensor, target: Tensor, taught: Taught) -> dict[str, Tensor]:
        """`"loss"`, eqs. 2 to 4 for a batch, and what it is made of.

        `"feature_distance"` is to be compared with `"feature_distance_of_a_constant"`: all features share a direction,
        so a student that tells no image from another is near its teachers already.

        Args:
            features: of the student, as its head sees them.
            logits: of the student.
            target: class indices, or probabilities.
            taught: what the teachers say.
        """
        alpha = self._alpha(target)
        each = isinstance(alpha, Tensor)

        def loss_of(loss: nn.Module, *arguments: Any) -> Tensor:
            found: Tensor = loss_of_each(loss, *arguments) if each else loss(*arguments)
            return found

        own = loss_of(self.loss, logits, target)
        total, terms = (1 - alpha) * own, {"loss_own": own.mean()}
        if self.distill != "logits":
            distance = loss_of(self.feature_loss, features, taught.features)
            total = total + alpha * self.beta * distance
            terms["feature_distance"] = distance.mean()
            terms["feature_distance_of_a_constant"] = distance_of_a_constant(taught.features)
        if self.distill != "features":
            told = loss_of(self.logit_loss, logits, taught.logits)
            total = total + alpha * told
            terms["loss_logits"] = told.mean()
        return {"loss": total.mean(), **terms}

    def _alpha(self, target: Tensor) -> float | Tensor:
        """One number; or, by the counts of the classes, one for each image."""
        if self.alpha_by_count == 0:
            return self.alpha
        counts = self.class_counts.tensor.double()
        middle = counts[counts > 0].log().mean().exp()
        of_class = (self.alpha ** ((counts / middle) ** self.alpha_by_count)).float().to(target.device)
        return (target * of_class).sum(1) if target.is_floating_point() else of_class[target]

    def _ask(self, images: Tensor, target: Tensor, items: Sequence[Tensor]) -> Taught:
        wanted = self.distill != "features"
        if self.teachers.remembers:
            if target.is_floating_point():
                raise LongTailError(
                    "mixup and cutmix make images that no teacher has seen before the training: turn them off, or "
                    "choose teacher_features='exact'."
                )
            return self.teachers.recall(items[0], items[1], images.device, logits=wanted)
        taught = self.teachers.look(images, logits=wanted)
        # On an accelerator a look waits for the device.
        every = max(1, getattr(self.trainer, "log_every_n_steps", 1))
        if images.device.type == "cpu" or self.trainer.global_step % every == 0:
            self.teachers.require_finite(taught.features)
        return taught

    # -- hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        if stage == "fit" and self.teacher_features == "cached":
            show_views(self)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.alpha > 0:
            begin_run(self, self._began_with)

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.alpha > 0:  # once more, for a strategy that restores a checkpoint after `on_fit_start`
            require_same_teachers(self, self._began_with)

    def teardown(self, stage: str) -> None:
        super().teardown(stage)
        if stage == "fit":
            end_run(self)

    def card(self) -> dict[str, Any]:
        return {**super().card(), "teachers": self.teachers.described() if len(self.teachers) else self._began_with}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        # Told, and not opened: anybody may have written it.
        self._began_with = checkpoint.get(KEY, {}).get("card", {}).get("teachers")
