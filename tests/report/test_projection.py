"""Samples and representations of classes in two dimensions."""

from __future__ import annotations

import pytest
import torch

from longtail_lightning import LongTailError
from longtail_lightning.report.comparison import save_figure
from longtail_lightning.report.projection import plot_projection, project


def test_the_two_directions_of_most_variance():
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(50, 6, generator=generator) * torch.tensor([9.0, 4.0, 1, 1, 1, 1]) + 1
    found = project(vectors)
    unit = vectors.double() / vectors.double().norm(dim=1, keepdim=True)
    centered = unit - unit.mean(0)
    values = torch.linalg.eigvalsh(centered.T @ centered).flip(0)
    torch.testing.assert_close(found.square().sum(0), values[:2])
    torch.testing.assert_close(project(3 * vectors), found)


def test_drawn(tmp_path):
    samples = {"a": torch.randn(9, 4), "b": torch.randn(5, 4)}
    means = {name: values.mean(0) for name, values in samples.items()}
    figure = plot_projection(samples, {"prototype": means, "classifier": {"a": torch.randn(4)}, "mine": means})
    assert save_figure(tmp_path / "x.png", figure).stat().st_size > 1000
    (axes,) = figure.axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "b", "prototype", "classifier", "mine"]


def test_bad_input():
    with pytest.raises(LongTailError, match="at least two vectors"):
        project(torch.ones(1, 3))
    with pytest.raises(LongTailError, match="Unknown how='tsne'"):
        project(torch.eye(3), how="tsne")
