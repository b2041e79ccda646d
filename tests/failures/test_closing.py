"""An error while a run is closed does not hide the one that ended it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from longtail_lightning import LongTailError
from longtail_lightning.cli._causes import causes
from longtail_lightning.cli._messages import one_sentence
from tests.cli.conftest import MODEL, TINY
from tests.failures.process import sentence

FULL = ["--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs", "--trainer.logger.name=run",
        "--trainer.logger.version=full", "--trainer.max_epochs=1",
        "--trainer.num_sanity_val_steps=0"]  # fmt: skip


@pytest.fixture
def _no_room():
    """The logger keeps its values until the run is closed, and then there is no room for them."""
    if not os.path.exists("/dev/full"):
        pytest.skip("a file of Linux")
    folder = Path("runs/run/full")
    folder.mkdir(parents=True)
    (folder / "metrics.csv").symlink_to("/dev/full")


@pytest.mark.usefixtures("_no_room")
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_our_sentence_stays(ltl):
    status, _, err = ltl("fit", *MODEL, *TINY, *FULL, "--trainer.callbacks+=tests.failures.own.Refuses")
    assert sentence(status, err) == "This is the cause."


@pytest.mark.usefixtures("_no_room")
@pytest.mark.filterwarnings("ignore:Experiment logs directory")
def test_a_fault_stays_a_fault(ltl):
    with pytest.raises(IndexError, match="the fault"):
        ltl("fit", *MODEL, *TINY, *FULL, "--trainer.callbacks+=tests.failures.own.Faulty")


def test_without_a_trainer_the_first_of_our_errors_is_told():
    @one_sentence()
    def work():
        try:
            raise LongTailError("the cause")
        finally:
            raise LongTailError("while closing")

    with pytest.raises(LongTailError, match="the cause"):
        work()


def test_an_error_that_was_dealt_with_is_no_cause():
    @one_sentence()
    def work():
        try:
            raise KeyError("dealt with")
        except KeyError:
            raise ValueError("the fault") from None

    with pytest.raises(ValueError, match="the fault") as error:
        work()
    assert causes(error.value) == [[error.value]]


def test_who_tells_a_cause_in_other_words_has_the_last_word():
    @one_sentence()
    def work():
        try:
            raise LongTailError("the cause")
        except LongTailError as error:
            raise LongTailError("of image 3: the cause") from error

    with pytest.raises(LongTailError, match="of image 3"):
        work()
