"""What is measured of knowledge transfer: the tables and figures of the paper, the controls, and what lies beyond."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from longtail_lightning import ClassCounts, CosineHead, FeatureBank, PrototypeTransfer
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.heads import EnsembleHead, KnowledgeTransferHead, PrototypeHead
from longtail_lightning.methods import FeCAM, KnowledgeTransfer, Prototypes
from longtail_lightning.report.attention import mismatches, share_of_kin, sharpness
from longtail_lightning.report.rejection import find_threshold

ATTENTIONS = ("p->w", "w->p", "w->w", "p->p")
SHOTS = (1, 3, 5, None)
KS = (0, 5, 10, 20, 50, 100, 200)
TAUS = (0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0, 30.0)


def accuracies(head: Any, bank: FeatureBank, counts: ClassCounts) -> dict[str, float | None]:
    """Percent per split (the paper's bounds), and among the classes of each split alone."""
    splits = counts.shots(convention="oltr")
    found = class_accuracy(head, bank)
    within = class_accuracy(head, bank, groups=splits.numbers())
    groups = {name: found[index] for name, index in splits} | {"all": found}
    groups |= {f"{name} among themselves": within[index] for name, index in splits}
    return {name: round(100 * float(values.nanmean()), 2) if len(values) else None for name, values in groups.items()}


def table_one(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts, test: str = "test") -> dict[str, Any]:
    """All rows of table 1 with the controls; tau 10 as in the paper, and the ensemble's tau chosen on validation."""
    rows = {"cosine classifier": accuracies(head, banks[test], counts)}
    methods = PrototypeTransfer(counts, backbone="cifar_resnet20").methods()
    for method in methods:
        rows[method.label] = accuracies(method(head, banks["train"]).head, banks[test], counts)
    chosen = KnowledgeTransfer(tau="val", taus=TAUS)(head, banks["train"], banks["val"])
    rows["knowledge transfer, tau on val"] = accuracies(chosen.head, banks[test], counts)
    return {"rows": rows, "tau chosen on val": chosen.details["tau"]}


def sweeps(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Table 6, and w_h over k and tau, on validation images."""
    train, val = banks["train"], banks["val"]
    ks = [k for k in KS if k < int(counts.tensor.max())]
    return {
        "attention (table 6), test": {
            attention: accuracies(KnowledgeTransfer(attention=attention)(head, train).head, banks["test"], counts)
            for attention in ATTENTIONS
        },
        "k": {str(k): accuracies(KnowledgeTransfer(k=k)(head, train).head, val, counts) for k in ks},
        "tau": {f"{tau:g}": accuracies(KnowledgeTransfer(tau=tau)(head, train).head, val, counts) for tau in TAUS},
    }


def separability(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Figures 4, 5 and 7 and table 5: prototypes of one split scored on others; tables 4 and 8: the classifier."""
    found: dict[str, Any] = {"classifier": accuracies(head, banks["test"], counts)}
    for source in ("train", "val"):
        prototypes = PrototypeHead(banks[source].num_features, banks[source].num_classes).fit(banks[source])
        for target in ("train", "val", "test"):
            found[f"{source} prototypes on {target}"] = accuracies(prototypes, banks[target], counts)
    known = KnowledgeTransferHead(banks["train"].num_features, len(counts)).classes.fit(banks["train"], None, head)
    found["prototypes that are closer to another class's weight"] = mismatches(known)
    found["sorted cosines (figure 8)"] = [round(float(value), 4) for value in sharpness(known)]
    return found


def kinship(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts, coarse: torch.Tensor) -> dict[str, float]:
    """Share of the attention that stays in the superclass, the class itself left out, for few-shot classes and all."""
    made = KnowledgeTransferHead(banks["train"].num_features, len(counts), k=20).fit(banks["train"], counts, head)
    inside = share_of_kin(made, coarse.tolist())
    shares = {"few": inside[counts.shots(convention="oltr").few], "all": inside}
    chance = float(np.mean([((coarse == coarse[c]).sum() - 1).item() / (len(counts) - 1) for c in range(len(counts))]))
    means = {name: round(float(values.mean()), 4) for name, values in shares.items() if len(values)}
    return {**means, "chance": round(chance, 4)}


def beyond(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """What the paper leaves to future work, beside its own: several prototypes, shrunk ones, covariances."""
    methods: dict[str, Any] = {"prototypes": Prototypes(), "w_h(20)": KnowledgeTransfer(k=20)}
    methods |= {f"{n} prototypes per class": Prototypes(prototypes_per_class=n) for n in (2, 3, 5)}
    methods["w_h(20), 3 prototypes per class"] = KnowledgeTransfer(k=20, prototypes_per_class=3)
    moved: dict[str, Any] = {"shrinkage": "val", "k": 20}
    methods["prototypes, shrunk"] = KnowledgeTransfer(parts=("prototype",), **moved)
    methods["prototypes, shrunk to prototypes (TEEN)"] = KnowledgeTransfer(
        parts=("prototype",), attention="p->p", **moved
    )
    methods["w_h(20), shrunk"] = KnowledgeTransfer(**moved)
    methods["w_hc(20)"] = KnowledgeTransfer(k=20, parts=("transfer", "prototype"))
    methods["w_hc(20), shrunk"] = KnowledgeTransfer(parts=("transfer", "prototype"), **moved)
    if banks["train"].num_features <= 256:  # a matrix for each class
        methods["FeCAM, as published"] = FeCAM(pooled=0.0)
        methods["FeCAM, pooled 10"] = FeCAM()
        methods["FeCAM, one covariance"] = FeCAM(pooled=1e9)
    found = {}
    for name, method in methods.items():
        made = method(head, banks["train"], banks["val"])
        found[name] = accuracies(made.head, banks["test"], counts)
        if "shrinkage" in made.details:
            found[name]["m chosen on val"] = made.details["shrinkage"]
    return found


@torch.no_grad()
def rejection(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Classes that the model never saw against those that it was trained on: the line is drawn on validation images."""
    unseen = counts.tensor <= 20
    train = banks["train"].subset(~unseen[banks["train"].require_labels("this benchmark")])
    weight = head.weight.detach().clone()
    weight[unseen] = 0
    options: dict[str, Any] = {"scale": float(head.scale.detach())}
    size = (train.num_features, len(counts))
    heads: dict[str, Any] = {
        "cosine classifier": KnowledgeTransferHead(*size, parts=("classifier",), **options),
        "prototypes": PrototypeHead(*size, **options),
        "w_h(20)": KnowledgeTransferHead(*size, **options),
        "w_hc(20)": KnowledgeTransferHead(*size, parts=("transfer", "prototype"), **options),
    }
    for made in heads.values():
        made.fit(train, None, weight)
    heads["ensemble w_h"] = EnsembleHead(
        [KnowledgeTransferHead(*size, k=k, **options).fit(train, None, weight) for k in (0, 20, 100)]
    )
    found: dict[str, Any] = {}
    for name, made in heads.items():
        for score in ("logit", "probability"):
            known, others = ({}, {})
            for split in ("val", "test"):
                logits = made(banks[split].features.float())[:, ~unseen]
                values = (logits if score == "logit" else logits.softmax(1)).amax(1).double()
                new = unseen[banks[split].require_labels("this benchmark")]
                known[split], others[split] = values[~new], values[new]
            line = find_threshold(known["val"]).threshold
            found[f"{name}, {score}"] = {
                "AUROC": round(100 * float(find_threshold(known["test"], others["test"]).auroc or 0), 2),
                "known ones kept": round(100 * float((known["test"] >= line).double().mean()), 2),
                "others rejected": round(100 * float((others["test"] < line).double().mean()), 2),
            }
    return found


def continual(banks: dict[str, FeatureBank], head: Any, counts: ClassCounts) -> dict[str, Any]:
    """Table 2: classes that the model never saw, added from 1, 3, 5 or all of their pictures."""
    train, few = banks["train"], counts.tensor <= 20
    labels = train.require_labels("this benchmark")
    weight = head.weight.detach().clone()
    weight[few] = 0
    scale = float(head.scale.detach())
    answers: dict[str, Any] = {"cosine classifier": _masked(head, few, banks["test"], counts)}
    for shots in SHOTS:
        place = torch.zeros(len(labels), dtype=torch.int64)
        for c in range(len(counts)):
            place[labels == c] = torch.arange(int((labels == c).sum()))
        kept = train.subset(~few[labels] | (place < (10**9 if shots is None else shots)))
        options = {"parts": ("transfer", "prototype"), "scale": scale}
        size = (train.num_features, len(counts))
        heads = [PrototypeHead(*size, scale=scale), *(KnowledgeTransferHead(*size, k=k, **options) for k in (20, 100))]
        ensemble = EnsembleHead(heads, shared=True)
        heads[0].classes.fit(kept, None, weight)
        ensemble.refit()
        named = {"prototypes": heads[0], "w_hc(20)": heads[1], "w_hc(100)": heads[2], "ensemble": ensemble}
        pictures = "all pictures" if shots is None else f"{shots} pictures"
        for name, made in named.items():
            answers[f"{name}, {pictures}"] = accuracies(made, banks["test"], counts)
        if shots is None:  # the mistake that the library does not make: learned weights beside prototypes
            imprinted = CosineHead(*size)
            with torch.no_grad():
                imprinted.weight.copy_(F.normalize(weight, dim=1) + few[:, None] * heads[0].classes.prototypes)
            answers["old weights beside new prototypes"] = accuracies(imprinted, banks["test"], counts)
    return answers


def _masked(head: Any, few: torch.Tensor, bank: FeatureBank, counts: ClassCounts) -> dict[str, float | None]:
    """The classifier among the classes that it was trained on."""
    known = CosineHead(bank.num_features, len(counts))
    with torch.no_grad():
        known.weight.copy_(head.weight)
        known.weight[few] = -F.normalize(head.weight[~few], dim=1).sum(0)
    return accuracies(known, bank, counts)
