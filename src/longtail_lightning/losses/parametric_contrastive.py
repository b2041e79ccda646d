"""Parametric contrastive learning, PaCo (Cui et al. 2021)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import Self

from longtail_lightning._errors import LongTailError
from longtail_lightning._number_range import require_number
from longtail_lightning.counts import ClassCounts, ClassCountsLike, log_prior
from longtail_lightning.losses import functional
from longtail_lightning.losses._base import Reduction, checked_reduction, in_full_precision, reduce, unbound
from longtail_lightning.losses._gather import gather, my_rank


class ParametricContrastiveLoss(nn.Module):
    r"""Contrastive learning with one learnable center per class: classifier and features in one loss.

    **What it changes.** In supervised contrast a frequent class meets many positives and dominates.
    Each image here also has its class center as a positive, always, which evens that out; the
    centers are the classifier.

    **Formula.** With centers \(c\), queries \(q\), and the images \(P(i)\) of the class of i among the
    other queries, the keys and the queue, \(-\frac{1}{1 + \alpha |P(i)|} \left( \log p(c_y) + \alpha
    \sum_{k \in P(i)} \log p(k) \right)\), where p is one softmax over the center logits \(c_j \cdot f_i +
    \tau \log \pi_j\) and the similarities \(q_i \cdot k / T\).

    **Shapes.** features `(batch, num_features)`, from which the centers classify; query and key
    `(batch, num_projected)`, the projections of two views by the encoder and by its
    `MomentumEncoder`; target `(batch,)` indices. In a process group, queries and keys are those of
    all ranks, with gradients for the queries; ranks need batches of one size.

    **When it helps, when it hurts.** Long schedules with strong augmentation. A queue much shorter
    than the number of classes holds no positives for most of them.

    **Classes without images** count as classes with one image in the prior. Empty slots of the queue
    are nobody's negatives.

    Args:
        class_counts: training images per class.
        num_features: width of the features.
        num_classes: number of centers.
        num_projected: width of queries and keys.
        alpha: weight of a positive image against the center's 1.
        temperature: \(T\).
        queue_size: how many keys of past batches are kept.
        tau: strength of the prior; 0 for balanced data.
        reduction: `"mean"`, `"sum"` or `"none"`.

    Examples:
        >>> import torch
        >>> loss = ParametricContrastiveLoss([90, 10], num_features=8, num_classes=2, num_projected=4, queue_size=16)
        >>> features, query, key = torch.randn(6, 8), torch.randn(6, 4), torch.randn(6, 4)
        >>> loss(features, query, key, torch.tensor([0, 0, 1, 0, 1, 0])).ndim
        0
        >>> loss.logits(features).shape
        torch.Size([6, 2])

    **Paper.** Cui et al., Parametric Contrastive Learning, ICCV 2021, section 3.

    **Differences from the authors' code.** Their queue is initialized normalized over the slots
    instead of over the features and takes part before it is filled; here a slot takes part once it
    holds a key. The sum over the positives is divided by their weights, as in the code, which
    the paper leaves out. Theirs contrasts the images of its own process with the queue; here the
    images of all processes are gathered. The centers have a bias, as in the code but not in the paper.
    """

    class_counts: Tensor | None
    queue: Tensor
    queue_target: Tensor
    queue_next: Tensor

    def __init__(
        self,
        class_counts: ClassCountsLike | None = None,
        *,
        num_features: int,
        num_classes: int,
        num_projected: int = 128,
        alpha: float = 0.05,
        temperature: float = 0.2,
        queue_size: int = 8192,
        tau: float = 1.0,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.num_features = num_features
        self.num_classes = num_classes
        self.num_projected = num_projected
        require_number(self, "alpha", alpha, 0)
        require_number(self, "temperature", temperature, 0, above=True)
        require_number(self, "tau", tau)
        require_number(self, "queue_size", queue_size, 0)
        self.alpha = alpha
        self.temperature = temperature
        self.queue_size = queue_size
        self.tau = tau
        self.reduction: Reduction = checked_reduction(reduction)
        self.centers = nn.Linear(num_features, num_classes)
        self.register_buffer("queue", torch.zeros(queue_size, num_projected))
        self.register_buffer("queue_target", torch.full((queue_size,), -1))
        self.register_buffer("queue_next", torch.zeros((), dtype=torch.int64))
        self.register_buffer("class_counts", None, persistent=False)
        if class_counts is not None:
            self.bind_class_counts(class_counts)

    def bind_class_counts(self, class_counts: ClassCountsLike) -> Self:
        """Give the loss its class counts; the LightningModules call this for you."""
        counts = ClassCounts(class_counts).tensor
        if len(counts) != self.num_classes:
            raise LongTailError(
                f"ParametricContrastiveLoss has num_classes={self.num_classes} but class_counts of {len(counts)} "
                "classes: the two must agree."
            )
        self.class_counts = counts.to(self.queue.device)
        return self

    def logits(self, features: Tensor) -> Tensor:
        """What the centers predict, without the prior."""
        logits: Tensor = self.centers(features)
        return logits

    def forward(self, features: Tensor, query: Tensor, key: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch; in training mode its keys then enter the queue."""
        if self.class_counts is None:
            raise unbound(type(self).__name__)
        if query.shape != key.shape or query.shape != (*target.shape, self.num_projected):
            raise LongTailError(
                f"ParametricContrastiveLoss expects query and key of shape (batch, {self.num_projected}) and one class "
                f"index per image, got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(target.shape)}."
            )
        with torch.autocast(features.device.type, enabled=False):
            centers = in_full_precision(self.logits(features.to(self.centers.weight.dtype)))
            centers = centers + self.tau * log_prior(self.class_counts, centers.dtype)
            query = F.normalize(in_full_precision(query), dim=1)
            queries, targets = gather(query), gather(target)
            keys = gather(F.normalize(in_full_precision(key.detach()), dim=1))
            others = torch.cat((queries, keys, self.queue.to(query.dtype)))
            labels = torch.cat((targets, targets, self.queue_target))
            itself = my_rank() * len(query) + torch.arange(len(query), device=query.device)
            losses = functional.parametric_contrastive(
                centers, query, target, others, labels, itself, alpha=self.alpha, temperature=self.temperature
            )
        if self.training:
            self._enqueue(keys, targets)
        return reduce(losses, self.reduction)

    @torch.no_grad()
    def _enqueue(self, keys: Tensor, targets: Tensor) -> None:
        keys, targets = keys[-self.queue_size :], targets[-self.queue_size :]
        slots = (self.queue_next + torch.arange(len(keys), device=keys.device)) % self.queue_size
        self.queue[slots] = keys.to(self.queue.dtype)
        self.queue_target[slots] = targets
        self.queue_next = (self.queue_next + len(keys)) % self.queue_size
