"""Two gloo processes train and evaluate like one."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import CSVLogger

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    InstanceBalancedSampler,
    LogitAdjustedLoss,
    LongTailReport,
    PredictionWriter,
)
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class FeatureMean(torch.nn.Module):
    """No batch statistics: those of half a batch differ from those of a whole one."""

    num_features = 48

    def __init__(self):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 12, 3)

    def forward(self, images):
        maps = self.conv(images)
        return torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1)


def fit(batch_size, devices, folder, balanced=False):
    L.seed_everything(3, verbose=False)
    # 32 images make whole batches in both runs. Augmentation is drawn per rank, so it is off.
    sampler = partial(ClassBalancedSampler if balanced else InstanceBalancedSampler, num_samples=32)
    data = tiny_data(batch_size=batch_size, augment=False, sampler=sampler, num_classes=5)
    model = tiny_model(data, backbone=FeatureMean(), loss=LogitAdjustedLoss())
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(max_epochs=2, **distributed)
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    trainer.save_checkpoint(f"{folder}/ddp{devices}.ckpt")
    return {k: v.tolist() for k, v in model.state_dict().items()}, results


@pytest.mark.parametrize("balanced", [False, True])
def test_two_ranks_train_like_one_with_the_whole_batch(pool, tmp_path, balanced):
    single, single_results = fit(8, 1, str(tmp_path), balanced)
    (first, results), (second, other) = pool.run(fit, 4, 2, str(tmp_path), balanced)
    assert first == second
    assert results == other
    for name, value in single.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(value), rtol=1e-4, atol=1e-5, msg=name)
    # 15 test images over 2 ranks: padding would count one twice.
    assert results == pytest.approx(single_results, rel=1e-4)


class Watch(L.Callback):
    """Keeps the seed that each batch of training was given."""

    def __init__(self):
        self.seeds = []

    def on_train_batch_end(self, *args):
        self.seeds.append(torch.initial_seed())


def seeds_of_batches(_):
    L.seed_everything(3, verbose=False)
    data, watch = tiny_data(num_classes=5), Watch()
    tiny_trainer(strategy="ddp", devices=2, max_epochs=1, callbacks=[watch]).fit(tiny_model(data), data)
    return watch.seeds


def test_ranks_draw_dropout_apart(pool):
    first, second = pool.run(seeds_of_batches, None)
    assert len(first) == len(second) >= 2
    assert len({*first, *second}) == 2 * len(first)


def predict_and_report(folder):
    L.seed_everything(3, verbose=False)
    data = tiny_data(num_classes=5)
    model = tiny_model(data)
    trainer = tiny_trainer(
        strategy="ddp",
        devices=2,
        max_epochs=1,
        callbacks=[PredictionWriter(f"{folder}/p.csv"), LongTailReport(many=8, few=4)],
        logger=CSVLogger(folder),  # whose folder all ranks must ask for together
    )
    trainer.fit(model, data)
    trainer.predict(model, data)
    report = next(c for c in trainer.callbacks if isinstance(c, LongTailReport))
    return [row.as_dict() for row in report.rows], trainer.callback_metrics.get("val/acc", torch.tensor(0.0)).item()


def test_predictions_of_all_ranks_come_in_the_order_of_the_data(pool, tmp_path):
    (rows, _), (no_rows, _) = pool.run(predict_and_report, str(tmp_path))
    lines = Path(tmp_path / "p.csv").read_text().splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == [str(i) for i in range(15)]
    assert rows
    assert not no_rows


def test_a_checkpoint_of_two_ranks_loads_in_one(pool, tmp_path):
    pool.run(fit, 4, 2, str(tmp_path))
    reloaded = BaseClassifier.load_from_checkpoint(tmp_path / "ddp2.ckpt")
    assert isinstance(reloaded.loss, LogitAdjustedLoss)
