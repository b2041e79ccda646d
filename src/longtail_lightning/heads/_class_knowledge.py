"""What is known of each class without any training: prototypes, a learned direction, and how many images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_whole
from longtail_lightning.counts import ClassCounts, ClassCountsLike
from longtail_lightning.heads._bank_blocks import (
    Features,
    blocks_of,
    features_of_classes,
    labels_of,
    require_finite_sums,
)
from longtail_lightning.heads._centers import centers_of
from longtail_lightning.heads._rows import append, give_room_back, rows_with_room

Classifier = nn.Module | Tensor


class ClassKnowledge(nn.Module):
    r"""The two representations that a class has: the mean of its features, and the learned weight of its classifier.

    Several heads can share one. A class that is added later has a prototype and no learned direction.

    **Formula.** \(p_i = \frac{1}{n_i} \sum_{y_j = i} f_j / \lVert f_j \rVert\), eq. 3 of the paper, kept as it is:
    its norm tells how close together the features of the class are. Sums are in float64, class by class, so that a
    class has the same prototype whichever other classes are around it. Of several prototypes for a class each is the
    center of a cluster of its features, found by k-means on the sphere.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        per_class: how many prototypes a class has, when it has as many images.

    Examples:
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.0, 1.0]]), labels=[0, 1, 1])
        >>> knowledge = ClassKnowledge(2, 2).fit(bank)
        >>> knowledge.add([torch.tensor([[1.0, 0.0], [0.0, 1.0]])])
        >>> knowledge.prototypes.tolist(), knowledge.counts.tolist()
        ([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]], [1, 2, 2])

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022, section 3; several
    prototypes are what it leaves to future work.
    """

    prototypes: Tensor
    """`(C, F)`; 0 for a class without features."""
    directions: Tensor
    """`(C, F)`, norm 1: the learned weights; 0 for a class that has none."""
    centers: Tensor
    """`(C * per_class, F)`: the prototypes of each class, if there are several; zeros where there are fewer."""
    counts: Tensor
    """`(C,)`, int64: training images."""
    filled: Tensor
    """`(C * per_class,)`: which of the vectors that stand for classes there are."""
    learned: Tensor
    """`(C,)`: which classes have a learned direction."""

    def __init__(self, num_features: int, num_classes: int, per_class: int = 1) -> None:
        super().__init__()
        require_whole(self, "prototypes_per_class", per_class, 1)
        self.per_class = per_class
        self.register_buffer("prototypes", rows_with_room(num_classes, num_features))
        self.register_buffer("directions", rows_with_room(num_classes, num_features))
        if per_class > 1:
            self.register_buffer("centers", rows_with_room(num_classes * per_class, num_features))
        self.register_buffer("counts", torch.zeros(num_classes, dtype=torch.int64))
        # To look for zeros in all numbers takes longer than an answer of the classifier.
        self.register_buffer("filled", torch.zeros(num_classes * per_class, dtype=torch.bool), persistent=False)
        self.register_buffer("learned", torch.zeros(num_classes, dtype=torch.bool), persistent=False)

    @property
    def num_classes(self) -> int:
        """How many classes there are now."""
        return len(self.counts)

    @property
    def num_features(self) -> int:
        """Width of the features."""
        return self.prototypes.shape[1]

    @property
    def vectors(self) -> Tensor:
        """`(C * per_class, F)`: what stands for the classes."""
        return self.prototypes if self.per_class == 1 else self.centers

    @property
    def present(self) -> Tensor:
        """Which classes have a prototype."""
        return self.filled.view(-1, self.per_class).any(1)

    def rows_of(self, classes: slice) -> slice:
        """Where the vectors of some classes are."""
        return slice(classes.start * self.per_class, classes.stop * self.per_class)

    def vectors_of(self, classes: Tensor) -> Tensor:
        """The same for any classes: numbers of rows."""
        return (classes[:, None] * self.per_class + torch.arange(self.per_class, device=classes.device)).flatten()

    def for_each_vector(self, values: Tensor) -> Tensor:
        """What each class has, for each of its vectors."""
        return values if self.per_class == 1 else values.repeat_interleave(self.per_class, 0)

    @torch.inference_mode(False)
    @torch.no_grad()
    def fit(
        self, bank: Features, class_counts: ClassCountsLike | None = None, classifier: Classifier | None = None
    ) -> Self:
        """Take the prototypes from a bank, and the directions from a trained classifier.

        Args:
            bank: training features and labels.
            class_counts: training images per class; by default those of the bank.
            classifier: a head with a `weight`, or the weight itself, `(num_classes, num_features)`; without one no
                class has a learned direction.
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
        directions = torch.zeros_like(sums)
        if classifier is not None:
            directions = direction_of(classifier, self.num_classes, width).to(sums) * (counts > 0)[:, None]
        # New tensors, when nothing can fail any more: what was known before may be wanted again.
        if self.per_class > 1:
            centers = rows_with_room(len(self.centers), width, self.prototypes)
            for c, features in features_of_classes(bank, labels, sizes, width):
                centers[self.rows_of(slice(c, c + 1))] = self._centers(features).to(centers)
            self.centers = centers
        self.prototypes = _with_room(sums.div_(sizes.clamp(min=1)[:, None]), self.prototypes)
        self.directions = _with_room(directions, self.prototypes)
        self.counts = counts.clone()
        self._see()
        return self

    @torch.inference_mode(False)
    @torch.no_grad()
    def add(self, features: Sequence[Tensor]) -> None:
        """Append classes, of which nobody has learned anything.

        Args:
            features: those of each class, `(n, F)`.
        """
        width = self.prototypes.shape[1]
        if not len(features):
            raise LongTailError("No class is given: add_classes takes the features of each new class.")
        for given in features:
            if given.ndim != 2 or given.shape[1] != width or len(given) == 0:
                raise LongTailError(f"A new class needs features (n, {width}), got shape {tuple(given.shape)}.")
            if not bool(given.isfinite().all()):
                raise LongTailError("The features of a new class hold NaN or infinity: look at its pictures.")
        here = [given.to(self.prototypes.device) for given in features]
        means = torch.stack([_mean(given) for given in here]).to(self.prototypes)
        vectors = means if self.per_class == 1 else torch.cat([self._centers(given) for given in here]).to(means)
        self.prototypes = append(self.prototypes, means)
        self.directions = append(self.directions, torch.zeros_like(means))
        if self.per_class > 1:
            self.centers = append(self.centers, vectors)
        self.counts = torch.cat([self.counts, self.counts.new_tensor([len(given) for given in here])])
        self.filled = torch.cat([self.filled, vectors.any(1)])
        self.learned = torch.cat([self.learned, self.learned.new_zeros(len(here))])

    @torch.inference_mode(False)
    @torch.no_grad()
    def keep(self, rows: Tensor) -> None:
        """Keep these classes, in this order."""
        rows = rows.to(self.counts.device)
        vectors = self.vectors_of(rows)
        for name, value in self._columns().items():
            setattr(self, name, value[vectors if name in ("centers", "filled") else rows])

    @contextmanager
    def restored_on_error(self) -> Iterator[None]:
        """Whatever is added or taken out in the block is undone when it ends with an error."""
        before = self._columns()
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self, name, value)
            raise

    def _columns(self) -> dict[str, Tensor]:
        return dict(self.named_buffers(recurse=False))

    def _centers(self, features: Tensor) -> Tensor:
        """`(per_class, F)`, with zeros for those that there are too few features for."""
        found = centers_of(F.normalize(features.double(), dim=1), self.per_class).to(features.device)
        return F.pad(found, (0, 0, 0, self.per_class - len(found)))

    def _see(self) -> None:
        self.filled, self.learned = self.vectors.any(1), self.directions.any(1)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        give_room_back(self)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._see()


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


def _with_room(rows: Tensor, like: Tensor) -> Tensor:
    made = rows_with_room(len(rows), rows.shape[1], like)
    made.copy_(rows)
    return made


def _mean(features: Tensor) -> Tensor:
    total = torch.zeros(1, features.shape[1], dtype=torch.float64, device=features.device)
    where = torch.zeros(len(features), dtype=torch.int64, device=features.device)
    return total.index_add_(0, where, F.normalize(features.double(), dim=1))[0] / len(features)
