"""Check that a module computes `head(backbone(images))`; everything that works on features relies on it."""

from __future__ import annotations

from collections.abc import Callable

import lightning as L
import torch
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from longtail_lightning._errors import LongTailError
from longtail_lightning.features._encoding import Encoding

_SHARDED = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
_NOISE = 0.05  # of the largest logit; half precision and another algorithm move them by less

# A forward may give scores in the place of logits: the same class wins.
_SCORES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda logits: logits,
    lambda logits: logits.softmax(1),
    lambda logits: logits.log_softmax(1),
    torch.sigmoid,
)


@torch.no_grad()
def check_forward(
    trainer: L.Trainer,
    pl_module: L.LightningModule,
    parts: tuple[nn.Module, nn.Module],
    images: Tensor,
    encode: Encoding,
) -> None:
    """Run one image through a module in evaluation mode, and refuse a module whose features would be wrong."""
    if isinstance(trainer.strategy, _SHARDED):
        return  # a part of such a module has no weights of its own
    (backbone, head), name = parts, type(pl_module).__name__
    with encode, isolate_rng(), torch.compiler.set_stance("force_eager"), trainer.precision_plugin.forward_context():
        width = encode(images.clone()).shape[1]  # which a backbone may change in place
        # Of several crops, which are averaged at different places, one is enough.
        image = trainer.precision_plugin.convert_input(images[:, 0] if images.ndim == 5 else images)
        _seed()
        features = backbone(image.clone())
        try:
            logits = head(features)
        except Exception as error:
            made_for = getattr(head, "num_features", getattr(head, "in_features", width))
            reason = " ".join(str(error).split()) if made_for == width else f"it was made for {made_for}"
            raise LongTailError(
                f"The {type(head).__name__} of {name} cannot take the {width} features that the backbone gives "
                f"({reason}): put what lies between the two into self.backbone or self.head."
            ) from error
        _seed()
        if not _is_head_of_backbone(pl_module, backbone, head, image, logits):
            raise LongTailError(
                f"The forward of {name} is not head(backbone(images)), on which features and classifiers rest: put "
                "what lies between the two, or around them, into self.backbone or self.head."
            )


def _is_head_of_backbone(
    pl_module: L.LightningModule, backbone: nn.Module, head: nn.Module, image: Tensor, logits: Tensor
) -> bool:
    """Whether the forward may be `head(backbone(image))`; a forward that cannot be compared may be."""
    made: list[Tensor] = []
    given: list[Tensor] = []
    hooks = (
        backbone.register_forward_hook(lambda module, inputs, output: made.append(output.clone())),
        head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0].clone())),
    )
    try:
        output = pl_module(image)
    except Exception:
        return True
    finally:
        for hook in hooks:
            hook.remove()
    # Compared exactly: a layer between the two that has not been trained yet may change almost nothing.
    if made and given and not any(_equal(features, taken) for features in made for taken in given):
        return False
    if not isinstance(output, Tensor) or output.shape != logits.shape:
        return True
    return any(_close(output.float(), scores(logits.float())) for scores in _SCORES)


def _seed() -> None:
    """Let each pass draw the same random numbers; `isolate_rng` restores these generators afterwards."""
    torch.default_generator.manual_seed(0)
    torch.cuda.manual_seed(0)


def _equal(first: Tensor, second: Tensor) -> bool:
    """Whether both hold the same values; shape and type may differ."""
    return first.numel() == second.numel() and torch.allclose(
        first.flatten().float(), second.flatten().float(), rtol=0, atol=0, equal_nan=True
    )


def _close(first: Tensor, second: Tensor) -> bool:
    # NaN passes here: the extraction of features reports it.
    return not bool((first - second).abs().max() > _NOISE * second.abs().max())
