"""What a re-training of classifiers shows and writes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from longtail_lightning.callbacks._candidates import Candidates
from longtail_lightning.callbacks._heads import weight_norms
from longtail_lightning.counts import ClassCounts, ShotSplits
from longtail_lightning.report import Comparison
from longtail_lightning.report.comparison import Files, averaged, is_curve
from longtail_lightning.report.curve import curve_title
from longtail_lightning.report.plots import plot_curve, plot_rows, plot_weight_norms


def comparisons_of(
    candidates: Candidates,
    counts: ClassCounts,
    splits: ShotSplits,
    accuracy: tuple[dict[str, Tensor], dict[str, Tensor]],
    tested: tuple[dict[str, Tensor], dict[str, Tensor]],
) -> tuple[Comparison, Comparison]:
    """Comparisons on validation images and on test images; one without images has no rows.

    Args:
        candidates: what is compared.
        counts: training images per class.
        splits: which classes are many-, medium- and few-shot.
        accuracy: of each class on validation images, and the same among the classes of its split alone.
        tested: the same on test images.
    """
    details = {name: found.details for name, found in candidates.found.items()}
    labels = [found.label for found in candidates.found.values()]
    rows = {
        name: found.label if labels.count(found.label) == 1 else f"{found.label} ({name})"
        for name, found in candidates.found.items()
    }
    val, test = (
        Comparison(
            f"{split} accuracy by classifier",
            {rows[name]: per_class for name, per_class in values.items()},
            counts,
            splits,
            failed=candidates.failed,
            details=details,
            within={rows[name]: per_class for name, per_class in within.items()},
        )
        for split, (values, within) in (("Validation", accuracy), ("Test", tested))
    )
    return val, test


def save_report(
    folder: Path, candidates: Candidates, val: Comparison, test: Comparison, *, plot: bool, **record: Any
) -> dict[str, str]:
    """Write `retraining.json` and the plots; gives what each file is and where."""
    files: Files = {"retraining": "retraining.json"}
    if plot:
        if shown := next((comparison for comparison in (val, test) if comparison.per_class), None):
            files["bars"] = ("retraining.png", partial(plot_rows, shown))
        norms = {found.label: weight_norms(found.head) for found in candidates.found.values()}
        linear = {label: values for label, values in norms.items() if values is not None}
        if linear:
            files["norms"] = ("weight_norms.png", partial(plot_weight_norms, linear, val.class_counts))
        for name, found in candidates.found.items():
            for key, detail in averaged(found.details, val.splits).items():
                if is_curve(detail):
                    stem = name if key == "curve" else f"{name}_{key}"
                    files[f"{stem}_plot"] = (f"{stem}.png", partial(plot_curve, detail, curve_title(detail)))
    taus = {name: found.details["tau"] for name, found in candidates.found.items() if "tau" in found.details}
    record["test_rows"] = [row.as_dict() for row in test.rows]
    if test.within:
        record["test_within_rows"] = [row.as_dict() for row in test.within_rows]
    return val.save(folder, files, tau=taus, seconds=candidates.seconds, **record)
