"""Two gloo processes extract what one does, bit for bit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.utils.data import DataLoader

from longtail_lightning import FeatureBank, LinearHead, extract_features, fit_head, verify_bank
from longtail_lightning._errors import LongTailError
from longtail_lightning._files import locked
from longtail_lightning.cli.main import main
from longtail_lightning.features._checks import NotFiniteError
from tests.features.data import Noisy, Stops, encoder
from tests.tiny import tiny_data


def extract(path, views, source="data module", precision=None):
    # A module of the library and a plain loader: 38 and 41 images, which neither 2 nor 8 divides.
    data = tiny_data() if source == "data module" else DataLoader(Noisy(), batch_size=8)
    bank = extract_features(encoder(), data, path, views=views, shard_size=8, progress=False, precision=precision)
    return bank.views.view(torch.uint8).tolist(), bank.labels.tolist()


def files(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


@pytest.mark.parametrize("source", ["data module", "loader"])
@pytest.mark.parametrize("views", [1, 2])
def test_on_disk(pool, tmp_path, source, views):
    single = extract(str(tmp_path / "one"), views, source)
    assert pool.run(extract, str(tmp_path / "two"), views, source) == [single, single]
    assert files(tmp_path / "two") == files(tmp_path / "one")


@pytest.mark.parametrize("source", ["data module", "loader"])
@pytest.mark.parametrize("views", [1, 2])
def test_in_memory(pool, source, views):
    single = extract(None, views, source)
    assert pool.run(extract, None, views, source) == [single, single]


def negative_zeros():
    class Zeros(nn.Module):
        def forward(self, images):
            return -torch.zeros(len(images), 3)

    bank = extract_features(Zeros(), tiny_data(), progress=False)
    return bank.features.signbit().all().item()


def test_even_the_sign_of_zero(pool):
    assert pool.run(negative_zeros) == [True, True]


def stop_in_one(path):
    # Process 1 stops with an error of ours in its second batch; process 0 would wait for it forever.
    error = LongTailError("the image is broken") if dist.get_rank() == 1 else None
    with pytest.raises(LongTailError, match="the image is broken"):
        extract_features(Stops(encoder(), error, 2), tiny_data(), path, shard_size=8, progress=False)
    bank = extract_features(Stops(encoder()), tiny_data(), path, shard_size=8, progress=False)
    return bank.views.view(torch.uint8).tolist()


def test_an_error_of_one_is_an_error_of_all_and_both_continue(pool, tmp_path):
    single = extract(None, 1)[0]
    assert pool.run(stop_in_one, str(tmp_path / "bank")) == [single, single]


def too_large(path):
    class Large(nn.Module):
        def forward(self, images):
            # Only process 1 finds out.
            return images.flatten(1) * (1e6 if dist.get_rank() == 1 else 1)

    with pytest.raises(NotFiniteError) as error:
        extract_features(Large(), tiny_data(), path, shard_size=8, progress=False)
    return str(error.value), str(error.value.dtype), error.value.number, error.value.names


@pytest.mark.parametrize("folder", [None, "bank"])
def test_an_error_keeps_its_fields(pool, tmp_path, folder):
    first, second = pool.run(too_large, folder and str(tmp_path / folder))
    assert first == second
    assert first[1:] == ("torch.float16", 8, (8, 9, 10))


@pytest.mark.parametrize("folder", [None, "bank"])
def test_in_bfloat16(pool, tmp_path, folder):
    single = extract(None, 1, precision="bf16")
    assert pool.run(extract, folder and str(tmp_path / folder), 1, "data module", "bf16") == [single, single]
    assert single != extract(None, 1)


def begin_alone(path):
    with pytest.raises(KeyboardInterrupt):
        extract_features(
            Stops(encoder(), KeyboardInterrupt(), 3), tiny_data(), path, shard_size=8, progress=False, views=2
        )


def go_on(path):
    bank = extract_features(Stops(encoder()), tiny_data(), path, shard_size=8, progress=False, views=2)
    return bank.views.view(torch.uint8).tolist()


def test_what_one_process_began_two_finish(pool, tmp_path):
    begin_alone(str(tmp_path / "bank"))
    single = extract(None, 2)[0]
    assert pool.run(go_on, str(tmp_path / "bank")) == [single, single]


def begin_together(path):
    error = LongTailError("stop")
    with pytest.raises(LongTailError, match="stop"):
        extract_features(Stops(encoder(), error, 3), tiny_data(), path, shard_size=8, progress=False, views=2)
    with pytest.raises(LongTailError, match="is unfinished, 4 of 10 shards are there"):
        FeatureBank.load(path)


def test_what_two_processes_began_one_finishes(pool, tmp_path):
    pool.run(begin_together, str(tmp_path / "bank"))
    assert go_on(str(tmp_path / "bank")) == extract(None, 2)[0]
    assert verify_bank(tmp_path / "bank") == {}


def locked_by_another(path):
    if dist.get_rank() == 0:
        with locked(Path(path)), pytest.raises(LongTailError) as error:
            extract(path, 1)
    else:
        with pytest.raises(LongTailError) as error:
            extract(path, 1)
    return str(error.value)


def test_a_locked_folder_ends_all_processes(pool, tmp_path):
    first, second = pool.run(locked_by_another, str(tmp_path / "bank"))
    assert first == second
    assert "Another process is writing to" in first


def refused(path, other_encoder):
    seed = dist.get_rank() if other_encoder else 3
    with pytest.raises(LongTailError) as error:
        extract_features(encoder(seed), tiny_data(), path, progress=False)
    return str(error.value)


def test_all_processes_say_the_same(pool, tmp_path):
    first, second = pool.run(refused, str(tmp_path / "bank"), True)
    assert first == second
    assert "Process 1 has another encoder than process 0" in first
    extract(str(tmp_path / "bank"), 1)
    first, second = pool.run(refused, str(tmp_path / "bank"), False)
    assert first == second
    assert "was made by CIFARResNet" in first


def on_a_disk_of_its_own(path):
    with pytest.raises(LongTailError) as error:
        extract(f"{path}/{dist.get_rank()}", 1)
    return str(error.value)


def test_processes_without_a_shared_disk(pool, tmp_path):
    first, second = pool.run(on_a_disk_of_its_own, str(tmp_path))
    assert first == second
    assert "This process does not see" in first


def fit():
    torch.manual_seed(0)
    bank = extract_features(encoder(), tiny_data(), progress=False)
    head = fit_head(bank, LinearHead(16, 6), epochs=3, batch_size=8)
    return head.weight.tolist()


def test_a_head_is_the_same_in_all_processes(pool):
    single = fit()
    assert pool.run(fit) == [single, single]


def command(checkpoint, out):
    return main(["features", "--ckpt_path", checkpoint, "--out", out])


@pytest.mark.filterwarnings("ignore")
def test_the_command_line(pool, tmp_path):
    from tests.cli.conftest import MODEL, TINY

    assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
    (checkpoint,) = (str(path.resolve()) for path in Path("runs").rglob("best.ckpt"))
    assert command(checkpoint, "one") == 0
    assert pool.run(command, checkpoint, str(tmp_path / "two")) == [0, 0]
    for split in ("train", "val", "test"):
        assert files(tmp_path / "two" / split) == files(Path("one") / split)
