"""Rows are appended as torch.cat would, without copying what is there, and no file holds the room behind them."""

from __future__ import annotations

import copy
import io

import pytest
import torch

from longtail_lightning import KnowledgeTransferHead
from longtail_lightning.heads._rows import append, rows_with_room
from tests.heads.knowledge import COUNTS, WIDTH, bank, weight


def test_appending_gives_what_cat_gives():
    rows = expected = torch.randn(3, 4)
    for number in (1, 2, 40, 0, 1):
        new = torch.randn(number, 4)
        rows, expected = append(rows, new), torch.cat([expected, new])
        torch.testing.assert_close(rows, expected, rtol=0, atol=0)


def test_rows_that_are_there_are_not_copied():
    rows = rows_with_room(100, 4)
    grown = append(rows, torch.ones(1, 4))
    assert grown.data_ptr() == rows.data_ptr()
    assert append(grown, torch.ones(1, 4)).data_ptr() == rows.data_ptr()


@pytest.mark.parametrize("copied", [lambda rows: rows, copy.deepcopy])
def test_two_that_grow_from_the_same_rows_do_not_meet(copied):
    rows = rows_with_room(2, 3)
    other = copied(rows)
    ones, twos = append(rows, torch.ones(1, 3)), append(other, 2 * torch.ones(1, 3))
    assert ones[2].tolist() == [1.0] * 3
    assert twos[2].tolist() == [2.0] * 3


def test_rows_that_are_a_part_of_something_else_are_copied():
    whole = torch.zeros(5, 3)
    append(whole[:2], torch.ones(1, 3))
    assert not whole.any()


def test_rows_of_inference_mode_can_be_changed_later():
    with torch.inference_mode():
        rows = append(rows_with_room(2, 3), torch.ones(1, 3))
    rows.add_(1)
    assert append(rows, torch.ones(1, 3)).sum() == 15


def test_files_hold_the_rows_alone():
    head = KnowledgeTransferHead(WIDTH, len(COUNTS), k=20, parts=("transfer", "prototype"))
    head.fit(bank(), classifier=weight())
    head.add_classes([bank([2]).features.float()])
    state = head.state_dict()
    assert all(value.untyped_storage().nbytes() == value.nbytes for value in state.values())
    torch.save(state, file := io.BytesIO())
    file.seek(0)
    twin = KnowledgeTransferHead(WIDTH, len(COUNTS) + 1, k=20, parts=("transfer", "prototype"))
    twin.load_state_dict(torch.load(file))
    features = torch.randn(4, WIDTH)
    torch.testing.assert_close(twin(features), head(features), rtol=0, atol=0)
