"""Train classifiers with a memory on features, and measure them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import lightning as L
import torch

from longtail_lightning import (
    ClassCounts,
    FeatureBank,
    FeatureDataModule,
    GatedSum,
    IdentityBackbone,
    LinearHead,
    MLPHead,
    NormalizedSum,
    PerClassAccuracy,
    PlainSum,
    RetrievalAugmented,
    RetrievalMemory,
)
from longtail_lightning.counts import split_means

HEADS = {"linear": LinearHead, "mlp": partial(MLPHead, hidden=512)}
Banks = Mapping[str, FeatureBank]
# What was looked up already: the features are the same in all runs.
_LOOKED_UP: dict[Any, torch.Tensor] = {}


def fusion_of(name: str | float, num_classes: int) -> Any:
    """A fusion by its name, or by the scale of a normalized sum."""
    if name == "plain":
        return PlainSum()
    return GatedSum(num_classes) if name == "gate" else NormalizedSum(name)


def train(
    banks: Banks,
    memory: RetrievalMemory,
    *,
    branches: str = "both",
    head: str = "linear",
    fusion: str | float = 8.0,
    lr: float = 1e-3,
    epochs: int = 20,
    seed: int = 0,
    **options: Any,
) -> RetrievalAugmented:
    """A model on features; with AdamW and the weight decay of the paper."""
    L.seed_everything(seed, verbose=False)
    data = FeatureDataModule({split: banks[split] for split in ("train", "val")}, batch_size=128, seed=seed)
    width = banks["train"].num_features
    model = RetrievalAugmented(
        data.class_counts,
        memory=memory,
        encoder=IdentityBackbone(width),
        backbone=IdentityBackbone(width),
        head=HEADS[head],
        fusion=fusion_of(fusion, len(data.class_counts)),
        branches=branches,  # type: ignore[arg-type]
        **{"neighbors": "exact" if branches == "base" else "cached", **options},
        optimizer=partial(torch.optim.AdamW, lr=lr, weight_decay=0.02),
    )
    _remember_once(model, memory)
    quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    L.Trainer(max_epochs=epochs, limit_val_batches=0, **quiet).fit(model, data)
    return model.eval()


def _remember_once(model: RetrievalAugmented, memory: RetrievalMemory) -> None:
    """Look the training items up in the first run alone."""
    lookup, remember = model.lookup, model.lookup.remember

    def remembered(split: str, bank: FeatureBank, *, progress: bool) -> None:
        key = (id(memory), lookup.k, lookup.exclude, split)
        if key not in _LOOKED_UP:
            remember(split, bank, progress=progress)
            _LOOKED_UP[key] = lookup._found[split]
        lookup._found[split] = _LOOKED_UP[key]

    lookup.remember = remembered  # type: ignore[method-assign]


def numbers_of(model: RetrievalAugmented, bank: FeatureBank, state: str) -> torch.Tensor:
    """The texts that the items of a bank find in the model's memory, in a state that is looked up once."""
    key = (id(model.memory), state, model.lookup.k, len(bank), int(bank.require_labels("this benchmark").sum()))
    if key not in _LOOKED_UP:
        parts = [model.lookup.find(features) for features, _ in bank.batches(2048)]
        _LOOKED_UP[key] = torch.cat(parts)
    return _LOOKED_UP[key]


@torch.inference_mode()
def accuracies(model: RetrievalAugmented, bank: FeatureBank, state: str = "") -> dict[str, torch.Tensor]:
    """Accuracy of each class, of the model and of each of its branches."""
    features, found = bank.features.float(), {}
    if model.branches != "retrieval":
        found["base"] = model.head(model.backbone(features))
    if model.branches != "base":
        found["retrieval"] = model.retrieval_logits(numbers_of(model, bank, state))
    logits = model.fusion(found["base"], found["retrieval"]) if len(found) == 2 else next(iter(found.values()))
    all_of = {"logits": logits, **(found if len(found) == 2 else {})}
    metrics = {name: PerClassAccuracy(bank.num_classes) for name in all_of}
    for name, metric in metrics.items():
        metric.update(all_of[name], bank.require_labels("this benchmark"))
    return {name: metric.compute() for name, metric in metrics.items()}


def measure(model: RetrievalAugmented, bank: FeatureBank, state: str = "") -> dict[str, dict[str, float | None]]:
    """Accuracy of the model, and of each of its branches, on each split of classes."""
    splits = model.class_counts.shots()
    return {name: rounded(split_means(values, splits)) for name, values in accuracies(model, bank, state).items()}


def per_class(model: RetrievalAugmented, bank: FeatureBank) -> dict[str, list[float]]:
    """Accuracy of each class, for a curve over the classes."""
    return {name: [round(value, 4) for value in found.tolist()] for name, found in accuracies(model, bank).items()}


def rounded(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """In percent, with two digits."""
    return {name: None if value is None else round(100 * value, 2) for name, value in values.items()}


def checksum(model: torch.nn.Module) -> str:
    """Of all weights."""
    digest = hashlib.sha256()
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


def edited(model: RetrievalAugmented, banks: Banks, counts: ClassCounts) -> dict[str, Any]:
    """What changes when items are added to the memory and taken out again; nothing is trained."""
    rest, test = banks["rest"], banks["test"]
    labels, splits = rest.require_labels("this benchmark"), counts.shots()
    wanted = {"all left-out images": torch.ones(len(rest), dtype=torch.bool)}
    for name, classes in splits:
        if len(classes) and bool((chosen := torch.isin(labels, classes)).any()):
            wanted[f"those of {name}-shot classes"] = chosen
    before, weights = measure(model, test), checksum(model)
    found: dict[str, Any] = {"before": before}
    for name, chosen in wanted.items():
        model.memory.add_source("rest", rest.subset(chosen))
        found[name] = {"items": int(chosen.sum()), **measure(model, test, name)}
        model.memory.remove_source("rest")
    found["after removal, as before"] = measure(model, test, "after removal") == before
    found["weights are equal bit for bit"] = checksum(model) == weights
    return found | {"forgotten classes": forgotten(model, banks, splits.few.tolist()[:5])}


def forgotten(model: RetrievalAugmented, banks: Banks, classes: Sequence[int]) -> dict[str, Any]:
    """Accuracy on some classes without their items in the memory."""
    if not classes:
        return {}
    names, memory = [banks["train"].class_names[c] for c in classes], model.memory
    test = banks["test"].subset(torch.isin(banks["test"].require_labels("this benchmark"), torch.tensor(classes)))
    keep = ~torch.isin(banks["train"].require_labels("this benchmark"), torch.tensor(classes))
    with_them = measure(model, test)
    removed = torch.arange(len(keep))[~keep].tolist()
    model.memory = RetrievalMemory.build(banks["train"]).remove(removed)
    without = measure(model, test, "forgotten")
    model.memory = memory
    told = {name: {"with": values["all"], "without": without[name]["all"]} for name, values in with_them.items()}
    return {"classes": names, **told}
