"""The module that trains a cosine classifier and composes the paper's table of it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from longtail_lightning import (
    ArrayLT,
    CIFARResNet,
    ClassifierRetraining,
    CosineHead,
    EnsembleHead,
    LongTailError,
    PrototypeTransfer,
    SquareRootSampler,
    load,
)
from tests.ddp.pool import Pool
from tests.tiny import tiny_data, tiny_trainer

ROWS = [
    "adjusted", "prototypes", "p_plus_w", "p_plus_w_votes", "w_h_0", "w_h_4", "w_h_8", "kt", "w_hc_4", "w_hc_8",
    "continual", "continual_p", "mean_of_donors",
]  # fmt: skip


def model_for(data, **options):
    options = {"backbone": CIFARResNet(8, width=4), "k": (0, 4, 8), "many": 8, "few": 4, **options}
    return PrototypeTransfer(data.class_counts, **options)


def fitted(folder, **options):
    from lightning.pytorch.loggers import CSVLogger

    data = tiny_data(sampler=SquareRootSampler)
    model = model_for(data, **options)
    trainer = tiny_trainer(logger=CSVLogger(folder, name="", version=""))
    trainer.fit(model, data)
    return trainer, model, data


def test_all_rows_and_the_controls_are_compared(tmp_path, capsys):
    trainer, _, _ = fitted(tmp_path, test=True)
    (retraining,) = [c for c in trainer.callbacks if isinstance(c, ClassifierRetraining)]
    assert [method.name for method in retraining.methods] == ROWS
    assert not retraining.failed
    shown = capsys.readouterr().out
    assert "few*" in shown
    assert "among the classes of the split alone" in shown
    record = json.loads((tmp_path / "retraining.json").read_text())
    assert len(record["rows"]) == len(record["within_rows"]) == len(record["test_within_rows"]) == len(ROWS) + 1
    for row, within in zip(record["rows"], record["within_rows"]):
        assert all(within[group] >= row[group] - 1e-9 for group in ("many", "medium", "few"))
    assert retraining.kept in ("joint", *ROWS)
    assert len(retraining.checkpoints) <= 1


def test_the_ensemble_is_kept_and_its_checkpoint_needs_no_data(tmp_path):
    _, model, data = fitted(tmp_path, keep="kt")
    assert isinstance(model.head, EnsembleHead)
    (path,) = tmp_path.rglob("kt.ckpt")
    images = next(iter(data.test_dataloader()))[0]
    found = load(path)
    found.module.eval()
    prepared = data.prepare_batch(images)
    with torch.no_grad():
        torch.testing.assert_close(found.module(prepared), model.eval()(prepared))
    scores = tiny_trainer().test(found.module, data, verbose=False)
    assert scores[0]["test/acc"] == pytest.approx(tiny_trainer().test(model, data, verbose=False)[0]["test/acc"])


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_without_validation_images_the_ensemble_is_kept():
    data = ArrayLT((np.zeros((38, 32, 32, 3), dtype=np.uint8), tiny_data().labels("train")), batch_size=8)
    model = model_for(data)
    tiny_trainer().fit(model, data)
    assert isinstance(model.head, EnsembleHead)


def test_a_comparison_of_ones_own_stays_alone():
    data = tiny_data()
    own = ClassifierRetraining(["ncm"], keep="none", plot=False, save=False)
    trainer = tiny_trainer(callbacks=[own])
    trainer.fit(model_for(data), data)
    assert [c for c in trainer.callbacks if isinstance(c, ClassifierRetraining)] == [own]


def test_a_k_above_every_count_is_told_before_the_training():
    data = tiny_data()
    with pytest.raises(LongTailError, match=r"k=100: .*largest k possible is 11"):
        tiny_trainer().fit(PrototypeTransfer(data.class_counts, backbone=CIFARResNet(8, width=4)), data)
    with pytest.raises(LongTailError, match="Unknown attention"):
        model_for(data, attention="q->w")


def test_a_resumed_run_composes_the_same():
    data = tiny_data(sampler=SquareRootSampler)
    first = tiny_trainer(max_epochs=1)
    torch.manual_seed(0)
    model = model_for(data, keep="none")
    start = {name: value.clone() for name, value in model.state_dict().items()}
    first.fit(model, data)
    first.save_checkpoint("stopped.ckpt")
    states = []
    for resume in (False, True):
        again = model_for(data, keep="kt")
        again.load_state_dict(start)
        trainer = tiny_trainer(max_epochs=1)
        trainer.fit(again, tiny_data(sampler=SquareRootSampler), ckpt_path="stopped.ckpt" if resume else None)
        states.append({name: value for name, value in again.state_dict().items() if name.startswith("head")})
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=0, atol=0, msg=name)


def head_of_two_processes():
    data = tiny_data(sampler=SquareRootSampler, batch_size=4)
    torch.manual_seed(0)
    model = model_for(data, keep="kt")
    with torch.no_grad():
        model.head.weight.copy_(torch.randn(model.head.weight.shape))
    from longtail_lightning import FeCAM, KnowledgeTransfer, extract_features

    bank = extract_features(model.backbone.eval(), data, split="train", progress=False)
    methods = (KnowledgeTransfer(k=(0, 4)), KnowledgeTransfer(k=4, prototypes_per_class=2), FeCAM())
    made = [method(model.head, bank).head for method in methods]
    return [{name: value.tolist() for name, value in head.state_dict().items()} for head in made]


def test_two_processes_have_the_prototypes_of_one():
    with Pool(2) as pool:
        assert pool.run(head_of_two_processes) == [head_of_two_processes()] * 2


def test_bf16(tmp_path):
    data = tiny_data()
    model = model_for(data, keep="kt")
    trainer = tiny_trainer(precision="bf16-mixed")
    trainer.fit(model, data)
    assert isinstance(model.head, EnsembleHead)
    assert model.head.heads[0].classes.prototypes.dtype == torch.float32
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = model(torch.zeros(2, 3, 32, 32))
    torch.testing.assert_close(low.float(), model(torch.zeros(2, 3, 32, 32)), rtol=0.05, atol=0.15)
    assert not Path("runs").exists()


def test_the_head_is_a_cosine_classifier_by_default():
    assert type(PrototypeTransfer([9, 3]).head) is CosineHead
