"""Augmentation of whole batches, on whatever device the batch lives."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def crop_and_flip(images: Tensor, *, padding: int = 4, flip: bool = True) -> Tensor:
    """Shift each image by up to `padding` pixels (zeros come in) and mirror half of them.

    The CIFAR augmentation, all images at once. Random numbers come from the global CPU generator,
    so the result does not depend on the device.

    Args:
        images: `(batch, channels, height, width)`, any type.
        padding: largest shift.
        flip: whether to mirror.

    Example:
        >>> crop_and_flip(torch.ones(8, 3, 32, 32)).shape
        torch.Size([8, 3, 32, 32])
    """
    batch, _, height, width = images.shape
    top, left = torch.randint(0, 2 * padding + 1, (2, batch))
    mirrored = torch.rand(batch) < 0.5 if flip else torch.zeros(batch, dtype=torch.bool)
    rows = top[:, None] + torch.arange(height)
    columns = torch.arange(width).expand(batch, width)
    columns = left[:, None] + torch.where(mirrored[:, None], columns.flip(1), columns)
    rows, columns = rows.to(images.device), columns.to(images.device)
    padded = F.pad(images, (padding,) * 4)
    index = torch.arange(batch, device=images.device)
    # Advanced indices around a slice put the channels last; bring them back.
    return padded[index[:, None, None], :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
