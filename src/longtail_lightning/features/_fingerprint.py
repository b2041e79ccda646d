"""Which encoder and which data made a bank: enough to tell whether the bank belongs to given ones."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._spec import spec_of
from longtail_lightning.backbones import Backbone, PreparedBackbone

# Plain facts about the data, which messages always name; the other fields are checksums.
_KNOWN = ("name", "split", "number")
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def checksum(parts: Iterable[bytes]) -> str:
    """32 hexadecimal digits."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


def tensor_parts(tensor: Tensor) -> Iterable[bytes]:
    """A tensor as bytes, whatever its device and memory format."""
    tensor = tensor.detach().cpu().contiguous()
    yield f"{tensor.dtype} {tuple(tensor.shape)}".encode()
    yield tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def encoder_fingerprint(encoder: nn.Module) -> dict[str, str]:
    """Class of an encoder, and a checksum of its modules, as far as they describe themselves, and of its weights.

    A prepared backbone is its backbone: how images are prepared belongs to the data.
    """
    encoder = unwrapped(encoder)
    while isinstance(encoder, PreparedBackbone):
        encoder = unwrapped(encoder.backbone)

    def parts() -> Iterable[bytes]:
        # The same weights under another activation give other features.
        for name, module in encoder.named_modules():
            told = _ADDRESS.sub("", module.extra_repr())
            # Ours tell their settings in their specs.
            spec = spec_of(module) if isinstance(module, Backbone) else None
            yield f"{name} {type(module).__qualname__} {told} {spec}".encode()
        for name, value in encoder.state_dict().items():
            yield name.encode()
            yield from tensor_parts(value) if isinstance(value, Tensor) else [repr(value).encode()]

    return {"class": type(encoder).__qualname__, "checksum": checksum(parts())}


def unwrapped(encoder: nn.Module) -> nn.Module:
    """The module inside `torch.compile` or `DistributedDataParallel`."""
    while True:
        if isinstance(inner := getattr(encoder, "_orig_mod", None), nn.Module):
            encoder = inner
        elif isinstance(encoder, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            encoder = encoder.module
        else:
            return encoder


def require_equal(wanted: Mapping[str, Any], found: Mapping[str, Any], bank: str, fix: str) -> None:
    """Refuse a bank with another fingerprint. Data of an unknown split match any split.

    Args:
        wanted: the parts that must be equal: `"encoder"`, `"data"`, `"extraction"`.
        found: the fingerprint of the bank.
        bank: how the error calls the bank.
        fix: what to do.
    """
    for part, want in wanted.items():
        have = found.get(part)
        if have == want or (part == "data" and have and want == {**have, "split": None}):
            continue
        if part == "extraction":
            keys = [key for key in want if not have or have.get(key) != want[key]]
            if "augment" in keys:
                keys.remove("augmentation")  # a checksum, which tells the user nothing
            have, want = (
                ", ".join(f"{key}={(values or {}).get(key, 'unknown')}" for key in keys) for values in (have, want)
            )
            raise LongTailError(f"{bank} was made with {have}, not with {want}: {fix}.")
        word = "by" if part == "encoder" else "of"
        raise LongTailError(
            f"{bank} was made {word} {_told(part, have, want)}, not {word} {_told(part, want, have)}: {fix}."
        )


def of_a_part(fingerprint: dict[str, Any], number: int) -> dict[str, Any]:
    """The fingerprint of some of these inputs: still of this data set and split, but no longer all of it."""
    if not (data := fingerprint.get("data")):
        return dict(fingerprint)
    unknown = dict.fromkeys(key for key in data if key not in _KNOWN)
    return {**fingerprint, "data": {**data, **unknown, "number": number}}


def _told(part: str, fingerprint: Any, other: Any) -> str:
    """A fingerprint in words; of data, what differs from the other."""
    if not fingerprint:
        return f"an unknown {'encoder' if part == 'encoder' else 'data set'}"
    if part == "encoder":
        return f"{fingerprint['class']} {fingerprint['checksum'][:12]}"
    split = fingerprint["split"] or "(of an unknown split)"
    told = f"{fingerprint['name']} {split} of {fingerprint['number']} inputs"
    differ = [
        f"{key} {str(value)[:12]}"
        for key, value in fingerprint.items()
        if other and key not in _KNOWN and value not in (None, other.get(key))
    ]
    return f"{told} ({', '.join(differ)})" if differ else told
