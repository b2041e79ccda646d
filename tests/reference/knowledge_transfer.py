"""Parisot et al. 2022, equations 3 to 9, typed again from the paper: one class and one sample at a time."""

from __future__ import annotations

from torch import Tensor


def norm(vector: Tensor) -> Tensor:
    return (vector * vector).sum() ** 0.5


def prototypes(features: Tensor, labels: list[int], num_classes: int) -> list[Tensor]:
    """Eq. 3."""
    found = []
    for i in range(num_classes):
        own = [x / norm(x) for x, y in zip(features, labels) if y == i]
        found.append(sum(own) / len(own))
    return found


def transferred(asking: Tensor, answering: list[Tensor], counts: list[int], k: int, tau: float) -> Tensor:
    """Eqs. 4 to 6 for one class."""
    donors = [w / norm(w) for w, n in zip(answering, counts) if n > k]
    similarities = [tau * (asking / norm(asking) * w).sum() for w in donors]
    weights = [s.exp() for s in similarities]
    return sum(a / sum(weights) * w for a, w in zip(weights, donors))


def vectors(p, w, counts, k, tau, attention="p->w", parts=("transfer", "prototype", "classifier")) -> list[Tensor]:
    """Eq. 7, and eq. 9 without the classifier; table 6 changes who asks and who answers."""
    asks, answers = {"p->w": (p, w), "w->p": (w, p), "w->w": (w, w), "p->p": (p, p)}[attention]
    composed = []
    for i in range(len(p)):
        kt = transferred(asks[i], answers, counts, k, tau)
        named = {"transfer": kt / norm(kt), "prototype": p[i] / norm(p[i]), "classifier": w[i] / norm(w[i])}
        composed.append(sum(named[part] for part in parts))
    return composed


def shrunk(prototype: Tensor, given: Tensor, n: int, m: float) -> Tensor:
    """The mean of n pictures and of m more that look like what the donors give."""
    return (n * prototype / norm(prototype) + m * given / norm(given)) / (n + m)


def logits(features: Tensor, directions: list[Tensor], scale: float) -> list[list[Tensor]]:
    """Eqs. 1 and 2."""
    return [[scale * (f / norm(f) * (d / norm(d))).sum() for d in directions] for f in features]


def probabilities(rows: list[list[Tensor]]) -> list[list[Tensor]]:
    """Eq. 1: the softmax."""
    return [[z.exp() / sum(other.exp() for other in row) for z in row] for row in rows]


def ensemble(members: list[list[list[Tensor]]]) -> list[list[Tensor]]:
    """Eq. 8: the mean of the members' probabilities."""
    found = [probabilities(rows) for rows in members]
    samples, classes = len(found[0]), len(found[0][0])
    return [[sum(m[s][c] for m in found) / len(found) for c in range(classes)] for s in range(samples)]
