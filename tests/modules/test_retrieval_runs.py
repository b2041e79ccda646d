"""What a run does with a memory, the data and several processes, whatever it is given."""

from __future__ import annotations

import os
from functools import partial

import lightning as L
import pytest
import torch
from torch import nn

from longtail_lightning import (
    BagOfWords,
    CIFARResNet,
    FeatureBank,
    LongTailError,
    PreparedBackbone,
    PrototypeHead,
    SyntheticLongTail,
    extract_features,
)
from longtail_lightning.modules import Classifier
from longtail_lightning.retrieval import RetrievalMemory
from tests.ddp.test_strategies import strategy_of
from tests.modules.test_retrieval_augmented import make
from tests.tiny import tiny_data, tiny_trainer

SIZES = {"num_classes": 6, "max_count": 12, "imbalance_factor": 4, "val_per_class": 3, "test_per_class": 3}


class Files(SyntheticLongTail):
    """Images that have names."""

    def item_name(self, index, split="test"):
        return f"{split}/{index}.png"


def memory_of(data, name):
    torch.manual_seed(3)
    return RetrievalMemory.build(extract_features(CIFARResNet(8, width=4), data, progress=False), name=name)


def captions(data):
    """Many words, in an order that differs between processes."""
    return [f"picture {number} of {label}" for number, label in enumerate(data.labels("train").tolist())]


# -- several processes ---------------------------------------------------------------------------


def write_memory(folder):
    data = tiny_data()
    make(data, texts=captions(data), path=f"{folder}/memory")


def fit_in(folder, devices, strategy, options):
    os.chdir(folder)
    L.seed_everything(5, verbose=False)
    data = tiny_data(batch_size=8 // devices)
    model = make(data, memory="memory", optimizer=partial(torch.optim.SGD, lr=0.05), **options)
    several = {"strategy": strategy_of(strategy), "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(max_epochs=1, **several)
    trainer.fit(model, data)
    told = {name: float(value) for name, value in trainer.callback_metrics.items() if name == "val/acc"}
    if strategy == "ddp":
        told["weights"] = float(model.retrieval_head.weight.detach().double().abs().sum())
    return told


@pytest.mark.parametrize("options", [{}, {"neighbors": "cached"}], ids=str)
def test_random_words_are_those_of_one_process_on_each(pool, tmp_path, options):
    write_memory(str(tmp_path))
    options = {"text_encoder": BagOfWords(16), "branches": "retrieval", **options}
    alone = fit_in(str(tmp_path), 1, "ddp", options)
    first, second = pool.run(fit_in, str(tmp_path), 2, "ddp", options)
    assert first == second
    assert first == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("branches", ["both", "retrieval", "base"])
def test_weights_in_pieces(pool, tmp_path, branches):
    write_memory(str(tmp_path))
    first, second = pool.run(fit_in, str(tmp_path), 2, "fsdp_full", {"branches": branches})
    assert first == second
    assert "val/acc" in first


def test_weights_in_pieces_of_another_encoder(pool, tmp_path):
    write_memory(str(tmp_path))
    with pytest.raises(Exception, match="give the encoder with the weights that have made the memory"):
        pool.run(fit_in, str(tmp_path), 2, "fsdp_full", {"encoder": CIFARResNet(8, width=4)})


# -- which images are in the memory --------------------------------------------------------------


def test_a_memory_of_other_images_serves_images_with_names():
    data = Files(**SIZES, batch_size=8)
    model = make(data, memory=memory_of(tiny_data(seed=7), "web"))
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    assert trainer.test(model, data, verbose=False)
    assert trainer.predict(model, data)


@pytest.mark.parametrize("kind", [SyntheticLongTail, Files])
def test_training_images_in_a_source_of_another_name_are_told(kind):
    data = kind(**SIZES, batch_size=8)
    memory = memory_of(data, "photos")
    with pytest.raises(LongTailError, match=r"are in the memory's source 'photos', .*: say own_source='photos'"):
        tiny_trainer().fit(make(data, memory=memory), data)
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(make(data, memory=memory, own_source="photos"), data)
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(make(data, memory=memory, exclude="first"), data)


def test_numbers_in_words_are_the_same_images():
    data = tiny_data()
    torch.manual_seed(3)
    bank = extract_features(CIFARResNet(8, width=4), data, progress=False)
    named = FeatureBank.from_arrays(
        bank.features, bank.labels, [str(number) for number in range(len(bank))], class_names=bank.class_names
    )
    model = make(data, memory=RetrievalMemory.build(named))
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(model, data)
    assert model.lookup.lent is None


# -- what a run leaves ---------------------------------------------------------------------------


class Stop(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        raise RuntimeError("stop")


def test_an_interrupted_fit_is_forgotten_by_the_next_run():
    data = tiny_data()
    model = make(data, neighbors="cached")
    with pytest.raises(RuntimeError, match="stop"):
        tiny_trainer(callbacks=[Stop()]).fit(model, data)
    searches, search = [], model.memory.search

    def counted(*arguments, **options):
        searches.append(1)
        return search(*arguments, **options)

    model.memory.search = counted
    tiny_trainer().validate(model, data, verbose=False)
    assert searches
    assert not data.with_index
    assert model.lookup.lent is None


class Edit(L.Callback):
    def __init__(self, edit):
        self.edit = edit

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 1:
            self.edit(pl_module)


def test_remembered_neighbors_do_not_outlive_their_texts():
    data = tiny_data()
    texts = captions(data)

    def compact(model):
        model.memory.remove([0, 1, 2]).compact()

    with pytest.raises(LongTailError, match="replaced or compacted during a run that has looked its images up before"):
        tiny_trainer(callbacks=[Edit(compact)]).fit(make(data, texts=texts, neighbors="cached"), data)
    tiny_trainer(callbacks=[Edit(compact)]).fit(make(data, texts=texts), data)


# -- the model -----------------------------------------------------------------------------------


def test_what_was_put_into_evaluation_mode_stays_in_it():
    data = tiny_data()
    model = make(data)
    model.backbone.eval()
    before = {name: value.clone() for name, value in model.backbone.named_buffers()}
    with pytest.warns(UserWarning, match="eval mode at the start"):
        tiny_trainer(max_epochs=1).fit(model, data)
    assert before
    assert all(torch.equal(value, before[name]) for name, value in model.backbone.named_buffers())


def test_double_precision():
    data = tiny_data()
    tiny_trainer(max_epochs=1, precision="64-true").fit(make(data, backbone=CIFARResNet(8, width=4).double()), data)


def test_a_prepared_encoder_resizes_in_half_precision():
    backbone = PreparedBackbone(CIFARResNet(8, width=4), size=16).to(torch.bfloat16)
    assert backbone(torch.zeros(2, 3, 32, 32, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_classes_are_not_added_to_one_branch_of_two():
    data = tiny_data()
    model = make(data, head=PrototypeHead).eval()
    assert isinstance(model.retrieval_head, nn.Module)
    for edit in (
        lambda: Classifier(model, None).add_classes({"new": torch.rand(2, model.backbone.num_features)}),
        lambda: Classifier(model, None).remove_classes(["0"]),
    ):
        with pytest.raises(LongTailError, match="classifies the texts of its memory, too"):
            edit()
