"""The line between known classes and others, against counting one picture at a time."""

from __future__ import annotations

import itertools

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning.report.comparison import save_figure
from longtail_lightning.report.rejection import Rejection, find_threshold, plot_rejection


def scores(seed, number, shift=0.0):
    drawn = torch.randn(number, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift
    return (drawn * 3).round() / 3  # with equal ones


@pytest.mark.parametrize("keep", [0.01, 0.5, 0.9, 0.95, 1.0])
@pytest.mark.parametrize(("known", "unknown"), [(40, 30), (7, 1), (1, 5)])
def test_counted(known, unknown, keep):
    a, b = scores(1, known, 0.7), scores(2, unknown)
    found = find_threshold(a, b, keep=keep)
    kept = [sum(x >= line for x in a.tolist()) / known for line in a.tolist()]
    assert found.threshold == max(line for line, share in zip(a.tolist(), kept) if share >= keep)
    assert found.kept == pytest.approx(sum(x >= found.threshold for x in a.tolist()) / known)
    assert found.rejected == pytest.approx(sum(x < found.threshold for x in b.tolist()) / unknown)
    pairs = [1.0 if x > y else 0.5 if x == y else 0.0 for x, y in itertools.product(a.tolist(), b.tolist())]
    assert found.auroc == pytest.approx(sum(pairs) / len(pairs))
    lines = sorted({*a.tolist(), *b.tolist()}, reverse=True)
    expected = [
        (sum(y >= line for y in b.tolist()) / unknown, sum(x >= line for x in a.tolist()) / known) for line in lines
    ]
    torch.testing.assert_close(torch.tensor(found.curve), torch.tensor([(0.0, 0.0), *expected]))
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(found.curve))
    assert area == pytest.approx(found.auroc), "the area under the curve"


def test_large_logits_are_told_apart():
    assert find_threshold(torch.tensor([1000.0, 1001.0]), torch.tensor([999.0, 999.5])).auroc == 1.0


def test_the_line_does_not_depend_on_the_others():
    a = scores(1, 30)
    alone = find_threshold(a)
    assert alone == Rejection(find_threshold(a, scores(2, 9)).threshold, alone.kept)


def test_drawn(tmp_path):
    figure = plot_rejection(find_threshold(scores(1, 30, 1.0), scores(2, 30)))
    assert save_figure(tmp_path / "x.png", figure).stat().st_size > 1000


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: find_threshold(torch.tensor([])), "scores of known pictures, got none"),
        (lambda: find_threshold(torch.tensor([1.0, torch.nan])), "of known pictures, got NaN"),
        (lambda: find_threshold(torch.ones(2), torch.tensor([])), "of other pictures, got none"),
        (lambda: find_threshold(torch.ones(2), keep=0.0), "keep above 0 and up to 1"),
        (lambda: find_threshold(torch.ones(2), keep=95), "keep"),
        (lambda: plot_rejection(find_threshold(torch.ones(2))), "no curve to draw"),
    ],
)
def test_bad_input(act, message):
    with pytest.raises(LongTailError, match=message):
        act()
