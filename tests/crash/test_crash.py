"""Whatever a writer is doing when it is killed, or when the disk is full: the old content, or the new one, is there."""

from __future__ import annotations

import os
import signal
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.crash.kill import DONE, KILLED, TOLD, run
from tests.crash.writers import WRITERS

MOST = 400  # file events of a writer
each_writer = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def contents(tmp_path):
    """What a reader sees of each whole content, and the files of the new one over the old one."""

    def of(writer):
        folder = tmp_path / "whole"
        seen = []
        for version in (0, 1)[writer.continues :]:
            folder.mkdir(exist_ok=True)
            writer.write(folder, version)
            seen.append(writer.read(folder))
        assert writer.continues or seen[0] != seen[1], "the two contents cannot be told apart"
        return seen, names(folder)

    return of


def attack(writer, folder: Path, event: int, *, full: bool) -> int:
    folder.mkdir()
    if not writer.continues:
        writer.write(folder, 0)
    return run(partial(writer.write, folder, 1), folder, event, full=full)


@each_writer
@pytest.mark.parametrize("full", [False, True], ids=["killed", "disk full"])
def test_the_old_content_or_the_new_one(writer, full, contents, tmp_path):
    seen, whole = contents(writer)
    states = []
    for event in range(MOST):
        folder = tmp_path / str(event)
        ended = attack(writer, folder, event, full=full)
        if ended == DONE:
            break
        assert ended == (TOLD if full else KILLED), f"event {event}"
        if not writer.continues:
            states.append(seen.index(writer.read(folder)))  # an error, or neither content, ends the test
        writer.write(folder, 1)
        assert writer.read(folder) == seen[-1]
        # Names of a bank's files change with each save.
        left = [name for name in names(folder) if "." not in name[:1]]
        assert len(left) == len(whole), f"litter after event {event}: {sorted(set(left) ^ set(whole))}"
        assert not [name for name in names(folder) if name.endswith(".part")]
    assert 0 < event < MOST - 1
    assert states == sorted(states), "first the old one, then the new one"
    if not full and not writer.continues:
        assert states[0] == 0


@each_writer
def test_who_reads_while_it_is_replaced_sees_one_of_them(writer, contents, tmp_path):
    if writer.continues:
        pytest.skip("nothing is replaced")
    seen, _ = contents(writer)
    folder = tmp_path / "busy"
    folder.mkdir()
    writer.write(folder, 0)
    with replaced_again_and_again(lambda version: writer.write(folder, version)) as alive:
        end, found = time.monotonic() + 0.5, set()
        while time.monotonic() < end:
            found.add(seen.index(writer.read(folder)))
        assert alive(), "the writer failed"
    assert found


class replaced_again_and_again:
    """Write one content after the other in a process of its own."""

    def __init__(self, write: Callable[[int], object]) -> None:
        self.write = write

    def __enter__(self) -> Callable[[], bool]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            self.child = os.fork()
        if self.child == 0:
            status = 1
            try:
                for number in range(1_000_000):
                    self.write(1 - number % 2)
            finally:
                os._exit(status)
        return lambda: os.waitpid(self.child, os.WNOHANG) == (0, 0)

    def __exit__(self, *error: object) -> None:
        try:
            os.kill(self.child, signal.SIGKILL)
            os.waitpid(self.child, 0)
        except (ProcessLookupError, ChildProcessError):
            pass
