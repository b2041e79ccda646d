"""Command lines and checkpoints with whatever stands in them."""

from __future__ import annotations

import contextlib
import copy
import io
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import strategies as st

from longtail_lightning import load
from longtail_lightning.cli.main import main
from longtail_lightning.cli.parser import COMMANDS, parse
from tests.fuzz.cases import ODD_NUMBERS, Told, answer, fuzz
from tests.tiny import tiny_data, tiny_model, tiny_trainer

KEYS = (
    "model", "data", "trainer", "model.loss", "model.head", "model.backbone", "model.loss.tau", "data.num_classes",
    "data.batch_size", "data.imbalance_factor", "data.sampler", "trainer.max_epochs", "trainer.devices",
    "trainer.callbacks", "seed_everything", "model.optimizer", "model.optimizer.lr", "model.many", "data.val_split",
)  # fmt: skip
VALUE = st.one_of(
    st.integers(-2, 50).map(str),
    st.sampled_from(["null", "true", "nan", "inf", "1e11", "[]", "{}", "a.b.C", "os.system", "LDAMLoss", "CosineHead"]),
    st.text(st.characters(exclude_characters="\x00", exclude_categories=("Cs",)), max_size=6),
)
BASE = ["--data=SyntheticLongTail", "--data.num_classes=3", "--data.max_count=6", "--data.imbalance_factor=2",
        "--model=BaseClassifier", "--model.backbone=CIFARResNet", "--model.backbone.depth=8",
        "--model.backbone.width=4"]  # fmt: skip


def status_of(args):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        try:
            return main(args), out.getvalue()
        except SystemExit as end:
            return end.code, out.getvalue()


@fuzz(
    st.lists(
        st.tuples(st.one_of(st.sampled_from(KEYS), st.sampled_from(KEYS).map(lambda key: key[:-1])), VALUE), max_size=3
    ),
    cost=25,
)
def test_keys_and_values(pairs):
    """Whatever stands after `ltl fit`, there is no traceback; `--print_config` ends it before it trains."""
    args = ["fit", *BASE, *(f"--{key}={value}" for key, value in pairs), "--print_config"]
    status, told = answer(lambda: status_of(args))
    assert status in (0, 2), (status, args)
    assert "Traceback" not in told
    if status == 2:
        assert told.strip().splitlines()[-1].startswith("ltl: error: ")


@fuzz(
    st.sampled_from(COMMANDS),
    st.lists(st.one_of(VALUE, st.sampled_from(["--out", "--data", "--many", "-h", "--json"])), max_size=4),
)
def test_words_of_the_small_commands(command, words):
    def call():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return parse([command, *words])

    answer(call)


GOOD = {}  # not an argument of the test, as each case would print it


@pytest.fixture(scope="module", autouse=True)
def good(tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    data = tiny_data()
    trainer, model = tiny_trainer(max_epochs=1), tiny_model(data)
    trainer.fit(model, data)
    trainer.save_checkpoint(folder / "x.ckpt")
    GOOD.update(torch.load(folder / "x.ckpt", weights_only=True))


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        if not isinstance(item, torch.Tensor):
            yield from places(item, (*path, key))


OTHER = st.one_of(ODD_NUMBERS, st.sampled_from([(), "evilmod.Net", "os.system"]))


@fuzz(st.integers(0, 10**6), OTHER, st.booleans(), cost=4)
def test_changed_values_of_a_checkpoint(number, value, leave_out):
    checkpoint = copy.deepcopy({key: GOOD[key] for key in ("state_dict", "hyper_parameters", "longtail_lightning")})
    # Compiling is allowed, and takes a minute.
    found = [path for path in places(checkpoint) if path and path[-1] != "compile_parts"]
    *above, last = found[number % len(found)]
    inner = checkpoint
    for key in above:
        inner = inner[key]
    if leave_out and isinstance(inner, dict):
        del inner[last]
    else:
        inner[last] = value
    with tempfile.TemporaryDirectory() as folder:
        torch.save(checkpoint, Path(folder) / "x.ckpt")
        found = answer(lambda: load(Path(folder) / "x.ckpt", device="cpu"))
        if found is not Told:
            answer(lambda: found.predict(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)))
