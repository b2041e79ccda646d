"""A module that is nothing like backbone + head + loss: two branches, a list of heads, a frozen teacher, a memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from longtail_lightning import ClassCounts, CosineHead, LinearHead, load
from longtail_lightning.modules import DescribedModule


class Branch(nn.Module):
    """No batch statistics, which differ from process to process: those of half a batch are not those of a whole one."""

    def __init__(self, width):
        super().__init__()
        self.width, self.num_features = width, 4 * width
        self.conv = nn.Conv2d(3, width, 3, stride=2)
        self.norm = nn.GroupNorm(1, width)

    def forward(self, images):
        return F.adaptive_avg_pool2d(F.relu(self.norm(self.conv(images))), 2).flatten(1)


class Toy(DescribedModule):
    parts: ClassVar[tuple[str, ...]] = ("branches", "heads", "neck")
    start_only: ClassVar[Mapping[str, Any]] = {"teacher": None}

    def __init__(self, class_counts, *, branches=None, heads=None, neck=None, teacher=None, memory="", lr=0.05):
        super().__init__()
        self.class_counts = ClassCounts(class_counts)
        self.branches = nn.ModuleDict(branches or {})
        self.heads = nn.ModuleList(heads or [])
        self.neck = neck
        self.teacher, self.memory, self.lr = teacher, memory, lr
        self.save_hyperparameters({"memory": memory, "lr": lr, "teacher": teacher, "class_counts": list(class_counts)})
        self._outside: list[nn.Module] = []  # a teacher is no child: no state, no optimizer, no DDP

    def setup(self, stage):
        super().setup(stage)
        if stage == "fit" and self.teacher is not None:
            self._outside = [load(self.teacher, device="cpu").module.requires_grad_(False)]

    def forward(self, images):
        features = torch.cat([branch(images) for branch in self.branches.values()], dim=1)
        bias = torch.from_numpy(np.load(self.memory)).float()
        return sum(head(self.neck(features)) for head in self.heads) / len(self.heads) + bias

    def training_step(self, batch, batch_idx):
        images, target = batch[:2]
        logits = self(images)
        loss = F.cross_entropy(logits, target)
        for teacher in self._outside:
            with torch.no_grad():
                wanted = teacher(images).softmax(1)
            loss = loss + F.cross_entropy(logits, wanted)
        return loss

    def validation_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log("val/acc", (logits.argmax(1) == batch[1]).float().mean(), sync_dist=True)
        return {"logits": logits, "target": batch[1]}

    def test_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log("test/acc", (logits.argmax(1) == batch[1]).float().mean(), sync_dist=True)
        return {"logits": logits, "target": batch[1]}

    def predict_step(self, batch, batch_idx):
        return {"logits": self(batch[0])}

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def make_toy(counts, **options):
    torch.manual_seed(0)
    branches = {"wide": Branch(4), "narrow": Branch(2)}
    heads = [LinearHead(8, len(counts)), CosineHead(8, len(counts), scale=9.0, learnable_scale=False)]
    neck = nn.Sequential(nn.Linear(24, 8), nn.ReLU())
    np.save("memory.npy", np.linspace(0, 1, len(counts)))
    return Toy(counts, branches=branches, heads=heads, neck=neck, memory="memory.npy", **options)
