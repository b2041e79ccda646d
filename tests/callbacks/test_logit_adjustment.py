from __future__ import annotations

import csv

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from longtail_lightning import (
    ClassCounts,
    LogitAdjustedLoss,
    LogitAdjustment,
    LongTailReport,
    NonFiniteLossGuard,
    PredictionWriter,
)
from longtail_lightning._errors import LongTailError
from tests.callbacks.own import Own
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def predictions(model, data, *callbacks):
    outputs = tiny_trainer(callbacks=list(callbacks)).predict(model, data)
    return torch.cat([output["logits"] for output in outputs]).softmax(1)


def test_takes_the_training_prior_out():
    data = tiny_data()
    model = tiny_model(data)
    plain, adjusted = predictions(model, data), predictions(model, data, LogitAdjustment(tau=0.7))
    expected = (plain.log() - 0.7 * (data.class_counts.tensor / data.class_counts.total).log()).softmax(1)
    torch.testing.assert_close(adjusted, expected, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(predictions(model, data), plain, msg="the model itself must stay as it was")


def test_puts_a_target_prior_in():
    data = tiny_data()
    model = tiny_model(data)
    back = predictions(model, data, LogitAdjustment(tau=1.0, target_prior=data.class_counts.prior().tolist()))
    torch.testing.assert_close(back, predictions(model, data), rtol=1e-4, atol=1e-6)


def test_applies_to_a_loaded_checkpoint_in_every_evaluation():
    data = tiny_data()
    model = tiny_model(data)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("model.ckpt")
    plain, adjusted = tiny_trainer(), tiny_trainer(callbacks=[LogitAdjustment(tau=30.0)])
    for name in ("test", "validate"):
        (first,) = getattr(plain, name)(
            tiny_model(data), data, ckpt_path="model.ckpt", verbose=False, weights_only=True
        )
        (second,) = getattr(adjusted, name)(
            tiny_model(data), data, ckpt_path="model.ckpt", verbose=False, weights_only=True
        )
        kind = "val" if name == "validate" else "test"
        # A huge tau predicts the two rarest classes only; half their images are right, or fewer.
        assert second[f"{kind}/acc_many"] == second[f"{kind}/acc_medium"] == 0.0
        assert second[f"{kind}/acc_few"] > 0.0
        assert first[f"{kind}/loss"] != second[f"{kind}/loss"]


def test_leaves_training_and_its_validation_alone():
    data, states, logged = tiny_data(), [], []
    for callbacks in ([], [LogitAdjustment(tau=30.0)]):
        L.seed_everything(5, verbose=False)
        model, trainer = tiny_model(data), tiny_trainer(callbacks=callbacks, max_epochs=1)
        trainer.fit(model, data)
        states.append({name: value.clone() for name, value in model.state_dict().items()})
        logged.append(trainer.callback_metrics["val/acc"])
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert logged[0] == logged[1]


@pytest.mark.parametrize("first", [True, False])
def test_all_readers_see_the_adjusted_logits_whatever_the_order(first):
    data = tiny_data()
    model = tiny_model(data)
    adjustment, report, writer = LogitAdjustment(tau=30.0), LongTailReport(), PredictionWriter("p.csv", top_k=1)
    callbacks = [adjustment, report, writer] if first else [report, writer, adjustment]
    trainer = tiny_trainer(callbacks=callbacks)
    (results,) = trainer.test(model, data, verbose=False)
    outputs = trainer.predict(model, data)
    assert report.rows[0].many == report.rows[0].medium == results["test/acc_many"] == 0.0
    assert report.rows[0].few == pytest.approx(results["test/acc_few"])
    rarest = {data.class_names[4], data.class_names[5]}
    with open("p.csv", encoding="utf-8") as file:
        assert {row["predicted"] for row in csv.DictReader(file)} <= rarest
    assert {data.class_names[int(c)] for output in outputs for c in output["logits"].argmax(1)} <= rarest
    assert [callback for callback in trainer.callbacks if callback in callbacks] == [adjustment, report, writer]
    assert callbacks[0] is (adjustment if first else report), "the list of the user stays as it is"
    assert isinstance(trainer.callbacks[-1], NonFiniteLossGuard), "the others keep their order"


@pytest.mark.parametrize("stage", ["validate", "test"])
def test_a_module_of_ones_own_is_adjusted(stage):
    data = tiny_data()
    model, plain, adjusted = Own(data.class_counts), LongTailReport(), LongTailReport()
    getattr(tiny_trainer(callbacks=[plain]), stage)(model, data, verbose=False)
    getattr(tiny_trainer(callbacks=[adjusted, LogitAdjustment(tau=30.0)]), stage)(model, data, verbose=False)
    before, after = predictions(model, data), predictions(model, data, LogitAdjustment(tau=0.5))
    assert plain.rows[0].all == pytest.approx(model.class_accuracy(), abs=1e-6)
    assert adjusted.rows[0].many in (0.0, None)
    expected = (before.log() - 0.5 * data.class_counts.log_prior().float()).softmax(1)
    torch.testing.assert_close(after, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision_does_not_round_the_prior_away(precision):
    data = tiny_data()
    model, found = Own(data.class_counts), {}
    for tau in (0.0, 1e-3):
        trainer = tiny_trainer(callbacks=[LogitAdjustment(tau=tau)], precision=precision)
        found[tau] = torch.cat([output["logits"] for output in trainer.predict(model, data)])
    assert (found[0.0].dtype, found[1e-3].dtype) == (torch.bfloat16, torch.float32)
    expected = found[0.0].float() - 1e-3 * data.class_counts.log_prior().float()
    torch.testing.assert_close(found[1e-3], expected, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore:predict returned None")
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_module_that_returns_no_logits_is_told_what_to_return(stage):
    data = tiny_data()
    model = Own(data.class_counts, answer=lambda outputs: None)
    step = {"validate": "validation_step"}.get(stage, f"{stage}_step")
    with pytest.raises(LongTailError, match=rf"^{step} of Own returned None: return {{'logits': logits}}\.$"):
        getattr(tiny_trainer(callbacks=[LogitAdjustment()]), stage)(model, data)
    getattr(tiny_trainer(callbacks=[LogitAdjustment(tau=0)]), stage)(model, data)


def test_counts_that_are_not_there_or_do_not_fit_are_told():
    data = tiny_data()
    images = DataLoader(torch.rand(4, 3, 32, 32))
    with pytest.raises(LongTailError, match=r"cannot find the class counts of Own: set self\.class_counts"):
        tiny_trainer(callbacks=[LogitAdjustment()]).predict(Own(), images)
    with pytest.raises(LongTailError, match=r"counts of 6 classes, but test_step of Own returned logits of 5"):
        tiny_trainer(callbacks=[LogitAdjustment()]).test(Own(data.class_counts, width=5), data, verbose=False)


def adjusted_on_ranks(devices):
    L.seed_everything(3, verbose=False)
    data = tiny_data(num_classes=5, batch_size=4)
    report = LongTailReport(many=8, few=4)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(callbacks=[report, LogitAdjustment(tau=0.5)], **distributed)
    (results,) = trainer.test(tiny_model(data), data, verbose=False)
    return results, [row.as_dict() for row in report.rows]


def test_two_ranks_are_adjusted_like_one(pool):
    (first, rows), (second, _) = pool.run(adjusted_on_ranks, 2)
    expected, expected_rows = adjusted_on_ranks(1)
    assert first == second == pytest.approx(expected, rel=1e-4)
    assert rows == expected_rows


def test_warns_when_the_prior_is_gone_already():
    data = tiny_data()
    with pytest.warns(UserWarning, match="takes it out a second time"):
        predictions(tiny_model(data, loss=LogitAdjustedLoss()), data, LogitAdjustment())


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.0, 1.0, 1.0]])
def test_a_bad_target_prior_is_named(prior):
    with pytest.raises(LongTailError, match="one positive frequency for each of the 3 classes"):
        LogitAdjustment(target_prior=prior).offset(ClassCounts([3, 2, 1]))
