from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from longtail_lightning.datasets.decode import UnreadableImageError, decode_image


@pytest.fixture(scope="module")
def photo():
    """A smooth picture with a bright corner, so that rotation shows."""
    small = np.random.default_rng(0).integers(0, 200, (6, 8, 3), dtype=np.uint8)
    small[0, 0] = 255
    return Image.fromarray(small).resize((80, 60), Image.Resampling.BICUBIC)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_decoded_as_pillow_does(photo, mode):
    data = saved(photo.convert(mode), "JPEG", quality=90)
    expected = pixels(Image.open(io.BytesIO(data)))
    assert (decode_image(data).int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(photo, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for kind in ("JPEG", "PNG"):
        data = saved(photo, kind, exif=exif)
        expected = pixels(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        assert (decode_image(data).int() - expected.int()).abs().max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF", "WEBP", "TIFF"])
def test_other_formats(photo, kind):
    data = saved(photo, kind)
    assert torch.equal(decode_image(data), pixels(Image.open(io.BytesIO(data))))


def test_sixteen_bits_become_eight():
    deep = np.linspace(0, 65535, 48).astype(np.uint16).reshape(6, 8)
    image = decode_image(saved(Image.fromarray(deep), "PNG"))
    assert torch.equal(image[0], torch.from_numpy((deep >> 8).astype(np.uint8)))


def test_floating_point_becomes_eight_bit():
    values = np.linspace(0, 1, 48, dtype=np.float32).reshape(6, 8)
    image = decode_image(saved(Image.fromarray(values), "TIFF"))
    assert torch.equal(image[0], torch.from_numpy((values.astype(np.float64) * 255).astype(np.uint8)))


def test_an_animation_gives_its_first_frame(photo):
    frames = [photo.quantize(), ImageOps.invert(photo).quantize()]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert torch.equal(decode_image(data), pixels(frames[0]))


def test_transparency_is_dropped(photo):
    clear = photo.copy()
    clear.putalpha(0)
    assert torch.equal(decode_image(saved(clear, "PNG")), pixels(photo))


def test_pillow_alone_gives_the_same_pixels(photo, monkeypatch):
    data = saved(photo, "JPEG", quality=90)
    fast = decode_image(data)
    monkeypatch.setattr("longtail_lightning.datasets.decode.decode_jpeg", None)
    assert (decode_image(data).int() - fast.int()).abs().max() <= 1


def test_names_with_spaces_and_accents(photo, tmp_path):
    path = tmp_path / "élan d'été 象.jpg"
    photo.save(path)
    assert decode_image(path).shape == (3, 60, 80)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_broken_files_are_named(photo, tmp_path, kind):
    data = saved(photo, kind)
    cases = {
        "half": (data[: len(data) // 2], "half cannot be decoded"),
        "empty": (b"", r"empty is empty \(0 bytes\)"),
        "text": (b"this is no picture", r"text cannot be decoded \(no known image format\)"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UnreadableImageError, match=message):
            decode_image(tmp_path / name)
    with pytest.raises(UnreadableImageError, match=r"gone cannot be read \(No such file"):
        decode_image(tmp_path / "gone")
