from __future__ import annotations

import torch

from longtail_lightning.datasets.augment import crop_and_flip, cutout, gaussian_noise


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


def test_cutout_blanks_one_square_per_image():
    blank = cutout(torch.ones(100, 2, 10, 12), size=4) == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 4


def test_noise_has_the_size_that_was_asked_for():
    gray = torch.full((50, 3, 8, 8), 0.5)
    assert abs(gaussian_noise(gray, sigma=0.1).std().item() - 0.1) < 0.005
    white = gaussian_noise(torch.full((50, 3, 8, 8), 255, dtype=torch.uint8), sigma=0.1)
    assert white.min() > 100  # clipped, not wrapped around
