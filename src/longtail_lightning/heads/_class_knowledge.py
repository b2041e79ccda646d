"""What is known of each class without any training: a prototype, a learned direction, and how many images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning.counts import ClassCounts, ClassCountsLike
from longtail_lightning.heads._bank_blocks import Features, blocks_of, labels_of, require_finite_sums

Classifier = nn.Module | Tensor
_COLUMNS = ("prototypes", "directions", "counts")


class ClassKnowledge(nn.Module):
    r"""The two representations that a class has: the mean of its features, and the learned weight of its classifier.

    Several heads can share one. A class that is added later has a prototype and no learned direction.

    **Formula.** \(p_i = \frac{1}{n_i} \sum_{y_j = i} f_j / \lVert f_j \rVert\), eq. 3 of the paper, kept as it is:
    its norm tells how close together the features of the class are. Sums are in float64, class by class, so that a
    class has the same prototype whichever other classes are around it.

    Args:
        num_features: width of the features.
        num_classes: number of classes.

    Examples:
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0]]), labels=[0, 1, 1])
        >>> knowledge = ClassKnowledge(2, 2).fit(bank)
        >>> knowledge.add([torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
        >>> knowledge.prototypes.tolist(), knowledge.counts.tolist()
        ([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [1, 2, 2])

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022, section 3.
    """

    prototypes: Tensor
    """`(C, F)`; 0 for a class without features."""
    directions: Tensor
    """`(C, F)`, norm 1: the learned weights; 0 for a class that has none."""
    counts: Tensor
    """`(C,)`, int64: training images."""

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("prototypes", torch.zeros(num_classes, num_features))
        self.register_buffer("directions", torch.zeros(num_classes, num_features))
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.int64))

    @property
    def num_classes(self) -> int:
        """How many classes there are now."""
        return len(self.counts)

    @property
    def present(self) -> Tensor:
        """Which classes have a prototype."""
        return self.prototypes.any(1)

    @property
    def learned(self) -> Tensor:
        """Which classes have a learned direction."""
        return self.directions.any(1)

    def fit(
        self, bank: Features, class_counts: ClassCountsLike | None = None, classifier: Classifier | None = None
    ) -> Self:
        """Take the prototypes from a bank, and the directions from a trained classifier.

        Args:
            bank: training features and labels.
            class_counts: training images per class; by default those of the bank.
            classifier: a head with a `weight`, or the weight itself, `(num_classes, num_features)`.
        """
        device, width = self.prototypes.device, self.prototypes.shape[1]
        labels = labels_of(bank, "A class prototype", self.num_classes, device)
        sums = torch.zeros(self.num_classes, width, dtype=torch.float64, device=device)
        sizes = torch.bincount(labels, minlength=self.num_classes)
        for block, classes in blocks_of(bank, labels, width):
            sums.index_add_(0, classes, F.normalize(block.double(), dim=1))
        require_finite_sums(sums)
        counts = sizes if class_counts is None else ClassCounts(class_counts).tensor.to(device)
        if len(counts) != self.num_classes:
            raise LongTailError(f"class_counts are of {len(counts)} classes, the bank's labels of {self.num_classes}.")
        self.prototypes.copy_(sums.div_(sizes.clamp(min=1)[:, None]))
        self.counts.copy_(counts)
        if classifier is not None:
            trained = (self.counts > 0)[:, None]
            self.directions.copy_(direction_of(classifier, self.num_classes, width).to(device) * trained)
        return self

    def add(self, features: Sequence[Tensor]) -> None:
        """Append classes, of which nobody has learned anything.

        Args:
            features: those of each class, `(n, F)`.
        """
        width = self.prototypes.shape[1]
        for given in features:
            if given.ndim != 2 or given.shape[1] != width or len(given) == 0:
                raise LongTailError(f"A new class needs features (n, {width}), got shape {tuple(given.shape)}.")
            if not bool(given.isfinite().all()):
                raise LongTailError("The features of a new class hold NaN or infinity: look at its pictures.")
        # In the order of the features, as `fit` adds them up.
        means = torch.stack([_mean(given.to(self.prototypes.device)) for given in features])
        sizes = torch.tensor([len(given) for given in features], device=self.counts.device)
        self.prototypes = torch.cat([self.prototypes, means.to(self.prototypes)])
        self.directions = torch.cat([self.directions, self.directions.new_zeros(len(features), width)])
        self.counts = torch.cat([self.counts, sizes])

    def keep(self, rows: Tensor) -> None:
        """Keep these classes, in this order."""
        for name in _COLUMNS:
            setattr(self, name, getattr(self, name)[rows.to(self.counts.device)])

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Whatever is added or taken out in the block is undone when it ends with an error."""
        before = {name: getattr(self, name) for name in _COLUMNS}
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise


def direction_of(classifier: Classifier, num_classes: int, num_features: int) -> Tensor:
    """The learned weights, scaled to norm 1; refuse those of another size, and numbers that are not finite."""
    weight = classifier if isinstance(classifier, Tensor) else getattr(classifier, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        raise LongTailError(
            f"Knowledge transfer needs a classifier with one weight vector per class, got a "
            f"{type(classifier).__name__}: train a CosineHead, or pass its weight, (num_classes, num_features)."
        )
    if tuple(weight.shape) != (num_classes, num_features):
        raise LongTailError(
            f"The classifier's weight is {tuple(weight.shape)}, the bank has {num_classes} classes and features "
            f"{num_features} wide: give the classifier that was trained on these features."
        )
    if not bool(weight.isfinite().all()):
        raise LongTailError("The weight of the classifier holds NaN or infinity: its training has diverged.")
    return F.normalize(weight.detach().to(torch.promote_types(weight.dtype, torch.float32)), dim=1)


def _mean(features: Tensor) -> Tensor:
    total = torch.zeros(1, features.shape[1], dtype=torch.float64, device=features.device)
    where = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    return total.index_add_(0, where, F.normalize(features.double(), dim=1))[0] / len(features)
