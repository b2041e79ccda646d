from __future__ import annotations

import json

import pytest
import torch

from longtail_lightning import ClassCounts, Comparison
from longtail_lightning._errors import LongTailError
from longtail_lightning.report.comparison import averaged, is_curve
from longtail_lightning.report.curve import CurveComparison
from longtail_lightning.report.plots import plot_rows

COUNTS = ClassCounts([200, 150, 30, 5, 0])
FOUND = {
    "Joint": torch.tensor([1.0, 0.0, torch.nan, torch.nan, 0.5]),
    "cRT": torch.tensor([0.5, 0.5, 1.0, 0.25, 0.25], dtype=torch.float64),
}
CURVE = {
    "x": "tau",
    "chosen": 1.0,
    "split": "val",
    "rows": [
        {"tau": 0.0, "per_class": [0.9, 0.8, 0.5, 0.1, float("nan")]},
        {"tau": 1.0, "per_class": [0.6, 0.5, 0.5, 0.4, float("nan")]},
    ],
}


def comparison(**options):
    return Comparison("Validation accuracy", FOUND, COUNTS, COUNTS.shots(), **options)


def test_rows_leave_out_absent_classes():
    joint, crt = comparison().rows
    assert (joint.many, joint.medium, joint.few, joint.all) == (0.5, None, 0.5, 0.5)
    assert (crt.name, crt.many, crt.medium, crt.few, crt.all) == ("cRT", 0.5, 1.0, 0.25, 0.5)


def test_the_table_tells_the_splits_the_rows_and_what_failed(capsys):
    comparison(failed={"lws": "it diverged [/at] [red]"}).print()
    out = capsys.readouterr().out
    assert all(word in out for word in ("Validation accuracy (%)", "150-200 images", "0-5 images", "5 classes"))
    lines = [[cell.strip() for cell in line.strip("│").split("│")] for line in out.splitlines() if line[:1] == "│"]
    assert lines == [
        ["Joint", "50.0", "-", "50.0", "50.0"],
        ["cRT", "50.0", "100.0", "25.0", "50.0"],
        ["lws failed", "-", "-", "-", "-"],
    ]
    assert "lws: it diverged [/at] [red]" in out, "not taken for the colors of a table"


def test_the_record_is_plain_and_the_caller_may_add_to_it(tmp_path):
    shown = comparison(class_names=["a", "b", "c", "d", "e"], details={"cRT": {"tau": 0.5, "curve": CURVE}, "x": {}})
    files = {"report": "deep/report.json", "plot": ("deep/rows.png", lambda: plot_rows(shown))}
    paths = shown.save(tmp_path, files, subset="s", failed={"lws": "why"})
    assert paths == {key: str(tmp_path / "deep" / name) for key, name in
                     {"report": "report.json", "plot": "rows.png"}.items()}  # fmt: skip
    record = json.loads((tmp_path / "deep/report.json").read_text(), parse_constant=pytest.fail)
    assert record["per_class"]["Joint"] == [1.0, 0.0, None, None, 0.5]
    assert (record["class_counts"], record["class_names"]) == (COUNTS.tolist(), ["a", "b", "c", "d", "e"])
    assert (record["subset"], record["failed"]) == ("s", {"lws": "why"})
    assert list(record["details"]) == ["cRT"], "nothing to tell is left out"
    assert record["details"]["cRT"]["tau"] == 0.5
    assert record["details"]["cRT"]["curve"]["rows"][1]["many"] == pytest.approx(0.55)
    assert (tmp_path / "deep/rows.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_that_fails_leaves_no_file_and_the_old_one(tmp_path):
    class Broken:
        def savefig(self, file, **options):
            file.write(b"half")
            raise OSError(28, "No space left on device")

    (tmp_path / "rows.png").write_text("old")
    with pytest.raises(LongTailError, match=r"rows\.png cannot be written"):
        comparison().save(tmp_path, {"plot": ("rows.png", Broken)})
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("rows.png", "old")]


def test_a_curve_is_averaged_over_the_splits_and_other_details_stay():
    details = {"tau": 0.5, "curve": CURVE, "ready": {"x": "k", "chosen": 1, "rows": [{"k": 1, "all": 0.5}]}}
    found = averaged(details, COUNTS.shots())
    assert found["tau"] == 0.5
    assert found["ready"] == details["ready"]
    assert found["curve"]["rows"][1] == {
        "tau": 1.0,
        "many": pytest.approx(0.55),
        "medium": 0.5,
        "few": pytest.approx(0.4),
        "all": pytest.approx(0.5),
    }
    assert [is_curve(detail) for detail in details.values()] == [False, True, True]


def test_a_curve_is_a_comparison_of_the_values_that_were_tried(tmp_path, capsys):
    curve = CurveComparison(CURVE, COUNTS, COUNTS.shots())
    assert curve.title == "Validation accuracy over tau"
    assert [row.name for row in curve.rows] == ["0", "1, best"]
    curve.print()
    assert "1, best" in capsys.readouterr().out
    paths = curve.save_all(tmp_path, "sweep", bias="drop")
    assert paths == {"tau_sweep": str(tmp_path / "sweep.json"), "tau_plot": str(tmp_path / "sweep.png")}
    record = json.loads((tmp_path / "sweep.json").read_text(), parse_constant=pytest.fail)
    assert (record["tau"], record["split"], record["bias"]) == (1.0, "val", "drop")
    assert record["rows"] == averaged({"curve": CURVE}, COUNTS.shots())["curve"]["rows"]
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")
    assert list(curve.save_all(tmp_path / "other", "sweep", plot=False)) == ["tau_sweep"]
