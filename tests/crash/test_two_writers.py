"""Two processes write to one folder at once: what is there in the end is whole."""

from __future__ import annotations

import os
import time
import warnings
from functools import partial

import pytest
from torch.utils.data import DataLoader

from longtail_lightning import FeatureBank, LongTailError, extract_features
from tests.crash.kill import DONE, FAULT, TOLD
from tests.crash.writers import WRITERS
from tests.features.data import encoder, images

BOTH = {writer.name: writer for writer in WRITERS if writer.name in ("bank", "shards", "checkpoint", "text", "memory")}


def start(write, delay):
    """Run a writer in a process of its own, a little later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = FAULT
        try:
            time.sleep(delay)
            write()
            status = DONE
        except LongTailError as error:
            status = TOLD if "Another process is writing to" in str(error) else FAULT
        finally:
            os._exit(status)
    return child


def ends(*children):
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("delay", [0.0, 0.002, 0.01])
def test_the_content_is_that_of_one_of_them(name, delay, tmp_path):
    writer = BOTH[name]
    seen = []
    for version in (0, 1):
        (tmp_path / str(version)).mkdir()
        writer.write(tmp_path / str(version), version)
        seen.append(writer.read(tmp_path / str(version)))
    folder = tmp_path / "both"
    folder.mkdir()
    found = ends(*(start(partial(writer.write, folder, version), version * delay) for version in (0, 1)))
    assert set(found) <= {DONE, TOLD}
    assert DONE in found
    assert writer.read(folder) in seen


@pytest.mark.parametrize("delay", [0.0, 0.01, 0.03, 0.06, 0.1])
def test_two_extractions_of_which_the_second_begins_anew(delay, tmp_path):
    """No row of zeros: before there was a lock, five of eight such banks had some, and loaded."""
    module, loader = encoder(), DataLoader(images(), batch_size=4)
    expected = extract_features(module, loader, split="train", progress=False)
    extract = partial(extract_features, module, loader, tmp_path / "bank", split="train", progress=False, shard_size=4)
    found = ends(start(extract, 0.0), start(partial(extract, overwrite=True), delay))
    assert set(found) <= {DONE, TOLD}
    assert DONE in found
    bank = FeatureBank.load(tmp_path / "bank", verify=True)
    assert bank.features.tolist() == expected.features.tolist()
    assert bank.labels.tolist() == expected.labels.tolist()
    assert bool(bank.features.any(1).all())
