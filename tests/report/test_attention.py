"""Whom classes ask, counted one class at a time."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning import KnowledgeTransferHead, LongTailError
from longtail_lightning.report.attention import mismatches, plot_sharpness, share_of_kin, sharpness
from longtail_lightning.report.comparison import save_figure
from tests.heads.knowledge import COUNTS, WIDTH, bank, weight
from tests.reference import knowledge_transfer as paper


@pytest.fixture
def head():
    return KnowledgeTransferHead(WIDTH, len(COUNTS), k=5, tau=3.0).double().fit(bank(), classifier=weight())


def cosines():
    known = bank()
    p = paper.prototypes(known.features, known.labels.tolist(), len(COUNTS))
    return [[float((a / paper.norm(a) * (b / paper.norm(b))).sum()) for b in weight()] for a in p]


def test_sharpness_and_mismatches(head):
    rows = [sorted(row, reverse=True) for row in cosines()]
    means = [sum(column) / len(column) for column in zip(*rows)]
    assert sharpness(head.classes, top=4).tolist() == pytest.approx(means[:4])
    assert mismatches(head.classes) == sum(row.index(max(row)) != c for c, row in enumerate(cosines())) > 0
    before = mismatches(head.classes)
    with pytest.warns(UserWarning, match="continual"):
        head.add_classes([bank([3]).features])
    assert mismatches(head.classes) == before, "a class without a learned weight has none to be close to"


def test_share_of_kin(head):
    groups = ["a", "b", "a", "b", "a", "b", "a"]
    found = share_of_kin(head, groups)
    for c, row in enumerate(cosines()):
        given = {d: torch.tensor(3.0 * row[d]).exp().item() for d in range(6) if d != c}  # class 6 has too few images
        kin = sum(share for d, share in given.items() if groups[d] == groups[c])
        assert float(found[c]) == pytest.approx(kin / sum(given.values()), rel=1e-5)


def test_nobody_else_gives():
    head = KnowledgeTransferHead(WIDTH, len(COUNTS), k=50).double().fit(bank(), classifier=weight())
    found = share_of_kin(head, list(range(7)))
    assert bool(found[0].isnan())
    assert found[1:].tolist() == [0.0] * 6


def test_drawn(tmp_path, head):
    figure = plot_sharpness({"square root": sharpness(head.classes), "uniform": sharpness(head.classes)})
    assert save_figure(tmp_path / "x.png", figure).stat().st_size > 1000


def test_bad_input(head):
    with pytest.raises(LongTailError, match="groups are of 2 classes, the head has 7"):
        share_of_kin(head, ["a", "b"])
    with pytest.raises(LongTailError, match="fit the head with a classifier"):
        sharpness(KnowledgeTransferHead(WIDTH, 7).classes)
