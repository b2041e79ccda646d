"""The parser of the small commands, and the help of all commands."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli.parser import COMMANDS, parse
from longtail_lightning.cli.run_help import RUN, run_help

SMALL = [["list"], ["show"], ["cp"], ["counts"], ["features"], ["verify"], ["tau"], ["data"],
         ["data", "check"], ["data", "prepare"], ["predict", "--images"]]  # fmt: skip


@pytest.mark.parametrize("command", SMALL, ids=" ".join)
def test_help_fits_one_screen(ltl, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "80")
    for flag in ("-h", "--help"):
        status, out, err = ltl(*command, flag)
        assert (status, err) == (0, "")
        assert out.startswith(f"usage: ltl {' '.join(command)}")
        assert len(out.splitlines()) <= 40
    if command[0] not in ("list", "show", "cp", "predict"):
        assert ltl(*command) == (0, out, ""), "alone, it shows its help"


@pytest.mark.parametrize(
    "words",
    [
        "features --out bank --data CSVLT --data.root=x --views 2 --config a.yaml -c b.yaml",
        "features --data=CSVLT --data.root x --out=bank --config=a.yaml --views=2 -c b.yaml",
    ],
)
def test_what_describes_model_and_data_is_left_to_jsonargparse(words):
    asked = parse(words.split())
    assert (asked.out, asked.views, asked.overwrite) == ("bank", 2, False)
    assert " ".join(asked.components).replace("=", " ").count("--data.root x") == 1
    assert [word for word in " ".join(asked.components).replace("=", " ").split() if word.endswith("yaml")] == [
        "a.yaml",
        "b.yaml",
    ]
    assert asked.words == words.split()[1:]


def test_a_value_may_be_negative_or_look_like_a_word_of_ours():
    assert parse(["counts", "a.csv", "--column", "-1"]).column == "-1"
    assert parse(["tau", "--ckpt_path", "a.ckpt", "--tau", "-0.5"]).tau == -0.5
    asked = parse(["data", "check", "--data", "CSVLT", "--data.label_column", "-1", "photos"])
    assert (asked.source, asked.components) == ("photos", ["--data", "CSVLT", "--data.label_column", "-1"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["counts", "a.csv", "--colum", "x"], "`ltl counts` has no option --colum. Did you mean --column?"),
        (["counts", "--dta", "CSVLT"], "`ltl counts` has no option --dta. Did you mean --data?"),
        (["show"], "`ltl show`: the following arguments are required: NAME; see `ltl show --help`."),
        (["show", "a", "b"], "`ltl show` has no place for 'b': see `ltl show --help`."),
        (["tau", "--out=b.ckpt"], "`ltl tau` needs --ckpt_path FILE: see `ltl tau --help`."),
        (["tau", "--ckpt_path=a.ckpt", "--batch_size=-1"], "--batch_size: a whole number is expected, got '-1'."),
        (["features", "--out"], "--out needs a value: see `ltl features --help`."),
        (["verify", "bank", "--all"], "`ltl verify` has no option --all"),
        (["data", "prpare", "x"], "There is no command `ltl data prpare`. Did you mean prepare?"),
    ],
)
def test_errors_are_one_sentence(words, sentence):
    with pytest.raises(LongTailError) as error:
        parse(words)
    assert str(error.value).startswith(sentence)


def test_all_commands_are_in_the_help(ltl):
    _, out, _ = ltl("--help")
    assert all(re.search(rf"^  {command} ", out, re.MULTILINE) for command in (*RUN, *COMMANDS))


WITHOUT_TORCH = [
    *([*command, "--help"] for command in [*SMALL, *([run] for run in RUN)]),
    ["tau", "--choose=test"], ["features", "--out=bank"], ["counts", "--colum=x"], ["counts", "nowhere.csv"],
    ["data", "check", "a", "b"], ["data", "prepare", "a"], ["features", "--encoder=resnet10", "--out=b"],
]  # fmt: skip


def test_help_and_errors_of_use_come_without_torch():
    code = f"from longtail_lightning.cli.main import main; print([main(command) for command in {WITHOUT_TORCH}])"
    code += "; import sys; assert not {'torch', 'numpy', 'lightning', 'rich', 'yaml'} & sys.modules.keys()"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str([0] * 15 + [2] * 7)


# -- fit, validate, test, predict -----------------------------------------------------------------


@pytest.mark.parametrize("command", RUN)
def test_help_of_a_run_fits_two_screens(ltl, command):
    status, out, _ = ltl(command, "--help")
    assert status == 0
    assert out.startswith(f"usage: ltl {command} ")
    assert len(out.splitlines()) <= 50
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("command", RUN)
def test_every_example_is_understood(command, capsys):
    from longtail_lightning.cli.app import LongTailCLI

    lines = [re.split(r" {2,}", line.strip()) for line in run_help(command).splitlines() if line.startswith("  --")]
    examples = [line[-1].split() for line in lines]
    for line, example in zip(lines, examples):
        assert example[0].startswith(line[0].split()[0].partition("OPTION")[0]), "the example is one of its option"
    # Files that are not here, and pictures, which another parser takes.
    left_out = ("--config", "--ckpt_path", "--images", "--import")
    words = [word for example in examples if example[0] not in left_out for word in example]
    with pytest.raises(SystemExit) as stop:
        LongTailCLI([command, *([] if command == "fit" else ["--model", "BaseClassifier"]), *words, "--print_config"])
    assert stop.value.code == 0
    assert "root: photos" in capsys.readouterr().out


def test_help_all_is_that_of_jsonargparse(capsys):
    from longtail_lightning.cli.main import main

    with pytest.raises(SystemExit):
        main(["test", "--help-all"])
    out = capsys.readouterr().out
    assert "--trainer.accumulate_grad_batches" in out
    assert "--logit_adjustment.target_prior" in out
