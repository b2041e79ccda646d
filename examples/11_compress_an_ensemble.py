"""Train two networks on the data as they are, then one on balanced batches that learns from both."""

from __future__ import annotations

from functools import partial

import lightning as L
import torch

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassBalancedSampler,
    CosineHead,
    Distillation,
    SyntheticLongTail,
)

L.seed_everything(0, verbose=False)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
adamw = partial(torch.optim.AdamW, lr=3e-3)
tail = {"num_classes": 10, "max_count": 200, "imbalance_factor": 40, "batch_size": 32}
data, balanced = SyntheticLongTail(**tail), SyntheticLongTail(**tail, sampler=ClassBalancedSampler)


def accuracy(model: L.LightningModule) -> str:
    """On test images: of the classes with fewer than 20 training images, and of all."""
    (metrics,) = L.Trainer(**quiet).test(model, data, verbose=False)
    return f"few-shot {100 * metrics['test/acc_few']:.1f} %, all {100 * metrics['test/acc']:.1f} %"


teachers = []
for number in (1, 2):
    teacher = BaseClassifier(data.class_counts, backbone=CIFARResNet(8), head=CosineHead, optimizer=adamw)
    L.Trainer(max_epochs=6, **quiet).fit(teacher, data)
    teachers.append(teacher)
    print(f"teacher {number}: {accuracy(teacher)}")

# A checkpoint of the student holds nothing of its teachers: they could be files as well, which may be deleted later.
student = Distillation(data.class_counts, teachers=teachers, backbone=CIFARResNet(8), optimizer=adamw)
L.Trainer(max_epochs=6, **quiet).fit(student, balanced)
print(f"student: {accuracy(student)}")
