"""The second stage of decoupled training, through images."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import nn
from torch.optim import Optimizer
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning._spec import rebuild
from longtail_lightning._torch_files import read_torch_file
from longtail_lightning.backbones import Backbone, create_backbone, load_weights
from longtail_lightning.backbones._last_block import last_block
from longtail_lightning.counts import ClassCounts, Convention
from longtail_lightning.heads import Head, LinearHead
from longtail_lightning.losses import LongTailLoss
from longtail_lightning.modules._checkpoint import MissingPart
from longtail_lightning.modules._description import KEY
from longtail_lightning.modules.base_classifier import BaseClassifier, HeadCallable
from longtail_lightning.modules.schedule import WarmupCosine, default_sgd, with_slow_parts

WrapCallable = Callable[[Head], Head]


class Decoupled(BaseClassifier):
    """Train a new classifier, or a part of the backbone with it, on a representation that is there already.

    Starts from the checkpoint of a first stage, trained on the data as they are. Give the data module
    a class-balanced sampler: `sampler=ClassBalancedSampler`. With the backbone frozen,
    `ClassifierRetraining` and `fit_head` reach the same from one pass over the images; this module
    is for what needs the images in every epoch: augmentation, and training parts of the backbone.

    | paper, table 1 | arguments |
    |---|---|
    | C | `trainable="head"` |
    | LB+C | `trainable="last_block", backbone_lr_factor=1.0` |
    | B+C (0.1 x lr) | `trainable="all"` |
    | B+C | `trainable="all", backbone_lr_factor=1.0` |

    Only what is trained goes to the optimizer. Its checkpoints hold everything: they test, predict and
    resume without that of the first stage.

    Args:
        class_counts: training images per class; the CLI takes them from the data.
        checkpoint: the first stage, a checkpoint of a `BaseClassifier` or of a child; or, with `backbone`, any file
            that `load_weights` understands.
        head: from (num_features, num_classes) to a new head; from the old head to one that builds on
            it, such as `LearnableScaleHead`; a head; or None to go on with the old one.
        trainable: `"head"`, `"last_block"` (`layer4` of a ResNet, the last block of other networks, and
            what follows) with the head, or `"all"`.
        backbone_lr_factor: learning rate of the backbone over that of the head.
        backbone_mode: what batch norms in the frozen part do: `"eval"` uses and keeps the statistics of the first
            stage; `"train"`, which is what the authors' code does, uses those of each batch, and moves the kept ones
            towards the balanced batches. What is trained is in training mode in any case.
        backbone: takes the weights of the checkpoint, when the checkpoint does not describe one: a name or a module;
            or a trained backbone, without a checkpoint.
        loss: as in `BaseClassifier`; cross-entropy by default.
        optimizer: from parameter groups to optimizer.
        lr_scheduler: from optimizer to scheduler.
        compile: run backbone and head through `torch.compile`.
        channels_last: keep images and weights in channels-last order.
        many: classes with more training images are many-shot.
        few: classes with fewer training images are few-shot.
        convention: side of these bounds, `"kang"` (>, <) or `"oltr"` (>=, <=).
        class_names: one name per class; by default those of the data module.

    Examples:
        >>> stage_one = BaseClassifier([90, 10], backbone="cifar_resnet20")
        >>> model = Decoupled([90, 10], backbone=stage_one.backbone)
        >>> [name for name, parameter in model.named_parameters() if parameter.requires_grad]
        ['head.weight', 'head.bias']

    **Paper.** Kang et al., Decoupling Representation and Classifier, ICLR 2020, section 4 and table 1.

    **Differences from the authors' code.** Theirs leaves the frozen backbone in training mode
    (`backbone_mode="train"`).
    """

    start_only: ClassVar[Mapping[str, Any]] = {"checkpoint": None}

    def __init__(
        self,
        class_counts: ClassCounts | Sequence[int],
        *,
        checkpoint: str | Path | None = None,
        head: HeadCallable | WrapCallable | Head | None = LinearHead,
        trainable: Literal["head", "last_block", "all"] = "head",
        backbone_lr_factor: float = 0.1,
        backbone_mode: Literal["eval", "train"] = "eval",
        backbone: str | Backbone | None = None,
        loss: LongTailLoss | None = None,
        optimizer: OptimizerCallable = default_sgd,
        lr_scheduler: LRSchedulerCallable = WarmupCosine,
        compile: bool = False,
        channels_last: bool = True,
        many: int = 100,
        few: int = 20,
        convention: Convention = "kang",
        class_names: Sequence[str] | None = None,
    ) -> None:
        for name, value, options in (
            ("trainable", trainable, ("head", "last_block", "all")),
            ("backbone_mode", backbone_mode, ("eval", "train")),
        ):
            if value not in options:
                raise LongTailError(f"Unknown {name}={value!r}: choose {' or '.join(map(repr, options))}.")
        counts = ClassCounts(class_counts)
        if isinstance(backbone, str):
            backbone = create_backbone(backbone)
        if checkpoint is not None:
            first = _first_stage(checkpoint, backbone, counts)
        else:
            # Without either, this is a checkpoint of the second stage being loaded, which brings its parts.
            first = {"backbone": backbone if backbone is not None else MissingPart("backbone")}
        super().__init__(
            class_counts,
            backbone=first["backbone"],  # type: ignore[arg-type]
            head=_head(head, first, len(counts), checkpoint),
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
        self.trainable = trainable
        require_number(self, "backbone_lr_factor", backbone_lr_factor, 0)
        self.backbone_lr_factor = backbone_lr_factor
        self.backbone_mode = backbone_mode
        self._freeze()

    # -- what is trained -------------------------------------------------------------------------

    def _freeze(self) -> None:
        self.backbone.requires_grad_(self.trainable == "all")
        for block in self._trained_blocks():
            block.requires_grad_(True)
        self.train(self.training)

    def _trained_blocks(self) -> list[nn.Module]:
        return last_block(self.backbone) if self.trainable == "last_block" else []

    def train(self, mode: bool = True) -> Self:
        """Training mode for what is trained; the frozen part of the backbone follows `backbone_mode`."""
        super().train(mode)
        if mode and self.backbone_mode == "eval" and self.trainable != "all":
            self.backbone.eval()
            for block in self._trained_blocks():
                block.train()
        return self

    def build_optimizer(self) -> Optimizer:
        """A group for the head and one for what is trained of the backbone, at its own learning rate."""
        if isinstance(self.backbone, MissingPart):
            raise LongTailError(
                "Decoupled trains a second stage: give it that of the first, checkpoint=FILE "
                "(--model.checkpoint FILE), or a trained backbone=MODULE."
            )
        if not any(p.requires_grad for p in self.parameters()):
            raise LongTailError(
                f"{type(self.head).__name__} has nothing to train: fit it with head.fit(bank), or give "
                "another head, such as LinearHead or LearnableScaleHead."
            )
        return with_slow_parts(self, self.optimizer, [self.backbone], self.backbone_lr_factor)

    # -- hooks -----------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        super().setup(stage)
        self._freeze()

    def on_fit_start(self) -> None:
        # Lightning warns of every module in evaluation mode before it calls the next hook; ours are in it on purpose.
        super().train()

    def on_train_start(self) -> None:
        super().on_train_start()
        self.train()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._freeze()


def _first_stage(path: str | Path, backbone: nn.Module | None, counts: ClassCounts) -> dict[str, nn.Module]:
    """Backbone and, where it can be told, head of the first stage, with their weights."""
    if not Path(path).is_file():
        raise LongTailError(f"checkpoint={str(path)!r}: there is no such file; give the checkpoint of the first stage.")
    content = read_torch_file(path)
    described = content.get(KEY, {}).get("parts", {}) if isinstance(content, Mapping) else {}
    parts: dict[str, nn.Module] = {}
    for name in ("backbone", "head"):
        spec = described.get(name, {}).get("spec")
        if name == "backbone" and backbone is not None:
            parts[name] = backbone
        elif spec is not None:
            parts[name] = rebuild(spec, counts)
        elif name == "backbone":
            raise LongTailError(
                f"{_why_unknown(path, described)}: pass it as Decoupled(class_counts, checkpoint=..., backbone=...), a "
                "name or a module, its weights will be loaded."
            )
    for name, part in parts.items():
        loaded = load_weights(part, path, part=name)
        if loaded.missing:
            raise LongTailError(
                f"The weights of the {name} in {path} do not fit the {type(part).__name__} that takes them: give one "
                f"of the same kind and width. {loaded.summary()}"
            )
    return parts


def _why_unknown(path: str | Path, described: Mapping[str, Any]) -> str:
    if "backbone" in described:
        return f"The backbone in {path} is a {described['backbone']['class']}, which plain values cannot describe"
    return f"{path} does not describe its parts, so it was not written by a BaseClassifier"


def _head(
    head: HeadCallable | WrapCallable | Head | None,
    parts: dict[str, nn.Module],
    num_classes: int,
    checkpoint: str | Path | None,
) -> Head:
    """The head of the second stage."""
    if isinstance(head, nn.Module):
        return head  # type: ignore[return-value]
    if isinstance(parts["backbone"], MissingPart):
        return MissingPart("head")  # type: ignore[return-value]
    num_features = getattr(parts["backbone"], "num_features", 1)  # a backbone without num_features gets its error later
    if head is not None and not _wraps(head):
        return head(num_features, num_classes)  # type: ignore[call-arg, arg-type]
    old = parts.get("head")
    if old is None:
        if checkpoint is not None:
            raise LongTailError(
                f"{checkpoint} cannot describe its head in plain values, so it cannot be kept: "
                "pass the head itself, head=..."
            )
        old = LinearHead(num_features, num_classes)
    return old if head is None else head(old)  # type: ignore[return-value, call-arg, arg-type]


def _wraps(head: Callable[..., Head]) -> bool:
    """Whether a head is made from another one."""
    made: Any = head
    if isinstance(head, partial):
        # The command line gives partial(instantiate, class, **init_args).
        made = next((part for part in (head.func, *head.args) if isinstance(part, type)), head)
    return next(iter(inspect.signature(made).parameters), "") == "head"
