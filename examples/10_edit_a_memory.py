"""Train a classifier beside a memory, then teach it rare classes by adding pictures, without any training."""

from __future__ import annotations

from functools import partial

import lightning as L
import torch

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    RetrievalAugmented,
    RetrievalMemory,
    SyntheticLongTail,
    extract_features,
)

L.seed_everything(0, verbose=False)
quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
data = SyntheticLongTail(num_classes=10, max_count=120, imbalance_factor=40, batch_size=32)
adamw = partial(torch.optim.AdamW, lr=3e-3)

# The encoder looks pictures up. Take the best that you can get; here it is trained on the same few pictures.
first = BaseClassifier(data.class_counts, backbone=CIFARResNet(8), optimizer=adamw)
L.Trainer(max_epochs=4, **quiet).fit(first, data)
encoder = first.backbone

# The memory holds the training pictures, with the names of their classes as texts.
memory = RetrievalMemory.build(extract_features(encoder, data, split="train", progress=False))
model = RetrievalAugmented(
    data.class_counts, memory=memory, encoder=encoder, backbone=CIFARResNet(8), k=10, optimizer=adamw
)
L.Trainer(max_epochs=4, **quiet).fit(model, data)


def few_shot_accuracy() -> float:
    """Of the classes with fewer than 20 training pictures."""
    (metrics,) = L.Trainer(**quiet).test(model, data, verbose=False)
    return 100 * metrics["test/acc_few"]


print(f"few-shot accuracy: {few_shot_accuracy():.1f} %")

# Pictures that nobody has trained on, of the rare classes.
new = extract_features(encoder, data, split="val", progress=False)
rare = data.class_counts.shots().few
memory.add_source("new", new.subset(torch.isin(new.labels, rare)))
print(f"with {memory.sources['new']} more pictures in the memory: {few_shot_accuracy():.1f} %")

memory.remove_source("new")
print(f"without them: {few_shot_accuracy():.1f} %")
