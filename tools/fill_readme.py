"""Bring the numbers of the README up to date with benchmarks/results.

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
    """Replace the table between the two marks."""
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    table = "\n".join(["| what | measured | file |", "|---|---|---|", *rows()])
    pattern = f"{re.escape(BEGIN)}.*{re.escape(END)}"
    readme.write_text(re.sub(pattern, lambda _: f"{BEGIN}\n{table}\n{END}", text, flags=re.DOTALL), encoding="utf-8")


def rows() -> list[str]:
    """One row per claim."""
    synthetic, throughput, imports = results("synthetic"), results("throughput"), results("imports")
    losses = {row["loss"]: row["ratio"] for row in results("losses_cpu")["losses"]}
    epoch = results("samplers_cpu")["epoch"]
    few = {name: values["few"]["mean"] for name, values in synthetic["summary"].items()}
    return [
        row(
            "few-shot accuracy of the quickstart, cross-entropy and logit adjustment, mean of 3 seeds",
            f"{few['CrossEntropyLoss']} % and {few['LogitAdjustedLoss']} %",
            "synthetic",
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


def row(what: str, value: str, name: str) -> str:
    """A line of the table."""
    return f"| {what} | {value} | [{name}.json](benchmarks/results/{name}.json) |"


def results(name: str) -> dict[str, Any]:
    """What a benchmark has written."""
    content: dict[str, Any] = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return content["results"]  # type: ignore[no-any-return]


if __name__ == "__main__":
    main()
