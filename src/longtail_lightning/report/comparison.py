"""Print and save the accuracy of several evaluations, per split and per class."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from longtail_lightning._files import replace_file, write_json
from longtail_lightning.counts import ClassCounts, ShotSplits, split_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Files = dict[str, "str | tuple[str, Callable[[], Figure]]"]
"""What a file is -> its name; for a plot its name and what draws it."""


@dataclass(frozen=True)
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


@dataclass
class Comparison:
    """Accuracy of several evaluations of the same classes, one row each.

    Args:
        title: what the table is called.
        per_class: name of an evaluation -> accuracy of each class; NaN for one without images.
        class_counts: training images per class.
        splits: which classes are many-, medium- and few-shot.
        class_names: one name per class.
        failed: name of what could not be evaluated -> why; a row without numbers, and a line below the table.
        details: name of an evaluation -> plain values that belong to it, as methods give them.
        within: name of an evaluation -> accuracy of each class among the classes of its split alone: how well they are
            told apart, whichever split is named more often.

    Examples:
        >>> counts = ClassCounts([200, 50, 5])
        >>> found = {"Joint": torch.tensor([0.9, 0.5, 0.1]), "cRT": torch.tensor([0.8, 0.6, 0.4])}
        >>> Comparison("Validation accuracy", found, counts, counts.shots()).rows[1]
        Row(name='cRT', many=0.8..., medium=0.6..., few=0.4..., all=0.6...)
    """

    title: str
    per_class: Mapping[str, Tensor]
    class_counts: ClassCounts
    splits: ShotSplits
    class_names: Sequence[str] | None = None
    failed: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    within: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> list[Row]:
        """The mean over the classes of each split, and over all."""
        return [Row(name, **split_means(values, self.splits)) for name, values in self.per_class.items()]

    @property
    def within_rows(self) -> list[Row]:
        """The same among the classes of each split alone."""
        return [Row(name, **split_means(values, self.splits)) for name, values in self.within.items()]

    def record(self) -> dict[str, Any]:
        """What is saved, in plain values."""
        return {
            "rows": [row.as_dict() for row in self.rows],
            **({"within_rows": [row.as_dict() for row in self.within_rows]} if self.within else {}),
            "class_counts": self.class_counts.tolist(),
            "class_names": None if self.class_names is None else list(self.class_names),
            "per_class": {
                name: [None if value != value else round(value, 6) for value in values.tolist()]
                for name, values in self.per_class.items()
            },
            "failed": dict(self.failed),
            "details": {name: averaged(found, self.splits) for name, found in self.details.items() if found},
        }

    def save(self, folder: str | Path, files: Files, **more: Any) -> dict[str, str]:
        """Write the record as JSON and plots as PNG.

        Args:
            folder: where the files go.
            files: what a file is -> its name, `"x.json"`, which holds the record; or for a plot its name and what
                draws it, `("x.png", draw)`.
            more: further values of the record, or others in the place of its own.

        Returns:
            What a file is -> its path.
        """
        paths: dict[str, str] = {}
        for key, name in files.items():
            if isinstance(name, str):
                paths[key] = str(write_json(Path(folder) / name, {**self.record(), **more}))
            else:
                paths[key] = str(save_figure(Path(folder) / name[0], name[1]()))
        return paths

    def print(self) -> None:
        """Print the rows in percent, and which classes and training images each split has."""
        from rich.box import HEAVY_HEAD, SIMPLE_HEAD
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        told = [f"{name}: {reason}" for name, reason in self.failed.items()]
        columns = {group: self._range(index) for group, index in self.splits} | {
            "all": f"{len(self.class_counts)} classes"
        }
        if self.within:  # more columns than fit a screen with these lines in their heads
            told[:0] = [f"{group}: {size.replace(chr(10), ', ')}" for group, size in columns.items() if group != "all"]
            told.insert(0, "*: among the classes of the split alone")
            columns = dict.fromkeys([*columns, "many*", "medium*", "few*"], "")
        table = Table(
            title=f"{self.title} (%)",
            title_justify="left",
            caption=escape("\n".join(told)) or None,
            caption_justify="left",
            box=SIMPLE_HEAD if self.within else HEAVY_HEAD,
        )
        table.add_column("", no_wrap=bool(self.within))
        for group, size in columns.items():
            table.add_column(f"{group}\n{size}".strip(), justify="right")
        within = {row.name: (row.many, row.medium, row.few) for row in self.within_rows}
        missing = [Row(f"{name} failed", None, None, None, None) for name in self.failed]
        for row in [*self.rows, *missing]:
            values = (row.many, row.medium, row.few, row.all, *within.get(row.name, ()))
            table.add_row(escape(row.name), *map(_percent, values))
        Console().print(table)

    def _range(self, index: Tensor) -> str:
        if not len(index):
            return "no class"
        sizes = self.class_counts.tensor[index]
        return f"{len(index)} classes\n{int(sizes.min())}-{int(sizes.max())} images"


def is_curve(detail: Any) -> bool:
    """Whether a detail of a method is a curve: accuracy over some value, which can be drawn."""
    return isinstance(detail, Mapping) and {"x", "rows", "chosen"} <= detail.keys()


def averaged(details: Mapping[str, Any], splits: ShotSplits) -> dict[str, Any]:
    """The same details, with the means over the splits in place of a curve's values per class."""
    return {
        key: {**detail, "rows": [_averaged_row(row, splits) for row in detail["rows"]]} if is_curve(detail) else detail
        for key, detail in details.items()
    }


def values_of(row: Mapping[str, Any]) -> Tensor:
    """The values per class in a row of a curve."""
    return torch.as_tensor(row["per_class"], dtype=torch.float64)


def save_figure(path: Path, figure: Figure) -> Path:
    """Write a plot as PNG."""
    return replace_file(path, lambda file: figure.savefig(file, format="png", dpi=120))


def _averaged_row(row: Mapping[str, Any], splits: ShotSplits) -> dict[str, Any]:
    if "per_class" not in row:
        return dict(row)
    others = {key: value for key, value in row.items() if key != "per_class"}
    return {**others, **split_means(values_of(row), splits)}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
