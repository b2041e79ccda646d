"""A model trained with cross-entropy, adjusted afterwards: no training, one number to choose."""

import lightning as L

from longtail_lightning import BaseClassifier, LogitAdjustment, SyntheticLongTail

L.seed_everything(0)
data = SyntheticLongTail(num_classes=10, max_count=100, imbalance_factor=50, val_per_class=10)
model = BaseClassifier(data.class_counts, backbone="cifar_resnet20", many=50, few=10)
L.Trainer(max_epochs=3, logger=False, enable_checkpointing=False).fit(model, data)

# tau is chosen on validation images, never on test images.
best = 0.0, 0.0
for tau in (0.0, 0.5, 1.0, 1.5):
    trainer = L.Trainer(callbacks=[LogitAdjustment(tau)], logger=False, enable_progress_bar=False)
    (metrics,) = trainer.validate(model, data, verbose=False)
    print(f"tau {tau}: validation accuracy {metrics['val/acc']:.3f}, few-shot {metrics['val/acc_few']:.3f}")
    best = max(best, (metrics["val/acc"], tau))
print(f"chosen: tau {best[1]}")
