from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import SupervisedContrastiveLoss
from tests.reference import losses as reference

TARGET = torch.tensor([0, 0, 1, 0, 2, 1, 0, 1])  # class 2 is alone


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_matches_the_paper_forward_and_gradient(temperature):
    ours = torch.randn(8, 4, dtype=torch.float64, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    value = SupervisedContrastiveLoss(temperature=temperature, reduction="none")(ours, TARGET)
    expected = reference.supervised_contrastive(theirs, TARGET, temperature)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_views_are_images_of_their_own():
    features = torch.randn(8, 2, 4)
    flat = SupervisedContrastiveLoss()(features.flatten(0, 1), TARGET.repeat_interleave(2))
    torch.testing.assert_close(SupervisedContrastiveLoss()(features, TARGET), flat)


def test_an_image_alone_has_loss_0_and_finite_gradients():
    for features, target in ((torch.randn(1, 4), [0]), (torch.randn(3, 4), [0, 1, 2])):
        features.requires_grad_()
        loss = SupervisedContrastiveLoss()(features, torch.tensor(target))
        loss.backward()
        assert loss.item() == 0
        assert bool(features.grad.isfinite().all())


def test_norms_do_not_matter():
    features = torch.randn(8, 4)
    loss = SupervisedContrastiveLoss()
    torch.testing.assert_close(loss(features * torch.rand(8, 1).add(0.5), TARGET), loss(features, TARGET))


def test_bad_input_is_named_with_the_fix():
    with pytest.raises(LongTailError, match="finite temperature above 0"):
        SupervisedContrastiveLoss(temperature=-1.0)
    with pytest.raises(LongTailError, match="turn mixup and cutmix off"):
        SupervisedContrastiveLoss()(torch.zeros(4, 2), torch.zeros(4, 3))


def gradient_of_rows(first, step):
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(8, 3, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 4, dtype=torch.float64, generator=generator).requires_grad_()
    SupervisedContrastiveLoss()(images[first::step] @ weight, TARGET[first::step]).backward()
    return weight.grad


def gradient_of_my_shard():
    gradient = gradient_of_rows(dist.get_rank(), dist.get_world_size())
    dist.all_reduce(gradient)
    return (gradient / dist.get_world_size()).tolist()


def test_gradients_of_two_ranks_are_those_of_one(pool):
    for gradient in pool.run(gradient_of_my_shard):
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), gradient_of_rows(0, 1))
