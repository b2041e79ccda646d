"""`ltl data check` on trees with and without faults."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shlex
import signal
import sys
import time
from pathlib import Path

import pytest

from longtail_lightning import ImageListLT, LongTailDataModule
from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._messages import one_sentence
from longtail_lightning.cli.catalog import ROOT
from longtail_lightning.cli.main import main
from longtail_lightning.curation.data_report import FAULTS
from tests.bombs import NO_FILES, make_pipe
from tests.curation.faults import CLASSES, clean_tree, lists, picture, plant
from tests.curation.test_check import Stopping, die

QUIET = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
MODEL = ["--model=BaseClassifier", "--model.backbone=CIFARResNet", "--model.backbone.depth=8", *QUIET]


@pytest.fixture
def tree(tmp_path):
    return clean_tree(tmp_path / "my photos")


def test_a_clean_folder(ltl, tree):
    before = sorted(tree.rglob("*"))
    status, out, err = ltl("data", "check", tree)
    assert status == 0, err
    assert "Nothing is wrong." in out
    assert "imbalance factor 1.66667" in out
    assert "(15 train, 4 val, 8 test)" in out
    assert json.loads(Path("data_check.json").read_text())["clean"] is True
    assert sorted(tree.rglob("*")) == before, "nothing is written into the data folder"


def test_faults_with_the_first_files_and_advice(ltl, tree, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    plant(tree)
    status, out, _ = ltl("data", "check", tree, "--num_workers=2", "--out", "found.json")
    assert status == 1
    row = next(line for line in out.splitlines() if "same image, different labels" in line)
    assert "train/ant/2 a.jpg (label 0, but 2 as train/cat/wrong.jpg)" in row
    assert "find the right label" in row
    assert "missing file" in out
    assert len(json.loads(Path("found.json").read_text())["faults"]) == 12


def test_machine_readable(ltl, tree):
    planted = plant(tree)
    status, out, _ = ltl("data", "check", tree, "--json")
    assert status == 1
    assert json.loads(out) == json.loads(Path("data_check.json").read_text())
    assert {kind: group["count"] for kind, group in json.loads(out)["faults"].items()} == {
        kind: len(files) for kind, files in planted.items()
    }


def test_clean_lists_train(ltl, tree):
    plant(tree)
    status, out, _ = ltl("data", "check", tree, "--fix", "list")
    assert status == 1
    (command,) = [line for line in out.splitlines() if line.startswith("train on it")]
    words = command.partition("ltl ")[2].replace(f"'{tree}'", "ROOT").split()
    words = [word.replace("ROOT", str(tree)) for word in words]
    assert "train_clean.txt" in words
    words = words[: words.index("--model")] + words[words.index("--data") :]
    status, _, err = ltl(*words, *MODEL, "--trainer.fast_dev_run=true", "--trainer.logger=false")
    assert status == 0, err
    status, _, err = ltl("data", "check", tree, "--fix", "list")
    assert status == 2
    assert "train_clean.txt exists already and is not overwritten" in err


@pytest.mark.parametrize("beside", [True, False])
def test_lists(ltl, tree, beside, monkeypatch):
    lists(tree)
    if not beside:
        monkeypatch.chdir(tree)
    folder = tree if beside else Path()
    status, out, err = ltl("data", "check", folder / "train.txt", "--test", folder / "test.txt", "--out=../a.json")
    assert status == 0, err
    assert "(15 train, 8 test)" in out
    (folder / "train.txt").write_text("nothing/here.jpg 0\ntrain/ant/0 a.jpg 0\n", encoding="utf-8")
    status, out, _ = ltl("data", "check", folder / "train.txt", "--root", tree, "--json", "--out=../a.json")
    assert status == 1
    assert json.loads(out)["faults"]["missing"]["found"][0]["where"] == "nothing/here.jpg"


def test_tables(ltl, tree):
    rows = [f"{path.relative_to(tree).as_posix()},{path.parent.name},train" for path in tree.glob("train/*/*.*")]
    rows += [f"{path.relative_to(tree).as_posix()},{path.parent.name},test" for path in tree.glob("test/*/*.*")]
    table = Path("table.csv")
    table.write_text("\n".join(["image,species,part", *rows]), encoding="utf-8")
    options = ["--root", tree, "--path_column=image", "--label_column=1", "--split_column=part"]
    status, out, err = ltl("data", "check", table, *options)
    assert status == 0, err
    assert "(15 train, 8 test)" in out
    assert "dog élan" in out


def test_any_data_module(ltl, tree):
    status, out, err = ltl("data", "check", "--data=ImageFolderLT", f"--data.root={tree}", "--num_workers=0")
    assert status == 0, err
    assert "(15 train, 4 val, 8 test)" in out
    small = ["--data.num_classes=3", "--data.max_count=5", "--data.imbalance_factor=1"]
    status, out, err = ltl("data", "check", "--data=SyntheticLongTail", *small, "--data.test_per_class=2")
    assert status == 0, err
    assert "(15 train, 60 val, 6 test)" in out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["chek"], "Did you mean check?"),
        (["check", "nowhere"], "there is no such folder, list or table"),
        (["check", "a", "b"], "has no place for 'b'"),
        (["check", "tree", "--pixel"], "has no option --pixel. Did you mean --pixels"),
        (["check", "tree", "--fix"], "--fix needs a value"),
        (["check", "tree", "--fix=list.csv"], "a file that ends in .txt"),
        (["check", "tree", "--num_workers=some"], "a whole number is expected"),
        (["check", "tree", "--root=x"], "is a folder: --root and columns are for lists"),
        (["check", "list.txt", "--label_column=2"], "columns are for .csv"),
        (["check", "tree", "--out=list.txt"], "is not a report of `ltl data check`"),
        (["check", "empty"], "holds no class folders"),
        (["check", "--data=SyntheticLongTail", "--fix=list"], "not in files of their own"),
        (["check", "--data=SyntheticLongTail", "--val=x"], "--val is for a list or a table"),
    ],
)
def test_wrong_use_exits_with_2(ltl, args, words):
    clean_tree(Path("tree"))
    Path("empty").mkdir()
    Path("list.txt").write_text("tree/train/ant/0 a.jpg 0\n")
    status, out, err = ltl("data", *args)
    assert status == 2, out
    assert words in " ".join(err.split())
    assert err.startswith("ltl: error: ")
    assert not list(Path().glob("*.json"))


def test_help(ltl):
    assert "ltl data check FOLDER" in ltl("data")[1]
    assert "--fix list" in ltl("data", "check", "--help")[1]
    assert "ltl data check" in ltl("--help")[1]


class Dying(LongTailDataModule):
    def build(self, split):
        return Stopping(die) if split == "train" else None


# The thread that feeds the dead process may miss it as well.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_process_that_dies_leaves_a_report(ltl):
    status, _, err = ltl("data", "check", f"--data={__name__}.Dying", "--num_workers=2")
    assert status == 2
    assert "A process that loads images has died" in err
    assert json.loads(Path("data_check.json").read_text())["complete"] is False


def test_a_process_that_dies_during_training_is_told_in_one_sentence():
    # Torch tells it to whatever runs at that moment, which is the model most of the time.
    with pytest.raises(LongTailError, match=r"^A process that loads images has died \(Killed\): .*\.$"), one_sentence():
        raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")


def test_ctrl_c_leaves_a_report(tree):
    for number in range(3000):
        path = tree / f"train/ant/more {number}.png"
        picture(number, 600, 400).save(path, compress_level=0) if number < 30 else os.link(
            tree / f"train/ant/more {number % 30}.png", path
        )
    # Forked, because a fresh process takes long to import torch.
    process = multiprocessing.get_context("fork").Process(target=_check_in_own_session, args=(str(tree),))
    process.start()
    try:
        _wait_for_workers(process.pid)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes at once
        process.join(60)
    finally:
        process.kill()
    out = Path("out.txt").read_text()
    assert process.exitcode == 130, out
    assert "Not all images were read: interrupted." in out
    assert "Traceback" not in out
    report = json.loads(Path("data_check.json").read_text())
    assert report["complete"] is False
    assert 0 < report["read"] < 3000 + sum(CLASSES.values())


def _check_in_own_session(tree: str) -> None:
    os.setsid()
    file = os.open("out.txt", os.O_CREAT | os.O_WRONLY)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main(["data", "check", tree, "--num_workers=2"]))


def _wait_for_workers(pid: int) -> None:
    """Until the process has two children that have worked for a moment."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    if not children.exists():
        pytest.skip("needs /proc")
    end = time.monotonic() + 120
    while time.monotonic() < end:
        worked = [Path(f"/proc/{child}/stat").read_text().split()[13] for child in children.read_text().split()]
        if len(worked) == 2 and min(map(int, worked)) > 30:  # hundredths of a second
            return
        time.sleep(0.05)


def test_the_lists_are_those_of_image_list_lt(ltl, tree):
    ltl("data", "check", tree, "--fix=lists/good.txt")
    data = ImageListLT(tree, "lists/good.txt", "lists/good_val.txt", "lists/good_test.txt")
    assert data.class_counts.tolist() == list(CLASSES.values())


# -- the guide ---------------------------------------------------------------------------------------

GUIDE = (ROOT.parent.parent / "docs/guides/check_your_data.md").read_text(encoding="utf-8")


def test_the_guide_word_for_word(ltl):
    pytest.importorskip("pyarrow")
    tree = clean_tree(Path("photos"))
    lists(tree)
    rows = ["file,species,split"]
    for split in ("train", "val", "test"):
        (tree / f"{split}.txt").rename(f"{split}.txt")
        rows += [f"{path.as_posix()},{path.parent.name},{split}" for path in sorted(tree.glob(f"{split}/*/*.*"))]
    Path("photos.csv").write_text("\n".join(rows), encoding="utf-8")
    Path("photos.yaml").write_text("data:\n  class_path: ImageFolderLT\n  init_args:\n    root: photos\n")
    blocks = re.findall(r"```bash\n(.*?)```", GUIDE, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) == 8
    for command in commands:
        program, *args = shlex.split(command)
        assert program == "ltl"
        if args[0] == "fit":
            args += ["--model.backbone=CIFARResNet", "--model.backbone.depth=8", "--trainer.fast_dev_run=true", *QUIET]
        status, _, err = ltl(*args)
        assert status == 0, f"{command}: {err}"


def test_the_guide_names_every_fault():
    for kind in FAULTS.values():
        assert f"\n| {kind.title} |" in GUIDE


# -- ltl data prepare -------------------------------------------------------------------------------


def test_prepared_images_train_test_and_predict(ltl, tree):
    pytest.importorskip("pyarrow")
    status, out, err = ltl("data", "prepare", tree, "--out", "my shards", "--resize=18", "--num_workers=0")
    assert status == 0, err
    assert "train   15 images" in out
    (command,) = [line for line in out.splitlines() if line.startswith("train   ltl")]
    assert command.endswith("--data ShardsLT --data.root 'my shards'")
    data = ["--data=ShardsLT", "--data.root=my shards", "--data.batch_size=8", "--trainer.max_epochs=1"]
    small = ["--data.transforms=ResizedCropTransforms", "--data.transforms.image_size=16"]
    status, out, err = ltl("fit", *data, *small, *MODEL)
    assert status == 0, err
    (test,) = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("test ")]
    assert ltl(*test.split()[1:])[0] == 0
    (predict,) = [line.split(None, 1)[1] for line in out.splitlines() if line.startswith("predict ")]
    assert ltl(*predict.split()[1:])[0] == 0
    assert "test/dog élan/1 a.png" in Path("predictions.csv").read_text(encoding="utf-8")
    assert "(15 train, 4 val, 8 test)" in ltl("data", "check", "my shards")[1]


def test_preparing_tables_and_data_modules(ltl, tree):
    pytest.importorskip("pyarrow")
    lists(tree)
    status, out, err = ltl(
        "data", "prepare", tree / "train.txt", "--val", tree / "val.txt", "--out=a", "--num_workers=0"
    )
    assert status == 0, err
    assert "val     4 images" in out
    status, _, err = ltl("data", "prepare", "--data=ImageFolderLT", f"--data.root={tree}", "--out=b", "--num_workers=0")
    assert status == 0, err
    assert Path("a/train-00000.arrow").read_bytes() == Path("b/train-00000.arrow").read_bytes()
    again = ltl("data", "prepare", "--data=ImageFolderLT", f"--data.root={tree}", "--out=b", "--num_workers=0")
    assert again[0] == 0
    assert ltl("data", "prepare", tree, "--out=b", "--resize=9")[2].count("give another folder") == 1


def test_interrupted_while_preparing(ltl, tree, monkeypatch):
    from longtail_lightning.curation import prepare

    def interrupt(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "write_split", interrupt)
    status, _, err = ltl("data", "prepare", tree, "--out=a")
    assert status == 130
    assert "the same command continues a" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["prepare", "tree"], "`ltl data prepare` needs --out SHARDS"),
        (["prepare", "tree", "--out=a", "--resize=big"], "a whole number is expected"),
        (["prepare", "tree", "--out=a", "--shardsize=1"], "has no option --shardsize. Did you mean --shard_size"),
        (["prepare", "tree", "--out=a", "--shard_size=0"], "at least 1"),
        (["prepare", "tree", "--out=tree"], "is not empty"),
    ],
)
def test_wrong_use_of_prepare_exits_with_2(ltl, args, words):
    clean_tree(Path("tree"))
    status, out, err = ltl("data", *args)
    assert status == 2, out
    assert words in err
    assert "--resize" in ltl("data", "prepare", "--help")[1]


@pytest.mark.parametrize("make", NO_FILES[:3])
def test_a_pipe_among_the_images(ltl, tree, make):
    kind = make(tree / "train/ant/pipe.jpg")
    status, _, err = ltl("data", "check", tree, "--num_workers=0", "--out", "report.json")
    assert status == 1, err
    found = json.loads(Path("report.json").read_text())["faults"]
    assert found == {"stray": {**found["stray"], "found": [{"where": "train/ant/pipe.jpg", "detail": kind}]}}
    status, _, err = ltl("data", "check", tree, "--out", tree / "train/ant/pipe.jpg")
    assert status == 2
    assert "exists and is not a report of `ltl data check`" in err


def test_a_pipe_in_place_of_the_data(ltl, tree):
    make_pipe(tree / "list.txt")
    for command in (("data", "check", tree / "list.txt"), ("counts", tree / "list.txt")):
        status, _, err = ltl(*command)
        assert (status, "it is a pipe, not a file" in err, "Traceback" in err) == (2, True, False), err


def test_reports_and_lists_are_whole_or_not_there(tree, tmp_path):
    def check(*, room):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        sys.exit(main(["data", "check", str(tree), "--num_workers=0", "--fix=list"]))

    def ended(room):
        process = multiprocessing.get_context("fork").Process(target=check, kwargs={"room": room})
        process.start()
        process.join(60)
        return process.exitcode

    before = set(tmp_path.iterdir())
    assert ended(room=100) != 0
    assert set(tmp_path.iterdir()) == before, "neither a report nor a part of one"
    assert ended(room=1_000_000) == 0
    report = Path("data_check.json").read_bytes()
    for file in tmp_path.glob("*_clean.txt"):
        file.unlink()
    assert ended(room=100) != 0
    assert Path("data_check.json").read_bytes() == report, "the old one stays"
    assert not list(tmp_path.glob("*_clean.txt"))
