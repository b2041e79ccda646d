"""Modules fit, save, load and test under the strategies of Lightning, in two processes of a CPU."""

from __future__ import annotations

import os

import lightning as L
import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from packaging.version import Version

from longtail_lightning import load
from tests.contracts.toy import Branch, make_toy
from tests.tiny import tiny_data, tiny_model, tiny_trainer


class ShardedOnCPU(FSDPStrategy):
    """Lightning refuses its own class without a GPU, and torch looks for one where no device is named."""

    def _setup_model(self, model):
        from torch.distributed.fsdp import FullyShardedDataParallel

        return FullyShardedDataParallel(
            module=model,
            cpu_offload=self.cpu_offload,
            mixed_precision=self.mixed_precision_config,
            sharding_strategy=self.sharding_strategy,
            device_id=torch.device("cpu"),
            **self.kwargs,
        )


def strategy_of(name):
    if name.startswith("fsdp"):
        return ShardedOnCPU(state_dict_type=name.removeprefix("fsdp_"))
    return name


def make(kind):
    L.seed_everything(5, verbose=False)
    data = tiny_data(batch_size=4, num_classes=5, val_per_class=4, test_per_class=4)
    return data, make_toy(data.class_counts) if kind == "toy" else tiny_model(data, backbone=Branch(4))


def fit_save_load_test(kind, name, precision, folder):
    """The last validation of the fit; the same of a new model with the checkpoint, and its test."""
    os.chdir(folder)
    options = {"devices": 2, "precision": precision, "max_epochs": 1}
    data, model = make(kind)
    trainer = tiny_trainer(strategy=strategy_of(name), **options)
    trainer.fit(model, data)
    path = f"{folder}/{kind}.ckpt"
    trainer.save_checkpoint(path)
    fitted = {key: float(value) for key, value in trainer.callback_metrics.items() if key.startswith("val/")}
    results = []
    for stage in ("validate", "test"):
        data, again = make(kind)
        trainer = tiny_trainer(strategy=strategy_of(name), **options)
        (result,) = getattr(trainer, stage)(again, data, ckpt_path=path, verbose=False)
        results.append(result)
    return fitted, *results


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("name", ["ddp", "fsdp_full", "fsdp_sharded"])
@pytest.mark.parametrize("kind", ["toy", "base"])
def test_fit_save_load_test(pool, tmp_path, kind, name, precision):
    if name.startswith("fsdp") and Version(torch.__version__) < Version("2.7"):
        pytest.skip("torch 2.6 ends with a segmentation fault when FSDP evaluates on a CPU")
    (fitted, validated, tested), other = pool.run(fit_save_load_test, kind, name, precision, str(tmp_path))
    assert validated == other[1]
    assert validated == pytest.approx(fitted, nan_ok=True)
    if name != "fsdp_sharded":
        # One process reads what two have written.
        ready = load(tmp_path / f"{kind}.ckpt", device="cpu")
        os.chdir(tmp_path)
        (alone,) = tiny_trainer(precision=precision).test(ready.module, make(kind)[0], verbose=False)
        # Shards are computed with in bfloat16 as a whole, not operation by operation.
        assert alone == pytest.approx(tested, abs=1e-3 if precision == "bf16-mixed" else 1e-5, nan_ok=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["toy", "base"])
def test_spawned_processes(tmp_path, kind):
    os.chdir(tmp_path)
    data, model = make(kind)
    trainer = tiny_trainer(strategy="ddp_spawn", devices=2, max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("spawned.ckpt")
    ready = load("spawned.ckpt", device="cpu")
    torch.testing.assert_close(ready.module.state_dict(), model.state_dict())
    (result,) = tiny_trainer(strategy="ddp_spawn", devices=2).test(ready.module, make(kind)[0], verbose=False)
    (alone,) = tiny_trainer().test(load("spawned.ckpt", device="cpu").module, make(kind)[0], verbose=False)
    assert result == pytest.approx(alone, nan_ok=True)
