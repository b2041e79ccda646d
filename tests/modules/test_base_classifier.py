from __future__ import annotations

import math
import warnings
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassBalancedSampler,
    CosineHead,
    LDAMLoss,
    LinearHead,
    LogitAdjustedLoss,
    WrapLoss,
)
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def test_fits_tests_and_predicts():
    data = tiny_data()
    model, trainer = tiny_model(data, loss=LogitAdjustedLoss()), tiny_trainer()
    trainer.fit(model, data)
    assert {"train/loss", "val/loss", "val/acc", "val/acc_many", "val/acc_medium", "val/acc_few"} <= set(
        trainer.callback_metrics
    )
    (results,) = trainer.test(model, data, verbose=False)
    assert set(results) == {"test/loss", "test/acc", "test/acc_many", "test/acc_medium", "test/acc_few", "test/ece"}
    probabilities = torch.cat([output["logits"].softmax(1) for output in trainer.predict(model, data)])
    assert probabilities.shape == (18, 6)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(18))


def test_evaluates_before_and_after_training():
    data = tiny_data()
    model = tiny_model(data)
    for _ in range(2):  # Lightning evaluates in inference mode, but not inside of `fit`
        tiny_trainer().validate(model, data, verbose=False)
        tiny_trainer(max_epochs=1).fit(model, data)
        tiny_trainer().test(model, data, verbose=False)


def test_logged_metrics_are_those_of_the_predictions():
    data = tiny_data()
    model, trainer = tiny_model(data), tiny_trainer()
    trainer.fit(model, data)
    (results,) = trainer.test(model, data, verbose=False)
    outputs = trainer.predict(model, data)
    predicted, target = torch.cat([output["logits"] for output in outputs]).argmax(1), data.labels("test")
    per_class = torch.stack([(predicted[target == c] == c).float().mean() for c in range(6)])
    assert results["test/acc"] == pytest.approx(per_class.mean().item())
    assert results["test/acc_many"] == pytest.approx(per_class[:2].mean().item())
    assert results["test/acc_few"] == pytest.approx(per_class[4:].mean().item())


@pytest.mark.parametrize(
    "head", [CosineHead, partial(CosineHead, scale=10.0), lambda f, c: LinearHead(f, c, bias=False)]
)
def test_any_head_from_a_callable(head):
    assert tiny_model(tiny_data(), head=head)(torch.zeros(1, 3, 32, 32)).shape == (1, 6)


def test_a_foreign_loss_and_a_foreign_backbone_are_welcome():
    class Mine(nn.Module):
        num_features = 12

        def forward(self, images):
            return images.mean((2, 3)).repeat(1, 4)

    data = tiny_data()
    model = tiny_model(data, backbone=Mine(), loss=nn.MultiMarginLoss())
    assert isinstance(model.loss, WrapLoss)
    model.head = nn.Linear(12, 6)
    tiny_trainer(max_epochs=1).fit(model, data) if any(p.requires_grad for p in model.parameters()) else None
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 6)


def test_counts_reach_every_part_also_after_a_swap():
    data = tiny_data()
    model = tiny_model(data, loss=LogitAdjustedLoss())
    assert model.loss.bound_counts.tolist() == data.class_counts.tolist()
    model.loss = LogitAdjustedLoss(tau=2.0)
    tiny_trainer(fast_dev_run=True).fit(model, data)
    assert model.loss.bound_counts.tolist() == data.class_counts.tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": LinearHead(16, 7)}, "num_classes=7 but class_counts have 6"),
        ({"head": LinearHead(9, 6)}, "num_features=9 but the backbone gives 16"),
        ({"backbone": nn.Identity()}, "has no `num_features`"),
        ({"backbone": "cifar_resnt32"}, "Did you mean"),
    ],
)
def test_parts_that_do_not_fit_are_named(options, message):
    with pytest.raises(LongTailError, match=message):
        tiny_model(tiny_data(), **options)


def test_counts_of_other_data_are_noticed():
    model = tiny_model(tiny_data())
    with pytest.warns(UserWarning, match="The model was made for ClassCounts"):
        tiny_trainer(fast_dev_run=True).fit(model, tiny_data(imbalance_factor=2))


def test_warmup_and_cosine_step_per_batch_over_the_whole_run():
    rates = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    data = tiny_data()
    tiny_trainer(max_epochs=8, callbacks=[Watch()]).fit(tiny_model(data), data)
    steps = math.ceil(data.class_counts.total / 8) * 8
    warm = round(0.05 * steps)
    expected = [0.1 * (i + 1) / warm for i in range(warm)]
    expected += [0.05 * (1 + math.cos(math.pi * (i - warm) / (steps - warm))) for i in range(warm, steps)]
    assert rates == pytest.approx(expected)


def test_a_finished_run_can_be_extended():
    data = tiny_data()
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("done.ckpt")
    longer = tiny_trainer(max_epochs=3)
    longer.fit(tiny_model(data), data, ckpt_path="done.ckpt", weights_only=True)
    scheduler = longer.lr_scheduler_configs[0].scheduler
    assert scheduler.total_steps == 15
    scheduler.last_epoch = 7
    assert scheduler.get_lr()[0] > 0.01


def test_a_plateau_scheduler_watches_the_validation_loss():
    data = tiny_data()
    never_better = {"patience": 0, "factor": 0.1, "threshold": 1e9, "threshold_mode": "abs"}
    model = tiny_model(data, lr_scheduler=partial(torch.optim.lr_scheduler.ReduceLROnPlateau, **never_better))
    trainer = tiny_trainer(max_epochs=3)
    trainer.fit(model, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.001)


def test_a_run_without_an_end_needs_another_schedule():
    data = tiny_data()
    with pytest.raises(LongTailError, match="must know how long the run is"):
        tiny_trainer(max_epochs=-1).fit(tiny_model(data), data)


def test_counts_given_to_a_loss_stay():
    with pytest.warns(UserWarning, match="keeps class counts of its own"):
        model = tiny_model(tiny_data(), loss=LogitAdjustedLoss(class_counts=[1] * 6))
    assert model.loss.bound_counts.tolist() == [1] * 6


def test_a_summed_loss_is_logged_as_a_mean():
    data, values = tiny_data(), []
    model = tiny_model(data)
    for reduction in ("mean", "sum"):
        model.loss = LogitAdjustedLoss(reduction=reduction)
        values.append(tiny_trainer().validate(model, data, verbose=False)[0]["val/loss"])
    assert values[0] == pytest.approx(values[1])
    with pytest.raises(LongTailError, match="no single loss to train on"):
        tiny_model(data, loss=LogitAdjustedLoss(reduction="none"))


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_true_precisions_train_and_count_exactly(precision):
    data = tiny_data()
    model, trainer = tiny_model(data), tiny_trainer(precision=precision, max_epochs=1)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    model.val_loss.reset()
    for _ in range(2000):
        model.val_loss.update(torch.ones((), dtype=model.dtype), 8)
    assert model.val_loss.compute() == 1.0


def test_other_schedulers_step_per_epoch():
    data = tiny_data()
    model = tiny_model(data, lr_scheduler=partial(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5))
    trainer = tiny_trainer(max_epochs=3)
    trainer.fit(model, data)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.5**3)


@pytest.mark.parametrize(
    "options", [{"mixup_alpha": 0.5}, {"cutmix_alpha": 1.0}, {"mixup_alpha": 0.5, "cutmix_alpha": 1.0}]
)
def test_mixup_and_cutmix_train_on_soft_targets(options):
    targets = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            targets.append(batch[1])

    data = tiny_data(**options)
    tiny_trainer(callbacks=[Watch()]).fit(tiny_model(data, loss=LogitAdjustedLoss()), data)
    soft = torch.cat(targets)
    torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))
    assert bool(((soft > 0.01) & (soft < 0.99)).any()), "some targets must be mixed"


def test_bf16_is_close_to_float32():
    data, losses = tiny_data(), []
    for precision in ("32-true", "bf16-mixed"):
        L.seed_everything(1, verbose=False)
        model, trainer = tiny_model(data, loss=LogitAdjustedLoss()), tiny_trainer(precision=precision, max_epochs=1)
        trainer.fit(model, data)
        losses.append(trainer.callback_metrics["val/loss"].item())
        assert all(p.dtype == torch.float32 for p in model.parameters())
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_each_batch_of_an_accumulated_step_has_its_own_dropout():
    seeds = []

    class Watch(L.Callback):
        def on_train_batch_end(self, *args):
            seeds.append(torch.initial_seed())

    L.seed_everything(1, verbose=False)
    data = tiny_data()
    tiny_trainer(accumulate_grad_batches=2, callbacks=[Watch()]).fit(tiny_model(data), data)
    assert len(set(seeds)) == len(seeds) == 10


def test_gradients_are_clipped_by_the_trainer():
    norms = []

    class Watch(L.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            grads = [p.grad.norm() for p in pl_module.parameters() if p.grad is not None]
            norms.extend([torch.stack(grads).norm().item()] if grads else [])

    data = tiny_data()
    tiny_trainer(gradient_clip_val=0.05, accumulate_grad_batches=2, callbacks=[Watch()]).fit(tiny_model(data), data)
    assert norms
    assert max(norms) <= 0.0501


def test_channels_last_changes_the_layout_only():
    data = tiny_data()
    model = tiny_model(data)
    assert model.backbone.stem[0].weight.is_contiguous(memory_format=torch.channels_last)
    images = torch.randn(2, 3, 32, 32)
    expected = model.eval()(images)
    model.channels_last = False
    torch.testing.assert_close(model(images), expected)


def test_compiled_parts_give_the_same_logits_and_the_same_state_dict(monkeypatch):
    monkeypatch.setattr(nn.Module, "compile", partial_compile)
    model, images = tiny_model(tiny_data(), compile=True).eval(), torch.randn(2, 3, 32, 32)
    twin = tiny_model(tiny_data()).eval()
    twin.load_state_dict(model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(model(images), twin(images), rtol=1e-4, atol=1e-5)


def partial_compile(module):
    # The default backend compiles C++ for a minute; the graph capture is what is ours to check.
    module._compiled_call_impl = torch.compile(module._call_impl, backend="aot_eager", fullgraph=True)


def test_a_loss_that_is_not_finite_stops_with_batch_rate_and_advice():
    class Broken(nn.Module):
        def forward(self, logits, target):
            return logits.sum() * math.nan

    data = tiny_data()
    with pytest.raises(
        LongTailError, match=r"not been finite since batch 0 of epoch 0 \(learning rate 0\.\d+\).*gradient_clip_val"
    ):
        tiny_trainer().fit(tiny_model(data, loss=Broken()), data)


def test_exponential_moving_average_through_lightning():
    weights = []
    for callbacks in ([], [EMAWeightAveraging(decay=0.5)]):
        L.seed_everything(2, verbose=False)
        data = tiny_data()
        model, trainer = tiny_model(data), tiny_trainer(callbacks=callbacks)
        trainer.fit(model, data)
        trainer.test(model, data, verbose=False)
        weights.append(model.head.weight.detach().clone())
    assert not torch.equal(*weights), "the average lags behind the weights"
    torch.testing.assert_close(*weights, rtol=1.0, atol=0.3)


def test_subclass_in_ones_own_project():
    class Mine(BaseClassifier):
        def training_step(self, batch, batch_idx):
            self.plain = super().training_step(batch, batch_idx)
            return 2 * self.plain

    class Watch(L.Callback):
        steps = 0

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.steps += 1
            assert outputs["loss"].item() == pytest.approx(2 * pl_module.plain.item())

    data, watch = tiny_data(sampler=ClassBalancedSampler), Watch()
    tiny_trainer(max_epochs=1, callbacks=[watch]).fit(Mine(data.class_counts, backbone=CIFARResNet(8, width=4)), data)
    assert watch.steps == 5


def test_an_interrupted_evaluation_leaves_nothing_behind():
    data = tiny_data()
    model = tiny_model(data)
    (expected,) = tiny_trainer().test(model, data, verbose=False)

    class Stop(L.Callback):
        def on_test_batch_end(self, *args):
            raise ValueError("in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        tiny_trainer(callbacks=[Stop()]).test(model, data, verbose=False)
    (again,) = tiny_trainer().test(model, data, verbose=False)
    assert again == expected


def test_the_loss_of_an_evaluation_weighs_every_image_alike():
    data = tiny_data(batch_size=8)  # 18 test images: batches of 8, 8 and 2
    model, trainer = tiny_model(data), tiny_trainer()
    (logged,) = trainer.test(model, data, verbose=False)
    outputs = [output["logits"] for output in trainer.predict(model, data)]
    assert [len(logits) for logits in outputs] == [8, 8, 2]
    expected = torch.nn.functional.cross_entropy(torch.cat(outputs), data.labels("test"))
    assert logged["test/loss"] == pytest.approx(float(expected), rel=1e-5)


def test_a_loss_with_counts_of_its_own_says_so():
    data = tiny_data()
    with pytest.warns(UserWarning, match=r"LDAMLoss keeps class counts of its own .* differ from those of the model"):
        tiny_model(data, loss=LDAMLoss([1, 2, 3, 4, 5, 6]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tiny_model(data, loss=LDAMLoss(data.class_counts))
        tiny_model(data, loss=LDAMLoss())
