"""Votes of the nearest items, counted one by one."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning.retrieval.vote import vote


@pytest.mark.parametrize("sign", [1, -1])
def test_counted(sign):
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (50, 7), generator=generator)
    scores = sign * torch.rand(50, 7, generator=generator).sort(1, descending=True).values
    found = vote(labels, scores, 5)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(50, dtype=torch.float64))
    for row, own, near in zip(found, labels.tolist(), scores.tolist()):
        numbers = [own.count(c) for c in range(5)]
        expected = torch.tensor([(n + 1 / 5) / 8 for n in numbers], dtype=torch.float64)
        torch.testing.assert_close(row.exp(), expected, rtol=0, atol=1e-5)
        best = max(range(5), key=lambda c: (numbers[c], sum(s for s, o in zip(near, own) if o == c)))
        ahead = [c for c in range(5) if numbers[c] == max(numbers)]
        assert int(row.argmax()) in ahead
        if sign == 1:
            assert int(row.argmax()) == best


def test_equal_scores():
    assert vote(torch.tensor([[2, 2, 1]]), torch.ones(1, 3), 3).argmax(1).tolist() == [2]


def test_bad_input():
    with pytest.raises(LongTailError, match=r"\(queries, k\) both"):
        vote(torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 2), 3)
