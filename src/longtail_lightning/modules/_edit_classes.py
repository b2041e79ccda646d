"""Add classes to a trained model from a few pictures, or take classes out: nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._progress import progress_bar
from longtail_lightning.datasets.pictures import Preparation, find_pictures, read_pictures
from longtail_lightning.heads import EnsembleHead, KnowledgeTransferHead
from longtail_lightning.heads._base import EditableHead
from longtail_lightning.modules._described_module import DescribedModule

_BATCH = 64


def editable_head(module: DescribedModule) -> EditableHead:
    """The head of a module, if classes can be added to it."""
    head = getattr(module, "head", None)
    if getattr(module, "branches", "base") != "base":
        raise LongTailError(
            f"The {type(module).__name__} classifies the texts of its memory, too, with a head whose classes were "
            "trained: pictures of its own classes can be added to the memory, other classes need another training."
        )
    if isinstance(head, EditableHead):
        return head
    raise LongTailError(
        f"The model's head is a {type(head).__name__}, which knows no prototypes of its classes: make them once from "
        "its training images, `ltl class prepare --ckpt_path FILE`, or in Python with "
        "ClassifierRetraining(['kt'], keep='kt') and a fit of max_epochs=0."
    )


def add_classes(
    module: DescribedModule, names: Sequence[str], new: Mapping[str, Any], prepare: Preparation | None
) -> None:
    """Append classes to a module; after an error it is as it was.

    Args:
        module: whose head is editable.
        names: of its classes.
        new: name of a class -> its pictures, or their features, `(n, num_features)`.
        prepare: what is done to pictures; None when nobody knows.
    """
    head = editable_head(module)
    if not isinstance(new, Mapping) or not new:
        raise LongTailError('Classes are added by name: add_classes({"axolotl": [pictures]}).')
    for name in new:
        if not isinstance(name, str) or not name.strip():
            raise LongTailError(f"The name of a class is a text, got {name!r}.")
        if name in names:
            raise LongTailError(
                f"There is a class {name!r} already: give the new one another name, or remove the old one first."
            )
    features = [features_of(module, name, given, prepare) for name, given in new.items()]
    head.add_classes(features)
    counts = [*module.class_counts.tolist(), *map(len, features)]
    module.set_classes(counts, [*names, *new])


def remove_classes(module: DescribedModule, names: Sequence[str], removed: Sequence[str]) -> None:
    """Take classes out of a module; after an error it is as it was.

    Args:
        module: whose head is editable.
        names: of its classes.
        removed: of those to take out.
    """
    head = editable_head(module)
    removed = [removed] if isinstance(removed, str) else list(removed)
    if not removed:
        raise LongTailError('No class is named: remove_classes(["axolotl"]).')
    for name in removed:
        if name not in names:
            raise LongTailError(f"There is no class {name!r}. {did_you_mean(str(name), names)}")
    kept = [place for place, name in enumerate(names) if name not in removed]
    head.remove_classes([place for place, name in enumerate(names) if name in removed])
    counts = module.class_counts.tolist()
    module.set_classes([counts[place] for place in kept], [names[place] for place in kept])


def features_of(module: DescribedModule, name: str, given: Any, prepare: Preparation | None) -> Tensor:
    """Features of the pictures of one class.

    Args:
        module: whose backbone makes them.
        name: of the class, for messages.
        given: pictures in any form, or a floating `(n, num_features)`, which is returned.
        prepare: what is done to pictures; None when nobody knows.
    """
    if isinstance(given, (Tensor, np.ndarray)) and given.ndim == 2:
        features = torch.as_tensor(given)
        if not features.is_floating_point():
            raise LongTailError(f"The features of {name!r} are {features.dtype}: give floating numbers, or pictures.")
        return features.to(torch.float32)
    if isinstance(given, Mapping):
        raise LongTailError(f"{name!r} has a {type(given).__name__}: give a list of pictures, a folder, or features.")
    pictures = find_pictures(given)
    if not pictures:
        raise LongTailError(f"There is no picture of {name!r}: a new class needs at least one.")
    return encode_pictures(module, pictures, prepare, of=name)


def encode_pictures(
    module: DescribedModule,
    pictures: Sequence[Any],
    prepare: Preparation | None,
    *,
    encoder: Any = None,
    of: str = "",
    progress: bool = False,
) -> Tensor:
    """Features of pictures, all of which must be readable.

    Args:
        module: that they are prepared for.
        pictures: as `find_pictures` lists them.
        prepare: what is done to them; None when nobody knows.
        encoder: what makes the features; the module's backbone by default.
        of: the class that they are of, for messages.
        progress: show a progress bar.
    """
    encoder = module.backbone if encoder is None else encoder
    read, made = read_pictures(pictures, require_preparation(prepare)), []
    with progress_bar("Encoding", len(pictures), shown=progress) as tell:
        while batch := list(islice(read, _BATCH)):
            if broken := [picture.error for picture in batch if picture.image is None]:
                where = f" ({of!r})" if of else ""
                raise LongTailError(f"{broken[0]}{where}: leave the file out, or give it again.")
            images = torch.stack([picture.image for picture in batch if picture.image is not None])
            made.append(_encode(encoder, images.to(module.device)))
            tell(sum(map(len, made)), len(pictures))
    return torch.cat(made)


def require_preparation(prepare: Preparation | None) -> Preparation:
    """Refuse pictures for a model of which nobody knows how its images were prepared."""
    if prepare is None:
        raise LongTailError(
            "The checkpoint does not say how its images were prepared, as it was trained on loaders or transforms of "
            "your own: say it with load(path, transforms=ResizedCropTransforms(...)), or give features."
        )
    return prepare


@torch.no_grad()
def _encode(encoder: Any, images: Tensor) -> Tensor:
    if images.ndim == 5:  # several crops of each picture, whose features are averaged
        return _encode(encoder, images.flatten(0, 1)).view(*images.shape[:2], -1).mean(1)
    features: Tensor = encoder(images)
    return features.float() if features.dtype != torch.float64 else features


def transferring_head(module: DescribedModule, k: int | None) -> KnowledgeTransferHead:
    """The head of a module that transfers knowledge from classes above `k`; of several the one with the smallest."""
    head = editable_head(module)
    members: list[Any] = list(head.heads) if isinstance(head, EnsembleHead) else [head]
    transferring = [each for each in members if isinstance(each, KnowledgeTransferHead) and each.borrows]
    found = {each.k: each for each in transferring}
    if not found:
        raise LongTailError(f"The model's {type(head).__name__} transfers no knowledge: there is nothing to explain.")
    if k is not None and k not in found:
        raise LongTailError(f"The model has no head with k={k}: it has {', '.join(map(str, sorted(found)))}.")
    return found[min(found) if k is None else k]
