"""Pictures on a sheet."""

from __future__ import annotations

import numpy as np
from PIL import Image

from longtail_lightning.report.comparison import save_figure
from longtail_lightning.report.sheet import plot_pictures


def test_pictures_and_a_tile_for_one_that_is_not_there(tmp_path):
    Image.fromarray(np.full((20, 30, 3), (250, 0, 0), np.uint8)).save(tmp_path / "a.png")
    figure = plot_pictures([(tmp_path / "a.png", "red\n0.9"), (tmp_path / "b.png", "gone")] * 4, "Sheet")
    drawn = [axes for axes in figure.axes if axes.images]
    assert len(drawn) == 8
    assert drawn[0].images[0].get_array()[0, 0].tolist() == [250, 0, 0]
    assert drawn[1].images[0].get_array()[0, 0].tolist() == [200, 200, 200]
    assert save_figure(tmp_path / "x.png", figure).stat().st_size > 1000
