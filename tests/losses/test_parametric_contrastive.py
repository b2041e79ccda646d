from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from longtail_lightning._errors import LongTailError
from longtail_lightning.losses import ParametricContrastiveLoss
from tests.reference import losses as reference

COUNTS = [50, 10, 1]
TARGET = torch.tensor([0, 1, 0, 2, 0, 0])


def make(queue_size=16, **options):
    torch.manual_seed(0)
    loss = ParametricContrastiveLoss(
        COUNTS, num_features=5, num_classes=3, num_projected=4, queue_size=queue_size, **options
    )
    return loss.double()


def inputs(size=6):
    return [torch.randn(size, width, dtype=torch.float64) for width in (5, 4, 4)]


def test_matches_the_paper_forward_and_gradient():
    loss = make(alpha=0.3, temperature=0.5, reduction="none")
    past = inputs()
    loss(*past, TARGET)  # fills 6 of the 16 slots
    features, query, key = (value.requires_grad_() for value in inputs())
    twins = [value.detach().clone().requires_grad_() for value in (features, query)]
    seen = [(vector, int(label)) for vector, label in zip([*key.detach(), *past[2]], [*TARGET, *TARGET])]
    others = [[(twins[1][j], int(TARGET[j])) for j in range(6) if j != i] + seen for i in range(6)]
    expected = reference.parametric_contrastive(loss.logits(twins[0]), twins[1], TARGET, others, COUNTS, 0.3, 0.5)
    value = loss(features, query, key, TARGET)
    torch.testing.assert_close(value, expected)
    value.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(features.grad, twins[0].grad)
    torch.testing.assert_close(query.grad, twins[1].grad)
    assert key.grad is None


def test_the_queue_holds_keys_of_norm_1_over_the_features():
    # The authors' queue is normalized over its slots.
    loss = make()
    features, query, key = inputs()
    loss(features, query, 10 * key, TARGET)
    torch.testing.assert_close(loss.queue[:6].norm(dim=1), torch.ones(6, dtype=torch.float64))
    assert loss.queue_target.tolist() == [*TARGET.tolist(), *[-1] * 10]


def test_an_empty_slot_is_nobodys_negative():
    batch = inputs()
    torch.testing.assert_close(make(queue_size=1000).eval()(*batch, TARGET), make(queue_size=1).eval()(*batch, TARGET))


def test_the_queue_goes_round_and_keeps_the_newest():
    loss = make(queue_size=10)
    for step in range(3):
        loss(*inputs(), torch.full((6,), step % 3))
    assert loss.queue_target.tolist() == [1, 1, *[2] * 6, 1, 1]
    assert int(loss.queue_next) == 8
    small = make(queue_size=4)
    small(*inputs(), TARGET)
    assert small.queue_target.tolist() == TARGET[-4:].tolist()


def test_evaluation_queues_nothing_and_a_checkpoint_keeps_the_queue():
    loss = make().eval()
    loss(*inputs(), TARGET)
    assert int(loss.queue_next) == 0
    loss.train()(*inputs(), TARGET)
    resumed = make()
    resumed.load_state_dict(loss.state_dict())
    batch = inputs()
    torch.testing.assert_close(resumed(*batch, TARGET), loss(*batch, TARGET))


def test_the_prior_lets_a_rare_class_win_by_more():
    features, query, key = inputs()
    rare = make(reduction="none").eval()(features, query, key, torch.full((6,), 2))
    same = make(reduction="none", tau=0.0).eval()(features, query, key, torch.full((6,), 2))
    assert bool((rare > same).all())


def test_bad_input_is_named_with_the_fix():
    unbound = ParametricContrastiveLoss(num_features=5, num_classes=3, num_projected=4)
    with pytest.raises(LongTailError, match="ParametricContrastiveLoss needs class_counts"):
        unbound(*inputs(), TARGET)
    with pytest.raises(LongTailError, match="num_classes=3 but class_counts of 2 classes"):
        unbound.bind_class_counts([1, 2])
    features, query, key = inputs()
    with pytest.raises(LongTailError, match=r"query and key of shape \(batch, 4\)"):
        make()(features, query, key[:, :2], TARGET)


def step_of_rows(first, step):
    loss = make()
    generator = torch.Generator().manual_seed(2)
    images = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    weight = torch.randn(4, 4, dtype=torch.float64, generator=generator).requires_grad_()
    features = torch.randn(6, 5, dtype=torch.float64, generator=generator)[first::step]
    loss(features, images[first::step] @ weight, images[first::step], TARGET[first::step]).backward()
    return torch.cat((weight.grad.flatten(), loss.centers.weight.grad.flatten())), loss.queue_target


def step_of_my_shard():
    gradient, queue = step_of_rows(dist.get_rank(), dist.get_world_size())
    dist.all_reduce(gradient)
    return (gradient / dist.get_world_size()).tolist(), queue.tolist()


def test_gradients_of_two_ranks_are_those_of_one_and_queues_agree(pool):
    expected, queue = step_of_rows(0, 1)
    answers = pool.run(step_of_my_shard)
    for gradient, labels in answers:
        torch.testing.assert_close(torch.tensor(gradient, dtype=torch.float64), expected)
        assert sorted(labels) == sorted(queue.tolist())
    assert answers[0][1] == answers[1][1]
