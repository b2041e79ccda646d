"""Check the parts of a training that the user gives; the error shows the right form."""

from __future__ import annotations

from collections.abc import Callable, Sized
from typing import Any

from torch import nn

from longtail_lightning._errors import LongTailError

# What each is called with, and how to write it.
_CALLED = {
    "head": ("(num_features, num_classes)", "head=MLPHead or head=partial(CosineHead, scale=8.0)"),
    "sampler": ("the labels", "sampler=SquareRootSampler or sampler=partial(PowerSampler, q=0.5)"),
}


def require_callable(argument: str, make: Any) -> None:
    """Refuse a head or sampler that is made already; None stands for the default."""
    if make is not None and (isinstance(make, nn.Module) or not callable(make)):
        raise _wrong(argument, make, "it is not a class or function")


def made(argument: str, make: Callable[..., Any], *args: Any) -> Any:
    """The head or sampler that the user's class or function makes."""
    require_callable(argument, make)
    try:
        part = make(*args)
    except TypeError as error:
        raise _wrong(argument, make, str(error)) from error
    if not isinstance(part, nn.Module if argument == "head" else Sized):
        raise _wrong(argument, make, f"it gives a {type(part).__name__}")
    return part


def require_loss(loss: Any) -> None:
    """Refuse a loss that is a class in place of an object, or is not a module."""
    if loss is not None and not isinstance(loss, nn.Module):
        raise LongTailError(
            f"loss={_named(loss)} is not a module: give a loss object, such as loss=BalancedSoftmaxLoss() or "
            "loss=WrapLoss(nn.MultiMarginLoss())."
        )


def _wrong(argument: str, make: Any, reason: str) -> LongTailError:
    called, forms = _CALLED[argument]
    return LongTailError(
        f"{argument}={_named(make)} cannot be called with {called}, {reason}: give what can, such as {forms}."
    )


def _named(value: Any) -> str:
    return getattr(value, "__name__", None) or (
        repr(value) if isinstance(value, str) else f"{type(value).__name__}(...)"
    )
