"""A student of trained networks from the command line: teachers, fit, resume, test without them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tiny import tiny_data, tiny_model, tiny_trainer

NET = ["--model.backbone=CIFARResNet", "--model.backbone.depth=8", "--model.backbone.width=4"]
QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
DATA = [
    *("--data=SyntheticLongTail", "--data.num_classes=6", "--data.max_count=12", "--data.imbalance_factor=4"),
    *("--data.val_per_class=3", "--data.test_per_class=3", "--data.batch_size=8"),
    "--data.sampler=ClassBalancedSampler",
]
STUDENT = ["fit", "--model=Distillation", *NET, *DATA, *QUIET]


def write_teacher(path, seed):
    torch.manual_seed(seed)
    data = tiny_data()
    trainer = tiny_trainer(max_epochs=0)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint(path)


@pytest.fixture
def teachers():
    for seed, path in enumerate(("a.ckpt", "b.ckpt")):
        write_teacher(path, seed)
    return "--model.teachers=[a.ckpt,b.ckpt]"


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_a_student_resumes_with_its_teachers_and_tests_without_them(ltl, teachers):
    status, _, err = ltl(*STUDENT, teachers, "--trainer.max_epochs=2")
    assert status == 0, err
    (last,) = map(str, Path("runs").rglob("last.ckpt"))
    config = str(next(Path("runs").rglob("config_fit.yaml")))
    status, _, err = ltl("fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs=3")
    assert status == 0, err
    assert "replace" not in err
    write_teacher("b.ckpt", 7)
    status, _, err = ltl("fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs=3")
    assert status == 2
    assert "The teacher b.ckpt is another one than b.ckpt with which the run began" in err
    for path in ("a.ckpt", "b.ckpt"):
        Path(path).unlink()
    content = torch.load(last, weights_only=True)
    content["hyper_parameters"]["teachers"] = ["secret.ckpt"]  # as a stranger may write it
    torch.save(content, "stranger.ckpt")
    status, _, err = ltl("test", "--ckpt_path", "stranger.ckpt", *DATA, *QUIET)
    assert status == 0, err
    for more in ([], ["--config", config]):
        status, out, err = ltl("test", *more, "--ckpt_path", last, *(DATA if not more else []), *QUIET)
        assert status == 0, err
        assert "Test accuracy" in out
    status, _, err = ltl("fit", "--config", config, "--ckpt_path", last, "--trainer.max_epochs=3")
    assert status == 2
    assert "teachers: there is no file a.ckpt" in err


def test_a_single_teacher_needs_no_list(ltl, teachers):
    status, _, err = ltl(*STUDENT, "--model.teachers=a.ckpt", "--trainer.fast_dev_run=true")
    assert status == 0, err


def test_what_is_missing_is_told_in_the_words_of_the_command_line(ltl):
    status, _, err = ltl(*STUDENT, "--trainer.fast_dev_run=true")
    assert status == 2
    assert "Distillation needs teachers: give --model.teachers FILE." in err
    status, _, err = ltl(*STUDENT, "--model.teachers=none.ckpt", "--trainer.fast_dev_run=true")
    assert status == 2
    assert "teachers: there is no file none.ckpt" in err
    status, _, err = ltl(*STUDENT, "--model.alpha=1", "--trainer.fast_dev_run=true")
    assert status == 2
    assert "alpha=1 never trains the head" in err


def test_a_frozen_network_of_other_classes_teaches_features(ltl):
    tower = '[{"class_path": "TimmBackbone", "init_args": {"name": "test_resnet"}}]'
    status, _, err = ltl(*STUDENT, f"--model.teachers={tower}", "--trainer.fast_dev_run=true")
    assert status == 0, err
