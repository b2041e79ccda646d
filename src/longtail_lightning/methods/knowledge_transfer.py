"""Prototypes and knowledge transfer, without any training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.heads import CosineHead, EnsembleHead, Head, KnowledgeTransferHead, PrototypeHead
from longtail_lightning.heads._class_knowledge import ClassKnowledge
from longtail_lightning.heads._class_vectors import ClassVectorHead
from longtail_lightning.heads.knowledge_transfer import PARTS, Attention, Part
from longtail_lightning.methods.base import GIVE_VALIDATION, Device, Retrained, Retraining

Member = Literal["prototypes", "classifier"]
SHRINKAGES = (0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
TAUS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)
"""What is tried for the shrinkage of prototypes, and for the temperature of the attention."""


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
        shrinkage: moves prototypes of few images towards what their donors give them, see `KnowledgeTransferHead`;
            `"val"` chooses it like tau, and before it, with the paper's tau of 10.
        shrinkages: what is tried for `"val"`.
        prototypes_per_class: into how many clusters the features of a class are divided.
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
        shrinkage: float | Literal["val"] = 0.0,
        shrinkages: Sequence[float] = SHRINKAGES,
        prototypes_per_class: int = 1,
        also: Sequence[Member] = (),
        name: str = "kt",
    ) -> None:
        super().__init__(name)
        self.k = list(k) if isinstance(k, Iterable) else [k]
        if isinstance(also, str) or not set(also) <= {"prototypes", "classifier"}:
            raise LongTailError(f"also={also!r} must be some of 'prototypes', 'classifier'.")
        if not self.k and not also:
            raise LongTailError("KnowledgeTransfer has no classifier to make: give at least one k.")
        self.tau, self.taus = tau, [float(value) for value in taus]
        self.shrinkage, self.shrinkages = shrinkage, [float(value) for value in shrinkages]
        for key, tried in (("tau", self.taus), ("shrinkage", self.shrinkages)):
            if isinstance(value := getattr(self, key), str) and value != "val":
                raise LongTailError(f"{key}={value!r}: give a number, or 'val' to choose it on validation features.")
            if not tried:
                raise LongTailError(f"There is no value of {key} to try: leave out {key}s, or name some.")
            for number in tried:
                require_number(self, key, number, 0)
        self.attention: Attention = attention
        self.parts = tuple(parts)
        self.prototypes_per_class = prototypes_per_class
        self.also = tuple(also)
        options = self._options()
        self._members(1, 1, options, 1.0)  # impossible values are refused here

    def _options(self) -> dict[str, Any]:
        """Those of each head; what is chosen on validation features is not among them."""
        given = {key: getattr(self, key) for key in ("tau", "shrinkage")}
        options = {"attention": self.attention, "parts": self.parts, "prototypes_per_class": self.prototypes_per_class}
        return {**options, **{key: value for key, value in given.items() if value != "val"}}

    @property
    def _chooses(self) -> list[str]:
        return [key for key in ("shrinkage", "tau") if self.k and getattr(self, key) == "val"]

    def check(self, head: nn.Module, *, validation: bool = True) -> None:
        weight_of(head)
        if self._chooses and not validation:
            key = self._chooses[0]
            fixed = {"tau": 10, "shrinkage": 0}[key]
            raise LongTailError(
                f"There are no validation images to choose {key} on: {GIVE_VALIDATION}, or fix {key}={fixed}."
            )

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Retrained:
        self.check(head, validation=val is not None)
        place = choose_device(device, head)
        known = ClassKnowledge(train.num_features, train.num_classes, self.prototypes_per_class).to(place)
        known.fit(train, train.class_counts, weight_of(head))
        build = partial(self._build, known, scale_of(head))
        options, details = self._options(), {}
        for key in self._chooses:
            assert val is not None
            tried = self.taus if key == "tau" else self.shrinkages
            chosen, curve = _choose(key, tried, build, options, val, place)
            options[key] = chosen
            details["curve" if key == "tau" else f"{key}_curve"] = curve
        made = build(options)
        return Retrained(made.cpu(), self.label, {**self._told(made, options), **details})

    def _build(self, known: ClassKnowledge, scale: float, options: Mapping[str, Any]) -> Head:
        """The heads with one knowledge of the classes."""
        members = self._members(known.num_features, known.num_classes, options, scale)
        members[0].classes = known
        made = members[0] if len(members) == 1 else EnsembleHead(members, shared=True)
        return made.to(known.counts.device).refit()

    def _members(
        self, num_features: int, num_classes: int, options: Mapping[str, Any], scale: float
    ) -> list[ClassVectorHead]:
        size, several = (num_features, num_classes), self.prototypes_per_class
        members: list[ClassVectorHead] = []
        if "prototypes" in self.also:
            members.append(PrototypeHead(*size, scale=scale, prototypes_per_class=several))
        if "classifier" in self.also:  # in a form that is silent while there are classes without a learned weight
            made = KnowledgeTransferHead(*size, parts=("classifier",), scale=scale, prototypes_per_class=several)
            members.append(made)
        return members + [KnowledgeTransferHead(*size, k=k, scale=scale, **options) for k in self.k]

    def _told(self, made: Head, options: Mapping[str, Any]) -> dict[str, Any]:
        """What a report says of a head."""
        members = made.heads if isinstance(made, EnsembleHead) else [made]
        borrows = any(isinstance(head, KnowledgeTransferHead) and head.borrows for head in members)
        told: dict[str, Any] = {"k": self.k} if self.k else {}
        told |= {"tau": options["tau"]} if borrows else {}
        told |= {"shrinkage": options["shrinkage"]} if self.shrinkage else {}
        return told | ({"prototypes_per_class": self.prototypes_per_class} if self.prototypes_per_class > 1 else {})


def _choose(
    key: str,
    tried: Sequence[float],
    build: Callable[[dict[str, Any]], Head],
    options: Mapping[str, Any],
    val: FeatureBank,
    device: Any,
) -> tuple[float, dict[str, Any]]:
    """The value with the best mean accuracy on validation features, and what the others reach."""
    rows: list[dict[str, Any]] = []
    for value in tried:
        found = class_accuracy(build({**options, key: value}), val, device)
        rows.append({key: value, "per_class": found.tolist()})
    means = [_mean(row["per_class"]) for row in rows]
    best = tried[means.index(max(means))]  # the first of equals
    return best, {"x": key, "chosen": best, "split": "val", "rows": rows}


class Prototypes(KnowledgeTransfer):
    """The prototype classifier: the class whose mean of normalized features has the smallest angle.

    Args:
        prototypes_per_class: how many clusters of its features stand for a class, instead of the mean of all.
        name: what files are called.

    Examples:
        >>> import torch
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> Prototypes()(CosineHead(4, 4), bank).head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    name = "prototypes"
    title = "prototypes"

    def __init__(self, *, prototypes_per_class: int = 1, name: str = "prototypes") -> None:
        super().__init__(k=(), also=("prototypes",), prototypes_per_class=prototypes_per_class, name=name)


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
