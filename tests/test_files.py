from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from contextlib import suppress

import pytest

from longtail_lightning import LongTailError
from longtail_lightning._files import (
    LOCK,
    locked,
    replace_file,
    replace_file_with_checksum,
    size_and_checksum,
    write_json,
    write_text,
)

HOLD = """
import os, sys, time
from pathlib import Path
from longtail_lightning._files import locked
with locked(Path(sys.argv[1])):
    if sys.argv[2] == "fork" and os.fork() != 0:
        time.sleep(60)  # the child, as a worker of a loader, says that it runs and lives on for a while
    print("locked", flush=True)
    time.sleep(60)
"""


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "deep" / "file"
    assert replace_file(path, lambda file: file.write(b"old")) == path

    def fails(file):
        file.write(b"half of the n")
        assert path.read_bytes() == b"old"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace_file(path, fails)
    assert path.read_bytes() == b"old"
    assert [each.name for each in path.parent.iterdir()] == ["file"]
    replace_file(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_two_writers_of_a_file_do_not_mix(tmp_path):
    path = tmp_path / "file"

    def write(file):
        file.write(b"first half, ")
        replace_file(path, lambda other: other.write(b"the other's"))
        file.write(b"second half")

    replace_file(path, write)
    assert path.read_bytes() == b"first half, second half"
    assert [each.name for each in tmp_path.iterdir()] == ["file"]


def test_text_and_json(tmp_path):
    assert write_text(tmp_path / "a", "\udcff ä").read_bytes() == b"\xff \xc3\xa4"
    assert write_json(tmp_path / "b", {"c": [1]}).read_text() == '{\n "c": [\n  1\n ]\n}\n'


def test_the_checksum_is_that_of_the_file(tmp_path):
    blocks = [b"a" * 3, b"b" * (1 << 20), b"c"]
    written = replace_file_with_checksum(tmp_path / "file", lambda file: [file.write(block) for block in blocks])
    content = (tmp_path / "file").read_bytes()
    assert content == b"".join(blocks)
    assert written == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert size_and_checksum(tmp_path / "file") == written


def test_what_cannot_be_written_is_told_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    for write in (
        lambda: write_text(tmp_path / "file" / "below", "text"),
        lambda: locked(tmp_path / "file").__enter__(),
    ):
        with pytest.raises(LongTailError, match=r"file(/below)? cannot be written \(.+\): give another place\."):
            write()


def enter(context):
    with context:
        pass


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_lock_ends_with_its_owner(tmp_path, how):
    command = [sys.executable, "-c", HOLD, str(tmp_path), how]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        try:
            assert process.stdout.readline() == "locked\n"
            with pytest.raises(
                LongTailError, match=r"Another process is writing to .*: wait until it has ended, or give"
            ):
                enter(locked(tmp_path))
            process.kill()
            process.wait()
            assert (tmp_path / LOCK).exists(), "nobody tidied up"
            enter(locked(tmp_path))
            assert not list(tmp_path.iterdir())
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # and the worker


def test_a_folder_is_locked_once_in_a_process_too(tmp_path):
    with locked(tmp_path / "new"):
        with pytest.raises(LongTailError, match="Another process is writing"):
            enter(locked(tmp_path / "new"))
        assert (tmp_path / "new" / LOCK).exists()
    with locked(tmp_path / "new"):
        enter(locked(tmp_path / "other"))


CONTEND = """
import sys
from pathlib import Path
from longtail_lightning import LongTailError
from longtail_lightning._files import locked
folder, got = Path(sys.argv[1]), 0
while got < 200:
    try:
        with locked(folder):
            (folder / "inside").mkdir()  # fails when another one is in here
            (folder / "inside").rmdir()
            got += 1
    except LongTailError as error:
        assert "Another process" in str(error), error
"""


def test_two_are_never_in_at_once(tmp_path):
    processes = [subprocess.Popen([sys.executable, "-c", CONTEND, str(tmp_path)]) for _ in range(2)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    assert not list(tmp_path.iterdir())
