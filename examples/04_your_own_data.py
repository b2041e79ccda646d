"""Your own images: one folder per class is all that is needed.

Class counts, balanced samplers, held-out validation and test images, exact evaluation under DDP and
exact resume follow. For tables, lists and other layouts see docs/guides/your_images.md.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import torch
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import to_pil_image

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    ImageFolderLT,
    LongTailDataModule,
    ResizedCropTransforms,
    SyntheticImages,
)


def draw_photos(root: Path) -> None:
    """Stands for your folder: photos/cat/0.jpg, photos/cat/1.jpg, ..."""
    names = ["cat", "lynx", "snow leopard"]
    for index, (image, label) in enumerate(SyntheticImages([100, 40, 12])):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        to_pil_image(image).save(root / names[label] / f"{index}.jpg")


def fit_and_test(data: LongTailDataModule) -> None:
    """Train, then test on images that training never saw."""
    model = BaseClassifier(data.class_counts, backbone="cifar_resnet20", many=50, few=20)
    trainer = L.Trainer(max_epochs=2, logger=False, enable_checkpointing=False)
    trainer.fit(model, data)
    trainer.test(model, data)


with TemporaryDirectory() as folder:
    draw_photos(Path(folder))
    transforms = ResizedCropTransforms(image_size=32)  # 224 by default
    data = ImageFolderLT(
        folder, test_split=0.2, val_split=0.2, transforms=transforms, batch_size=16, sampler=ClassBalancedSampler
    )
    print("trained on:", dict(zip(data.class_names, data.class_counts)))
    fit_and_test(data)


class Animals(Dataset):
    """Any other data set: `labels` is what the library reads, without loading an image."""

    def __init__(self, counts: list[int]) -> None:
        self.labels = [label for label, count in enumerate(counts) for _ in range(count)]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(index)), self.labels[index]


class AnimalData(LongTailDataModule):
    """Its data module answers one question: which data set is this split?"""

    def build(self, split: str) -> Dataset | None:
        return {"train": Animals([120, 40, 12]), "val": None, "test": Animals([10, 10, 10])}[split]


fit_and_test(AnimalData(batch_size=16, val_split=0.2))
