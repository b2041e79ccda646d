"""Repeat the images of rare classes; several classes per image are fine (LVIS)."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Generator, Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import as_labels
from longtail_lightning.samplers._base import Labels
from longtail_lightning.samplers._passes import PassSampler


class RepeatFactorSampler(PassSampler):
    r"""Each image at least once per epoch, those with a class below the threshold more often.

    **What it changes.** Classes that occur in fewer than `threshold` of the images are repeated, by the
    square root of what they lack; the others stay as they are.

    **Formula.** \(f_c\) is the share of images with class c, \(r_c = \max(1, \sqrt{t / f_c})\), and an
    image has the largest \(r_c\) of its classes. The fraction of \(r\) is rounded anew each epoch: up
    with just that probability. One random offset rounds all images, in random order, so that
    the epoch length does not vary.

    **Shapes.** labels `(N,)`, or `(N, C)` multi-hot; yields `ceil(num_samples / num_replicas)` indices per
    rank. An epoch has \(\lceil \sum_i r_i \rceil\) images over all ranks, more than the data set, unless
    `num_samples` cuts it or continues with a further pass. Ranks share one list; when they do not
    divide it, it is padded with its own beginning.

    **When it helps, when it hurts.** For multi-label data, where a class cannot be drawn alone, and
    where every image shall be seen. On single-label data with many classes take a threshold well above
    1 / C, or nothing is repeated.

    **Classes without images** are ignored; an image without a class is drawn once.

    Args:
        labels: class index of each image, or one row of 0 and 1 per image.
        threshold: the frequency t below which a class is repeated.
        num_samples: images per epoch over all ranks; by default the sum of the repeat factors.
        num_replicas: number of ranks; by default that of the process group.
        rank: this rank; likewise.
        seed: must be the same on all ranks.

    Examples:
        >>> sampler = RepeatFactorSampler([0] * 15 + [1], threshold=0.25)
        >>> len(sampler), list(sampler).count(15)
        (17, 2)
        >>> RepeatFactorSampler([[1, 0], [1, 0], [1, 0], [1, 1]], threshold=1.0).repeat_factors.tolist()
        [1.0, 1.0, 1.0, 2.0]

    **Paper.** Gupta et al., LVIS, CVPR 2019, section 4.2 and appendix B.

    **Differences from the authors' code.** Theirs rounds each image on its own, so the length of an
    epoch varies, and streams without epochs.
    """

    accepts_multi_hot: ClassVar[bool] = True

    def __init__(
        self,
        labels: Labels,
        threshold: float = 0.001,
        num_samples: int | None = None,
        num_replicas: int | None = None,
        rank: int | None = None,
        seed: int = 0,
    ) -> None:
        if not 0.0 <= threshold <= 1.0:
            raise LongTailError(f"threshold={threshold} must lie in [0, 1]: it is a share of the images.")
        self.threshold = threshold
        self.repeat_factors = _repeat_factors(labels, threshold)
        if num_samples is None:
            num_samples = math.ceil(round(float(self.repeat_factors.sum()), 6))
        super().__init__(len(self.repeat_factors), num_samples, num_replicas, rank, seed)

    def one_pass(self, generator: Generator) -> Tensor:
        order = torch.randperm(self.num_images, generator=generator)
        offset = torch.rand((), generator=generator, dtype=torch.float64)
        # An image is drawn once for each whole number that its stretch of the running sum covers.
        marks = (self.repeat_factors[order].cumsum(0) + offset).floor_().long()
        drawn = order.repeat_interleave(marks.diff(prepend=marks.new_zeros(1)))
        return drawn[torch.randperm(len(drawn), generator=generator)]


def _repeat_factors(labels: Labels, threshold: float) -> Tensor:
    values = labels if isinstance(labels, Tensor) or hasattr(labels, "__array__") else list(labels)
    try:
        values = torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError):
        values = as_labels(values)  # tells what is wrong with them
    if values.ndim != 2:
        index = as_labels(values)
        return _class_factors(torch.bincount(index), len(index), threshold)[index]
    if values.numel() == 0:
        raise LongTailError("labels are empty: there is no image; check the data path.")
    if not bool(((values == 0) | (values == 1)).all()):
        raise LongTailError("labels of shape (N, C) must be multi-hot, 0 and 1 only; pass (N,) for class indices.")
    factors = _class_factors(values.count_nonzero(0), len(values), threshold)
    # In pieces, for a matrix of doubles is eight times one of bools.
    pieces = values.split(1 << 12)  # type: ignore[no-untyped-call]
    return torch.cat([(rows * factors).amax(1) for rows in pieces]).clamp(min=1.0)


def _class_factors(counts: Tensor, num_images: int, threshold: float) -> Tensor:
    return (threshold * num_images / counts.clamp(min=1).double()).sqrt().clamp(min=1.0)
