"""Two processes train together, and one of them fails."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch
from PIL import Image

from longtail_lightning._torch_checksum import check_checksum
from tests.cli.conftest import MODEL, TINY
from tests.failures.process import LONGEST, LTL, start

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="reads /proc")]
TWO = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.logger=false", "--trainer.max_epochs=100000"]


def other_of(process):
    """The id of the process that Lightning has started from another for the same run; None before it is there."""
    for folder in Path("/proc").iterdir():
        try:
            of_ours = f"\nPPid:\t{process}\n" in (folder / "status").read_text()
            if of_ours and b"\0LOCAL_RANK=1\0" in b"\0" + (folder / "environ").read_bytes():
                return int(folder.name)
        except OSError:  # no process, or one that has ended
            continue
    return None


def alive(process):
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def wait_for(condition, seconds=LONGEST):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.1)
    return found


@pytest.fixture
def two():
    """Start a fit of two processes; gives it, the id of the other, and a file with what both say."""
    started = []

    def fit(*args):
        said = Path("said.txt").open("w+")  # noqa: SIM115
        process = start([*LTL, "fit", *MODEL, *args, *TWO], stdout=said, stderr=subprocess.STDOUT)
        other = wait_for(lambda: other_of(process.pid))
        started.extend([(process, other, said)])
        return process, other, said

    yield fit
    for process, other, said in started:
        for left in (process.pid, other):
            if alive(left):
                os.kill(left, signal.SIGKILL)
        process.wait()
        said.close()


def told(said):
    said.seek(0)
    text = said.read()
    assert "Traceback" not in text
    return [line.removeprefix("ltl: error: ") for line in text.splitlines() if line.startswith("ltl: error: ")]


def training(said):
    said.seek(0)
    return "Loading `train_dataloader`" in said.read()


def test_the_other_one_is_killed(two):
    process, other, said = two(*TINY)
    wait_for(lambda: training(said))
    time.sleep(3)
    os.kill(other, signal.SIGKILL)
    assert process.wait(LONGEST) == 2
    (line,) = told(said)
    assert line.startswith("Process 1 of this run has been killed (Killed): most often the machine ran out of memory")


def test_the_other_one_is_killed_before_they_have_met(two):
    process, other, said = two(*TINY)
    os.kill(other, signal.SIGKILL)
    assert process.wait(LONGEST) == 2
    (line,) = told(said)
    assert line.startswith("Process 1 of this run has been killed (Killed)")


@pytest.mark.parametrize("met", [True, False])
def test_the_first_one_is_killed(two, met):
    process, other, said = two(*TINY)
    if met:
        wait_for(lambda: training(said))
        time.sleep(3)
    else:
        time.sleep(1)  # it has noted whose it is
    process.kill()
    wait_for(lambda: not alive(other))
    (line,) = told(said)
    assert line.startswith("Another process of this run has ended, and this one cannot go on alone")


def test_an_image_that_one_of_them_cannot_read(two, tmp_path):
    for split, name in (("train", "a"), ("train", "b"), ("val", "a"), ("val", "b")):
        folder = tmp_path / "images" / split / name
        folder.mkdir(parents=True)
        for number in range(8):
            Image.fromarray(torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy()).save(
                folder / f"{number}.png"
            )
    bad = tmp_path / "images" / "train" / "b" / "7.png"
    bad.write_bytes(b"\x89PNG and no more")
    process, other, said = two(
        "--data=ImageFolderLT", f"--data.root={tmp_path / 'images'}", "--data.batch_size=2", *TINY[-3:]
    )
    assert process.wait(LONGEST) == 2
    wait_for(lambda: not alive(other))
    assert [line for line in told(said) if str(bad) in line]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("both", [True, False])
def test_two_processes_are_stopped_and_go_on(two, number, status, both):
    process, other, said = two(*TINY)
    wait_for(lambda: list(Path().rglob("last.ckpt")))  # an epoch is over
    for each in (other, process.pid) if both else (process.pid,):
        os.kill(each, number)
    assert process.wait(LONGEST) == status
    wait_for(lambda: not alive(other))
    assert told(said) == []
    (last,) = Path().rglob("last.ckpt")
    with open(last, "rb") as file:
        assert check_checksum(file) == "whole"
    steps = torch.load(last, weights_only=True)["global_step"]
    again, second, _ = two(*TINY, f"--ckpt_path={last}", f"--trainer.max_steps={steps + 2}", "--trainer.max_epochs=-1")
    assert again.wait(LONGEST) == 0
    wait_for(lambda: not alive(second))
    assert torch.load(last, weights_only=True)["global_step"] == steps + 2
