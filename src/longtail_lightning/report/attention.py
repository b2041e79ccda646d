"""Whom classes ask for knowledge: how sharp their choice is, how often it is wrong, and whether it stays among kin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads import KnowledgeTransferHead
from longtail_lightning.heads._class_knowledge import ClassKnowledge
from longtail_lightning.report.plots import _figure, _legend

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def sharpness(known: ClassKnowledge, top: int = 50) -> Tensor:
    """Cosines of a prototype with the learned weights, largest first, on average (figure 8 of Parisot et al., 2022).

    The faster they fall, the more a class asks those alone that are like it.

    Args:
        known: what a head knows of the classes, `head.classes`.
        top: how many of them.
    """
    cosines = _cosines(known)
    return cosines.sort(1, descending=True).values.mean(0)[:top]


def mismatches(known: ClassKnowledge) -> int:
    """How many prototypes are closer to the learned weight of another class than to their own (table 8).

    Args:
        known: what a head knows of the classes, `head.classes`.
    """
    cosines = _cosines(known)
    return int((cosines.argmax(1) != torch.arange(len(cosines), device=cosines.device)).sum())


def share_of_kin(head: KnowledgeTransferHead, groups: Sequence[object]) -> Tensor:
    """For each class: which share of what others give it comes from classes of its group, `(C,)`.

    Compare it with chance, the share of such classes among the donors. NaN for a class that no other one gives to.

    Args:
        head: a fitted head.
        groups: of each class: its superclass, its genus, ...

    Examples:
        >>> from types import SimpleNamespace
        >>> bank = SimpleNamespace(features=torch.eye(4), labels=[0, 1, 2, 3])
        >>> head = KnowledgeTransferHead(4, 4, k=0, tau=0).fit(bank, classifier=torch.eye(4))
        >>> share_of_kin(head, ["cat", "cat", "cat", "dog"]).tolist()
        [0.6666666666666666, 0.6666666666666666, 0.6666666666666666, 0.0]
    """
    if len(groups) != head.num_classes:
        raise LongTailError(f"groups are of {len(groups)} classes, the head has {head.num_classes}.")
    found = []
    for c in range(head.num_classes):
        others = [(donor, share) for donor, share in head.donors_of(c, top=head.num_classes) if donor != c]
        total = sum(share for _, share in others)
        kin = sum(share for donor, share in others if groups[donor] == groups[c])
        found.append(kin / total if total > 0 else float("nan"))
    return torch.tensor(found, dtype=torch.float64)


def plot_sharpness(curves: Mapping[str, Tensor]) -> Figure:
    """The curves of some models (figure 8).

    Args:
        curves: name of a model -> its `sharpness`.
    """
    figure, axes = _figure("Cosine of prototypes with learned weights, largest first")
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values.tolist(), label=name, linewidth=1.6)
    axes.set(xlabel="learned weight", ylabel="mean cosine", xlim=(1, None))
    _legend(axes, 4)
    return figure


def _cosines(known: ClassKnowledge) -> Tensor:
    """Of the prototypes with the learned weights, of classes that have both."""
    both = known.learned & known.present
    if not bool(both.any()):
        raise LongTailError("No class has both a prototype and a learned weight: fit the head with a classifier.")
    return F.normalize(known.prototypes[both].double(), dim=1) @ known.directions[both].double().T
