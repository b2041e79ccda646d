"""`ltl knn`: classify by nearest neighbors, without any training."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path

from longtail_lightning._errors import LongTailError


def knn(asked: Namespace) -> int:
    """Print accuracy per split, and how long the index took."""
    import numpy as np
    import torch

    from longtail_lightning.features import FeatureBank
    from longtail_lightning.features._fingerprint import require_equal
    from longtail_lightning.report import Comparison
    from longtail_lightning.retrieval import FaissIndex
    from longtail_lightning.retrieval.vote import vote

    train, test = FeatureBank.load(asked.train), FeatureBank.load(asked.test)
    labels, target = (bank.require_single_labels("`ltl knn`") for bank in (train, test))
    if test.num_features != train.num_features or test.num_classes > train.num_classes:
        raise LongTailError(
            f"The banks do not fit: {asked.train} has {train.num_features} features and {train.num_classes} classes, "
            f"{asked.test} {test.num_features} and {test.num_classes}."
        )
    if None not in (train.given_names, test.given_names) and train.class_names[: test.num_classes] != test.class_names:
        raise LongTailError("The banks have other classes, or in another order: extract both from one data module.")
    if (encoder := train.fingerprint.get("encoder")) and test.fingerprint.get("encoder"):
        require_equal(
            {"encoder": encoder}, test.fingerprint, f"The bank {asked.test}", "extract it with that of the other"
        )
    if asked.k > len(train):
        raise LongTailError(f"--k {asked.k}: {asked.train} holds {len(train)} items.")
    start = time.perf_counter()
    index = FaissIndex(asked.index, metric=asked.metric).add(train.features, np.arange(len(train)))
    seconds = time.perf_counter() - start
    logits = []
    for features, _ in test.batches(1024):
        found = index.search(features, asked.k)
        logits.append(vote(labels[torch.from_numpy(found.ids)], torch.from_numpy(found.scores), train.num_classes))
    plain = torch.cat(logits)
    rows = {f"kNN-{asked.k}": plain, "adjusted": plain - asked.tau * train.class_counts.log_prior().double()}
    support = torch.bincount(target, minlength=train.num_classes)
    per_class = {}
    for name, values in rows.items():
        right = torch.bincount(target[values.argmax(1) == target], minlength=train.num_classes)
        per_class[name] = torch.where(support > 0, right.double() / support, torch.nan)
    counts = train.class_counts
    comparison = Comparison("Accuracy of nearest neighbors", per_class, counts, counts.shots(), train.class_names)
    comparison.print()
    print(f"index       {asked.index} of {len(train)} items, {seconds:.2f} s")
    if asked.out is not None:
        told = {"k": asked.k, "index": asked.index, "metric": asked.metric, "seconds": round(seconds, 3)}
        comparison.save(Path(asked.out), {"knn": "knn.json"}, **told)
        print(f"report      {Path(asked.out) / 'knn.json'}")
    return 0
