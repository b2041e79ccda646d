from __future__ import annotations

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks._outputs import outputs_of
from tests.callbacks.own import Own

LOGITS, TARGET = torch.zeros(4, 6), torch.zeros(4, dtype=torch.int64)


def test_what_a_step_returned_is_given_as_it_is():
    outputs = {"logits": LOGITS, "target": TARGET, "loss": 3.0}
    assert outputs_of(outputs, Own(), "test_step", "target") is outputs
    assert outputs_of({"logits": LOGITS}, Own(), "predict_step")["logits"] is LOGITS


@pytest.mark.parametrize(
    ("outputs", "needed", "message"),
    [
        (None, ["target"], "test_step of Own returned None: return {'logits': logits, 'target': labels}."),
        (LOGITS, [], "test_step of Own returned a Tensor: return {'logits': logits}."),
        ((LOGITS, TARGET), ["target"], "returned a tuple: return {'logits': logits, 'target': labels}."),
        ({"logits": LOGITS}, ["target"], "returned a dict of 'logits': return {'logits': logits, 'target': labels}."),
        ({}, ["target", "index"], "'target': labels, 'index': places in the split}."),
        ({"logits": [1.0]}, [], "returned a dict of 'logits' as list: return {'logits': logits}."),
        ({"logits": LOGITS[0]}, [], "returned logits of shape (6,), expected (batch, classes): return {'logits'"),
    ],
)
def test_anything_else_is_answered_with_what_to_return(outputs, needed, message):
    with pytest.raises(LongTailError) as error:
        outputs_of(outputs, Own(), "test_step", *needed)
    assert message in str(error.value)
