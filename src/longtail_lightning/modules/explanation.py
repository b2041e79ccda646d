"""Which items of a memory spoke for which class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from longtail_lightning._errors import LongTailError
from longtail_lightning._progress import progress_bar
from longtail_lightning.datasets.pictures import Preparation, find_pictures, read_pictures
from longtail_lightning.modules._described_module import DescribedModule
from longtail_lightning.modules._edit_classes import require_preparation

_BATCH = 16  # pictures; for each, the texts are read once without each different one


@dataclass(frozen=True)
class Evidence:
    """One item that a picture has found.

    Args:
        id: what the item is called in its source.
        source: of the memory.
        text: of the item.
        score: how near it is: the cosine, or minus the squared distance.
        speaks_for: the class whose logit of the retrieval branch falls most without the item's text.
        amount: by how much it falls, divided by the number of items that have the text.
        for_predicted: the same for the logit of the predicted class; below 0, the item speaks against it.

    Examples:
        >>> Evidence("a.jpg", "train", "owl", 0.91, "owl", 0.4, 0.4).text
        'owl'
    """

    id: Any
    source: str
    text: str
    score: float
    speaks_for: str
    amount: float
    for_predicted: float


@dataclass(frozen=True)
class Explanation:
    """What a model with a memory says of a picture, and why.

    Args:
        file: of the picture; None for one from memory.
        name: the predicted class; None when the picture could not be read.
        probability: of that class.
        base: what the base branch says alone; None for a model without one.
        retrieval: what the retrieval branch says alone.
        items: what was found, nearest first.
        error: why there is no prediction.

    Examples:
        >>> Explanation("a.jpg", "owl", 0.8, "hen", "owl", []).as_dict()["base"]
        'hen'
    """

    file: str | None
    name: str | None
    probability: float | None
    base: str | None
    retrieval: str | None
    items: Sequence[Evidence]
    error: str | None = None

    @property
    def frequent(self) -> list[tuple[str, int]]:
        """The texts that were found, with how often, most frequent first."""
        return Counter(item.text for item in self.items).most_common()

    def as_dict(self) -> dict[str, Any]:
        """In plain values."""
        return asdict(self)


def explain_pictures(
    module: DescribedModule, names: Sequence[str], inputs: Any, prepare: Preparation | None, *, progress: bool
) -> Iterator[Explanation]:
    """Explain what a model with a memory says of pictures.

    A text speaks for a class by as much as the class's logit of the retrieval branch falls without it; items of the
    same text share this.

    Args:
        module: a `RetrievalAugmented`.
        names: of its classes.
        inputs: pictures in any form.
        prepare: what is done to them.
        progress: show a progress bar.
    """
    if not hasattr(module, "retrieval_logits") or getattr(module, "branches", "") == "base":
        raise LongTailError(f"{type(module).__name__} looks nothing up in a memory: there are no items to tell.")
    pictures = find_pictures(inputs)
    read = read_pictures(pictures, require_preparation(prepare))
    with progress_bar("Explaining", len(pictures), shown=progress) as tell:
        done = 0
        while batch := list(islice(read, _BATCH)):
            good = [picture.image for picture in batch if picture.image is not None]
            found = _explained(module, names, torch.stack(good).to(module.device)) if good else iter(())
            for picture in batch:
                if picture.image is None:
                    yield Explanation(picture.file, None, None, None, None, [], picture.error)
                else:
                    yield Explanation(picture.file, *next(found))
            tell(done := done + len(batch), len(pictures))


@torch.inference_mode()
def _explained(module: Any, names: Sequence[str], images: Tensor) -> Iterator[tuple[Any, ...]]:
    """Name, probability, the branches' own answers, and items, of each picture."""
    if images.ndim == 5:
        images = images[:, 0]  # items are those of one view: the center
    found = module.branch_logits(images)
    queries = module.encoder(images).float().cpu()
    neighbors = module.memory.search(queries, module.lookup.k)
    retrieved = module.retrieval_logits(neighbors.text_numbers)
    drops = _drops(module, neighbors.text_numbers, retrieved)
    probability, predicted = found["logits"].float().softmax(1).max(1)
    base = found["base"].argmax(1).tolist() if "base" in found else [None] * len(images)
    amount, speaks_for = drops.max(2)
    rows = (neighbors.ids, neighbors.sources, neighbors.texts, neighbors.scores.tolist())
    for place, (name, said) in enumerate(zip(predicted.tolist(), retrieved.argmax(1).tolist())):
        told = zip(*(column[place] for column in rows), speaks_for[place].tolist(), amount[place].tolist())
        items = [
            Evidence(item, source, text, round(score, 6), names[c], round(by, 6), round(own, 6))
            for (item, source, text, score, c, by), own in zip(told, drops[place, :, name].tolist())
        ]
        said_by_base: int | None = base[place]
        alone = None if said_by_base is None else names[said_by_base]
        yield names[name], float(probability[place]), alone, names[said], items


def _drops(module: Any, text_numbers: Tensor, whole: Tensor) -> Tensor:
    """`(pictures, k, classes)`: each item's share of what its text adds to each logit.

    Without one of several items of the same text almost nothing changes: so the text is left out as a whole, and its
    items share the difference.
    """
    rows: dict[int, list[tuple[int, Tensor, Tensor]]] = {}  # texts that remain -> where they are of
    for place, numbers in enumerate(text_numbers):
        for text in numbers.unique():
            same = numbers == text
            rows.setdefault(int((~same).sum()), []).append((place, same, numbers[~same]))
    drops = torch.zeros(*text_numbers.shape, whole.shape[1])
    for alike in rows.values():
        without = module.retrieval_logits(torch.stack([remaining for _, _, remaining in alike]))
        for (place, same, _), logits in zip(alike, without):
            drops[place, same] = ((whole[place] - logits) / same.sum()).float().cpu()
    return drops
