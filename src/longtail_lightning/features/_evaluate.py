"""How good a head is on a bank."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from longtail_lightning.features.bank import FeatureBank


@torch.no_grad()
def class_accuracy(
    head: nn.Module, bank: FeatureBank, device: torch.device | str = "cpu", *, groups: Tensor | None = None
) -> Tensor:
    """Accuracy of each class (float64, on the CPU); NaN for one without an input in the bank.

    Args:
        head: any head.
        bank: features and labels.
        device: where to work.
        groups: number of the group of each class; an answer is then one of the classes of the true class's group.
    """
    own = bank.require_single_labels("The accuracy of each class")
    tensors = [*head.parameters(), *head.buffers()]
    home = tensors[0].device if tensors else torch.device(device)
    dtype = next((t.dtype for t in tensors if t.is_floating_point()), torch.float32)
    training = head.training
    head.to(device).eval()
    right = torch.zeros(bank.num_classes, dtype=torch.int64)
    for features, labels in bank.batches(device=device, dtype=dtype):
        logits = head(features)
        if groups is not None:
            group = groups.to(labels.device)
            logits = logits.masked_fill(group[labels][:, None] != group, -torch.inf)
        correct = labels[(logits.argmax(1) == labels) & ~logits.isnan().any(1)]  # argmax takes a NaN for the largest
        right += torch.bincount(correct.cpu(), minlength=bank.num_classes)
    head.to(home).train(training)
    support = torch.bincount(own, minlength=bank.num_classes)
    return torch.where(support > 0, right.double() / support, torch.nan)


def mean_class_accuracy(head: nn.Module, bank: FeatureBank, device: torch.device | str = "cpu") -> float:
    """Accuracy of each class of the bank, averaged over the classes that it has."""
    return float(class_accuracy(head, bank, device).nanmean())
