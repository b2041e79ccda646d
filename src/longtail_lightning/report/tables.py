"""The table of class counts."""

from __future__ import annotations

from longtail_lightning.counts import ClassCounts, Convention


def print_class_counts(
    counts: ClassCounts, names: list[str], *, many: int = 100, few: int = 20, convention: Convention = "kang"
) -> None:
    """Print one row per split, then a bar per class, largest first; long lists are shortened."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    splits = counts.shots(many=many, few=few, convention=convention)
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
