from __future__ import annotations

import torch

from longtail_lightning.samplers import _by_class
from longtail_lightning.samplers._by_class import ByClass


def test_order_is_that_of_a_stable_sort(monkeypatch):
    monkeypatch.setattr(_by_class, "_CHUNK", 7)
    labels = torch.randint(0, 9, (100,))
    labels[labels == 4] = 5  # a class without images
    images = ByClass(labels)
    assert images.order.tolist() == labels.argsort(stable=True).tolist()
    assert images.classes.tolist() == [0, 1, 2, 3, 5, 6, 7, 8]
    for c, size, first in zip(images.classes, images.sizes, images.first):
        assert images.order[first : first + size].tolist() == (labels == c).nonzero().flatten().tolist()


def test_order_is_stored_in_four_bytes():
    assert ByClass([0, 1]).order.dtype == torch.int32
