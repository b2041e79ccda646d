"""The formulas of the papers, typed again from the papers: loops and exponentials, no torch loss functions.

Each takes float64 logits (batch, classes), class indices and counts, and returns one value per
sample. Slow and plain on purpose; nothing here is shared with the library.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cross_entropy(logits: Tensor, target: Tensor, counts: list[int]) -> Tensor:
    """-log p_y with p = softmax(z)."""
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    return torch.stack([-torch.log(p[i, int(y)]) for i, y in enumerate(target)])


def weighted_mixup(logits: Tensor, soft: Tensor, counts: list[int]) -> Tensor:
    """Mixup as MiSLAS trains it, of any number of classes: each has a share, the weight 1 / n_c, and its -log p_c.

    The weights have mean 1 over the training images.
    """
    weights = [1 / n for n in counts]
    mean = sum(n * w for n, w in zip(counts, weights)) / sum(counts)
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    terms = [soft[:, c] * (weights[c] / mean) * -torch.log(p[:, c]) for c in range(len(counts))]
    return torch.stack(terms).sum(0)


def logit_adjusted(logits: Tensor, target: Tensor, counts: list[int], tau: float = 1.0) -> Tensor:
    """Menon et al. 2021, eq. 10: log[1 + sum over y' != y of (pi_y' / pi_y)^tau * e^(f_y' - f_y)]."""
    pi = [n / sum(counts) for n in counts]
    losses = []
    for z, y in zip(logits, target.tolist()):
        others = [(pi[j] / pi[y]) ** tau * torch.exp(z[j] - z[y]) for j in range(len(counts)) if j != y]
        losses.append(torch.log(1 + torch.stack(others).sum()))
    return torch.stack(losses)


def balanced_softmax(logits: Tensor, target: Tensor, counts: list[int]) -> Tensor:
    """Ren et al. 2020, eq. 3 and 4: -log of n_y e^(eta_y) / sum_i n_i e^(eta_i)."""
    losses = []
    for z, y in zip(logits, target.tolist()):
        weighted = [n * torch.exp(z[i]) for i, n in enumerate(counts)]
        losses.append(-torch.log(weighted[y] / torch.stack(weighted).sum()))
    return torch.stack(losses)


def focal(logits: Tensor, target: Tensor, counts: list[int], gamma: float = 2.0) -> Tensor:
    """Lin et al. 2017, eq. 4, with p_t the softmax probability: -(1 - p_t)^gamma log(p_t)."""
    losses = []
    for z, y in zip(logits, target.tolist()):
        p_t = torch.exp(z[y]) / torch.exp(z).sum()
        losses.append(-((1 - p_t) ** gamma) * torch.log(p_t))
    return torch.stack(losses)


def class_balanced(logits: Tensor, target: Tensor, counts: list[int], beta: float, gamma: float = 0.0) -> Tensor:
    """Cui et al. 2019, section 4: (1 - beta) / (1 - beta^n_y) times the loss, weights that sum to C."""
    raw = [(1 - beta) / (1 - beta**n) for n in counts]
    weights = [w * len(counts) / sum(raw) for w in raw]
    return torch.stack([weights[y] * loss for y, loss in zip(target.tolist(), focal(logits, target, counts, gamma))])


def ldam(logits: Tensor, target: Tensor, counts: list[int], max_margin: float = 0.5, scale: float = 30.0) -> Tensor:
    """Cao et al. 2019, LDAM loss, margins C / n_j^(1/4) with C such that the largest is `max_margin`."""
    raw = [n ** (-1 / 4) for n in counts]
    margins = [max_margin * m / max(raw) for m in raw]
    losses = []
    for z, y in zip(logits, target.tolist()):
        own = torch.exp(scale * (z[y] - margins[y]))
        others = torch.stack([torch.exp(scale * z[j]) for j in range(len(counts)) if j != y])
        losses.append(-torch.log(own / (own + others.sum())))
    return torch.stack(losses)


def adjusted(
    logits: Tensor, target: Tensor, counts: list[int], tau: float, offset: list[float], weighting: str = "none"
) -> Tensor:
    """Long et al. 2022 (RAC), eq. 3: -alpha_y log of e^(f_y + tau D_y) / sum e^(f_y' + tau D_y'); eq. 7 for alpha.

    The alphas are scaled to mean 1 over the training images.
    """
    alpha = [1 / n**0.5 if weighting == "inverse_sqrt" else 1.0 for n in counts]
    mean = sum(n * a for n, a in zip(counts, alpha)) / sum(counts)
    losses = []
    for z, y in zip(logits, target.tolist()):
        terms = [torch.exp(z[j] + tau * offset[j]) for j in range(len(counts))]
        losses.append(-alpha[y] / mean * torch.log(terms[y] / torch.stack(terms).sum()))
    return torch.stack(losses)


def vector_scaling(logits: Tensor, target: Tensor, counts: list[int], gamma: float, tau: float) -> Tensor:
    """Kini et al. 2021: log(1 + sum over c != y of e^(iota_c - iota_y) e^(Delta_c z_c - Delta_y z_y))."""
    delta = [(n / max(counts)) ** gamma for n in counts]
    iota = [tau * math.log(n / sum(counts)) for n in counts]
    losses = []
    for z, y in zip(logits, target.tolist()):
        others = [
            math.exp(iota[c] - iota[y]) * torch.exp(delta[c] * z[c] - delta[y] * z[y])
            for c in range(len(counts))
            if c != y
        ]
        losses.append(torch.log(1 + torch.stack(others).sum()))
    return torch.stack(losses)


def lade(logits: Tensor, target: Tensor, counts: list[int], alpha: float = 0.1, lam: float = 0.01) -> Tensor:
    """Hong et al. 2021: balanced softmax plus alpha * sum_c pi_c (-mean over class + log Z_c + lam (log Z_c)^2)."""
    prior = [n / sum(counts) for n in counts]
    regularizer = torch.zeros((), dtype=logits.dtype)
    for c in range(len(counts)):
        column = logits[:, c]
        members = [column[i] for i, y in enumerate(target.tolist()) if y == c]
        mean = torch.stack(members).mean() if members else torch.zeros((), dtype=logits.dtype)
        log_z = torch.log((torch.exp(column) * (1 / len(counts)) / prior[c]).mean())
        regularizer = regularizer + prior[c] * (-mean + log_z + lam * log_z**2)
    return balanced_softmax(logits, target, counts) + alpha * regularizer


def seesaw(logits: Tensor, target: Tensor, counts: list[int], p: float = 0.8, q: float = 2.0) -> Tensor:
    """Wang et al. 2021, section 3, for the target i: M_ij and C_ij are plain numbers, without gradient."""
    losses = []
    for z, i in zip(logits, target.tolist()):
        sigma = (torch.exp(z) / torch.exp(z).sum()).tolist()
        bottom = torch.exp(z[i])
        for j in range(len(counts)):
            if j == i:
                continue
            m = 1.0 if counts[i] <= counts[j] else (counts[j] / counts[i]) ** p
            own = max(sigma[i], 0.01)
            c = 1.0 if sigma[j] <= own else (sigma[j] / own) ** q
            bottom = bottom + m * c * torch.exp(z[j])
        losses.append(-torch.log(torch.exp(z[i]) / bottom))
    return torch.stack(losses)


def equalization_always(logits: Tensor, target: Tensor, counts: list[int], threshold: float) -> Tensor:
    """Tan et al. 2020, softmax equalization loss, with beta = 1 throughout (gamma = 1)."""
    losses = []
    for z, y in zip(logits, target.tolist()):
        weights = [1.0 - (n / sum(counts) < threshold) * (k != y) for k, n in enumerate(counts)]
        bottom = sum(w * torch.exp(z[k]) for k, w in enumerate(weights))
        losses.append(-torch.log(torch.exp(z[y]) / bottom))
    return torch.stack(losses)


def label_aware_smoothing(
    logits: Tensor, target: Tensor, counts: list[int], head: float = 0.3, tail: float = 0.0, shape: str = "concave"
) -> Tensor:
    """Zhong et al. 2021, section 3.2: smoothing from `tail` (fewest images) to `head`, over the other K - 1."""
    most, fewest = max(counts), min(counts)
    losses = []
    for z, y in zip(logits, target.tolist()):
        ratio = (counts[y] - fewest) / (most - fewest)
        epsilon = {
            "concave": tail + (head - tail) * math.sin(math.pi * ratio / 2),
            "linear": tail + (head - tail) * ratio,
            "convex": head + (head - tail) * math.sin(1.5 * math.pi + math.pi * ratio / 2),
        }[shape]
        p = torch.exp(z) / torch.exp(z).sum()
        q = [1 - epsilon if i == y else epsilon / (len(counts) - 1) for i in range(len(counts))]
        losses.append(-sum(q[i] * torch.log(p[i]) for i in range(len(counts))))
    return torch.stack(losses)


def gaussian_clouded(
    logits: Tensor, target: Tensor, counts: list[int], noise: Tensor, strength: float = 0.5, scale: float = 30.0
) -> Tensor:
    """Li et al. 2022: logit j lowered by |noise| times log(n_max / n_j), the largest cloud being `strength`."""
    cloud = [math.log(max(counts) / n) for n in counts]
    losses = []
    for i, y in enumerate(target.tolist()):
        z = torch.stack(
            [logits[i, j] - strength * cloud[j] / max(cloud) * abs(noise[i, j]) for j in range(len(counts))]
        )
        losses.append(-torch.log(torch.exp(scale * z[y]) / torch.exp(scale * z).sum()))
    return torch.stack(losses)


def distribution_balanced(
    logits: Tensor,
    target: Tensor,
    counts: list[int],
    num_images: int,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    lam: float = 2.0,
    kappa: float = 0.05,
) -> Tensor:
    """Wu et al. 2020, section 3: re-balanced weighting and negative-tolerant regularization."""
    num_classes = len(counts)
    losses = []
    for z, y in zip(logits, target.tolist()):
        expected = sum(1 / counts[k] for k in range(num_classes) if y[k]) / num_classes
        terms = []
        for k, n in enumerate(counts):
            r = (1 / num_classes) * (1 / n) / expected
            r_hat = alpha + 1 / (1 + math.exp(-beta * (r - mu)))
            nu = -kappa * -math.log(num_images / n - 1)
            positive = torch.log(1 + torch.exp(-(z[k] - nu)))
            negative = torch.log(1 + torch.exp(lam * (z[k] - nu))) / lam
            terms.append(r_hat * (positive if y[k] else negative))
        losses.append(torch.stack(terms).sum() / num_classes)
    return torch.stack(losses)


def _cosine(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum() / ((a * a).sum() ** 0.5 * (b * b).sum() ** 0.5)


def feature_distillation(student: Tensor, teachers: list[Tensor]) -> Tensor:
    """Iscen et al. 2021, below eq. 2 and eq. 4: 1 - cos(h(v), [v^1, ..., v^K]), each v^k of norm 1."""
    losses = []
    for i, v in enumerate(student):
        parts = [teacher[i] / (teacher[i] ** 2).sum() ** 0.5 for teacher in teachers]
        losses.append(1 - _cosine(v, torch.cat(parts)))
    return torch.stack(losses)


def logit_distillation(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """Hinton et al. 2015: T^2 sum_c q_c log(q_c / p_c), both softened by T."""
    losses = []
    for z, t in zip(student, teacher):
        p = torch.exp(z / temperature) / torch.exp(z / temperature).sum()
        q = torch.exp(t / temperature) / torch.exp(t / temperature).sum()
        losses.append(temperature**2 * sum(q[c] * torch.log(q[c] / p[c]) for c in range(len(z))))
    return torch.stack(losses)


def group_distillation(
    student: Tensor, teacher: Tensor, groups: list[list[int]], temperature: float, cross: float, within: float
) -> Tensor:
    """Kim 2026: KL across groups from the calibrated teacher, and KL within each group with weight 1."""

    def probabilities(z):
        return torch.exp(z / temperature) / torch.exp(z / temperature).sum()

    ours, theirs = [probabilities(z) for z in student], [probabilities(t) for t in teacher]
    mass = [[sum(q[c] for c in group) for group in groups] for q in theirs]
    mean = [sum(row[g] for row in mass) / len(mass) for g in range(len(groups))]
    losses = []
    for p, q, row in zip(ours, theirs, mass):
        balanced = [row[g] / mean[g] for g in range(len(groups))]
        balanced = [value / sum(balanced) for value in balanced]
        total = 0.0
        for g, group in enumerate(groups):
            own = sum(p[c] for c in group)
            total = total + cross * balanced[g] * torch.log(balanced[g] / own)
            for c in group:
                total = total + within * q[c] / row[g] * torch.log((q[c] / row[g]) / (p[c] / own))
        losses.append(temperature**2 * total)
    return torch.stack(losses)


def supervised_contrastive(features: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Khosla et al. 2020, eq. 2 (L_out)."""
    losses = []
    for i, y in enumerate(target.tolist()):
        others = [a for a in range(len(features)) if a != i]
        bottom = sum(torch.exp(_cosine(features[i], features[a]) / temperature) for a in others)
        positives = [p for p in others if int(target[p]) == y]
        terms = [torch.log(torch.exp(_cosine(features[i], features[p]) / temperature) / bottom) for p in positives]
        losses.append(-sum(terms) / len(positives) if positives else torch.zeros((), dtype=features.dtype))
    return torch.stack(losses)


def parametric_contrastive(
    center_logits: Tensor,
    query: Tensor,
    target: Tensor,
    others: list[list[tuple[Tensor, int]]],
    counts: list[int],
    alpha: float,
    temperature: float,
) -> Tensor:
    """Cui et al. 2021, section 3, prior added to the centers; `others[i]`: the (vector, label) that image i sees."""
    losses = []
    for i, y in enumerate(target.tolist()):
        centers = [torch.exp(z + math.log(n / sum(counts))) for z, n in zip(center_logits[i], counts)]
        images = [torch.exp(_cosine(query[i], vector) / temperature) for vector, _ in others[i]]
        bottom = sum(centers) + sum(images)
        positives = [torch.log(e / bottom) for e, (_, label) in zip(images, others[i]) if label == y]
        total = torch.log(centers[y] / bottom) + alpha * sum(positives)
        losses.append(-total / (1 + alpha * len(positives)))
    return torch.stack(losses)
