"""Several classifiers that vote with their probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.heads._base import Head
from longtail_lightning.heads._class_knowledge import ClassKnowledge
from longtail_lightning.heads._class_vectors import Change, ClassVectorHead, keep, told_of_a_new_form
from longtail_lightning.heads._kept_rows import kept_rows
from longtail_lightning.heads.knowledge_transfer import KnowledgeTransferHead, transfer_together


class EnsembleHead(Head):
    r"""Average the probabilities of several heads on the same features.

    **What it changes.** Heads that are good at different classes, such as knowledge transfer with different `k`,
    join their strengths; the backbone runs once.

    **Formula.** \(z_i = \log \frac{1}{K} \sum_k \mathrm{softmax}(z^k)_i\), eq. 8 as log-probabilities, whose softmax
    is the mean again.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** The heads' scales matter here: one that is much surer than the others decides
    alone.

    **Classes without images** are as each head has them.

    Args:
        heads: any heads for the same features and classes; they are held, not copied.
        shared: whether the heads that compare with class vectors hold the same `ClassKnowledge`; found out when not
            given, and remembered in checkpoints, so that the knowledge is there once.

    Examples:
        >>> from longtail_lightning import CosineHead, LinearHead
        >>> head = EnsembleHead([CosineHead(8, 3), LinearHead(8, 3)])
        >>> head(torch.randn(2, 8)).exp().sum(1).allclose(torch.ones(2))
        True

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022, eq. 8.

    **Differences from the paper.** None.
    """

    def __init__(self, heads: Sequence[nn.Module], *, shared: bool | None = None) -> None:
        members = list(heads)
        if not members:
            raise LongTailError("EnsembleHead needs at least one head.")
        if not all(isinstance(head, Head) for head in members):
            wrong = next(head for head in members if not isinstance(head, Head))
            raise LongTailError(f"EnsembleHead takes heads of this library, got a {type(wrong).__name__}.")
        sizes: set[tuple[Any, Any]] = {(head.num_features, head.num_classes) for head in members}
        if len(sizes) > 1:
            raise LongTailError(
                f"The heads of an ensemble must be for the same features and classes, got (num_features, num_classes) "
                f"of {', '.join(map(str, sorted(sizes)))}."
            )
        super().__init__(*sizes.pop())
        self.heads = nn.ModuleList(members)
        if shared:
            if len(found := {head.prototypes_per_class for head in self._vector_heads()}) > 1:
                raise LongTailError(
                    f"Heads with {' and '.join(map(str, sorted(found)))} prototypes_per_class cannot share what they "
                    "know: give all the same, or leave out shared=True."
                )
            for head in self._vector_heads():
                head.classes = self._vector_heads()[0].classes

    @property
    def shared(self) -> bool:
        """Whether there is one `ClassKnowledge` for all heads that need one."""
        return len({id(head.classes) for head in self._vector_heads()}) == 1

    def forward(self, features: Tensor) -> Tensor:
        votes = []
        for head in self.heads:
            if getattr(head, "active", True):
                logits: Tensor = head(features)
                votes.append(logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(1))
        if not votes:
            raise LongTailError("No head of the ensemble has something to say of all classes: add a PrototypeHead.")
        return torch.stack(votes).logsumexp(0) - math.log(len(votes))

    # -- classes ---------------------------------------------------------------------------------

    def add_classes(self, features: Sequence[Tensor]) -> None:
        """Append classes, without any training.

        Args:
            features: those of each new class, `(n, num_features)`.
        """

        def add(classes: ClassKnowledge) -> int:
            classes.add(features)
            return len(features)

        with told_of_a_new_form(self._vector_heads()):
            self._edit("added", add)

    def remove_classes(self, indices: Sequence[int]) -> None:
        """Take classes out; the others keep their order.

        Args:
            indices: numbers of the classes.
        """
        rows = kept_rows(self.num_classes, indices)
        self._edit("removed", lambda classes: keep(classes, rows))

    def refit(self) -> EnsembleHead:
        """Compose all vectors anew after a change of the heads' `classes`."""
        self._prepare(None)
        self._follow()
        return self

    def _edit(self, done: str, edit: Callable[[ClassKnowledge], Change]) -> None:
        heads = self._vector_heads()
        if len(heads) < len(self.heads):
            other = next(head for head in self.heads if not isinstance(head, ClassVectorHead))
            raise LongTailError(
                f"No class can be {done}: the ensemble holds a {type(other).__name__}, whose classes cannot change."
            )
        with ExitStack() as stack:
            changes: list[Change] = []
            for classes in {id(head.classes): head.classes for head in heads}.values():
                stack.enter_context(classes.restored_on_error())
                changes.append(edit(classes))
            change = None if any(each is None for each in changes) else changes[0]
            self._prepare(change)
        self._follow(change)

    def _prepare(self, change: Change) -> None:
        transfer_together([head for head in self._vector_heads() if isinstance(head, KnowledgeTransferHead)], change)

    def _follow(self, change: Change = None) -> None:
        for head in self._vector_heads():
            head.follow(change)
            self.num_classes = head.num_classes

    def _vector_heads(self) -> list[ClassVectorHead]:
        return [head for head in self.heads if isinstance(head, ClassVectorHead)]
