from __future__ import annotations

import pytest
import torch
from longtail_lightning.report.decoupling import plot_methods, plot_tau, plot_weight_norms
from PIL import Image

from longtail_lightning import ClassCounts
from longtail_lightning.report.tables import Row, shot_row, tau_rows

COUNTS = ClassCounts([200, 150, 30, 5, 0])


def colors(path):
    with Image.open(path) as image:
        return {color for _, color in image.convert("RGB").getcolors(10**6)}


def test_a_bar_per_method_and_no_group_for_a_split_without_classes(tmp_path):
    rows = [Row("Joint", 0.8, None, 0.1, 0.4), Row("cRT", 0.7, None, 0.4, 0.5)]
    plot_methods(rows, tmp_path / "two.png", title="Validation accuracy")
    plot_methods(rows[:1], tmp_path / "one.png", title="Validation accuracy")
    assert (0xB0, 0xB0, 0xB0) in colors(tmp_path / "one.png")
    assert len(colors(tmp_path / "two.png")) > len(colors(tmp_path / "one.png"))


def test_norms_from_the_largest_class_to_the_smallest(tmp_path):
    norms = {"Joint": torch.tensor([5.0, 4.0, 2.0, 1.0, 0.5]), "tau 1": torch.ones(5)}
    plot_weight_norms(norms, COUNTS, tmp_path / "norms.png")
    assert {(0x1F, 0x77, 0xB4), (0xFF, 0x7F, 0x0E)} <= colors(tmp_path / "norms.png"), "one line each"


def test_a_line_per_split_that_has_classes(tmp_path):
    splits = COUNTS.shots()
    table = tau_rows(
        [0.0, 1.0], torch.tensor([[0.9, 0.8, 0.5, 0.1, torch.nan], [0.6, 0.5, 0.5, 0.4, torch.nan]]), splits
    )
    assert table[1] == {"tau": 1.0, "many": pytest.approx(0.55), "medium": 0.5, "few": pytest.approx(0.4),
                        "all": pytest.approx(0.5)}  # fmt: skip
    plot_tau(table, 1.0, tmp_path / "all.png", title="Validation accuracy over tau")
    few = (0xC8, 0x55, 0x3D)
    assert few in colors(tmp_path / "all.png")
    without = [{**row, "few": None} for row in table]
    plot_tau(without, 1.0, tmp_path / "none.png", title="Validation accuracy over tau")
    assert few not in colors(tmp_path / "none.png")


def test_rows_leave_out_absent_classes():
    row = shot_row("x", torch.tensor([1.0, 0.0, torch.nan, torch.nan, 0.5]), COUNTS.shots())
    assert (row.many, row.medium, row.few, row.all) == (0.5, None, 0.5, 0.5)
