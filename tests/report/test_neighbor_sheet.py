"""The nearest training images of test images, drawn."""

from __future__ import annotations

import pytest
import torch
from matplotlib.colors import to_hex
from torch import nn

from longtail_lightning import LongTailError
from longtail_lightning.report.neighbor_sheet import plot_neighbors
from tests.tiny import tiny_data


class ByClass(nn.Module):
    """Knows the class of every image, and nothing else."""

    num_features = 6

    def __init__(self, data, wrong=False):
        super().__init__()
        self.known = {}
        for split in ("train", "test"):
            for image, label in data.dataset(split):
                self.known[self.key(data.prepare_batch(image[None])[0])] = (label + wrong * (split == "test")) % 6

    def key(self, image):
        return round(float(image.double().sum()), 2)

    def forward(self, images):
        return torch.eye(6)[[self.known[self.key(image)] for image in images]]


def frames(figure, k):
    grid = list(figure.axes)
    return [
        [to_hex(axes.spines["left"].get_edgecolor()) for axes in grid[row + 1 : row + k + 1]]
        for row in range(0, len(grid), k + 1)
    ]


def test_frames_tell_images_of_the_same_class(tmp_path):
    data = tiny_data()
    encoders = {"knows": ByClass(data), "errs": ByClass(data, wrong=True)}
    figure = plot_neighbors(data, encoders, items=[0, 5], k=3)
    assert frames(figure, 3) == [["#2e8b57"] * 3, ["#c0392b"] * 3] * 2
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    texts = [axes.get_title() for axes in figure.axes]
    assert texts[0] == f"{data.class_names[0]}\n12 images"
    assert texts[1] == data.class_names[0]


def test_images_are_drawn_of_all_splits():
    data = tiny_data(max_count=120, num_classes=6, imbalance_factor=12)
    figure = plot_neighbors(data, {"mean": nn.Flatten()}, k=2)
    counts = [int(axes.get_title().split()[-2]) for axes in figure.axes[::3]]
    assert [count > 100 for count in counts] == [True, True, False, False, False, False]
    assert [count < 20 for count in counts] == [False] * 4 + [True] * 2


def test_bad_input():
    data = tiny_data()
    for options, message in (
        ({"encoders": {}}, "There is no encoder"),
        ({"k": 39}, "there are 38 training images"),
        ({"k": 0}, "k"),
        ({"items": [18]}, "there is no test image 18, they are 0 to 17"),
    ):
        with pytest.raises(LongTailError, match=message):
            plot_neighbors(**{"data": data, "encoders": {"mean": nn.Flatten()}, **options})
