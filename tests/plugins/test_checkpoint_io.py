"""Checkpoints of a trainer are whole or not there, on any file system, and run no code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from longtail_lightning import LongTailError, WholeCheckpointIO, load
from longtail_lightning._torch_checksum import check_checksum
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def state_of(path):
    with open(path, "rb") as file:
        return check_checksum(file)


def fitted(**options):
    data = tiny_data()
    trainer = tiny_trainer(max_epochs=1, plugins=[WholeCheckpointIO()], **options)
    trainer.fit(tiny_model(data), data)
    return trainer


def test_a_trainer_writes_and_reads_with_it():
    trainer = fitted(enable_checkpointing=True, callbacks=[ModelCheckpoint("own", filename="x", save_last=True)])
    assert {path.name: state_of(path) for path in Path("own").iterdir()} == {
        "x.ckpt": "whole",
        "last.ckpt": "whole",
    }
    data = tiny_data()
    assert load("own/x.ckpt", verify=True).class_names == data.class_names
    saver = ModelCheckpoint("own")
    again = tiny_trainer(max_epochs=2, plugins=[WholeCheckpointIO()], enable_checkpointing=True, callbacks=[saver])
    again.fit(tiny_model(data), data, ckpt_path="own/last.ckpt")
    assert again.global_step == 2 * trainer.global_step


def test_a_pickle_is_not_run(tmp_path):
    class Shell:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    io = WholeCheckpointIO()
    torch.save({"state_dict": {}, "x": Shell()}, "x.ckpt")
    with pytest.raises(LongTailError, match="holds a pathlib"):
        io.load_checkpoint("x.ckpt")
    data = tiny_data()
    with pytest.raises(LongTailError, match="holds a pathlib"):
        tiny_trainer(plugins=[WholeCheckpointIO()]).fit(tiny_model(data), data, ckpt_path="x.ckpt")
    assert not (tmp_path / "ran").exists()
    io.load_checkpoint("x.ckpt", weights_only=False)  # who says so runs it
    assert (tmp_path / "ran").exists()


def test_addresses_are_left_to_lightning():
    io = WholeCheckpointIO()
    io.save_checkpoint({"a": 1}, "memory://folder/x.ckpt")
    assert io.load_checkpoint("memory://folder/x.ckpt") == {"a": 1}
    with pytest.raises(FileNotFoundError):
        io.load_checkpoint("nowhere.ckpt")
    with pytest.raises(TypeError, match="storage_options"):
        io.save_checkpoint({"a": 1}, "x.ckpt", storage_options={})


def save_and_be_killed(path, left):
    """Save in a process of its own, which is killed when it touches the folder once more than `left` times."""
    child = os.fork()
    if child == 0:

        def hook(event, args):
            nonlocal left
            if event in ("open", "os.rename", "os.remove") and str(path.parent) in str(args[0]):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        WholeCheckpointIO().save_checkpoint({"weights": torch.full((1000, 1000), 2.0)}, path)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


NO_OTHER = pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no other file system")


@pytest.mark.parametrize("place", ["here", pytest.param("/dev/shm", marks=NO_OTHER)])
def test_a_kill_leaves_the_old_one_or_the_new_one(tmp_path, place):
    with tempfile.TemporaryDirectory(dir=None if place == "here" else place) as folder:
        path = Path(folder) / "x.ckpt"
        io = WholeCheckpointIO()
        states = []
        for left in range(8):
            io.save_checkpoint({"weights": torch.ones(1000, 1000)}, path)
            ended = save_and_be_killed(path, left)
            states.append((ended, float(io.load_checkpoint(path)["weights"].mean())))
            assert state_of(path) == "whole"
            if ended == 0:
                break
        io.save_checkpoint({"weights": torch.ones(1)}, path)
        assert sorted(each.name for each in Path(folder).iterdir()) == ["x.ckpt"]
    assert states[0] == (-9, 1.0)
    assert states[-1] == (0, 2.0)
    assert {mean for _, mean in states} == {1.0, 2.0}


def test_a_full_disk_leaves_the_old_one():
    io = WholeCheckpointIO()
    io.save_checkpoint({"weights": torch.ones(3)}, "x.ckpt")
    code = (
        "import resource, torch; from longtail_lightning.plugins import WholeCheckpointIO; import signal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "WholeCheckpointIO().save_checkpoint({'weights': torch.ones(100_000)}, 'x.ckpt')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "LongTailError: x.ckpt cannot be written (File too large)" in ended.stderr
    assert io.load_checkpoint("x.ckpt")["weights"].tolist() == [1, 1, 1]
    assert [each.name for each in Path().iterdir()] == ["x.ckpt"]


def test_the_command_line_uses_it_unless_told_otherwise():
    from lightning.pytorch.plugins import AsyncCheckpointIO
    from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

    from longtail_lightning.cli._trainer import with_whole_files

    assert isinstance(with_whole_files({})[0], WholeCheckpointIO)
    assert isinstance(with_whole_files({"strategy": "ddp", "plugins": []})[0], WholeCheckpointIO)
    assert isinstance(with_whole_files({"strategy": DDPStrategy()})[0], WholeCheckpointIO)
    own = AsyncCheckpointIO()
    assert with_whole_files({"plugins": [own]}) == with_whole_files({"plugins": own}) == [own]
    assert with_whole_files({"strategy": "fsdp"}) == []
    assert with_whole_files({"strategy": SingleDeviceStrategy(checkpoint_io=own)}) == []


def fit_and_resume(folder):
    os.chdir(folder)
    saver = ModelCheckpoint("own", save_last=True)
    trainer = fitted(devices=2, strategy="ddp", enable_checkpointing=True, callbacks=[saver])
    trainer.strategy.barrier()
    data = tiny_data()
    again = tiny_trainer(max_epochs=2, devices=2, strategy="ddp", plugins=[WholeCheckpointIO()])
    again.fit(tiny_model(data), data, ckpt_path="own/last.ckpt")
    return state_of(Path("own/last.ckpt")), again.global_step == 2 * trainer.global_step


def test_two_processes(pool, tmp_path):
    assert pool.run(fit_and_resume, str(tmp_path)) == [("whole", True)] * 2
