"""Draw the picture of the README from benchmarks/results/synthetic.json.

python benchmarks/plot_synthetic.py
"""

from __future__ import annotations

import json
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

HERE = Path(__file__).parent
COLORS = {"CrossEntropyLoss": "#adb5bd", "LogitAdjustedLoss": "#2a6f97"}


def main() -> None:
    """Bars per split, with the standard deviation over seeds."""
    summary = json.loads((HERE / "results" / "synthetic.json").read_text(encoding="utf-8"))["results"]["summary"]
    figure = Figure(figsize=(7, 3), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    splits = ["many", "medium", "few", "all"]
    for offset, (name, color) in zip((-0.19, 0.19), COLORS.items()):
        means = [summary[name][split]["mean"] for split in splits]
        errors = [summary[name][split]["std"] for split in splits]
        places = [i + offset for i in range(4)]
        axes.bar(places, means, 0.36, yerr=errors, color=color, label=name, error_kw={"elinewidth": 1})
        for place, mean in zip(places, means):
            axes.text(place, 3, f"{mean:.0f}", ha="center", color="white" if name != "CrossEntropyLoss" else "black")
    axes.set_xticks(range(4), ["many-shot", "medium-shot", "few-shot", "all classes"])
    axes.set(ylabel="test accuracy (%)", ylim=(0, 100))
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE.parent / "docs" / "quickstart.png", dpi=130)


if __name__ == "__main__":
    main()
