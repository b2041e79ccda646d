"""A trained network that a student learns from.

It is a plain object and not a module, so that the student's optimizer, checkpoint, `train()`, `to()` and its
DistributedDataParallel never reach it.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.backbones import Backbone, PreparedBackbone
from longtail_lightning.features._encoding import Encoding
from longtail_lightning.features._fingerprint import checksum, encoder_fingerprint
from longtail_lightning.modules._checkpoint import build_module, read_checkpoint
from longtail_lightning.modules._prepared import prepared_backbone

Source = str | Path | nn.Module


@dataclass(eq=False)
class Teacher:
    """A frozen network.

    Args:
        name: its file, or what kind of module it is.
        backbone: from images to features.
        head: from features to logits, if it has one.
        class_names: of the logits; None when nobody gave names.
        num_features: width of the features.
        held_out: what its checkpoint says about the images that it was trained on, by kind of data module.
    """

    name: str
    backbone: nn.Module
    head: nn.Module | None
    class_names: list[str] | None
    num_features: int
    held_out: Mapping[str, Any] = field(default_factory=dict)
    checksum: str = ""
    order: Tensor | None = None  # of its classes, where the student has them in another one
    _encoding: Encoding | None = None

    def __post_init__(self) -> None:
        for part in self._parts():
            part.eval().requires_grad_(False)
        told = [encoder_fingerprint(part)["checksum"] for part in self._parts()]
        if isinstance(b := self.backbone, PreparedBackbone):
            told.append(repr((b.size, b.mean, b.std, b.interpolation)))
        self.checksum = checksum(map(str.encode, told))

    def _parts(self) -> list[nn.Module]:
        return [self.backbone] if self.head is None else [self.backbone, self.head]

    def to(self, *arguments: Any, **options: Any) -> None:
        """Move and cast, as `nn.Module.to` does."""
        for part in self._parts():
            part.to(*arguments, **options)
        self._encoding = None

    def look(self, images: Tensor) -> Tensor:
        """Features of images that were prepared for the student, in float32 at least."""
        if self._encoding is None:
            self._encoding = Encoding(self.backbone, images.device, None)
        with torch.inference_mode(), torch.autocast(images.device.type, enabled=False):
            features = self._encoding(images)
        if features.shape[1] != self.num_features:
            raise LongTailError(
                f"The teacher {self.name} gives {features.shape[1]} features and says num_features={self.num_features}:"
                " take its classifier off, or set num_features."
            )
        return features.clone()  # inference tensors cannot be kept for a gradient

    def classify(self, features: Tensor) -> Tensor:
        """Log-probability of each class, in the order of the student's."""
        assert self.head is not None
        kind = next((p.dtype for p in self.head.parameters()), features.dtype)
        with torch.inference_mode(), torch.autocast(features.device.type, enabled=False):
            logits = self.head(features.to(kind))
            logits = logits if self.order is None else logits[:, self.order.to(logits.device)]
        return F.log_softmax(logits.clone().to(features.dtype), dim=1)

    def require_classes(self, class_names: Sequence[str] | None, num_classes: int) -> None:
        """Bring the logits into the order of the student's classes; refuse other classes.

        Args:
            class_names: of the student.
            num_classes: of the student.
        """
        if self.head is None:
            raise LongTailError(
                f"The teacher {self.name} has no head, so it gives no logits: choose distill='features', or give a "
                "checkpoint of a classifier."
            )
        self.order = None
        own = getattr(self.head, "num_classes", getattr(self.head, "out_features", num_classes))
        if own != num_classes:
            raise LongTailError(
                f"The teacher {self.name} knows {own} classes and the student {num_classes}: give one of the same "
                "classes, or choose distill='features'."
            )
        if class_names is None or self.class_names is None or list(class_names) == self.class_names:
            return
        if any(list(names) == [str(c) for c in range(num_classes)] for names in (class_names, self.class_names)):
            return  # numbers, in the place of names that nobody gave
        if len({*self.class_names}) < num_classes:
            raise LongTailError(f"The teacher {self.name} has two classes of one name: choose distill='features'.")
        if missing := [name for name in class_names if name not in self.class_names]:
            raise LongTailError(
                f"The teacher {self.name} does not know the class {missing[0]!r}: give one of the same classes, or "
                "choose distill='features'."
            )
        self.order = torch.tensor([self.class_names.index(name) for name in class_names])


def open_teacher(source: Any) -> Teacher:
    """A teacher from what a user gives.

    Args:
        source: the file of a checkpoint of this library; a LightningModule with `backbone` and perhaps `head`, or any
            module from images to features, both of which are copied.
    """
    if isinstance(source, (str, Path)):
        return _from_file(source)
    if not isinstance(source, nn.Module):
        raise LongTailError(
            f"A teacher is the file of a checkpoint, or a module; got {type(source).__name__}. Of `load(path)`, give "
            "the path."
        )
    name = type(source).__name__
    whole = isinstance(getattr(source, "backbone", None), nn.Module) and not isinstance(source, Backbone)
    if isinstance(source, L.LightningModule) and not whole:
        raise LongTailError(f"The teacher {name} has no .backbone: give the part of it that gives features.")
    if not whole:
        return Teacher(name, copy.deepcopy(source), None, None, _width(source, name))
    told = getattr(source, "input", None) is not None
    backbone: Any = prepared_backbone(source) if told else source.backbone
    backbone, head = copy.deepcopy((backbone, _head(source, name)))
    return Teacher(name, backbone, head, getattr(source, "class_names", None), _width(source.backbone, name))


def _from_file(path: str | Path) -> Teacher:
    if not Path(path).is_file():
        raise LongTailError(f"teachers: there is no file {path}; give the checkpoint of a trained model.")
    module: Any = build_module(path, {})
    if not isinstance(getattr(module, "backbone", None), nn.Module):
        raise LongTailError(f"The teacher {path} has no backbone: give a checkpoint of a classifier.")
    saved = read_checkpoint(path)
    states = {key: value for key, value in saved.items() if isinstance(value, dict) and "held_out" in value}
    head, width = _head(module, str(path)), _width(module.backbone, str(path))
    return Teacher(str(path), prepared_backbone(module), head, module.class_names, width, states)


def _head(module: Any, name: str) -> nn.Module | None:
    """The head on top of the backbone; None for one branch of several, which is not what the module says."""
    branches = getattr(module, "branches", "base")
    if branches == "retrieval":
        raise LongTailError(f"The teacher {name} reads a memory alone, its backbone was never trained: give another.")
    head = getattr(module, "head", None)
    return head if isinstance(head, nn.Module) and branches == "base" else None


def _width(module: Any, name: str) -> int:
    if isinstance(width := getattr(module, "num_features", None), int):
        return width
    raise LongTailError(f"The teacher {name} has no num_features: set it to the width of the features that it gives.")
