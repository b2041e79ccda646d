from __future__ import annotations

from pathlib import Path

import pytest

import longtail_lightning
from longtail_lightning._rooms import exports
from longtail_lightning.cli.recipes import recipe_names


@pytest.mark.parametrize("room", ["losses", "samplers", "heads", "modules", "callbacks", "metrics", "features", "data"])
def test_list_names_every_component_with_a_sentence(ltl, room):
    status, out, _ = ltl("list", room)
    assert status == 0
    for name in exports(room):
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert len(line.split()) > 3


def test_list_alone_gives_the_overview(ltl):
    _, out, _ = ltl("list")
    assert all(word in out for word in ("LogitAdjustedLoss", "BaseClassifier", "quickstart", "ltl list backbones"))


def test_list_backbones_with_sizes_and_patterns(ltl):
    _, out, _ = ltl("list", "backbones")
    assert "cifar_resnet32" in out
    assert "0.46 M" in out
    assert "torchvision/resnet50" in out
    _, out, _ = ltl("list", "backbones", "vit_tiny*")
    assert "timm/vit_tiny_patch16_224" in out
    assert "resnet50" not in out
    assert ltl("list", "backbones", "no_such_thing")[0] == 2


def test_list_recipes(ltl):
    _, out, _ = ltl("list", "recipes")
    assert all(name in out for name in recipe_names())


def test_show_a_component_and_a_recipe(ltl):
    _, out, _ = ltl("show", "LogitAdjustedLoss")
    assert "tau: float=1.0" in out
    assert "Menon" in out
    _, out, _ = ltl("show", "quickstart")
    assert "class_path: longtail_lightning.SyntheticLongTail" in out


def test_cp_copies_and_never_overwrites(ltl):
    assert ltl("cp", "quickstart", "deep/mine.yaml")[0] == 0
    assert Path("deep/mine.yaml").read_text() == ltl("show", "quickstart")[1]
    status, _, err = ltl("cp", "quickstart", "deep/mine.yaml")
    assert status == 2
    assert "exists already" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["lst"], "Did you mean list?"),
        (["list", "loses"], "Did you mean losses?"),
        (["show", "LogitAdjustLoss"], "Did you mean LogitAdjustedLoss"),
        (["cp", "quickstrat"], "Did you mean quickstart or staged_quickstart?"),
        (
            ["fit", "--config", "quikstart"],
            "no such file, and no such recipe. Did you mean quickstart or staged_quickstart?",
        ),
        (["test", "--ckpt_path", "nowhere.ckpt"], "there is no such file"),
        (["counts", "nowhere.csv"], "there is no such file"),
    ],
)
def test_wrong_names_are_answered_in_one_sentence(ltl, args, words):
    status, out, err = ltl(*args)
    assert status == 2
    assert words in err
    assert err.startswith("ltl: error: ")
    assert "Traceback" not in err
    assert not out


def test_debug_shows_the_traceback():
    from longtail_lightning._errors import LongTailError
    from longtail_lightning.cli.main import main

    with pytest.raises(LongTailError):
        main(["show", "Nothing", "--debug"])


def test_help_and_version(ltl):
    assert "ltl fit --config quickstart" in ltl("--help")[1]
    assert longtail_lightning.__version__ in ltl("--version")[1]
    assert ltl()[0] == 0
