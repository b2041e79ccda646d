"""Train with Lightning: a data module, a sampler, a loss, and a table per split at the end."""

import lightning as L

from longtail_lightning import BaseClassifier, LogitAdjustedLoss, LongTailReport, SquareRootSampler, SyntheticLongTail

L.seed_everything(0)
data = SyntheticLongTail(num_classes=20, max_count=100, imbalance_factor=20, sampler=SquareRootSampler)
model = BaseClassifier(data.class_counts, backbone="cifar_resnet20", loss=LogitAdjustedLoss(tau=0.5), many=50, few=10)

trainer = L.Trainer(max_epochs=2, callbacks=[LongTailReport(many=50, few=10)], logger=False, enable_checkpointing=False)
trainer.fit(model, data)
trainer.test(model, data)
