"""A disk that is full, a folder that may not be written to, a name that cannot be."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.cli.conftest import MODEL, TINY
from tests.cli.test_app import checkpoint_of
from tests.failures.process import LTL, run, sentence, with_own_mounts

FIT = ["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a file of Linux")
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize("file", ["metrics.csv", "hparams.yaml"])
def test_no_room_for_files_of_the_logger(ltl, file):
    folder = Path("runs/run/full")
    folder.mkdir(parents=True)
    (folder / file).symlink_to("/dev/full")
    told = sentence(*ltl(*FIT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs",
                         "--trainer.logger.name=run", "--trainer.logger.version=full")[::2])  # fmt: skip
    assert told == "A file cannot be written: the disk is full. Free some space, or give another place."


@pytest.mark.skipif(not os.path.exists("/sys"), reason="a folder of Linux, in which nobody makes files")
def test_a_folder_that_may_not_be_written_to(ltl):
    told = sentence(*ltl(*FIT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=/sys/runs")[::2])
    assert told.startswith("/sys/runs: ")
    assert told.endswith(": change its rights, or give another place.")


@pytest.mark.parametrize(("name", "reason"), [("x" * 300, "File name too long"), ("file/x.yaml", "Not a directory")])
def test_a_name_that_cannot_be(ltl, name, reason):
    Path("file").touch()
    status, _, err = ltl("cp", "quickstart", name)
    assert sentence(status, err).startswith(f"{name}")
    assert reason in err or "File exists" in err


def test_a_run_in_a_place_that_is_a_file(ltl):
    Path("file").touch()
    told = sentence(*ltl(*FIT, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=file/runs")[::2])
    assert told.startswith((f"{Path.cwd()}/file", "file/"))


COMMANDS = {
    "fit": FIT,
    "features": ["features", "--ckpt_path={ckpt}", "--out=bank"],
    "predict": ["predict", "--ckpt_path={ckpt}", "--predictions.path=p.csv", "--trainer.logger=false"],
    "pictures": ["predict", "--ckpt_path={ckpt}", "--images={images}", "--predictions.path=p.csv"],
    "tau": ["tau", "--ckpt_path={ckpt}", "--out=tau.ckpt"],
    "prepare": ["data", "prepare", "{images}", "--out=shards"],
    "check": ["data", "check", "{images}", "--out=check.json"],
    "cp": ["cp", "quickstart", "mine.yaml"],
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "how"),
    [*((command, how) for command in COMMANDS for how in ("full", "ro")), ("fit", "size=12k"), ("fit", "size=72k")],
)
def test_every_command_on_a_disk_that_takes_nothing(fit, tmp_path, command, how):
    disk, images = tmp_path / "disk", tmp_path / "images"
    disk.mkdir()
    for name in "ab":
        (images / name).mkdir(parents=True)
        for number in range(30):
            pixels = torch.randint(0, 255, (32, 32, 3), dtype=torch.uint8).numpy()
            Image.fromarray(pixels).save(images / name / f"{number}.png")
    arguments = [word.format(ckpt=Path(checkpoint_of(fit())).resolve(), images=images) for word in COMMANDS[command]]
    place = shlex.quote(str(disk))
    options, fill = (how, "true") if how != "full" else ("size=16k", "! head -c 20000 /dev/zero 2>&- >filler")
    mounted = with_own_mounts(f"mount -t tmpfs -o {options} tmpfs {place}", f"cd {place}", fill)
    told = sentence(*run([*mounted, *LTL, *arguments])[::2])
    full = ("full", "No space left", "0.0 GB left", "0.00 GB are free")
    assert any(words in told for words in (*full, "Read-only")), told
