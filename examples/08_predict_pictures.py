"""From a checkpoint to answers about pictures that no data module has ever seen."""

from pathlib import Path
from tempfile import mkdtemp

import lightning as L
import numpy as np
from PIL import Image

from longtail_lightning import BaseClassifier, LogitAdjustedLoss, SyntheticImages, SyntheticLongTail, load

L.seed_everything(0)
data = SyntheticLongTail(num_classes=10, max_count=100, imbalance_factor=50, val_per_class=10)
model = BaseClassifier(data.class_counts, backbone="cifar_resnet20", loss=LogitAdjustedLoss())
trainer = L.Trainer(max_epochs=3, logger=False, enable_checkpointing=False)
trainer.fit(model, data)
folder = Path(mkdtemp())
trainer.save_checkpoint(folder / "model.ckpt")

# A folder of pictures without labels, one of them broken.
images = SyntheticImages([1] * 10, split="test", seed=7)
for number in range(0, 10, 3):
    Image.fromarray(np.asarray(images[number][0].permute(1, 2, 0))).resize((80, 64)).save(folder / f"{number}.png")
(folder / "broken.png").write_bytes(b"no picture")

# The checkpoint knows its classes and how its images were prepared: nothing else is needed.
classifier = load(folder / "model.ckpt")
for prediction in classifier.predict(folder, top_k=2):
    print(Path(prediction.file).name, prediction.error or [f"{name} {p:.2f}" for name, p in prediction.top])
