"""What heads share that compare features with one vector per class, and to which classes can be added."""

from __future__ import annotations

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCountsLike
from longtail_lightning.heads._bank_blocks import Features
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._class_knowledge import Classifier, ClassKnowledge
from longtail_lightning.heads._kept_rows import kept_rows
from longtail_lightning.heads._rows import append, give_room_back, rows_with_room
from longtail_lightning.heads.nearest_class_mean import ABSENT

Change = int | Tensor | None
_BLOCK = 256
"""Classes that are composed at a time: few enough for the processor's cache."""


class ClassVectorHead(Head):
    """Scaled cosine between features and a vector per class that a child composes of what is known of the class.

    A child answers `compose`, and, where composing is expensive, keeps what it needs in `prepare`.

    Args:
        num_features: width of the features.
        num_classes: number of classes; `add_classes` and `remove_classes` change it.
        scale: factor of the logits.
        prototypes_per_class: how many vectors a class has; the closest one counts.
    """

    classes: ClassKnowledge
    weight: Tensor
    """`(C * prototypes_per_class, F)` of norm 1: what features are compared with."""

    def __init__(
        self, num_features: int, num_classes: int, *, scale: float = 16.0, prototypes_per_class: int = 1
    ) -> None:
        super().__init__(num_features, num_classes)
        require_number(self, "scale", scale, 0, above=True)
        self.scale = float(scale)
        self.prototypes_per_class = prototypes_per_class
        self.classes = ClassKnowledge(num_features, num_classes, prototypes_per_class)
        # Made of the other buffers, so that no file has to hold it.
        self.register_buffer("weight", torch.zeros(0, num_features), persistent=False)
        self.register_buffer("absent", torch.zeros(0, dtype=torch.bool), persistent=False)
        self._composed: tuple[str, ...] | None = None
        self._some_absent = False

    # -- what a child answers --------------------------------------------------------------------

    @abstractmethod
    def compose(self, classes: slice) -> Tensor:
        """The vectors of some classes, of any norm; zeros for one that cannot be an answer.

        Args:
            classes: which ones.
        """

    def prepare(self, change: Change = None) -> None:
        """Compute what `compose` needs.

        Args:
            change: how many classes are new at the end, or which ones of those before were kept, when no class was
                taken out that others learn from; by default all are new.
        """
        return

    @property
    def form(self) -> tuple[str, ...]:
        """The parts that all classes have."""
        return ("prototype",)

    @property
    def active(self) -> bool:
        """Whether an ensemble counts this head: not when it has nothing to say of some of the classes."""
        return True

    # -- fitting and editing ---------------------------------------------------------------------

    def fit(
        self, bank: Features, class_counts: ClassCountsLike | None = None, classifier: Classifier | None = None
    ) -> Self:
        """Take what is known of the classes from training features and a trained classifier.

        Args:
            bank: training features and labels.
            class_counts: training images per class; by default those of the bank.
            classifier: a head with a `weight`, or the weight itself, `(num_classes, num_features)`.
        """
        with self.classes.restored_on_error():
            self.classes.fit(bank, class_counts, classifier)
            self.prepare()
        self.follow()
        return self

    def refit(self) -> Self:
        """Compose the vectors anew after a change of `classes`, which several heads may share."""
        self.prepare()
        self.follow()
        return self

    def follow(self, change: Change = None) -> None:
        """Take over the number of `classes`, after everything was prepared.

        Args:
            change: see `prepare`.
        """
        before, self.num_classes = self.num_classes, self.classes.num_classes
        if isinstance(change, int) and self._composed == self.form:
            self._compose_new(slice(before, self.num_classes))
        else:
            self._composed = None

    def add_classes(self, features: Sequence[Tensor]) -> None:
        """Append classes, without any training.

        Args:
            features: those of each new class, `(n, num_features)`.
        """
        self._require_fitted()
        with told_of_a_new_form([self]), self.classes.restored_on_error():
            self.classes.add(features)
            self.prepare(len(features))
        self.follow(len(features))

    def remove_classes(self, indices: Sequence[int]) -> None:
        """Take classes out; the others keep their order.

        Args:
            indices: numbers of the classes.
        """
        self._require_fitted()
        rows = kept_rows(self.num_classes, indices)
        with self.classes.restored_on_error():
            self.prepare(keep(self.classes, rows))
        self.follow()

    # -- logits ----------------------------------------------------------------------------------

    def forward(self, features: Tensor) -> Tensor:
        if self._composed is None or self.num_classes != self.classes.num_classes:
            self._compose_all()
        if features.shape[-1] != self.num_features:
            raise LongTailError(
                f"{type(self).__name__} was made for features {self.num_features} wide, got {features.shape[-1]}."
            )
        logits = self.scale * F.linear(F.normalize(features, dim=1), self.weight.to(features.dtype))
        if self._some_absent:
            lowest = logits.detach().masked_fill(self.absent, torch.inf).amin(1, keepdim=True)
            logits = torch.where(self.absent, lowest - ABSENT, logits)
        if (per_class := self.classes.per_class) > 1:
            logits = logits.view(len(logits), -1, per_class).amax(2)
        return logits

    def _compose_all(self) -> None:
        self._require_fitted()
        # Tensors that are made in inference mode could not be used in training later.
        with torch.inference_mode(False), torch.no_grad():
            known, absent = self.classes, []
            self.weight = rows_with_room(len(known.vectors), self.num_features, known.vectors)
            for start in range(0, self.num_classes, _BLOCK):
                classes = slice(start, start + _BLOCK)
                self.weight[known.rows_of(classes)], missing = self._directions(classes)
                absent.append(missing)
        self._composed = self.form
        self._note_absent(torch.cat(absent))

    def _compose_new(self, classes: slice) -> None:
        with torch.inference_mode(False), torch.no_grad():
            directions, missing = self._directions(classes)
            self.weight = append(self.weight, directions)
            self._note_absent(torch.cat([self.absent, missing]))

    def _directions(self, classes: slice) -> tuple[Tensor, Tensor]:
        vectors = self.compose(classes)
        norms = vectors.norm(dim=1, keepdim=True)
        return vectors.div_(norms.clamp(min=1e-12)), norms.flatten() == 0

    def _note_absent(self, absent: Tensor) -> None:
        # A flag, for asking a device at each batch makes the process wait.
        self.absent, self._some_absent = absent, bool(absent.any())

    def _require_fitted(self) -> None:
        if self.num_classes != self.classes.num_classes:
            raise LongTailError(
                f"The {type(self).__name__} has {self.num_classes} classes, what it shares with another head has "
                f"{self.classes.num_classes}: call head.refit() after the other one was edited."
            )
        if not bool(self.classes.filled.any()):
            raise LongTailError(f"{type(self).__name__} knows no class yet: call head.fit(bank, ...) first.")

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        give_room_back(self)
        super()._save_to_state_dict(destination, prefix, keep_vars)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)  # type: ignore[no-untyped-call]
        self._composed = None


@contextmanager
def told_of_a_new_form(heads: Sequence[ClassVectorHead]) -> Iterator[None]:
    """Warn when heads lose the classifier's part in the block, and so answer differently about old classes."""
    before = [head.form for head in heads]
    yield
    if any("classifier" in old and "classifier" not in head.form for old, head in zip(before, heads)):
        warnings.warn(
            "The new classes have no learned weight, so from now on all classes go without: class vectors are those of "
            "the continual form, prototype and transferred knowledge, and old classes lose a little.",
            stacklevel=4,
        )


def keep(classes: ClassKnowledge, rows: Tensor) -> Change:
    """Take classes out; tells what has to be computed anew."""
    learned = int(classes.learned.sum())
    classes.keep(rows)
    return rows if int(classes.learned.sum()) == learned else None
