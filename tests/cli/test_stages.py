"""Recipes with stages. Where the stages themselves do not matter, a stand-in takes the place of their processes."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import pytest
import torch
import yaml

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli import _stage_process, _stage_run, app
from longtail_lightning.cli._stage_process import locked, run_process
from longtail_lightning.cli._stage_run import MARK
from longtail_lightning.cli.catalog import ROOT
from longtail_lightning.cli.main import main
from tests.cli.conftest import MODEL, TINY

RUN = Path("runs/mine/version_0")
RECIPE = """
seed_everything: 3
trainer: {max_epochs: 2}
data: {class_path: SyntheticLongTail, init_args: {num_classes: 6, batch_size: 8}}
stages:
  teacher:
    model: {class_path: BaseClassifier, init_args: {backbone: cifar_resnet20}}
  bank: {run: features, ckpt_path: "${stages.teacher.best}", split: [train, val], views: 2, overwrite: true}
  student:
    trainer: {max_epochs: 5}
    data: {init_args: {sampler: ClassBalancedSampler}}
    model:
      class_path: Decoupled
      init_args:
        checkpoint: "${stages.teacher.checkpoints.last}"
        loss: {init_args: {file: "${stages.bank.bank}/val"}}
  check: {run: test, ckpt_path: "${stages.student.best}"}
"""


def write(text: str = RECIPE, **changes: str) -> None:
    for old, new in changes.items():
        text = text.replace(old, new)
    Path("mine.yaml").write_text(text, encoding="utf-8")


def epoch_of(checkpoint: Path) -> int:
    return torch.load(checkpoint, weights_only=True)["epoch"]


@pytest.fixture
def staged(ltl, monkeypatch):
    """Run `ltl fit` with a recipe; gives status, stdout, stderr and the stages that were run with their words.

    `fails` ends a stage with that status, after its checkpoint was written.
    """

    def run(*args: str, fails: dict[str, int] | None = None):
        calls: dict[str, list[str]] = {}

        def stand_in(command, inherited=()):
            assert command[:3] == [sys.executable, "-m", "longtail_lightning.cli.main"]
            words = command[3:]
            flags = dict(word.split("=", 1) if "=" in word else (word, None) for word in words[1:])
            place = Path(flags.get("--config") or flags["--predictions.path"])
            name = place.relative_to(sorted(Path("runs/mine").glob("version_*"))[-1]).parts[0]
            calls[name] = words
            if words[0] == "features":
                (place.parent / "bank").mkdir()
            if words[0] == "fit":
                for file in ("best", "last"):
                    checkpoint = place.parent / "checkpoints" / f"{file}.ckpt"
                    checkpoint.parent.mkdir(exist_ok=True)
                    torch.save(f"{file} of {name}", checkpoint)
                (place.parent / "config_fit.yaml").write_text(place.read_text())
            return (fails or {}).get(name, 0)

        monkeypatch.setattr(_stage_run, "run_process", stand_in)
        status, out, err = ltl("fit", "--config", "mine.yaml", *args)
        return status, out, err, calls

    return run


def test_stages_run_in_order_and_are_skipped_when_finished(staged):
    write()
    status, out, err, calls = staged()
    assert (status, err) == (0, "")
    assert list(calls) == ["teacher", "bank", "student", "check"]
    assert calls["teacher"] == ["fit", f"--config={RUN}/teacher/stage.yaml"]
    assert set(calls["bank"][1:]) == {
        f"--ckpt_path={RUN}/teacher/checkpoints/best.ckpt",
        f"--config={RUN}/bank/stage.yaml",
        f"--out={RUN}/bank/bank",
        "--split=train,val",
        "--views=2",
        "--overwrite",
    }
    assert calls["check"][-1] == f"--ckpt_path={RUN}/student/checkpoints/best.ckpt"
    assert out.count("stage    run       state") == 5, "before, between and after"
    last = out.strip().rpartition("\n\n")[2].splitlines()
    assert all("finished" in line for line in last[2:])

    status, out, _, calls = staged()
    assert (status, calls) == (0, {})
    assert "--stages.new" in out
    assert list(staged("--stages.new")[3]) == ["teacher", "bank", "student", "check"]
    assert sorted(Path("runs/mine").iterdir()) == [RUN, RUN.with_name("version_1")]


def test_settings_are_those_of_all_stages_then_of_the_stage(staged):
    write()
    staged()
    teacher, student, check = (
        yaml.safe_load((RUN / name / "stage.yaml").read_text()) for name in ("teacher", "student", "check")
    )
    assert (teacher["trainer"]["max_epochs"], student["trainer"]["max_epochs"]) == (2, 5)
    assert student["data"]["init_args"] == {"num_classes": 6, "batch_size": 8, "sampler": "ClassBalancedSampler"}
    assert student["model"]["init_args"] == {
        "checkpoint": f"{RUN}/teacher/checkpoints/last.ckpt",
        "loss": {"init_args": {"file": f"{RUN}/bank/bank/val"}},
    }
    assert student["trainer"]["logger"]["init_args"] == {
        "save_dir": "runs/mine",
        "name": "version_0",
        "version": "student",
    }
    bank = yaml.safe_load((RUN / "bank" / "stage.yaml").read_text())
    assert check["data"] == student["data"], "a test has the data of the run whose checkpoint it takes"
    assert bank["data"] == teacher["data"]
    repeat = yaml.safe_load((RUN / "student" / "config_fit.yaml").read_text())
    assert repeat["trainer"]["logger"]["init_args"]["version"] is None, "repeating a stage must not write over it"


def test_predictions_of_pictures_need_no_data(staged):
    write(RECIPE.replace("check: {run: test,", "check: {run: predict, images: photos, predictions: {top_k: 3},"))
    assert staged()[3]["check"] == [
        "predict",
        f"--ckpt_path={RUN}/student/checkpoints/best.ckpt",
        f"--predictions.path={RUN}/check/predictions.csv",
        "--images=photos",
        "--predictions.top_k=3",
    ]
    write(RECIPE.replace("check: {run: test,", "check: {run: predict, images: ['a, b.jpg', c],"))
    assert staged("--stages.new")[3]["check"][-2:] == ["--images=a, b.jpg", "--images=c"]


def test_a_stage_can_begin_with_a_recipe_or_a_file_beside_the_staged_one(staged):
    Path("folder").mkdir()
    Path("folder/base.yaml").write_text("trainer: {max_epochs: 9, devices: 1}\n")
    Path("folder/mine.yaml").write_text(
        "trainer: {max_epochs: 2}\nstages:\n  a: {config: base.yaml}\n  b: {config: quickstart}\n"
    )
    status, out, _ = ltl_dry("folder/mine.yaml")
    assert status == 0
    assert out["a"] == {"trainer": {"max_epochs": 2, "devices": 1}}
    assert out["b"]["data"]["class_path"] == "longtail_lightning.SyntheticLongTail"
    assert out["b"]["trainer"]["max_epochs"] == 2


def ltl_dry(config, *args):
    """What `--stages.dry_run` shows, in a process of its own; torch is not imported."""
    code = (
        "import sys; from longtail_lightning.cli.main import main; status = main(sys.argv[1:]); "
        "assert 'torch' not in sys.modules; sys.exit(status)"
    )
    words = ["fit", "--config", config, "--stages.dry_run", *args]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    parts = [part.partition("\n") for part in done.stdout.split("# ")[1:]]
    return done.returncode, {head.split(":")[0]: yaml.safe_load(text) for head, _, text in parts}, done.stderr


def test_dry_run_runs_nothing(staged):
    write()
    status, out, _, calls = staged("--stages.dry_run", "--stages.student.trainer.max_epochs", "7")
    assert (status, calls) == (0, {})
    assert "# student: ltl fit --trainer.max_epochs=7" in out
    assert "${stages.teacher.checkpoints.last}" in out
    assert not Path("runs").exists()


def test_options_of_one_stage_and_of_all(staged):
    write()
    args = ["--stages.student.trainer.max_epochs", "3", "--data.batch_size=4", "--stages.bank.views=4"]
    calls = staged(*args)[3]
    assert calls["teacher"][2:] == ["--data.batch_size=4"]
    assert calls["student"][2:] == ["--data.batch_size=4", "--trainer.max_epochs=3"]
    assert "--views=4" in calls["bank"]
    assert "--data.batch_size=4" not in calls["check"]
    assert staged(*args)[::3] == (0, {}), "the same command finds it finished"
    assert staged(*args[2:])[0] == 2, "another one would have made another student"


def test_each_stage_alone(staged):
    write()
    status, _, err, calls = staged("--stage", "student")
    assert (status, calls) == (2, {})
    assert "Stage student takes ${stages.teacher.checkpoints.last}, and teacher has not finished" in err
    for name in ("teacher", "bank", "student"):
        status, _, _, calls = staged("--stage", name)
        assert (status, list(calls)) == (0, [name])
    assert list(staged()[3]) == ["check"]


def test_what_was_interrupted_goes_on_from_its_last_checkpoint(staged):
    write()
    status, out, err, calls = staged(fails={"student": 137})
    assert (status, list(calls)) == (137, ["teacher", "bank", "student"])
    assert "stage student was stopped" in err
    assert "student  fit       interrupted" in out
    (RUN / "student" / "metrics.csv").write_text("epoch,val/acc\n0,0.5\n1,0.25\n")
    status, out, _, calls = staged()
    assert list(calls) == ["student", "check"]
    assert calls["student"][-1] == f"--ckpt_path={RUN}/student/checkpoints/last.ckpt"
    assert "student  fit       continues" in out
    assert "val/acc 0.500" in out, "the curves before the interruption are kept"
    repeat = yaml.safe_load((RUN / "student" / "config_fit.yaml").read_text())
    assert repeat["ckpt_path"] is None, "it repeats the stage, not its end"


def test_a_checkpoint_that_was_cut_off_is_not_used(staged):
    write()
    staged(fails={"teacher": 137})
    last = RUN / "teacher" / "checkpoints" / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-20])
    (RUN / "teacher" / "left over").touch()
    (RUN / "teacher" / "checkpoints" / "best.ckpt").unlink()
    calls = staged()[3]
    assert calls["teacher"][2:] == []
    assert not (RUN / "teacher" / "left over").exists()


def test_checkpoints_from_which_a_stage_cannot_go_on_are_kept(staged):
    write()
    for number in range(2):
        staged(fails={"teacher": 137})
        (RUN / "teacher" / "checkpoints" / "last.ckpt").unlink()
        staged(fails={"teacher": 137})
        (kept,) = (RUN / f"teacher.stopped_{number}").rglob("*.ckpt")
        assert kept.name == "best.ckpt"


def test_what_was_kept_is_not_written_over_when_a_part_of_it_was_deleted(tmp_path):
    folder = tmp_path / "teacher"
    for name in ("teacher/metrics_1.csv", "teacher/metrics.csv", "teacher.stopped_1/kept"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    _stage_run._keep_curves(folder)
    assert (folder / "metrics_1.csv").read_text() == "teacher/metrics_1.csv"
    torch.save({}, folder / "a.ckpt")
    _stage_run._clear(folder)
    assert (tmp_path / "teacher.stopped_0" / "a.ckpt").exists()


def test_a_run_that_another_process_begins_at_the_same_time(staged, monkeypatch):
    write()
    RUN.mkdir(parents=True)
    monkeypatch.setattr(_stage_run, "_number", lambda folder: -1)  # as before the folder was there
    status, _, err, _ = staged()
    assert status == 2
    assert "Another process has just begun" in err


@pytest.mark.parametrize("fails", [{}, {"teacher": 137}], ids=["finished", "interrupted"])
def test_changed_settings_of_an_earlier_stage_are_refused(staged, fails):
    write()
    staged(fails=fails)
    write(cifar_resnet20="cifar_resnet32")
    status, _, err, calls = staged()
    assert (status, calls) == (2, {})
    assert "Stage teacher ran with model.backbone 'cifar_resnet20', now 'cifar_resnet32'" in err
    assert "set it back, or begin a new version with --stages.new" in err
    assert staged("--stage", "student")[0] == 2, "it rests on the teacher"
    assert list(staged("--stages.new")[3])[:1] == ["teacher"]


def test_settings_that_failed_at_once_can_be_changed(staged, monkeypatch):
    write()
    staged(fails={"teacher": 2})
    (RUN / "teacher" / "checkpoints" / "last.ckpt").unlink()
    write(cifar_resnet20="cifar_resnet32")
    assert staged()[0] == 0


def test_where_a_stage_runs_may_change(staged):
    write()
    staged("--trainer.accelerator=cpu", fails={"student": 1})
    status, _, _, calls = staged("--data.num_workers=2", "--trainer.devices=2", "--trainer.enable_progress_bar=false")
    assert (status, list(calls)) == (0, ["student", "check"])


def test_another_checkpoint_than_the_one_that_was_used_is_refused(staged):
    write()
    staged()
    torch.save("another", RUN / "teacher" / "checkpoints" / "last.ckpt")
    status, _, err, _ = staged()
    assert status == 2
    assert f"Stage student was made from another {RUN}/teacher/checkpoints/last.ckpt" in err
    assert f"delete {RUN}/student to run it again" in err
    (RUN / "teacher" / "checkpoints" / "last.ckpt").unlink()
    assert staged()[0] == 0, "one that was removed when all was done is not missed"


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("${stages.teacher.best}", "${stages.techer.best}", "there is no such stage. Did you mean teacher?"),
        ("${stages.teacher.best}", "${stages.student.best}", "does not come before it: put student first."),
        ("${stages.teacher.best}", "${stages.bank.best}", "does not come before it"),
        ("${stages.teacher.best}", "${stages.teacher.bset}", "a stage has no 'bset'. Did you mean best?"),
        ("${stages.teacher.best}", "${stage.teacher.best}", "is not a reference; write ${stages.NAME.best}."),
        ("${stages.bank.bank}", "${stages.bank.best}", "`ltl features` leaves no best"),
        ("${stages.bank.bank}", "${stages.teacher.bank}", "`ltl fit` leaves no bank"),
        ("run: features", "run: feature", "there is no `run: feature`. Did you mean features?"),
        ('ckpt_path: "${stages.student.best}"', "verbose: true", "Stage check needs a checkpoint"),
        ("  teacher:", "  new:", "'new' cannot name a stage"),
        ("  teacher:", "  ../up:", "'../up' cannot name a stage"),
        ("{run: test", "{config: staged_quickstart", "has stages of its own"),
        ("{run: test", "{config: nowhere", "there is no such file, and no such recipe"),
        ("trainer: {max_epochs: 2}", "trainer: {max_epochs: 2", "is not YAML"),
        ("trainer: {max_epochs: 2}", "trainer: !!python/object/apply:os.getcwd []", "is not YAML"),
    ],
)
def test_bad_recipes_are_told_in_a_sentence(staged, old, new, told):
    assert old in RECIPE
    write(RECIPE.replace(old, new))
    status, _, err, calls = staged()
    assert (status, calls) == (2, {})
    assert told in err
    assert len(err.splitlines()) == 1
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--stage", "studnt"], "--stage studnt: there is no such stage. Did you mean student?"),
        (["--stages.studnt.trainer.max_epochs=1"], "Did you mean student?"),
        (["--ckpt_path=x.ckpt"], "--stages.NAME.ckpt_path"),
        (["--trainer.logger=false"], "Each stage logs to a folder of its own"),
        (["teacher"], "an option begins with two dashes"),
    ],
)
def test_bad_options_are_told_in_a_sentence(staged, args, told):
    write()
    status, _, err, _ = staged(*args)
    assert status == 2
    assert told in err


def test_a_checkpoint_that_is_not_there_is_told(staged):
    write()
    staged(fails={"student": 1})
    write(RECIPE.replace("teacher.checkpoints.last", "teacher.checkpoints.crt"))
    (RUN / "student" / "checkpoints" / "last.ckpt").unlink()
    status, _, err, _ = staged()
    assert status == 2
    assert f"there is no such file in {RUN}/teacher/checkpoints, which holds best, last" in err


def test_stages_are_for_fit(ltl, monkeypatch):
    write()
    status, _, err = ltl("test", "--config", "mine.yaml")
    assert status == 2
    assert "`ltl test --ckpt_path FILE`" in err
    status, out, _ = ltl("fit", "--config", "mine.yaml", "--help")
    assert status == 0
    assert "--stages.dry_run" in out
    monkeypatch.setenv("WORLD_SIZE", "2")
    status, _, err = ltl("fit", "--config", "mine.yaml")
    assert status == 2
    assert "without torchrun" in err


def test_two_processes_do_not_run_the_same_folder(tmp_path, monkeypatch):
    with open(tmp_path / "a", "w") as first, open(tmp_path / "a", "w") as second:
        assert locked(tmp_path, first.fileno()) == (first.fileno(),)
        monkeypatch.setattr(_stage_process.time, "sleep", lambda seconds: None)
        with pytest.raises(LongTailError, match="Another process runs"):
            locked(tmp_path, second.fileno())


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_reach_the_stage(number, status):
    # The stage says which signal it got, and ends with 0, as Lightning does after SIGTERM.
    stage = (
        "import os, signal, sys, time\n"
        "def told(number, _): open('got', 'w').write(str(number)); sys.exit(0)\n"
        f"signal.signal({int(number)}, told)\n"
        f"os.kill(os.getppid(), {int(number)})\n"
        "time.sleep(60)"
    )
    assert run_process([sys.executable, "-c", stage]) == status
    assert Path("got").read_text() == str(int(number))


def test_status_of_a_process():
    assert run_process([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    assert run_process([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137


# -- real runs -----------------------------------------------------------------------------------

SMALL = [
    *("--trainer.max_epochs=12", "--data.max_count=24"),
    *("--data.val_per_class=2", "--data.test_per_class=2", "--data.batch_size=16", "--trainer.accelerator=cpu"),
    *("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"),
]
QUICK = ["fit", "--config", "staged_quickstart", *SMALL]
STAGES = ("teacher", "student")
FOLDER = Path("runs/staged_quickstart/version_0")
DISTILLED = """
seed_everything: 0
data: {class_path: SyntheticLongTail, init_args: {num_classes: 10, imbalance_factor: 4}}
stages:
  teacher:
    model: {class_path: BaseClassifier, init_args: {backbone: {class_path: CIFARResNet, init_args: {depth: 8}}}}
  student:
    data: {init_args: {sampler: ClassBalancedSampler}}
    model:
      class_path: Distillation
      init_args:
        backbone: {class_path: CIFARResNet, init_args: {depth: 8, width: 8}}
        teachers: ["${stages.teacher.last}"]
"""


def here(command, inherited=()):
    """A stage in this process: no imports to wait for."""
    return main(command[3:])


def start(command):
    """The command in a group of processes of its own."""
    words = [sys.executable, "-m", "longtail_lightning.cli.main", *command]
    with open("log", "ab") as log:
        return subprocess.Popen(
            words, start_new_session=True, stdout=log, stderr=log, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )


def kill_when(process, file):
    """Kill -9 the group as soon as a file is there."""
    for _ in range(6000):
        if file.is_file() or process.poll() is not None:
            break
        time.sleep(0.02)
    assert process.poll() is None, Path("log").read_text()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def weights(folder):
    return {
        name: torch.load(folder / name / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for name in STAGES
    }


def assert_equal_runs(one, other):
    found, expected = weights(one), weights(other)
    for name in STAGES:
        assert epoch_of(one / name / "checkpoints" / "last.ckpt") == 11, "the last checkpoint is of the last epoch"
        assert found[name].keys() == expected[name].keys()
        assert all(torch.equal(value, expected[name][key]) for key, value in found[name].items()), name


@pytest.mark.filterwarnings("ignore:Experiment logs directory")
@pytest.mark.parametrize("recipe", ["staged_quickstart", pytest.param("distilled", marks=pytest.mark.slow)])
def test_killed_in_each_stage_it_ends_equal_to_an_uninterrupted_run(tmp_path, monkeypatch, recipe):
    config = recipe
    if recipe == "distilled":
        Path("distilled.yaml").write_text(DISTILLED)
        config = str(Path("distilled.yaml").absolute())
    command, runs = ["fit", "--config", config, *SMALL], Path("runs", recipe, "version_0")
    for name in STAGES:
        kill_when(start(command), tmp_path / runs / name / "checkpoints" / "last.ckpt")
        assert (tmp_path / runs / name / "started.json").is_file()
        assert not (tmp_path / runs / name / "finished.json").exists(), "killed before its end"
        assert epoch_of(tmp_path / runs / name / "checkpoints" / "last.ckpt") < 11
    assert (tmp_path / runs / "teacher" / "finished.json").is_file()
    monkeypatch.setattr(_stage_run, "run_process", here)
    assert main(command) == 0
    assert len(list(runs.parent.glob(f"*/{MARK}"))) == 1
    Path("whole").mkdir()
    monkeypatch.chdir("whole")
    assert main(command) == 0
    assert_equal_runs(tmp_path / runs, runs)
    # A stage repeats by itself, and writes beside what is there.
    assert main(["fit", "--config", str(runs / "student" / "config_fit.yaml"), "--trainer.max_epochs=1"]) == 0
    assert (runs / "student" / "version_0" / "metrics.csv").is_file()


@pytest.mark.slow
def test_however_often_it_is_stopped_it_ends_equal(tmp_path, monkeypatch):
    def wait_for(file, process):
        for _ in range(6000):
            if file.is_file() or process.poll() is not None:
                return
            time.sleep(0.02)

    begun, student = FOLDER / "teacher" / "started.json", FOLDER / "student"
    kill_when(start(QUICK), begun)  # before there is any checkpoint
    process = start(QUICK)
    wait_for(FOLDER / "teacher" / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    process = start(QUICK)
    wait_for(student / "checkpoints" / "last.ckpt", process)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert not (student / "finished.json").exists()
    process, began = start(QUICK), (student / "started.json").stat().st_mtime_ns
    while (student / "started.json").stat().st_mtime_ns == began and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)  # the stage lives on, and keeps its folder
    process.wait()
    assert start(QUICK).wait() in (0, 2), "waits for it, and refuses after a while"
    for _ in range(600):
        if (process := start(QUICK)).wait() == 0:
            break
        time.sleep(0.2)
    assert (student / "finished.json").is_file()
    Path("whole").mkdir()
    monkeypatch.chdir("whole")
    assert start(QUICK).wait() == 0
    assert_equal_runs(tmp_path / FOLDER, FOLDER)


def test_a_run_that_is_terminated_says_so(ltl, monkeypatch):
    """Lightning ends with status 0 after SIGTERM; a stage would count as finished."""

    class Terminate(L.Callback):
        def on_train_start(self, trainer, pl_module):
            os.kill(os.getpid(), signal.SIGTERM)

    original = app.LongTailCLI.instantiate_trainer

    def with_signal(self, **kwargs):
        trainer = original(self, **kwargs)
        trainer.callbacks.append(Terminate())
        return trainer

    monkeypatch.setattr(app.LongTailCLI, "instantiate_trainer", with_signal)
    assert ltl("fit", *MODEL, *TINY, "--trainer.max_epochs=3")[0] == 143


def test_the_recipe_of_the_guide(ltl):
    guide = ROOT.parent.parent / "docs" / "guides" / "stages.md"
    (recipe,) = re.findall(r"```yaml\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    Path("staged.yaml").write_text(recipe)
    (commands,) = re.findall(r"```bash\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    for line in commands.splitlines():
        words = shlex.split(line, comments=True)[1:]
        assert ltl(*words, "--stages.dry_run")[0] == 0, line


@pytest.mark.slow
def test_every_command_can_be_a_stage(ltl):
    Path("all.yaml").write_text(ALL)
    assert (
        subprocess.run([sys.executable, "-m", "longtail_lightning.cli.main", "fit", "--config", "all.yaml"]).returncode
        == 0
    )
    run = Path("runs/all/version_0")
    assert (run / "bank" / "bank" / "val" / "bank.json").is_file()
    assert (run / "check" / "report_test.json").is_file()
    assert len((run / "write" / "predictions.csv").read_text().splitlines()) == 9
    assert ltl("test", "--ckpt_path", run / "even" / "checkpoints" / "tau.ckpt")[0] == 0
    assert (run / "teacher" / "version_0" / "report_test.json").is_file(), "beside the stage, whose config it has"


ALL = """
data:
  class_path: SyntheticLongTail
  init_args: {num_classes: 4, max_count: 16, imbalance_factor: 4, val_per_class: 2, test_per_class: 2}
trainer: {enable_progress_bar: false, enable_model_summary: false, accelerator: cpu, max_epochs: 1}
stages:
  teacher:
    model:
      class_path: BaseClassifier
      init_args: {backbone: {class_path: CIFARResNet, init_args: {depth: 8, width: 4}}}
  bank: {run: features, ckpt_path: "${stages.teacher.best}", split: [train, val], dtype: float32}
  even: {run: tau, tau: 0.5, ckpt_path: "${stages.teacher.last}", trainer: {devices: 1}}
  check: {run: test, ckpt_path: "${stages.even.best}", trainer: {accelerator: cpu}}
  write: {run: predict, ckpt_path: "${stages.even.checkpoints.tau}"}
"""
