from __future__ import annotations

from collections import Counter

import pytest
import torch

from longtail_lightning._errors import LongTailError
from longtail_lightning.samplers import ClassUniformBatchSampler

COUNTS = [40, 0, 17, 5, 9, 6, 4, 4]
LABELS = torch.repeat_interleave(torch.arange(8), torch.tensor(COUNTS)).tolist()


def _batches(sampler):
    drawn = list(sampler)
    return [drawn[start : start + sampler.group] for start in range(0, len(drawn), sampler.group)]


@pytest.mark.parametrize("classes", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("replicas", [1, 2, 3])
def test_each_batch_of_each_rank_holds_m_classes_with_k_different_images(classes, replicas):
    for rank in range(replicas):
        options = {"num_samples": 500, "num_replicas": replicas, "rank": rank}
        for batch in _batches(ClassUniformBatchSampler(LABELS, classes, 3, **options)):
            assert len(set(batch)) == 3 * classes
            assert sorted(Counter(LABELS[i] for i in batch).values()) == [3] * classes


def test_classes_and_images_are_drawn_equally_often():
    # 7 classes in batches of 3: each order leaves out one.
    drawn = list(ClassUniformBatchSampler(LABELS, 3, 2, num_samples=60_000))
    classes = Counter(LABELS[i] for i in drawn)
    assert set(classes) == {c for c, count in enumerate(COUNTS) if count}
    assert all(abs(count - 60_000 / 7) < 5 * (60_000 / 7) ** 0.5 for count in classes.values())
    images = Counter(i for i in drawn if LABELS[i] == 0)
    assert len(images) == 40
    assert all(abs(count - 60_000 / 280) < 5 * (60_000 / 280) ** 0.5 for count in images.values())


def test_small_classes_and_few_classes_repeat():
    batches = _batches(ClassUniformBatchSampler([0, 0, 0, 1], 5, 2, num_samples=50))
    for batch in batches:
        assert len(batch) == 10
        assert set(Counter(min(i // 3, 1) for i in batch).values()) == {4, 6}


def test_sizes_are_checked():
    for sizes in ((0, 4), (4, 0)):
        with pytest.raises(LongTailError, match="at least 1"):
            ClassUniformBatchSampler(LABELS, *sizes)
