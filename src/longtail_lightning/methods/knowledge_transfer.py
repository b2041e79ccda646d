"""Prototypes and knowledge transfer, without any training."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.heads import CosineHead, EnsembleHead, Head, KnowledgeTransferHead, PrototypeHead
from longtail_lightning.heads._class_vectors import ClassVectorHead
from longtail_lightning.heads.knowledge_transfer import PARTS, Attention, Part
from longtail_lightning.methods.base import GIVE_VALIDATION, Device, Retrained, Retraining

Member = Literal["prototypes", "classifier"]
TAUS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)
"""What is tried for the temperature of the attention."""


class KnowledgeTransfer(Retraining):
    r"""Compose classifiers of prototypes and of what frequent classes have learned; several `k` vote together.

    With `k=20` it is the paper's \(w_h(20)\), with `k=(0, 20, 100)` its ensemble, without `"classifier"` in `parts`
    the continual form. `k=()` with `also=("prototypes",)` is the prototype classifier.

    Args:
        k: classes with more training images give; one classifier for each `k`.
        tau: temperature \(\tau\) of the attention, or `"val"`: the best accuracy on validation features.
        taus: what is tried for `"val"`.
        attention: who asks and who answers, see `KnowledgeTransferHead`.
        parts: what a class vector is the sum of.
        shrinkage: moves prototypes of few images towards what their donors give them, see `KnowledgeTransferHead`.
        also: further members of the ensemble: `"prototypes"`, `"classifier"`.
        name: what files are called.

    Examples:
        >>> import torch
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(30, 1), [0, 1, 2, 3] * 30)
        >>> made = KnowledgeTransfer(k=(0, 20))(CosineHead(4, 4), bank)
        >>> len(made.head.heads), made.details
        (2, {'k': [0, 20], 'tau': 10.0})
    """

    name = "kt"
    title = "knowledge transfer"

    def __init__(
        self,
        *,
        k: int | Sequence[int] = (0, 20, 100),
        tau: float | Literal["val"] = 10.0,
        taus: Sequence[float] = TAUS,
        attention: Attention = "p->w",
        parts: Sequence[Part] = PARTS,  # type: ignore[assignment]
        shrinkage: float = 0.0,
        also: Sequence[Member] = (),
        name: str = "kt",
    ) -> None:
        super().__init__(name)
        self.k = list(k) if isinstance(k, Iterable) else [k]
        if isinstance(tau, str) and tau != "val":
            raise LongTailError(f"tau={tau!r}: give a number, or 'val' to choose it on validation features.")
        if isinstance(also, str) or not set(also) <= {"prototypes", "classifier"}:
            raise LongTailError(f"also={also!r} must be some of 'prototypes', 'classifier'.")
        if not self.k and not also:
            raise LongTailError("KnowledgeTransfer has no classifier to make: give at least one k.")
        for value in taus:
            require_number(self, "tau", value, 0)
        self.tau = tau
        self.taus = [float(value) for value in taus]
        self.attention: Attention = attention
        self.parts = tuple(parts)
        self.shrinkage = shrinkage
        self.also = tuple(also)
        for value in self.k:  # impossible values are refused here
            KnowledgeTransferHead(1, 1, k=value, **self._options)

    @property
    def _first_tau(self) -> float:
        return self.taus[0] if isinstance(self.tau, str) else self.tau

    @property
    def _uses_tau(self) -> bool:
        return bool(self.k) and KnowledgeTransferHead(1, 1, **self._options).borrows

    @property
    def _options(self) -> dict[str, Any]:
        options = {"tau": self._first_tau, "attention": self.attention, "parts": self.parts}
        return {**options, "shrinkage": self.shrinkage}

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        weight_of(head)
        if self.tau == "val" and not validation:
            raise LongTailError(f"There are no validation images to choose tau on: {GIVE_VALIDATION}, or fix tau=10.")

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        self.check(head, validation=val is not None)
        place = choose_device(device, head)
        made = self._new(head, train.num_features, train.num_classes).to(place)
        members: list[ClassVectorHead] = list(made.heads) if isinstance(made, EnsembleHead) else [made]  # type: ignore[arg-type, list-item]
        members[0].classes.fit(train, train.class_counts, weight_of(head))
        details: dict[str, Any] = {"k": self.k} if self.k else {}
        if self._uses_tau:
            details |= self._choose_tau(made, members, val, place)
        made.refit()  # type: ignore[operator]
        return Retrained(made.cpu(), self.label, details)

    def _new(self, head: nn.Module, num_features: int, num_classes: int) -> Head:
        """The heads, which know nothing yet, with one knowledge of the classes."""
        scale = scale_of(head)
        members: list[ClassVectorHead] = []
        if "prototypes" in self.also:
            members.append(PrototypeHead(num_features, num_classes, scale=scale))
        if "classifier" in self.also:  # in a form that is silent while there are classes without a learned weight
            members.append(KnowledgeTransferHead(num_features, num_classes, parts=("classifier",), scale=scale))
        size = (num_features, num_classes)
        members += [KnowledgeTransferHead(*size, k=k, scale=scale, **self._options) for k in self.k]
        return members[0] if len(members) == 1 else EnsembleHead(members, shared=True)

    def _choose_tau(
        self, made: Head, members: Sequence[ClassVectorHead], val: FeatureBank | None, device: Any
    ) -> dict[str, Any]:
        transferring = [head for head in members if isinstance(head, KnowledgeTransferHead)]
        if self.tau != "val" or val is None:
            return {"tau": self.tau}
        rows: list[dict[str, Any]] = []
        for tau in self.taus:
            for head in transferring:
                head.tau = tau
            made.refit()  # type: ignore[operator]
            rows.append({"tau": tau, "per_class": class_accuracy(made, val, device).tolist()})
        means = [_mean(row["per_class"]) for row in rows]
        best = self.taus[means.index(max(means))]  # the first of equals
        for head in transferring:
            head.tau = best
        return {"tau": best, "curve": {"x": "tau", "chosen": best, "split": "val", "rows": rows}}


class Prototypes(KnowledgeTransfer):
    """The prototype classifier: the class whose mean of normalized features has the smallest angle.

    Args:
        name: what files are called.

    Examples:
        >>> import torch
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> Prototypes()(CosineHead(4, 4), bank).head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    name = "prototypes"
    title = "prototypes"

    def __init__(self, *, name: str = "prototypes") -> None:
        super().__init__(k=(), also=("prototypes",), name=name)


def weight_of(head: nn.Module) -> nn.Module:
    """A head with one weight vector per class; warn when it is not a cosine classifier."""
    weight = getattr(head, "weight", None)
    if isinstance(head, ClassVectorHead) or getattr(weight, "ndim", 0) != 2:
        raise LongTailError(
            f"Knowledge transfer builds on a trained CosineHead, got a {type(head).__name__}: train with "
            "--model.head CosineHead (head=CosineHead)."
        )
    if not isinstance(head, CosineHead):
        warnings.warn(
            f"The paper requires a cosine classifier, this one is a {type(head).__name__}: its weights and the "
            "prototypes point in different directions, so expect less.",
            stacklevel=3,
        )
    return head


def scale_of(head: nn.Module) -> float:
    """The trained scale of a cosine classifier, or the paper's first value."""
    return float(head.scale.detach()) if isinstance(head, CosineHead) else 16.0


def _mean(per_class: Sequence[float]) -> float:
    known = [value for value in per_class if value == value]
    return sum(known) / len(known)
