"""A stranger's files, beside a module that betrays itself when it is imported."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY, ltl

__all__ = ["ltl"]

EVIL = """
from pathlib import Path
from torch import nn
Path("ran").touch()
class Net(nn.Linear):
    num_features = 4
class Module(nn.Module):
    pass
def function(*args, **kwargs):
    Path("ran").touch()
"""


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """The folder of a run that the command line has made."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert main(["fit", *MODEL, *TINY, "--trainer.max_epochs=1"]) == 0
    return folder / "runs" / "run" / "version_0"


@pytest.fixture
def stranger(trained, monkeypatch):
    """Change a good checkpoint with a function, and write it beside `evilmod.py`; gives its path."""
    Path("evilmod.py").write_text(EVIL)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    good = torch.load(trained / "checkpoints" / "last.ckpt", weights_only=True)

    def write(change):
        checkpoint = copy.deepcopy(good)
        change(checkpoint)
        torch.save(checkpoint, "x.ckpt")
        return Path("x.ckpt")

    yield write
    assert not Path("ran").exists(), "code of a stranger ran"
    for name in ("evilmod", "mine"):
        sys.modules.pop(name, None)


class Shell:
    """A pickle that makes a file when it is read."""

    def __reduce__(self):
        return (Path.touch, (Path("ran"),))
