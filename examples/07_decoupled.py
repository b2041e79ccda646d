"""Balance the classifier of your own LightningModule after training: three lines, marked below."""

import lightning as L
import torch
from torch import nn

from longtail_lightning import CRT, CIFARResNet, ClassifierRetraining, SyntheticLongTail


class Mine(L.LightningModule):
    """Nothing of this library is needed, only the names `backbone` and `head`."""

    def __init__(self):
        super().__init__()
        self.backbone = CIFARResNet(depth=8, width=8)  # any module from images to features
        self.head = nn.Linear(32, 10)

    def training_step(self, batch, batch_idx):
        images, labels = batch
        return nn.functional.cross_entropy(self.head(self.backbone(images)), labels)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)


L.seed_everything(0)
data = SyntheticLongTail(num_classes=10, max_count=200, imbalance_factor=50, val_per_class=20)

# 1. What to do with the classifier; the paper's settings by name, or one's own (small data: small batches).
methods = [CRT(batch_size=64, lr=0.1), "lws", "tau", "ncm"]
# 2. At the end of the fit: one pass over the images, seconds for all methods, one table.
retraining = ClassifierRetraining(methods, many=80, few=20)
# 3. The callback goes to the trainer; the best classifier on validation images becomes `model.head`.
trainer = L.Trainer(max_epochs=10, callbacks=[retraining], logger=False, enable_checkpointing=False)

model = Mine()
trainer.fit(model, data)
print(f"kept: {retraining.kept}, now {type(model.head).__name__}")
