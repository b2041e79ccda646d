"""The knowledge-transfer classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number, require_whole
from longtail_lightning.heads._class_vectors import Change, ClassVectorHead
from longtail_lightning.heads._rows import append, rows_with_room
from longtail_lightning.heads._transfer import transfer

Part = Literal["transfer", "prototype", "classifier"]
Attention = Literal["p->w", "w->p", "w->w", "p->p"]
PARTS = ("transfer", "prototype", "classifier")
ATTENTIONS = ("p->w", "w->p", "w->w", "p->p")


class KnowledgeTransferHead(ClassVectorHead):
    r"""Compose a class of what similar, frequent classes have learned, of its prototype, and of its own weight.

    **What it changes.** A rare class borrows from frequent classes that look like it. Nothing is trained: a cosine
    classifier and one pass over the training features are all it takes.

    **Formula.** With prototypes \(p\), learned weights \(w\), all scaled to norm 1, and the donors
    \(W(k) = \{j : n_j > k\}\):
    \(w^{kt}_i(k) = \sum_{j \in W(k)} \mathrm{softmax}_j(\tau \, p_i^\top w_j) \, w_j\) (eqs. 4-6), then
    \(w^h_i(k) = w^{kt}_i / \lVert w^{kt}_i \rVert + p_i + w_i\) (eq. 7), and \(z_i = s \cos(f, w^h_i)\).
    Without the classifier's part it is the continual form \(w^{hc}\) (eq. 9), which needs no learned weight.

    **Shapes.** features `(batch, num_features)`; logits `(batch, num_classes)`.

    **When it helps, when it hurts.** A `k` of 20 raises few-shot classes, one of 100 medium-shot ones; classes
    above it lose. A part of the gain is that rare classes are named more often, not that they are told apart better:
    compare with `tau=0`, where every class borrows the same mean, and with adjusted logits. It wants a cosine
    classifier; with a linear one, weights and prototypes point in different directions.

    **Classes without features** never win. **Classes without a learned weight**, such as added ones, give nothing to
    others; as soon as there is one, all classes take the continual form. Classes in two forms cannot be compared:
    features are much closer to prototypes than to learned weights, and the added classes would win everywhere.

    Args:
        num_features: width of the features.
        num_classes: number of classes.
        k: classes with more training images give, when they were learned.
        tau: temperature \(\tau\), multiplies; 0 gives every class the mean of the donors.
        attention: who asks and who answers: `"p->w"` as in the paper, or another row of its table 6. The answering
            side is also what is transferred.
        parts: what a vector is the sum of.
        shrinkage: \(m\): the prototype of a class with \(n\) images is moved towards what the donors give it, to
            \(\frac{n}{n + m} p_i + \frac{m}{n + m} w^{kt}_i\). 0 leaves prototypes as they are, as the paper does; with
            `attention="p->p"` and `parts=("prototype",)` it is close to TEEN (Wang et al., 2023).
        scale: factor \(s\) of the logits: changes confidence, not answers.
        prototypes_per_class: how many prototypes a class has, centers of clusters of its features; each makes a vector
            of its own, and the closest one counts.

    Examples:
        >>> from types import SimpleNamespace
        >>> from longtail_lightning import CosineHead
        >>> bank = SimpleNamespace(features=torch.eye(4), labels=[0, 1, 2, 3])
        >>> head = KnowledgeTransferHead(4, 4, k=20).fit(bank, [90, 50, 21, 20], classifier=CosineHead(4, 4))
        >>> [donor for donor, weight in head.donors_of(3)].count(3)
        0

    **Paper.** Parisot et al., Long-tail Recognition via Compositional Knowledge Transfer, CVPR 2022, eqs. 4-7 and 9.

    **Differences from the paper.** None in the formulas. There is no public code.
    """

    transferred: Tensor
    """`(C * prototypes_per_class, F)` of norm 1: what each class was given."""

    def __init__(
        self,
        num_features: int,
        num_classes: int,
        *,
        k: int = 20,
        tau: float = 10.0,
        attention: Attention = "p->w",
        parts: Sequence[Part] = PARTS,  # type: ignore[assignment]
        shrinkage: float = 0.0,
        scale: float = 16.0,
        prototypes_per_class: int = 1,
    ) -> None:
        super().__init__(num_features, num_classes, scale=scale, prototypes_per_class=prototypes_per_class)
        require_number(self, "shrinkage", shrinkage, 0)
        require_whole(self, "k", k, 0)
        require_number(self, "tau", tau, 0)
        if attention not in ATTENTIONS:
            raise LongTailError(f"Unknown attention={attention!r}: choose one of {', '.join(map(repr, ATTENTIONS))}.")
        if isinstance(parts, str) or not parts or not set(parts) <= set(PARTS):
            raise LongTailError(f"parts={parts!r} must be some of {', '.join(map(repr, PARTS))}.")
        self.k = k
        self.tau = float(tau)
        self.attention = attention
        self.parts = tuple(parts)
        self.shrinkage = float(shrinkage)
        size = num_classes * prototypes_per_class if self.borrows else 0
        self.register_buffer("transferred", rows_with_room(size, num_features))

    def prepare(self, change: Change = None) -> None:
        transfer_together([self], change)

    @property
    def borrows(self) -> bool:
        """Whether anything is taken from donors."""
        return "transfer" in self.parts or ("prototype" in self.parts and self.shrinkage > 0)

    @property
    def form(self) -> tuple[str, ...]:
        """The parts that all classes have: without the classifier's when a class has not been learned."""
        all_learned = bool((self.classes.learned | ~self.classes.present).all())
        return tuple(part for part in self.parts if part != "classifier" or all_learned)

    @property
    def active(self) -> bool:
        return bool(self.form)

    def compose(self, classes: slice) -> Tensor:
        if not (form := self.form):
            raise LongTailError(
                "KnowledgeTransferHead(parts=('classifier',)) has classes without a learned weight, and no other part "
                "for them: add 'prototype' to parts."
            )
        known, rows = self.classes, self.classes.rows_of(classes)
        vectors = F.normalize(known.vectors[rows], dim=1)
        if self.shrinkage:
            counts = known.for_each_vector(known.counts[classes])[:, None].to(vectors)
            own = counts / (counts + self.shrinkage)
            vectors = F.normalize(torch.lerp(self.transferred[rows], vectors, own), dim=1)
        if "prototype" not in form:
            vectors.zero_()
        if "transfer" in form:
            vectors += self.transferred[rows]
        if "classifier" in form:
            vectors += known.for_each_vector(known.directions[classes])
        vectors[~known.filled[rows]] = 0
        return vectors

    def donors_of(self, index: int, top: int = 10) -> list[tuple[int, float]]:
        """The classes that a class was given knowledge from, with their shares, largest first.

        Args:
            index: number of the class.
            top: how many of them.
        """
        self._require_fitted()
        if not 0 <= index < self.num_classes:
            raise LongTailError(f"There is no class {index}: the head has {self.num_classes}.")
        require_whole("donors_of", "top", top, 1)
        donors = donors_above(self, [self.k])[0]
        asks, answers = sides_of(self, slice(index, index + 1))
        asks = asks[self.classes.filled[self.classes.rows_of(slice(index, index + 1))]]
        if not len(asks):  # nobody knows what the class looks like
            return []
        scores = F.normalize(asks, dim=1) @ F.normalize(answers[donors], dim=1).T
        shares = (self.tau * scores.double()).softmax(1).mean(0)
        found = shares.topk(min(top, len(donors)))
        return list(zip(donors[found.indices].tolist(), found.values.tolist()))


def sides_of(head: KnowledgeTransferHead, classes: slice) -> tuple[Tensor, Tensor]:
    """What asks for some classes, a row for each of their vectors, and what all classes answer and transfer."""
    known = head.classes
    if head.attention[0] == "p":
        asks = known.vectors[known.rows_of(classes)]
    else:
        asks = known.for_each_vector(known.directions[classes])
    return asks, known.prototypes if head.attention[-1] == "p" else known.directions


def donors_above(head: KnowledgeTransferHead, ks: Sequence[int]) -> list[Tensor]:
    """The donors for each k, largest k first, without those of the ks before it."""
    counts, learned = head.classes.counts, head.classes.learned
    if not bool(learned.any()):
        raise LongTailError(
            "Knowledge transfer needs a trained classifier: head.fit(bank, classifier=model.head), with a CosineHead."
        )
    if not bool((learned & (counts > ks[0])).any()):
        most = int(counts[learned].max())
        raise LongTailError(
            f"k={ks[0]}: no learned class has more than {ks[0]} training images, so none can give knowledge. The "
            f"largest k possible is {most - 1}."
        )
    above = [torch.inf, *ks]
    return [(learned & (counts > k) & (counts <= upper)).nonzero().flatten() for upper, k in zip(above, ks)]


@torch.no_grad()
def transfer_together(heads: Iterable[KnowledgeTransferHead], change: Change = None) -> None:
    """Compute what the classes are given, for heads with several `k` in one pass.

    Args:
        heads: with or without transfer.
        change: see `ClassVectorHead.prepare`.
    """
    together: dict[tuple[int, str, float], list[KnowledgeTransferHead]] = {}
    for head in heads:
        if head.borrows:
            together.setdefault((id(head.classes), head.attention, head.tau), []).append(head)
    made = [(head, new) for group in together.values() for head, new in _transferred(group, change)]
    for head, new in made:  # once nothing can fail any more
        head.transferred = new


def _transferred(group: list[KnowledgeTransferHead], change: Change) -> Iterator[tuple[KnowledgeTransferHead, Tensor]]:
    """For heads that differ in `k` alone."""
    first, ks = group[0], sorted({head.k for head in group}, reverse=True)
    donors = donors_above(first, ks)
    if isinstance(change, Tensor):
        rows = first.classes.vectors_of(change.to(first.transferred.device))
        yield from ((head, head.transferred[rows]) for head in group)
        return
    size = first.classes.num_classes
    asks, answers = sides_of(first, slice(0 if change is None else size - change, size))
    if change is not None and first.attention[0] == "w":
        raise LongTailError(
            f"attention={first.attention!r} asks with learned weights, which a new class does not have: use 'p->w'."
        )
    made = dict(zip(ks, transfer(asks, answers, answers, donors, first.tau)))
    for head in group:
        yield head, made[head.k] if change is None else append(head.transferred, made[head.k])
