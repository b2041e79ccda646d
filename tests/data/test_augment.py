from __future__ import annotations

import torch

from longtail_lightning.data.augment import crop_and_flip


def test_each_image_is_a_shifted_and_perhaps_mirrored_copy():
    images = torch.rand(40, 3, 8, 8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = 0
    for image, source, out in zip(images, padded, crop_and_flip(images, padding=2)):
        candidates = [source[:, t : t + 8, l : l + 8] for t in range(5) for l in range(5)]  # noqa: E741
        plain = any(torch.equal(out, candidate) for candidate in candidates)
        flipped = any(torch.equal(out, candidate.flip(2)) for candidate in candidates)
        assert plain or flipped
        assert out.shape == image.shape
        mirrored += flipped and not plain
    assert 8 < mirrored < 32


def test_keeps_bytes_as_bytes():
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert crop_and_flip(images, padding=0, flip=False).dtype == torch.uint8
    assert torch.equal(crop_and_flip(images, padding=0, flip=False), images)
