"""Bring the numbers of README and guides up to date with benchmarks/results.

python tools/fill_readme.py
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
BEGIN, END = "<!-- numbers: python tools/fill_readme.py -->", "<!-- end of numbers -->"


def main() -> None:
    """Fill in each file."""
    fill("README.md", ["| what | measured | file |", "|---|---|---|", *rows()])
    tables = {"cifar100_30_epochs": "CIFAR-100-LT", "cifar100": "CIFAR-100-LT", "cifar10": "CIFAR-10-LT"}
    fill("docs/guides/decoupled.md", [line for data, title in tables.items() for line in decoupled(data, title)])


def fill(file: str, lines: list[str]) -> None:
    """Replace what is between the two marks."""
    path = ROOT / file
    text = path.read_text(encoding="utf-8")
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    content = "\n".join([BEGIN, *lines, END])
    path.write_text(re.sub(pattern, lambda _: content, text, flags=re.DOTALL), encoding="utf-8")


def rows() -> list[str]:
    """One row per claim."""
    synthetic, throughput, imports = results("synthetic"), results("throughput"), results("imports")
    losses = {row["loss"]: row["ratio"] for row in results("losses_cpu")["losses"]}
    epoch = results("samplers_cpu")["epoch"]
    heads = results("decoupled_cifar100_30_epochs")["summary"]["instance"]
    few = {name: values["few"]["mean"] for name, values in synthetic["summary"].items()}
    return [
        row(
            "few-shot accuracy of the quickstart, cross-entropy and logit adjustment, mean of 3 seeds",
            f"{few['CrossEntropyLoss']} % and {few['LogitAdjustedLoss']} %",
            "synthetic",
        ),
        row(
            "CIFAR-100-LT, 30 epochs, mean of 3 seeds, joint training and cRT on its features: few-shot classes",
            f"{heads['joint']['few']['mean']} % and {heads['crt']['few']['mean']} %",
            "decoupled_cifar100_30_epochs",
        ),
        row(
            "the same, all classes",
            f"{heads['joint']['all']['mean']} % and {heads['crt']['all']['mean']} %",
            "decoupled_cifar100_30_epochs",
        ),
        "| the same with the recipe, `cifar_resnet32` and 200 epochs | not yet measured | |",
        row(
            "time of cRT through images, as public code does it, over cRT on features (without the one pass), "
            "CIFAR-100-LT, CPU",
            f"{results('decoupled_cifar100')['speed']['crt through images, BatchNorm in eval, over crt on the bank']}",
            "decoupled_cifar100",
        ),
        row("images per second of `BaseClassifier` over a plain PyTorch loop", f"{throughput['ratio']}", "throughput"),
        row("`import longtail_lightning`", f"{imports['import longtail_lightning']['ms']} ms", "imports"),
        row("`ltl list`", f"{imports['ltl list']['ms']} ms", "imports"),
        row(
            "time of `LogitAdjustedLoss` over `F.cross_entropy`, 512 x 8142, CPU",
            f"{losses['LogitAdjustedLoss']}",
            "losses_cpu",
        ),
        row(
            "time of `PowerSampler` over torch's `RandomSampler`, an epoch of iNaturalist 2018",
            f"{epoch['PowerSampler']['of_random_sampler']}",
            "samplers_cpu",
        ),
        row(
            "images per second from 500x375 JPEGs over torchvision's `ImageFolder` with Pillow, 2 workers, CPU",
            f"{results('decode_cpu')['ratio']}",
            "decode_cpu",
        ),
        row(
            "the same of CIFAR images with `device_resident=True` over a `DataLoader` with Pillow, CPU",
            f"{results('device_resident_cpu')['times_a']['d: ArrayLT, device_resident']}",
            "device_resident_cpu",
        ),
        row(
            "time of one feature pass with cRT, LWS, tau and NCM over that of the pass alone, CIFAR-10-LT size, CPU",
            f"{results('feature_bank_cpu')['second_stage']['pass_and_methods_over_pass']}",
            "feature_bank_cpu",
        ),
        "| the same on a GPU | not yet measured | |",
    ]


HEADS = {
    "joint": "Joint",
    "crt": "cRT",
    "crt, cosine classifier": "cRT, cosine classifier",
    "crt, MLP of 2 layers": "cRT, 2 layers",
    "crt, MLP of 3 layers": "cRT, 3 layers",
    "lws": "LWS",
    "tau, chosen on val": "tau, chosen on validation images",
    "tau, chosen on train": "tau, chosen on training images",
    "tau, learned": "tau, learned",
    "ncm": "NCM",
    "crt through images, BatchNorm in eval": "cRT through images, batch norm in eval mode",
    "crt through images, BatchNorm in train": "the same, batch norm in train mode",
}
SAMPLERS = {
    "instance": "instance-balanced",
    "class": "class-balanced",
    "sqrt": "square-root",
    "progressive": "progressively balanced",
}


def decoupled(data: str, title: str) -> list[str]:
    """Accuracy of the second stages, and of the first with each sampler."""
    found = results(f"decoupled_{data}")
    summary, settings = found["summary"], found["settings"]
    heads = summary["instance"]
    splits = [split for split in ("many", "medium", "few", "all") if heads["joint"][split]]
    lines = [
        f"{title}, imbalance factor {settings['factor']:g}, `{settings['backbone']}`, {settings['epochs']} epochs (the "
        "recipe has 200). Every fifth test image served for validation,",
        "accuracy in percent is that of the others: mean and standard deviation of "
        f"{runs_of(found, 'instance')} seeds (`benchmarks/results/decoupled_{data}.json`).",
        "",
        f"| | {' | '.join(splits)} |",
        f"|---|{'---|' * len(splits)}",
    ]
    for head, name in HEADS.items():
        if head in heads:
            lines.append(f"| {name} | {' | '.join(mean_and_std(heads[head][split]) for split in splits)} |")
    shown = [head for head in ("joint", "crt", "lws", "tau, chosen on val", "ncm") if head in heads]
    if len(summary) > 1:
        names = ["Joint", "cRT", "LWS", "tau", "NCM"]
        lines += ["", "All classes, by the sampler of the first stage:", ""]
        lines += [f"| | seeds | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for sampler, name in SAMPLERS.items():
        if len(summary) > 1 and sampler in summary:
            values = " | ".join(mean_and_std(summary[sampler][head]["all"]) for head in shown)
            lines.append(f"| {name} | {runs_of(found, sampler)} | {values} |")
    return [*lines, ""]


def runs_of(found: dict[str, Any], sampler: str) -> int:
    """How many seeds there are."""
    return sum(run["sampler"] == sampler for run in found["runs"])


def mean_and_std(value: dict[str, float]) -> str:
    """The cell of a table."""
    return f"{value['mean']:.1f} ± {value['std']:.1f}"


def row(what: str, value: str, name: str) -> str:
    """A line of the table."""
    return f"| {what} | {value} | [{name}.json](benchmarks/results/{name}.json) |"


def results(name: str) -> dict[str, Any]:
    """What a benchmark has written."""
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content["results"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
