from __future__ import annotations

import pytest
import torch

from longtail_lightning import ClassCounts, LogitAdjustedLoss, LogitAdjustment
from longtail_lightning._errors import LongTailError
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def predictions(model, data, *callbacks):
    return torch.cat(tiny_trainer(callbacks=list(callbacks)).predict(model, data))


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
        (first,) = getattr(plain, name)(tiny_model(data), data, ckpt_path="model.ckpt", verbose=False, weights_only=True)
        (second,) = getattr(adjusted, name)(tiny_model(data), data, ckpt_path="model.ckpt", verbose=False, weights_only=True)
        kind = "val" if name == "validate" else "test"
        # A huge tau predicts the two rarest classes only; half their images are right, or fewer.
        assert second[f"{kind}/acc_many"] == second[f"{kind}/acc_medium"] == 0.0
        assert second[f"{kind}/acc_few"] > 0.0
        assert first[f"{kind}/loss"] != second[f"{kind}/loss"]


def test_leaves_training_alone_and_detaches():
    data = tiny_data()
    model = tiny_model(data)
    tiny_trainer(callbacks=[LogitAdjustment()], max_epochs=1).fit(model, data)
    assert not model.head._forward_hooks


def test_warns_when_the_prior_is_gone_already():
    data = tiny_data()
    with pytest.warns(UserWarning, match="takes it out a second time"):
        predictions(tiny_model(data, loss=LogitAdjustedLoss()), data, LogitAdjustment())


@pytest.mark.parametrize("prior", [[0.5, 0.5], [0.0, 1.0, 1.0]])
def test_a_bad_target_prior_is_named(prior):
    with pytest.raises(LongTailError, match="one positive frequency for each of the 3 classes"):
        LogitAdjustment(target_prior=prior).offset(ClassCounts([3, 2, 1]))
