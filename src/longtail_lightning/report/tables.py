"""Text tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from longtail_lightning.counts import ClassCounts, ShotSplits


@dataclass
class Row:
    """Accuracy of one evaluation, as fractions; None for an empty group."""

    name: str
    many: float | None
    medium: float | None
    few: float | None
    all: float | None

    def as_dict(self) -> dict[str, Any]:
        """The fields."""
        return asdict(self)


def shot_row(name: str, per_class: Tensor, splits: ShotSplits) -> Row:
    """Average per-class accuracies over each split, leaving out absent classes."""
    groups = {group: _mean(per_class[index]) for group, index in splits}
    return Row(name, **groups, all=_mean(per_class))


def tau_rows(taus: Sequence[float], per_class: Tensor, splits: ShotSplits) -> list[dict[str, float | None]]:
    """Accuracy on each split for each tau: `tau`, `many`, `medium`, `few` and `all`."""
    rows = [shot_row("", values, splits).as_dict() for values in per_class]
    return [{"tau": tau, **{key: value for key, value in row.items() if key != "name"}} for tau, row in zip(taus, rows)]


def print_shot_table(
    title: str, rows: list[Row], counts: ClassCounts, splits: ShotSplits, caption: str | None = None
) -> None:
    """Print accuracies in percent; the header tells the classes and training images of each split."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"{title} (%)", title_justify="left", caption=caption, caption_justify="left")
    table.add_column("")
    for group, index in splits:
        table.add_column(f"{group}\n{_range(index, counts)}", justify="right")
    table.add_column(f"all\n{len(counts)} classes", justify="right")
    for row in rows:
        table.add_row(row.name, *(_percent(value) for value in (row.many, row.medium, row.few, row.all)))
    Console().print(table)


def _range(index: Tensor, counts: ClassCounts) -> str:
    if not len(index):
        return "no class"
    sizes = counts.tensor[index]
    return f"{len(index)} classes\n{int(sizes.min())}-{int(sizes.max())} images"


def _mean(values: Tensor) -> float | None:
    mean = float(values.nanmean())
    return None if mean != mean else mean


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def print_class_counts(counts: ClassCounts, names: list[str], *, many: int = 100, few: int = 20) -> None:
    """Print one row per split, then a bar per class, largest first; long lists are shortened."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    splits = counts.shots(many=many, few=few)
    table = Table(title=f"{counts.total} images, imbalance factor {counts.imbalance_factor:g}", title_justify="left")
    for title in ("split", "classes", "images", "smallest", "largest"):
        table.add_column(title, justify="left" if title == "split" else "right")
    everything = counts.tensor
    for name, index in [*splits, ("all", None)]:
        sizes = everything if index is None else everything[index]
        extremes = (str(int(sizes.min())), str(int(sizes.max()))) if len(sizes) else ("-", "-")
        table.add_row(name, str(len(sizes)), str(int(sizes.sum())), *extremes)
    console.print(table)

    order = everything.argsort(descending=True, stable=True).tolist()
    shown = order if len(order) <= 60 else [*order[:20], None, *order[-20:]]
    block = "█" if (console.encoding or "").lower().startswith("utf") else "#"
    width = max(len(names[c]) for c in shown if c is not None)
    room = max(10, console.width - width - 10)
    for c in shown:
        if c is None:
            console.print(f"... {len(order) - 40} more classes ...", style="dim")
            continue
        bar = block * round(room * counts[c] / counts[order[0]])
        console.print(f"{names[c]:>{width}} {counts[c]:>7} {bar}", markup=False, highlight=False)
