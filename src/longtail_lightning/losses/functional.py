"""The formulas alone: tensors in, one value per sample out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from longtail_lightning.counts import log_prior


def cross_entropy(logits: Tensor, target: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Softmax cross-entropy per sample; see `CrossEntropyLoss`."""
    if target.is_floating_point():
        if label_smoothing:
            target = (1 - label_smoothing) * target + label_smoothing / logits.shape[1]
        return -_times(target, logits.log_softmax(1)).sum(1)
    return F.cross_entropy(logits, target, reduction="none", label_smoothing=label_smoothing)


def logit_adjusted(
    logits: Tensor,
    target: Tensor,
    class_counts: Tensor,
    *,
    tau: float = 1.0,
    offset: Tensor | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of logits shifted by `tau * offset`, by default the log prior; see `LogitAdjustedLoss`."""
    offset = log_prior(class_counts, logits.dtype) if offset is None else offset.to(logits)
    return cross_entropy(logits + tau * offset, target, label_smoothing=label_smoothing)


def balanced_softmax(logits: Tensor, target: Tensor, class_counts: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Cross-entropy of logits shifted by the log class counts; see `BalancedSoftmaxLoss`."""
    return cross_entropy(logits + _log_counts(class_counts, logits), target, label_smoothing=label_smoothing)


def focal(logits: Tensor, target: Tensor, *, gamma: float = 2.0) -> Tensor:
    """Cross-entropy times `(1 - p)^gamma`; see `FocalLoss`."""
    if target.is_floating_point():
        nll = -logits.log_softmax(1).masked_fill(target == 0, 0)  # that of an impossible class is infinite
        return (target * _focus(nll, gamma)).sum(1)
    return _focus(cross_entropy(logits, target), gamma)


def ldam(
    logits: Tensor, target: Tensor, class_counts: Tensor, *, max_margin: float = 0.5, scale: float = 30.0
) -> Tensor:
    """Cross-entropy of `scale * (logits - margin at the target)`; see `LDAMLoss`."""
    counts = class_counts.clamp(min=1).to(logits.dtype)
    margins = max_margin * (counts.min() / counts).pow(0.25)
    scaled = scale * logits
    # In place and at one entry per row: a mask or an index per class costs several times the loss.
    scaled.scatter_add_(1, target[:, None], -scale * margins[target][:, None])
    return cross_entropy(scaled, target)


def vector_scaling(
    logits: Tensor, target: Tensor, class_counts: Tensor, *, gamma: float = 0.15, tau: float = 1.25
) -> Tensor:
    """Cross-entropy of logits scaled and shifted per class; see `VectorScalingLoss`."""
    counts = class_counts.clamp(min=1).to(logits.dtype)
    factor = (counts / counts.max()).pow(gamma)
    shift = tau * log_prior(class_counts, logits.dtype)
    return cross_entropy(torch.addcmul(shift, logits, factor), target)


def lade(
    logits: Tensor,
    target: Tensor,
    class_counts: Tensor,
    *,
    alpha: float = 0.1,
    lam: float = 0.01,
    batch: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Balanced softmax plus a bound on the log partition of each class; see `LADELoss`.

    The bound is estimated on `batch`, logits and target of all ranks, or else on the rows themselves.
    """
    log_pi = log_prior(class_counts, logits.dtype)
    prior = class_counts.to(logits.dtype) / class_counts.sum()
    all_logits, all_target = batch if batch is not None else (logits, target)

    own = all_logits.gather(1, all_target[:, None]).squeeze(1)
    total = torch.zeros_like(log_pi).scatter_add(0, all_target, own)
    present = torch.zeros_like(log_pi).scatter_add(0, all_target, torch.ones_like(own))
    # A class whose logits are all minus infinity is impossible: it has no partition to bound.
    impossible = (all_logits == -torch.inf).all(0)
    partition = all_logits.masked_fill(impossible, 0).logsumexp(0) - log_pi - math.log(all_logits.numel())
    regularizer = -total / present.clamp(min=1) + partition + lam * partition.square()
    bound = (prior * regularizer.masked_fill(impossible, 0)).sum()
    return cross_entropy(logits + log_pi, target) + alpha * bound


def seesaw(
    logits: Tensor, target: Tensor, class_counts: Tensor, *, p: float = 0.8, q: float = 2.0, eps: float = 0.01
) -> Tensor:
    """Cross-entropy whose negatives are weakened or strengthened one by one; see `SeesawLoss`."""
    log_n = _log_counts(class_counts, logits)
    # The paper's gradient takes the factors as constants, so they can be made in place.
    with torch.no_grad():
        factors = logits.log_softmax(1)
        own = factors.gather(1, target[:, None]).clamp(min=math.log(eps))
        factors.sub_(own).clamp_(min=0).mul_(q)
        factors.add_((log_n - log_n[target][:, None]).clamp_(max=0), alpha=p)
    return cross_entropy(logits + factors, target)


def equalization(
    logits: Tensor, target: Tensor, class_counts: Tensor, drawn: Tensor, *, threshold: float = 4.3e-4
) -> Tensor:
    """Cross-entropy without the negatives that are `drawn` and rare; see `EqualizationLoss`."""
    rare = class_counts < threshold * class_counts.sum()
    ignored = (drawn & rare).scatter(1, target[:, None], False)
    return cross_entropy(logits.masked_fill(ignored, -torch.inf), target)


def label_aware_smoothing(
    logits: Tensor,
    target: Tensor,
    class_counts: Tensor,
    *,
    head: float = 0.3,
    tail: float = 0.0,
    shape: Literal["concave", "linear", "convex"] = "concave",
) -> Tensor:
    """Cross-entropy with a label smoothing that grows with the class; see `LabelAwareSmoothingLoss`."""
    counts = class_counts.to(logits.dtype)
    rank = (counts - counts.min()) / (counts.max() - counts.min()).clamp(min=1)
    if shape == "concave":
        rank = (rank * (math.pi / 2)).sin()
    elif shape == "convex":
        rank = 1 - (rank * (math.pi / 2)).cos()
    epsilon = tail + (head - tail) * rank
    others = max(logits.shape[1] - 1, 1)

    log_p = logits.log_softmax(1)
    # What is smoothed away goes to the others that are possible.
    finite = log_p.masked_fill(log_p == -torch.inf, 0)
    if target.is_floating_point():
        smooth = target * epsilon
        spread = (smooth.sum(1, keepdim=True) - smooth) / others
        return -(_times(target - smooth, log_p) + spread * finite).sum(1)
    own, smooth = log_p.gather(1, target[:, None]).squeeze(1), epsilon[target]
    others_log_p = finite.sum(1) - finite.gather(1, target[:, None]).squeeze(1)
    return (smooth - 1) * own - smooth * others_log_p / others


def gaussian_clouded(
    logits: Tensor,
    target: Tensor,
    class_counts: Tensor,
    noise: Tensor,
    *,
    strength: float = 0.5,
    scale: float = 30.0,
) -> Tensor:
    """Cross-entropy of logits lowered by `noise`, the rarer the class the more; see `GaussianCloudedLoss`."""
    log_n = _log_counts(class_counts, logits)
    cloud = log_n.max() - log_n
    cloud = cloud / cloud.max().clamp(min=torch.finfo(cloud.dtype).tiny)
    return cross_entropy(scale * (logits - strength * cloud * noise.abs()), target)


def distribution_balanced(
    logits: Tensor,
    target: Tensor,
    class_counts: Tensor,
    *,
    num_images: int | None = None,
    alpha: float = 0.1,
    beta: float = 10.0,
    mu: float = 0.2,
    lam: float = 2.0,
    kappa: float = 0.05,
) -> Tensor:
    """Re-balanced, negative-tolerant binary cross-entropy; see `DistributionBalancedLoss`."""
    counts = class_counts.clamp(min=1).to(logits.dtype)
    total = class_counts.sum() if num_images is None else num_images
    shifted = logits - kappa * ((total - counts).clamp(min=1) / counts).log()

    rarity = 1 / counts
    # An image without labels has no positive to balance against: every ratio saturates.
    drawn = (target @ rarity).clamp(min=torch.finfo(logits.dtype).tiny)[:, None]
    weight = alpha + torch.sigmoid(beta * (rarity / drawn - mu))
    positive, negative = F.softplus(-shifted), F.softplus(lam * shifted) / lam
    return (weight * (_times(target, positive) + _times(1 - target, negative))).mean(1)


def _log_counts(class_counts: Tensor, like: Tensor) -> Tensor:
    """Log counts, finite for a class without images (taken as one image)."""
    return class_counts.clamp(min=1).to(like.dtype).log()


def _times(weight: Tensor, value: Tensor) -> Tensor:
    """Their product, 0 where the weight is 0, even if the value is infinite: an impossible class."""
    return torch.where(weight == 0, 0, value) * weight


def _focus(nll: Tensor, gamma: float) -> Tensor:
    """`(1 - p)^gamma * nll` with `p = exp(-nll)`."""
    # Away from 0, where a power below 1 has no gradient.
    miss = (-torch.expm1(-nll)).clamp(min=torch.finfo(nll.dtype).tiny)
    return miss.pow(gamma) * nll


def feature_distillation(student: Tensor, teacher: Tensor) -> Tensor:
    """One minus the cosine of student and teacher; see `FeatureDistillationLoss`."""
    return 1 - F.cosine_similarity(student, teacher, dim=1)


def logit_distillation(student: Tensor, teacher: Tensor, *, temperature: float = 2.0) -> Tensor:
    """Divergence of two softened predictions; see `LogitDistillationLoss`."""
    ours, theirs = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    weight = theirs.exp()
    return temperature**2 * (_times(weight, theirs) - _times(weight, ours)).sum(1)


def group_distillation(
    student: Tensor,
    teacher: Tensor,
    groups: Sequence[Tensor],
    *,
    temperature: float = 2.0,
    cross: float = 1.0,
    within: float = 1.0,
) -> Tensor:
    """Divergence of two predictions, across groups of classes and within each; see `GroupDistillationLoss`."""
    ours, theirs = (student / temperature).log_softmax(1), (teacher / temperature).log_softmax(1)
    own, told = (torch.stack([log[:, group].logsumexp(1) for group in groups], 1) for log in (ours, theirs))
    impossible = told == -math.inf  # to the teacher
    calibrated = torch.where(impossible, told, told - told.logsumexp(0)).log_softmax(1)
    across = _times(calibrated.exp(), calibrated).sum(1) - _times(calibrated.exp(), own).sum(1)
    inside = torch.zeros_like(across)
    for place, group in enumerate(groups):
        mine = ours[:, group] - own[:, place, None]
        other = torch.where(impossible[:, place, None], -math.inf, theirs[:, group] - told[:, place, None])
        inside = inside + _times(other.exp(), other).sum(1) - _times(other.exp(), mine).sum(1)
    return temperature**2 * (cross * across + within * inside)


def supervised_contrastive(
    anchors: Tensor,
    anchor_target: Tensor,
    others: Tensor,
    other_target: Tensor,
    itself: Tensor,
    *,
    temperature: float = 0.1,
) -> Tensor:
    """Contrast of normalized rows, `itself` being each anchor's place in others; see `SupervisedContrastiveLoss`."""
    similarity = _without(anchors @ others.T / temperature, itself)
    positive = (anchor_target[:, None] == other_target).scatter(1, itself[:, None], False)
    log_p = similarity.log_softmax(1).masked_fill(~positive, 0)
    return -log_p.sum(1) / positive.sum(1).clamp(min=1)


def parametric_contrastive(
    centers: Tensor,
    query: Tensor,
    target: Tensor,
    others: Tensor,
    other_target: Tensor,
    itself: Tensor,
    *,
    alpha: float = 0.05,
    temperature: float = 0.2,
) -> Tensor:
    """Contrast with other images and with the logits of class centers; see `ParametricContrastiveLoss`."""
    similarity = _without(query @ others.T / temperature, itself)
    similarity = similarity.masked_fill(other_target < 0, torch.finfo(similarity.dtype).min)
    positive = (target[:, None] == other_target).scatter(1, itself[:, None], False)
    log_p = torch.cat((centers.to(similarity.dtype), similarity), dim=1).log_softmax(1)
    of_center = log_p.gather(1, target[:, None]).squeeze(1)
    of_images = log_p[:, centers.shape[1] :].masked_fill(~positive, 0).sum(1)
    return -(of_center + alpha * of_images) / (1 + alpha * positive.sum(1, dtype=log_p.dtype))


def _without(similarity: Tensor, itself: Tensor) -> Tensor:
    # Not minus infinity: an image that is alone would have no softmax left.
    return similarity.scatter(1, itself[:, None], torch.finfo(similarity.dtype).min)
