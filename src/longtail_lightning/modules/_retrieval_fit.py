"""What a classifier with a memory asks of its parts and its data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn
from torch import nn

from longtail_lightning._errors import LongTailError
from longtail_lightning._lightning import SHARDED
from longtail_lightning.backbones import PreparedBackbone
from longtail_lightning.callbacks._counts import datamodule_of
from longtail_lightning.data import LongTailDataModule
from longtail_lightning.data.datamodule import Split
from longtail_lightning.features import FeatureBank, extract_features
from longtail_lightning.heads import Head
from longtail_lightning.modules._checkpoint import MissingPart
from longtail_lightning.modules._lookup import Lookup
from longtail_lightning.modules._prepared import prepared_backbone
from longtail_lightning.modules.base_classifier import HeadCallable
from longtail_lightning.modules.load import load


def made_encoder(encoder: str | Path | nn.Module | None) -> nn.Module:
    """The encoder of the queries; that of a checkpoint with the preparation that its card tells.

    Args:
        encoder: a module, the file of a checkpoint, or None where a checkpoint of the whole model brings it.
    """
    if encoder is None:
        return MissingPart("encoder")
    if isinstance(encoder, nn.Module):
        return encoder
    if not Path(encoder).is_file():
        raise LongTailError(
            f"encoder={str(encoder)!r}: there is no such file; give a checkpoint of this library, or a backbone, such "
            "as TimmBackbone('resnet50')."
        )
    prepared: nn.Module = prepared_backbone(load(encoder, device="cpu").module)
    return prepared


def made_head(head: HeadCallable | Head, encoder: Any, num_classes: int) -> nn.Module:
    """The retrieval head; refuse one of another size.

    Args:
        head: a head, or from (num_features, num_classes) to one.
        encoder: of the texts.
        num_classes: number of logits.
    """
    made = head if isinstance(head, nn.Module) else head(encoder.num_features, num_classes)
    for name, needed in (("num_features", encoder.num_features), ("num_classes", num_classes)):
        if (found := getattr(made, name, needed)) != needed:
            raise LongTailError(f"The retrieval head was made for {name}={found} and needs {needed}.")
    return made


def begin_run(module: Any, stage: str) -> None:
    """Let the data tell which images a batch holds, so that none finds itself; refuse what cannot be trained.

    Args:
        module: a `RetrievalAugmented`.
        stage: `"fit"`, `"validate"`, `"test"` or `"predict"`.
    """
    if module.branches == "base":
        return
    lookup: Lookup = module.lookup
    give_back(lookup)  # what a run that was interrupted has left
    if not isinstance(module.trainer.strategy, SHARDED):  # whose weights are in pieces: see `before_sharding`
        lookup.check(module.encoder)
    data = datamodule_of(module.trainer)
    if isinstance(module.encoder, PreparedBackbone) and isinstance(data, LongTailDataModule) and stage == "fit":
        module.encoder.given(data.mean, data.std)
    if stage == "fit":
        _require_trainable(module, data)
        module.text_encoder.meet(lookup.require().different_texts)
        if lookup.exclude == "id" and isinstance(data, LongTailDataModule):
            _require_themselves(lookup, data)
    if not isinstance(data, LongTailDataModule):
        return
    splits: dict[str, Split] = {"fit": "val", "validate": "val", "test": "test", "predict": "test"}
    there = data.dataset(splits[stage]) is not None and lookup.learn_names(data, splits[stage])
    if there and stage != "predict":
        rank_zero_warn(
            f"Images of the {splits[stage]} split are in the memory. They do not find themselves, but the memory "
            "knows more than it will of new pictures: leave them out of it."
        )
    if there or (stage == "fit" and (lookup.needs_index or lookup.neighbors == "cached")):
        lookup.lent = data, data.with_index
        data.with_index = True
    if stage == "fit" and lookup.neighbors == "cached":
        _remember_neighbors(module)


def _require_trainable(module: Any, data: Any) -> None:
    lookup: Lookup = module.lookup
    if not isinstance(module.trainer.strategy, SHARDED):
        for name in ("head", "retrieval_head"):
            _require_direction(getattr(module, name), name)
    if max(getattr(data, "mixup_alpha", 0), getattr(data, "cutmix_alpha", 0)) > 0:
        lookup.refuse_mixed()
    if (lookup.needs_index or lookup.neighbors == "cached") and not isinstance(data, LongTailDataModule):
        asks = "neighbors='cached'" if lookup.neighbors == "cached" else "exclude='id'"
        raise LongTailError(
            f"{asks} must know which images a batch holds: train with a data module of this library, or choose "
            "exclude='first' and neighbors='exact'."
        )


def _remember_neighbors(module: Any) -> None:
    """Look training and validation images up once."""
    data, lookup = datamodule_of(module.trainer), module.lookup
    shown = module.trainer.progress_bar_callback is not None and module.trainer.is_global_zero
    validated = module.trainer.enable_validation and data.dataset("val") is not None
    for split in ("train", *(["val"] if validated else [])):
        lookup.remember(split, _bank_of(module, data, split, shown), progress=shown)


def give_back(lookup: Lookup) -> None:
    """Leave the data as they were, and forget what was found for a run.

    Args:
        lookup: of the model.
    """
    if lookup.lent is not None:
        data, data_had_index = lookup.lent
        data.with_index = data_had_index
    lookup.forget()


def before_sharding(module: Any) -> None:
    """The checks that need whole weights, for a strategy that cuts them into pieces before the run begins.

    Args:
        module: a `RetrievalAugmented`.
    """
    if module.branches != "base" and isinstance(module.trainer.strategy, SHARDED):
        module.lookup.check(module.encoder)
        for name in ("head", "retrieval_head"):
            _require_direction(getattr(module, name), name)


def _require_themselves(lookup: Lookup, data: LongTailDataModule) -> None:
    """Make sure that training images can be kept from finding themselves."""
    if lookup.needs_index:
        if not lookup.learn_names(data, "train"):
            raise LongTailError(
                f"The training images are not in the memory's source {lookup.own_source!r} by their ids, so they could "
                "find themselves: make that source from the training split, name the source with own_source, or "
                "choose exclude='first' or 'none'."
            )
    elif (source := lookup.hides(data)) is not None:
        raise LongTailError(
            f"The training images are in the memory's source {source!r}, so each would find itself: say "
            f"own_source={source!r}, or choose exclude='first' or 'none'."
        )


def _bank_of(module: Any, data: LongTailDataModule, split: str, shown: bool) -> FeatureBank:
    """Features of a split without augmentation: those in the memory, if all of its images are there, or new ones."""
    lookup: Lookup = module.lookup
    items = [(lookup.own_source, name) for name in lookup.names.get(split, ())]
    if items and all(map(module.memory.has, items)):
        return FeatureBank.from_arrays(module.memory.features(*items))
    return extract_features(module.encoder, data, split=split, device=module.device, progress=shown)


def _require_direction(head: nn.Module, name: str) -> None:
    """Refuse a head whose logits are all zero, which have no direction and no finite gradient."""
    parameters = list(head.parameters())
    if parameters and not any(bool(parameter.any()) for parameter in parameters):
        raise LongTailError(
            f"All weights of the {name} are 0, and logits of 0 have no direction to be summed: start with others."
        )
