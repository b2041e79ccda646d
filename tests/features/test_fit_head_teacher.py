"""A head that learns the predictions of another one on the same bank."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from longtail_lightning import (
    CosineHead,
    EnsembleHead,
    FeatureBank,
    GroupDistillationLoss,
    LinearHead,
    LongTailError,
    NearestClassMeanHead,
    fit_head,
)


def bank_of(seed=0, n=600):
    draw = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 4
    centers = 2 * torch.randn(4, 8, generator=torch.Generator().manual_seed(5))
    return FeatureBank.from_arrays(centers[labels] + torch.randn(n, 8, generator=draw), labels)


def ensemble(bank):
    torch.manual_seed(0)
    heads = [fit_head(bank, CosineHead(8, 4), epochs=3), fit_head(bank, NearestClassMeanHead(8, 4))]
    return EnsembleHead(heads)


def distance(head, teacher, bank):
    predictions = [one(bank.features.float()) for one in (head, teacher)]
    return F.kl_div(predictions[0].log_softmax(1), predictions[1].softmax(1), reduction="batchmean").item()


def test_an_ensemble_becomes_one_head():
    bank, other = bank_of(), bank_of(1)
    teacher = ensemble(bank)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    torch.manual_seed(1)
    head = fit_head(bank, LinearHead(8, 4), teacher=teacher, alpha=1.0, epochs=30, lr=0.5)
    alone = fit_head(bank, LinearHead(8, 4), epochs=30, lr=0.5)
    assert distance(head, teacher, other) < 0.05 < distance(alone, teacher, other)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())


def test_a_step_is_that_of_the_mixed_loss():
    bank, teacher = bank_of(n=40), LinearHead(8, 4)
    head, expected = LinearHead(8, 4), LinearHead(8, 4)
    expected.load_state_dict(head.state_dict())
    fit_head(bank, head, teacher=teacher, alpha=0.3, epochs=1, batch_size=64, momentum=0.0, weight_decay=0.0, lr=0.1)
    # Class-balanced batches of a balanced bank: all that were drawn stand in one step, whichever they are.
    plain = LinearHead(8, 4)
    plain.load_state_dict(expected.state_dict())
    fit_head(bank, plain, epochs=1, batch_size=64, momentum=0.0, weight_decay=0.0, lr=0.1)
    taught = LinearHead(8, 4)
    taught.load_state_dict(expected.state_dict())
    fit_head(bank, taught, teacher=teacher, alpha=1.0, epochs=1, batch_size=64, momentum=0.0, weight_decay=0.0, lr=0.1)
    mixed = 0.7 * plain.weight + 0.3 * taught.weight
    torch.testing.assert_close(head.weight, mixed)


def test_losses_that_need_class_counts_get_those_of_the_bank():
    bank = bank_of()
    loss = GroupDistillationLoss()
    fit_head(bank, LinearHead(8, 4), teacher=ensemble(bank), logit_loss=loss, epochs=1)
    assert loss.class_counts is None  # those of the bank were for this training alone


def test_a_head_that_is_not_trained():
    with pytest.raises(LongTailError, match="has a closed form, so it learns from no teacher"):
        fit_head(bank_of(), NearestClassMeanHead(8, 4), teacher=LinearHead(8, 4))


def test_several_labels():
    hot = FeatureBank.from_arrays(torch.randn(6, 3), torch.eye(3)[[0, 1, 2, 0, 1, 2]])
    with pytest.raises(LongTailError, match="for single labels"):
        fit_head(hot, LinearHead(3, 3), teacher=LinearHead(3, 3))
