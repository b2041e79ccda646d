from __future__ import annotations

import lightning as L
import pytest
from torch.utils.data import DataLoader

from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks import DeferredResampling
from longtail_lightning.samplers import ClassAwareSampler, ClassBalancedSampler, InstanceBalancedSampler, PowerSampler
from tests.contracts.discover import LABELS
from tests.samplers.training import Items, SaveAt, loader, stops, train


def _own():
    return InstanceBalancedSampler(LABELS)


def _epoch(sampler, epoch):
    sampler.set_epoch(epoch)
    return list(sampler)


def _by_epoch(seen, epochs=3):
    return [[i for epoch, _, items in seen if epoch == e for i in items] for e in range(epochs)]


@pytest.mark.parametrize(
    ("start", "epoch", "num_workers"), [(1, 1, 0), (1, 1, 1), (0, 0, 0), (7, 3, 0), (0.67, 2, 0), (1.0, 3, 0)]
)
def test_the_sampler_changes_at_the_start(start, epoch, num_workers):
    module = train(lambda: loader(_own(), num_workers=num_workers), callbacks=[DeferredResampling(start=start)])
    expected = [_epoch(ClassBalancedSampler(LABELS) if e >= epoch else _own(), e) for e in range(3)]
    assert _by_epoch(module.seen) == expected


def test_any_sampler_from_labels():
    # Class-aware rounds the epoch up to whole groups; the loader's own length holds.
    callback = DeferredResampling(start=1, sampler=lambda labels: ClassAwareSampler(labels, seed=3))
    module = train(lambda: loader(_own()), callbacks=[callback])
    expected = [_epoch(_own(), 0), *(_epoch(ClassAwareSampler(LABELS, seed=3), e)[:75] for e in (1, 2))]
    assert _by_epoch(module.seen) == expected


def test_a_plain_loader():
    callback = DeferredResampling(start=1)
    module = train(lambda: DataLoader(Items(), batch_size=8, shuffle=True), callbacks=[callback])
    first, *rest = _by_epoch(module.seen)
    assert sorted(first) == list(range(75))
    assert rest == [_epoch(ClassBalancedSampler(LABELS), e) for e in (1, 2)]


@pytest.mark.parametrize("start", [1, 2], ids=["before the stop", "after the stop"])
@pytest.mark.parametrize(
    ("where", "num_workers"), [("mid-epoch", 0), ("mid-epoch", 1), ("last batch", 0), ("epoch end", 0)]
)
def test_stop_and_resume_equals_an_uninterrupted_run(start, where, num_workers, tmp_path):
    def run(*extra, **options):
        callbacks = [DeferredResampling(start=start), *extra]
        return train(lambda: loader(_own(), num_workers=num_workers), callbacks=callbacks, **options).seen

    whole = run()
    step, hook = stops(10)[where]
    path = str(tmp_path / "stop.ckpt")
    assert run(SaveAt(path, step, hook), max_steps=step) + run(ckpt_path=path) == whole


class FreshLoaders(L.LightningDataModule):
    def train_dataloader(self):
        return loader(_own())


def test_a_new_loader_in_each_epoch():
    callback = DeferredResampling(start=1)
    module = train(FreshLoaders, callbacks=[callback], reload_dataloaders_every_n_epochs=1)
    expected = [_epoch(ClassBalancedSampler(LABELS) if e else _own(), e) for e in range(3)]
    assert _by_epoch(module.seen) == expected


def test_the_loader_has_its_own_sampler_again():
    built = loader(_own())
    own = built.batch_sampler.sampler
    train(lambda: built, callbacks=[DeferredResampling(start=1)])
    assert built.batch_sampler.sampler is own


def _seen_by_rank():
    options = {"strategy": "ddp", "devices": 2, "callbacks": [DeferredResampling(start=1)]}
    return train(lambda: loader(_own(), batch_size=1), epochs=2, **options).seen


def test_two_ranks_see_what_one_process_sees(pool):
    ranks = [_by_epoch(seen, 2) for seen in pool.run(_seen_by_rank)]
    for epoch, make in enumerate((InstanceBalancedSampler, ClassBalancedSampler)):
        together = [i for pair in zip(*(rank[epoch] for rank in ranks)) for i in pair]
        assert together[:75] == _epoch(make(LABELS, num_replicas=1, rank=0), epoch)


def test_a_shorter_epoch_is_refused():
    callback = DeferredResampling(start=1, sampler=lambda labels: PowerSampler(labels, num_samples=8))
    with pytest.raises(LongTailError, match="give it a larger num_samples"):
        train(lambda: loader(_own()), callbacks=[callback])


def test_needs_a_loader_with_batches():
    with pytest.raises(LongTailError, match="one training DataLoader with a batch_size, got list"):
        train(lambda: [loader(_own()), loader(_own())], callbacks=[DeferredResampling()])
