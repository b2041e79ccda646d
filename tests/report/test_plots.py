from __future__ import annotations

import io

import pytest
import torch
from PIL import Image

from longtail_lightning import ClassCounts, Comparison
from longtail_lightning.report.plots import plot_classes, plot_curve, plot_rows, plot_weight_norms

COUNTS = ClassCounts([200, 150, 30, 5, 0])
COLORS = {"many": (0x2A, 0x6F, 0x97), "medium": (0xE0, 0x9F, 0x3E), "few": (0xC8, 0x55, 0x3D)}


def colors(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=120)
    with Image.open(file) as image:
        return {color for _, color in image.convert("RGB").getcolors(10**6)}


def comparison(**per_class):
    found = {name: torch.tensor(values) for name, values in per_class.items()}
    return Comparison("Validation accuracy", found, COUNTS, COUNTS.shots())


def test_a_bar_per_class_in_the_color_of_its_split():
    figure = plot_classes(comparison(best=[0.9, 0.8, 0.5, 0.1, 0.0], last=[0.9, 0.8, 0.5, 0.1, float("nan")]))
    assert set(COLORS.values()) <= colors(figure)
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels == ["best", "many: 85.0 %", "medium: 50.0 %", "few: 10.0 %"]
    heights = sorted(round(bar.get_height(), 4) for bar in figure.axes[0].patches)
    assert heights == [0.0, 10.0, 50.0, 80.0, 90.0]


def test_a_bar_per_row_and_no_group_for_a_split_without_classes():
    nan = float("nan")
    two = comparison(Joint=[0.8, 0.8, nan, 0.1, nan], cRT=[0.7, 0.7, nan, 0.4, nan])
    figure = plot_rows(two)
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["many", "few", "all"]
    assert len(figure.axes[0].patches) == 2 * 3
    assert (0xB0, 0xB0, 0xB0) in colors(figure), "the baseline is gray"
    assert len(colors(figure)) > len(colors(plot_rows(comparison(Joint=[0.8, 0.8, nan, 0.1, nan]))))


def test_norms_from_the_largest_class_to_the_smallest():
    norms = {"Joint": torch.tensor([5.0, 4.0, 2.0, 1.0, 0.5]), "tau 1": torch.ones(5)}
    figure = plot_weight_norms(norms, COUNTS)
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= colors(figure), "one line each"
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([2.0, 1.6, 0.8, 0.4, 0.2])


def test_a_line_per_split_that_has_classes():
    rows = [{"tau": 0.0, "many": 0.9, "medium": 0.5, "few": 0.1, "all": 0.5},
            {"tau": 1.0, "many": 0.6, "medium": 0.5, "few": 0.4, "all": 0.5}]  # fmt: skip
    curve = {"x": "tau", "chosen": 1.0, "rows": rows}
    figure = plot_curve(curve, "Validation accuracy over tau")
    assert set(COLORS.values()) <= colors(figure)
    assert figure.axes[0].get_xlabel() == "tau"
    without = {**curve, "rows": [{**row, "few": None} for row in rows]}
    assert COLORS["few"] not in colors(plot_curve(without, "Validation accuracy over tau"))
