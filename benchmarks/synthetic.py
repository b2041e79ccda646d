"""Cross-entropy against logit adjustment with the quickstart recipe: mean of 3 seeds on the test split.

python benchmarks/synthetic.py
"""

from __future__ import annotations

import logging
import statistics
import time
from typing import Any

import lightning as L
import torch
import yaml
from _record import record

from longtail_lightning import BaseClassifier, CIFARResNet, CrossEntropyLoss, LogitAdjustedLoss, LongTailLoss, SyntheticLongTail
from longtail_lightning.cli.recipes import find_config

SEEDS = [0, 1, 2]


def main() -> None:
    """Train both losses with each seed, as `ltl fit --config quickstart` does."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    recipe = yaml.safe_load(find_config("quickstart").read_text())
    runs = []
    for seed in SEEDS:
        for loss in (CrossEntropyLoss(), LogitAdjustedLoss(**recipe["model"]["init_args"]["loss"]["init_args"])):
            runs.append(train(recipe, loss, seed))
            print(runs[-1], flush=True)
    summary = {}
    for name in ("CrossEntropyLoss", "LogitAdjustedLoss"):
        mine = [run for run in runs if run["loss"] == name]
        summary[name] = {key: summarize([run[key] for run in mine]) for key in ("many", "medium", "few", "all")}
    gap = summary["LogitAdjustedLoss"]["few"]["mean"] - summary["CrossEntropyLoss"]["few"]["mean"]
    record("synthetic", {"summary": summary, "few_shot_gap": round(gap, 2), "runs": runs}, seed=SEEDS)


def train(recipe: dict[str, Any], loss: LongTailLoss, seed: int) -> dict[str, Any]:
    """One run; accuracies in percent of the last epoch on the test split."""
    L.seed_everything(seed, verbose=False)
    init = recipe["model"]["init_args"]
    data = SyntheticLongTail(seed=seed, **recipe["data"]["init_args"])
    model = BaseClassifier(
        data.class_counts,
        backbone=CIFARResNet(**init["backbone"]["init_args"]),
        loss=loss,
        optimizer=lambda params: torch.optim.SGD(params, **init["optimizer"]["init_args"]),
    )
    trainer = L.Trainer(
        **recipe["trainer"], logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
    )
    start = time.perf_counter()
    trainer.fit(model, data)
    seconds = time.perf_counter() - start
    (values,) = trainer.test(model, data, verbose=False)
    accuracies = {name: round(100 * values[f"test/acc{suffix}"], 2) for name, suffix in
                  (("many", "_many"), ("medium", "_medium"), ("few", "_few"), ("all", ""))}  # fmt: skip
    return {"loss": type(loss).__name__, "seed": seed, **accuracies, "seconds": round(seconds, 1)}


def summarize(values: list[float]) -> dict[str, float]:
    """Mean and standard deviation."""
    return {"mean": round(statistics.mean(values), 2), "std": round(statistics.stdev(values), 2)}


if __name__ == "__main__":
    main()
