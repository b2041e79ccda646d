"""Your own images: answer one question, `build(split)`, and give the data set its labels.

Class counts, balanced samplers, a held-out validation split, exact evaluation under DDP and exact
resume follow.
"""

import lightning as L
import torch
from torch.utils.data import Dataset

from longtail_lightning import BaseClassifier, ClassBalancedSampler, LongTailDataModule


class Animals(Dataset):
    """Stands for your data set; `labels` is what the library reads, without loading an image."""

    def __init__(self, counts: list[int]) -> None:
        self.labels = [label for label, count in enumerate(counts) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        label = self.labels[index]
        image = torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index)) + label
        return image, label


class AnimalData(LongTailDataModule):
    """The data module."""

    def build(self, split: str) -> Dataset | None:
        if split == "val":
            return None  # held out of the training images instead, see val_split
        return Animals([120, 40, 12]) if split == "train" else Animals([10, 10, 10])

    def build_class_names(self) -> list[str]:
        return ["cat", "lynx", "snow leopard"]


data = AnimalData(batch_size=16, val_split=0.2, sampler=ClassBalancedSampler)
print("trained on:", dict(zip(data.class_names, data.class_counts)))

model = BaseClassifier(data.class_counts, backbone="cifar_resnet20", many=50, few=20)
trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False)
trainer.fit(model, data)
trainer.test(model, data)
