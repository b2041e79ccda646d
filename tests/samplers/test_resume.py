"""A run that is stopped and resumed sees the items that an uninterrupted one sees."""

from __future__ import annotations

import pytest
from torch.utils.data import DataLoader

import longtail_lightning
from longtail_lightning.samplers import LongTailSampler
from tests.contracts.discover import LABELS, make, public_classes
from tests.samplers.training import KINDS, Items, SaveAt, loader, stops, train

SAMPLERS = [cls for cls in public_classes("samplers") if issubclass(cls, LongTailSampler)]


def _interrupted(path, make_loader, step, hook):
    """All that is seen when the run ends after `step` batches and goes on with new objects."""
    first = train(make_loader, callbacks=[SaveAt(path, step, hook)], max_steps=step)
    second = train(make_loader, ckpt_path=path)
    return first.seen + second.seen


@pytest.mark.parametrize("cls", SAMPLERS, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("where", ["mid-epoch", "last batch", "epoch end"])
def test_resume_is_exact(cls, where, tmp_path):
    def make_loader():
        return loader(make(cls, num_samples=64))

    whole = train(make_loader).seen
    step, hook = stops(len(whole) // 3)[where]
    assert _interrupted(str(tmp_path / "stop.ckpt"), make_loader, step, hook) == whole


@pytest.mark.parametrize("where", ["mid-epoch", "epoch end"])
def test_resume_is_exact_with_workers(where, tmp_path):
    # Workers fetch ahead; on a resume Lightning makes the iterator before it tells the epoch.
    def make_loader():
        return loader(make(SAMPLERS[0]), num_workers=1)

    whole = train(make_loader).seen
    step, hook = stops(len(whole) // 3)[where]
    assert _interrupted(str(tmp_path / "stop.ckpt"), make_loader, step, hook) == whole


@pytest.mark.parametrize("cls", SAMPLERS, ids=lambda cls: cls.__name__)
def test_skipping_ahead_in_a_new_iterator_continues_the_old_one(cls):
    # All that torchdata's StatefulDataLoader asks of a sampler without a state of its own.
    sampler, fresh = make(cls), make(cls)
    for each in (sampler, fresh):
        each.set_epoch(2)
    old = iter(sampler)
    head = [next(old) for _ in range(13)]
    new = iter(fresh)
    assert [next(new) for _ in range(13)] == head
    assert list(new) == list(old)


# torchdata calls a torch function that newer releases deprecate.
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("name", KINDS)
def test_stateful_data_loader(name):
    from torchdata.stateful_dataloader import StatefulDataLoader as stateful

    def make_loader():
        built = stateful(Items(), batch_size=8, sampler=make(getattr(longtail_lightning, name)))
        built.sampler.set_epoch(1)
        return built

    whole = [batch.tolist() for batch in make_loader()]
    stopped, resumed = make_loader(), make_loader()
    batches = iter(stopped)
    for _ in range(3):
        next(batches)
    resumed.load_state_dict(stopped.state_dict())
    assert [batch.tolist() for batch in resumed] == whole[3:]


def test_workers_draw_the_same_items():
    sampler = make(SAMPLERS[0])
    alone = [batch.tolist() for batch in DataLoader(range(len(LABELS)), batch_size=8, sampler=sampler)]
    helped = [batch.tolist() for batch in DataLoader(range(len(LABELS)), batch_size=8, sampler=sampler, num_workers=1)]
    assert helped == alone
