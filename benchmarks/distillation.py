"""Class-balanced distillation against class-balanced training, fine-tuning and cRT on CIFAR-10-LT and CIFAR-100-LT.

python benchmarks/distillation.py DATA.npz --name cifar100 --epochs 12 --seeds 0 1 2 --threads 1

DATA.npz holds x_train, y_train, x_test, y_test (uint8, N x 32 x 32 x 3). The first n_c training images of each class
make the long tail. Every fifth test image is for validation, on which nothing is chosen here: alpha, beta and the scale
are the paper's. Accuracies are those of the other test images. Trained networks are kept in benchmarks/cache/, so an
interrupted run continues. `--ablations` adds rows of the first seed, all of them or those that are named.
"""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
import torch
from _record import COMMIT, record
from decoupled import CACHE, STATISTICS, CifarLT, per_split, summarize

from longtail_lightning import (
    BaseClassifier,
    ClassBalancedSampler,
    CosineHead,
    Decoupled,
    Distillation,
    LogitDistillationLoss,
    PaddedCropTransforms,
    extract_features,
)
from longtail_lightning.features._evaluate import class_accuracy
from longtail_lightning.methods import CRT, NCM
from longtail_lightning.modules.distillation import fixed_cosine

Make = Callable[..., Any]


class Runs:
    """Trains networks, each once, and evaluates them.

    Args:
        args: of the command line.
        seed: of initialization and order.
    """

    def __init__(self, args: argparse.Namespace, seed: int) -> None:
        self.args, self.seed = args, seed
        self.seconds: dict[str, float] = {}

    def data(self, *, augmented: bool = False, balanced: bool = False, seed: int = 0) -> CifarLT:
        """The long tail; `augmented` adds color jitter and noise."""
        data = CifarLT(
            self.args.file, self.args.factor, seed=self.seed + seed, sampler=ClassBalancedSampler if balanced else None
        )
        if augmented:
            mean, std = STATISTICS[data.class_counts.num_classes]
            data.transforms = PaddedCropTransforms(color_jitter=0.4, noise=0.01, mean=mean, std=std)
        return data

    def train(self, name: str, make: Make, *, epochs: int | None = None, seed: int = 0, **data: bool) -> Any:
        """A trained module, from the cache when it is there.

        Args:
            name: of the network.
            make: from class counts to module.
            epochs: those of the command line by default.
            seed: added to that of the run.
            data: see `data`.
        """
        args, epochs = self.args, epochs or self.args.epochs
        path = CACHE / f"cbd-{args.name}-{args.backbone}-{epochs}ep-{name.replace(' ', '_')}-seed{self.seed}.ckpt"
        L.seed_everything(1000 * self.seed + seed, verbose=False)
        source = self.data(seed=1000 * seed, **data)
        model = make(source.class_counts)
        if path.exists():
            saved = torch.load(path, weights_only=True)
            model.load_state_dict(saved["state"])
            self.seconds[name] = saved["seconds"]
            return model.eval()
        quiet = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
        trainer = L.Trainer(max_epochs=epochs, limit_val_batches=0, precision="bf16-mixed", **quiet)
        start = time.perf_counter()
        trainer.fit(model, source)
        self.seconds[name] = round(time.perf_counter() - start, 1)
        told = {key: round(float(value), 4) for key, value in trainer.callback_metrics.items()}
        CACHE.mkdir(exist_ok=True)
        torch.save({"state": model.state_dict(), "seconds": self.seconds[name], "told": told}, path)
        print(f"{path.stem}: {self.seconds[name]:.0f} s, {told}", flush=True)
        return model.eval()

    def classifier(self, counts: Any) -> BaseClassifier:
        """The paper's network: a cosine classifier of scale 20."""
        return BaseClassifier(counts, backbone=self.args.backbone, head=fixed_cosine)

    def student(self, teachers: list[Any], **options: Any) -> Make:
        """From class counts to a student of these teachers."""
        return partial(
            Distillation, teachers=teachers, backbone=self.args.backbone, teacher_precision="bf16", **options
        )

    def evaluate(self, model: Any, *methods: Any) -> dict[str, Any]:
        """Test accuracy in percent of the model, and of other classifiers on its features."""
        data = self.data()
        banks = {
            split: extract_features(model.backbone, data, split=split, dtype=torch.float32, progress=False)
            for split in (("train", "test") if methods else ("test",))
        }
        heads = {"own": model.head} | {type(m).__name__.lower(): m(model.head, banks["train"]).head for m in methods}
        return {name: per_split(class_accuracy(head, banks["test"]), data.class_counts) for name, head in heads.items()}

    def teachers(self) -> dict[str, Any]:
        """Two 'standard' ones and two 'data augmentation' ones, as the paper calls them."""
        made = {}
        for number in range(self.args.teachers // 2):
            for kind in ("standard", "augmented"):
                name = f"{kind} {number + 1}"
                made[name] = self.train(name, self.classifier, seed=number, augmented=kind == "augmented")
        return made


def rows(runs: Runs) -> dict[str, Any]:
    """The rows of tables 2 and 3."""
    teachers = runs.teachers()
    first, augmented = teachers["standard 1"], teachers["augmented 1"]
    fine = partial(
        Decoupled,
        backbone=first.backbone,
        head=first.head,
        trainable="all",
        backbone_lr_factor=1.0,
        optimizer=partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=5e-4),
    )
    found = {
        "standard, instance": runs.evaluate(first, CRT(head=CosineHead), NCM()),
        "data augmentation, instance": runs.evaluate(augmented, CRT(head=CosineHead), NCM()),
        "standard, class-balanced": runs.evaluate(runs.train("balanced", runs.classifier, balanced=True), NCM()),
        "CBD": runs.evaluate(runs.train("cbd", runs.student([first]), balanced=True), NCM()),
        f"CBD_ENS of {len(teachers)}": runs.evaluate(
            runs.train("ens", runs.student([*teachers.values()]), balanced=True), NCM()
        ),
    }
    # It changes the network that it begins with, so it comes last.
    tuned = runs.train("tuned", fine, epochs=max(1, round(runs.args.epochs / 9)), balanced=True)
    return found | {"standard, fine-tuned": runs.evaluate(tuned, NCM())}


def ablations(runs: Runs) -> dict[str, Any]:
    """Rows of one seed: figures 3 and 5, the layer h, the teacher, and what is beyond the paper."""
    teachers = runs.teachers()
    first = teachers["standard 1"]
    logits = {"distill": "logits", "logit_loss": LogitDistillationLoss(temperature=5.0)}
    made = {
        **{f"alpha {value}": runs.student([first], alpha=value) for value in (0.2, 0.6, 0.8)},
        **{f"beta {value}": runs.student([first], beta=value) for value in (10.0, 1000.0)},
        "logits, T=5": runs.student([first], **logits),
        "both, T=5": runs.student([first], **{**logits, "distill": "both"}),
        "ensemble, ReLU": runs.student([*teachers.values()], projection="linear_relu"),
        "alpha by count .25": runs.student([first], alpha_by_count=0.25),
        "cached, 10 views": runs.student([first], teacher_features="cached", views=10),
        "teacher with data augmentation": runs.student([teachers["augmented 1"]]),
    }
    wanted = runs.args.ablations or list(made)
    return {name: runs.evaluate(runs.train(name, made[name], balanced=True)) for name in wanted}


def main() -> None:
    """Train what is missing, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--name", required=True, help="of the data set, for the result file")
    parser.add_argument("--backbone", default="cifar_resnet20")
    parser.add_argument("--factor", type=float, default=100.0)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--teachers", type=int, default=4, choices=(2, 4), help="half of them with data augmentation")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--ablations", nargs="*", metavar="ROW", help="all without a name")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    found = []
    for seed in args.seeds:
        runs = Runs(args, seed)
        found.append({"seed": seed, "accuracy": rows(runs), "seconds": runs.seconds})
        print(seed, {name: row["own"]["all"] for name, row in found[-1]["accuracy"].items()}, flush=True)
    summary = {
        name: {
            head: {
                split: summarize([run["accuracy"][name][head][split] for run in found])
                for split in ("many", "medium", "few", "all")
            }
            for head in row
        }
        for name, row in found[0]["accuracy"].items()
    }
    settings = {key: getattr(args, key) for key in ("backbone", "factor", "epochs", "teachers")}
    results: dict[str, Any] = {"settings": settings | {"precision": "bf16-mixed", "code": COMMIT}, "summary": summary}
    if args.ablations is not None:
        results["ablations, first seed"] = ablations(Runs(args, args.seeds[0]))
    record(f"distillation_{args.name}", results | {"runs": found}, seed=args.seeds)


if __name__ == "__main__":
    main()
