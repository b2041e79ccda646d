from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2.functional import adjust_brightness, adjust_contrast, adjust_saturation

from longtail_lightning.datasets.augment import (
    color_jitter,
    crop_and_flip,
    cutout,
    gaussian_noise,
    item_keys,
    jitter_factors,
)

KEYS = item_keys(np.stack([np.arange(100), np.zeros(100, dtype=np.int64)], 1), seed=3)


def test_each_image_is_a_shifted_and_perhaps_mirrored_copy():
    images = torch.rand(40, 3, 8, 8)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    mirrored = 0
    for image, source, out in zip(images, padded, crop_and_flip(images, KEYS[:40], padding=2)):
        candidates = [source[:, t : t + 8, l : l + 8] for t in range(5) for l in range(5)]  # noqa: E741
        plain = any(torch.equal(out, candidate) for candidate in candidates)
        flipped = any(torch.equal(out, candidate.flip(2)) for candidate in candidates)
        assert plain or flipped
        assert out.shape == image.shape
        mirrored += flipped and not plain
    assert 8 < mirrored < 32


def test_keeps_bytes_as_bytes():
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert crop_and_flip(images, KEYS[:2], padding=0, flip=False).dtype == torch.uint8
    assert torch.equal(crop_and_flip(images, KEYS[:2], padding=0, flip=False), images)


def test_cutout_blanks_one_square_per_image():
    blank = cutout(torch.ones(100, 2, 10, 12), KEYS, size=4) == 0
    assert torch.equal(blank[:, 0], blank[:, 1])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), rows * columns)
    assert rows.max() == columns.max() == 4


def test_noise_has_the_size_that_was_asked_for():
    gray = torch.full((50, 3, 8, 8), 0.5)
    assert abs(gaussian_noise(gray, KEYS[:50], sigma=0.1).std().item() - 0.1) < 0.005
    white = gaussian_noise(torch.full((50, 3, 8, 8), 255, dtype=torch.uint8), KEYS[:50], sigma=0.1)
    assert white.min() > 100  # clipped, not wrapped around


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_is_that_of_torchvision_in_one_order(channels):
    images = torch.rand(30, channels, 6, 5)
    jittered = color_jitter(images, KEYS[:30], strength=0.4)
    for image, out, (brightness, contrast, saturation) in zip(
        images, jittered, jitter_factors(KEYS[:30], 0.4).T.tolist()
    ):
        expected = adjust_contrast(adjust_brightness(image, brightness), contrast)
        torch.testing.assert_close(out, adjust_saturation(expected, saturation), atol=1e-5, rtol=0)


def test_factors_of_jitter_are_even_and_independent():
    factors = jitter_factors(item_keys(np.stack([np.arange(4000)] * 2, 1)), 0.4)
    assert factors.min() >= 0.6
    assert factors.max() <= 1.4
    assert torch.allclose(factors.mean(1), torch.ones(3), atol=0.02)
    assert torch.corrcoef(factors).fill_diagonal_(0).abs().max() < 0.05
    assert jitter_factors(KEYS, 2.0).min() >= 0


@pytest.mark.parametrize("augment", [crop_and_flip, cutout, gaussian_noise, color_jitter])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_is_treated_the_same_in_any_batch(augment, dtype):
    images = (torch.rand(100, 3, 9, 7) * 255).to(dtype)
    together = augment(images, KEYS)
    for size in (1, 2, 64):
        parts = [augment(images[i : i + size], KEYS[i : i + size]) for i in range(0, 100, size)]
        assert torch.equal(torch.cat(parts), together)
    assert not torch.equal(augment(images, KEYS + 1), together)
    assert augment(images[:0], KEYS[:0]).shape == (0, 3, 9, 7)


def test_shifts_and_mirroring_are_even():
    corner = torch.zeros(4000, 1, 5, 5)
    corner[:, 0, 2, 2] = 1
    keys = item_keys(np.stack([np.arange(4000), np.arange(4000) % 3], 1))
    places = crop_and_flip(corner, keys, padding=2, flip=False).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=25)
    assert counts.min() > 110, counts  # 160 are expected of each of the 25 shifts
    assert counts.max() < 215, counts


def test_noise_is_normal_and_pixels_are_independent():
    noise = gaussian_noise(torch.zeros(100, 3, 32, 32), KEYS, sigma=1.0)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert abs((noise**4).mean() - 3) < 0.05
    flat = noise.flatten(1)
    assert abs((flat[:, 1:] * flat[:, :-1]).mean()) < 0.01
    assert abs((flat[1:] * flat[:-1]).mean()) < 0.01
