"""Each row of the table of foreign messages, from an error that the real library raises."""

from __future__ import annotations

import re

import pytest
import torch

from longtail_lightning import BaseClassifier, CIFARResNet
from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._foreign_messages import IN_TREE, WHOLE
from longtail_lightning.cli._messages import one_sentence
from tests.cli.conftest import MODEL, TINY
from tests.cli.test_app import checkpoint_of

# Row -> arguments of `ltl fit` that provoke it, and the whole sentence.
PARSER = {
    "no option": (
        [*MODEL, *TINY, "--model.backbone.dpth=8"],
        "CIFARResNet has no option 'dpth'. Did you mean depth or width?",
    ),
    "required of class": (
        [*MODEL, "--data=ImageFolderLT"],
        "ImageFolderLT needs --data.root.",
    ),
    "no class": (
        [*MODEL, *TINY, "--data.sampler=ClassBalancdSampler"],
        "--data.sampler ClassBalancdSampler: there is no such class. Did you mean ClassBalancedSampler or "
        "ClassAwareSampler or InstanceBalancedSampler?",
    ),
    "other class": (
        [*MODEL, *TINY, "--model.loss=torch.nn.CrossEntropyLoss"],
        "--model.loss torch.nn.CrossEntropyLoss: this class is not a subclass of LongTailLoss. A loss from elsewhere "
        "goes into WrapLoss: --model.loss=WrapLoss --model.loss.loss=torch.nn.CrossEntropyLoss",
    ),
    "abstract": (
        [*MODEL, "--data.batch_size=8"],
        "Say which class before its options: --data CLASS --data.OPTION VALUE.",
    ),
    "model before class": (
        ["--model.backbone.depth=8", *TINY],
        "Say which class before its options: --model CLASS --model.OPTION VALUE.",
    ),
    "no module": (
        ["--model=nowhere.Thing", *TINY],
        "There is no module 'nowhere': classes of this library go by their names alone (--model NAME), your own by "
        "their full path, in a folder of PYTHONPATH.",
    ),
    "unrecognized": (
        [*MODEL, *TINY, "--trainer.max_epcohs=3"],
        "The trainer has no option 'max_epcohs'. Did you mean --trainer.max_epochs or --trainer.max_steps or "
        "--trainer.min_epochs?",
    ),
    "not in config": (
        [*MODEL, *TINY, "--config=typo.yaml"],
        "`ltl fit` knows no 'modle', which a config holds. Did you mean model?",
    ),
    "required": (
        [],
        "--model CLASS and --data CLASS must be given, or a --config FILE_OR_RECIPE that says so.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("row", PARSER)
def test_of_the_parser(ltl, tmp_path, row):
    (tmp_path / "typo.yaml").write_text("modle:\n  class_path: BaseClassifier\n")
    args, sentence = PARSER[row]
    status, _, err = ltl("fit", *args)
    assert (status, err) == (2, f"ltl: error: {sentence}\n"), f"jsonargparse's words for {row!r} have changed"


def weights_of_another_size():
    CIFARResNet(8, width=2).load_state_dict(CIFARResNet(8, width=4).state_dict())


RUNNING = {
    "weights do not fit": (weights_of_another_size, "The weights of the checkpoint do not fit the CIFARResNet: "),
}


# The thread that feeds the dead process may miss it as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("row", RUNNING)
def test_of_what_runs(row):
    provoke, words = RUNNING[row]
    with pytest.raises(RuntimeError) as caught:
        provoke()
    pattern = WHOLE[row][0]
    assert re.search(pattern, str(caught.value)), f"torch's words for {row!r} have changed: {caught.value}"
    with pytest.raises(LongTailError) as told, one_sentence():
        raise caught.value
    assert str(told.value).startswith(words)


def test_a_package_that_is_not_installed(ltl):
    for logger, package in (("TensorBoardLogger", "tensorboard"), ("CometLogger", "comet-ml")):
        try:
            __import__(package.replace("-", "_"))
        except ImportError:
            status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.fast_dev_run=true", "--trainer.logger", logger)
            assert (status, err) == (2, f"ltl: error: {logger} needs another package: pip install {package}\n")
            return
    pytest.skip("both packages are installed")


def test_every_row_is_provoked():
    assert {*IN_TREE, *WHOLE} == {*PARSER, *RUNNING, "package missing"}


def test_what_no_row_knows_is_raised_as_it_is():
    with pytest.raises(RuntimeError, match="anything"), one_sentence():
        raise RuntimeError("anything")


# -- what the user meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["--trainer.devices", "3x"], "--trainer: `devices` selected with `CPUAccelerator` should be an int > 0."),
        (["--optimizer", "Adm"], "--optimizer Adm: there is no such class. Did you mean Adam or RAdam or NAdam?"),
        (
            ["--model.lr_scheduler", "StepLRR"],
            "--model.lr_scheduler StepLRR: there is no such class. Did you mean StepLR or MultiStepLR?",
        ),
        (["--model.hed=CosineHead"], "BaseClassifier has no option 'hed'. Did you mean head?"),
        (["--data.batch_size=x"], "--data.batch_size x: expected int."),
        (["--model.optimizer=Adam", "--model.optimizer.lr=x"], "--model.optimizer.lr x: expected float."),
        (["--model.optimizer=Adam", "--model.optimizer.l=1"], "Adam has no option 'l'."),
        (["--model.lr_scheduler=StepLR"], "StepLR needs --model.lr_scheduler.step_size."),
        (["--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=y"], "--model.lr_scheduler.step_size y: "
         "expected int."),
        (["--optimizer=adm"], "--optimizer adm: there is no such class. Did you mean Adam or RAdam or NAdam?"),
        (["--seed_everything=x"], "--seed_everything x: expected bool or int."),
        (["--config", "wrong.yaml"], "--trainer.max_epochs many: expected int."),
        (["--config", "empty.yaml"], "--config empty.yaml: the file is empty. `ltl cp quickstart` writes one to begin "
         "with."),
        (["--config", "list.yaml"], "--config list.yaml: it holds a list, not `key: value`. `ltl cp quickstart` writes "
         "one to begin with."),
        (["--config", "broken.yaml"], "--config broken.yaml, line 2: this is not YAML (expected ',' or ']', but got "
         "':')."),
        (["--modle.loss=LDAMLoss"], "There is no option --modle.loss. Did you mean --model?"),
    ],
)  # fmt: skip
def test_one_sentence_of_advice(ltl, tmp_path, args, sentence):
    (tmp_path / "empty.yaml").write_text("")
    (tmp_path / "list.yaml").write_text("- 1\n")
    (tmp_path / "broken.yaml").write_text("data: [1, 2\nmodel: x\n")
    (tmp_path / "wrong.yaml").write_text("trainer:\n  max_epochs: many\n")
    status, _, err = ltl("fit", *MODEL, *TINY, "--trainer.fast_dev_run=true", *args)
    lines = [line for line in err.splitlines() if not line.startswith("INFO")]
    assert (status, lines) == (2, [f"ltl: error: {sentence}"])


def test_weights_of_a_checkpoint_that_do_not_fit(ltl, fit):
    path = checkpoint_of(fit())
    saved = torch.load(path, weights_only=True)
    saved["state_dict"]["head.weight"] = torch.zeros(6, 3)
    torch.save(saved, path)
    status, _, err = ltl("test", "--ckpt_path", path)
    assert status == 2
    assert f"The weights of the checkpoint do not fit the {BaseClassifier.__name__}: " in err


def test_what_is_evaluated_must_be_said(ltl):
    for command in ("validate", "test", "predict"):
        status, _, err = ltl(command, *TINY)
        assert (status, err) == (
            2, f"ltl: error: `ltl {command}` needs --ckpt_path FILE, the trained model: see `ltl {command} --help`.\n"
        )  # fmt: skip


def test_an_option_of_the_model_before_its_class(ltl):
    status, _, err = ltl("fit", "--model.backbone=resnet10", *TINY)
    assert (status, err) == (
        2, "ltl: error: Say which class before its options: --model CLASS --model.OPTION VALUE.\n"
    )  # fmt: skip
