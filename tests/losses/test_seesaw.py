from __future__ import annotations

import pickle

import pytest
import torch
import torch.distributed as dist

from longtail_lightning.losses import CrossEntropyLoss, SeesawLoss
from tests.losses.compare import COUNTS, assert_matches
from tests.reference import losses as reference


@pytest.mark.parametrize("p", [0.0, 0.8])
@pytest.mark.parametrize("q", [0.0, 2.0])
def test_matches_the_paper_forward_and_gradient(p, q):
    assert_matches(SeesawLoss, reference.seesaw, p=p, q=q)


def test_p_and_q_0_are_cross_entropy():
    logits, target = torch.randn(8, 5), torch.randint(5, (8,))
    torch.testing.assert_close(SeesawLoss(COUNTS, p=0.0, q=0.0)(logits, target), CrossEntropyLoss()(logits, target))


def test_a_head_image_pushes_a_tail_class_down_less_than_another_head_class():
    logits = torch.zeros(1, 3, requires_grad=True)
    SeesawLoss([500, 500, 5])(logits, torch.tensor([0])).backward()
    assert float(logits.grad[0, 2]) == pytest.approx(0.01**0.8 * float(logits.grad[0, 1]), rel=1e-5)


def test_online_counts_labels_in_training_and_forgets_nothing():
    logits, target = torch.randn(4, 3), torch.tensor([0, 0, 2, 0])
    loss = SeesawLoss([1, 1, 1], online=True)
    first = loss(logits, target)
    torch.testing.assert_close(first, SeesawLoss([3, 0, 1])(logits, target))
    loss.bind_class_counts([1, 1, 1])  # as modules do before each fit
    loss.eval()(logits, target)
    assert loss.seen.tolist() == [3, 0, 1]
    resumed = SeesawLoss([1, 1, 1], online=True)
    resumed.load_state_dict(loss.state_dict())
    assert resumed.seen.tolist() == pickle.loads(pickle.dumps(loss)).seen.tolist() == [3, 0, 1]
    assert "seen" not in SeesawLoss([1, 1, 1]).state_dict()


def test_online_compiles_without_graph_breaks():
    logits, target = torch.randn(4, 3), torch.tensor([0, 0, 2, 0])
    loss = SeesawLoss([1, 1, 1], online=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    compiled(logits, target)
    compiled(logits, target)
    assert loss.seen.tolist() == [6, 0, 2]


def count_my_labels():
    loss = SeesawLoss([1, 1, 1], online=True)
    for target in ([0, 0, 1], [dist.get_rank() + 1, 0, 0]):
        loss(torch.zeros(3, 3), torch.tensor(target))
    return loss.seen.tolist()


def test_online_counts_are_those_of_all_ranks(pool):
    # Public code counts on each rank, and DDP then overwrites all with those of rank 0.
    assert pool.run(count_my_labels) == [[8, 3, 1], [8, 3, 1]]
