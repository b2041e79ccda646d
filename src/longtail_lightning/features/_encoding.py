"""Run an encoder as it is in evaluation, and leave it as it was."""

from __future__ import annotations

import os
from contextlib import nullcontext
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError

_PRECISIONS: dict[str | None, torch.dtype | None] = {
    None: None,
    "32": None,
    "32-true": None,
    "bf16": torch.bfloat16,
    "bf16-mixed": torch.bfloat16,
    "16": torch.float16,
    "16-mixed": torch.float16,
}


def autocast_type(precision: str | None) -> torch.dtype | None:
    """The type that autocast computes in; None for full precision."""
    if precision not in _PRECISIONS:
        options = ", ".join(repr(name) for name in _PRECISIONS if name)
        raise LongTailError(f"Unknown precision {precision!r}: choose one of {options}.")
    return _PRECISIONS[precision]


class Encoding:
    """Within `with`, the encoder stands on the device in evaluation mode; afterwards where and as it was.

    Args:
        encoder: from inputs to features.
        device: where to run it.
        precision: `"bf16"` or `"16"` for autocast.
    """

    def __init__(self, encoder: nn.Module, device: torch.device, precision: str | None) -> None:
        self.encoder = encoder
        self.device = device
        self.autocast = autocast_type(precision)
        parameters = [*encoder.parameters(), *encoder.buffers()]
        self._home = parameters[0].device if parameters else device
        kinds = {p.dtype for p in encoder.parameters() if p.is_floating_point()}
        self._kind = kinds.pop() if len(kinds) == 1 else None
        self._format = (
            torch.channels_last
            if any(p.ndim == 4 and _is_channels_last(p) for p in encoder.parameters())
            else torch.contiguous_format
        )

    def __enter__(self) -> Encoding:
        self._modes = [(module, module.training) for module in self.encoder.modules()]
        self.encoder.to(self.device).eval()
        # Benchmarking may choose another algorithm in another process, or under another load.
        cudnn = torch.backends.cudnn
        self._flags = cudnn.benchmark, cudnn.deterministic
        cudnn.benchmark, cudnn.deterministic = False, True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = self._flags
        for module, training in self._modes:
            module.training = training
        self.encoder.to(self._home)

    @torch.no_grad()
    def __call__(self, inputs: Tensor) -> Tensor:
        """Features `(batch, num_features)` of prepared inputs on the device; crops of an image are averaged."""
        crops = inputs.shape[1] if inputs.ndim == 5 else None
        if crops is not None:
            inputs = inputs.flatten(0, 1)
        if inputs.is_floating_point() and self._kind is not None:
            inputs = inputs.to(self._kind)
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=self._format)
        autocast: Any = nullcontext() if self.autocast is None else torch.autocast(self.device.type, self.autocast)
        with autocast:
            features = self.encoder(inputs)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(inputs):
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise LongTailError(
                f"The encoder {type(self.encoder).__name__} gives {shape} for {len(inputs)} inputs, "
                "expected (inputs, features): pool or flatten what it returns."
            )
        features = features if features.dtype == torch.float64 else features.float()
        return features if crops is None else features.view(-1, crops, features.shape[1]).mean(1)


def choose_device(device: torch.device | str, module: nn.Module) -> torch.device:
    """The device itself; for `"auto"` where the module is, a GPU of this process, or the CPU."""
    if device != "auto":
        try:
            chosen = torch.device(device)
        except RuntimeError as error:
            raise LongTailError(f"There is no device {str(device)!r}: choose 'cpu', 'cuda', 'cuda:1', ...") from error
        if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
            raise LongTailError(
                f"device={str(device)!r}: this process sees {torch.cuda.device_count()} GPUs; choose another, or 'cpu'."
            )
        return chosen
    where = next((p.device for p in module.parameters()), torch.device("cpu"))
    if where.type != "cpu":
        return where
    if torch.cuda.is_available():
        grouped = dist.is_available() and dist.is_initialized()
        index = os.environ.get("LOCAL_RANK") if grouped else None
        return torch.device("cuda", int(index) if index is not None else torch.cuda.current_device())
    return torch.device("cpu")


def _is_channels_last(weight: Tensor) -> bool:
    return weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
