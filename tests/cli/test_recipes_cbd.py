"""The recipes of class-balanced distillation: stages that run, the paper's numbers, and the flags in their comments."""

from __future__ import annotations

import itertools
import re
import sys

import pytest
import torch
import yaml

from longtail_lightning import load
from longtail_lightning.cli import _stage_process, _stage_run
from longtail_lightning.cli.main import main
from longtail_lightning.cli.recipes import FOLDER, recipe_names
from longtail_lightning.datasets.presets import as_transforms
from tests.cli.test_recipes import OTHER_YEAR, SILENT, SMALL, WRITE, write_teacher

STAGED = [name for name in recipe_names() if name.endswith(("/cbd_ens", "/cbd_baselines"))]
QUICK = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=2", "--trainer.accelerator=cpu", *SILENT]


def recipe_of(name):
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def ablations():
    """The flags in the comments of the ensemble: `a|b` are two."""
    text = (FOLDER / "imagenet_lt/cbd_ens.yaml").read_text(encoding="utf-8").replace("\n#     --", " --")
    found = []
    for line in re.findall(r"^#   .+?  +(--.*)$", text, re.MULTILINE):
        words = [word.split("|") for word in line.split()]
        found += [list(chosen) for chosen in itertools.product(*words)]
    return found


@pytest.fixture
def in_this_process(monkeypatch):
    """Stages run one after the other without a process for each, which would import everything."""

    def run(command, inherited=()):
        assert command[:3] == [sys.executable, "-m", "longtail_lightning.cli.main"]
        return main(command[3:])

    monkeypatch.setattr(_stage_process, "run_process", run)
    monkeypatch.setattr(_stage_run, "run_process", run)


def small(name):
    """Flags for tiny data, and a small network in each stage that names one."""
    recipe = recipe_of(name)
    data = recipe["data"]["class_path"].rpartition(".")[2]
    networks = [
        f"--stages.{stage}.model.backbone=cifar_resnet20"
        for stage, given in recipe["stages"].items()
        if "backbone" in given["model"]["init_args"]
    ]
    return data, [*SMALL[data], *OTHER_YEAR.get(name.partition("/")[0], []), *QUICK, *networks]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [name if "cifar100" in name else pytest.param(name, marks=pytest.mark.slow) for name in STAGED]
)
def test_all_stages_run(ltl, tmp_path, in_this_process, name):
    data, flags = small(name)
    WRITE[data](tmp_path / "tiny")
    status, _, err = ltl("fit", "--config", name, *flags)
    assert status == 0, err
    stages = [*recipe_of(name)["stages"]]
    places = {stage: tmp_path / "runs" / name.rpartition("/")[2] / "version_0" / stage for stage in stages}
    assert all((place / "finished.json").is_file() for place in places.values())
    if name.endswith("cbd_ens"):
        student = load(places["student"] / "checkpoints" / "last.ckpt", device="cpu").module
        assert student.backbone.num_features == 4 * 64
        assert len(student.card()["teachers"]) == 4
        first, second = (
            torch.load(places[stage] / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
            for stage in ("standard_1", "standard_2")
        )
        assert any(not torch.equal(value, second[key]) for key, value in first.items())


def test_the_comments_name_what_the_paper_shows():
    assert len(ablations()) == 7
    assert ["--stages.student.model.distill", "both"] in ablations()


@pytest.mark.parametrize("flags", ablations(), ids=" ".join)
def test_the_flags_of_ablations_are_understood(capsys, flags):
    write_teacher()
    own = [word.replace("--stages.student.", "--") for word in flags]
    own = [re.sub(r'"\$\{stages\.\w+\.last\}"', "teacher.ckpt", word) for word in own]
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "imagenet_lt/cbd", *own, "--print_config"])
    found = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]
    if "--model.teachers" in own:
        assert found["teachers"] == ["teacher.ckpt", "teacher.ckpt"]
    elif "--model.logit_loss" in own:
        assert found["logit_loss"]["init_args"]["temperature"] == 5
    else:
        assert found[own[0].removeprefix("--model.")] == yaml.safe_load(own[1])


@pytest.mark.parametrize("name", [name for name in recipe_names() if "/cbd" in name])
def test_the_numbers_are_those_of_section_4(name):
    recipe = recipe_of(name)
    folder, _, kind = name.partition("/")
    cifar = folder.startswith("cifar")
    model = recipe["model"] if kind == "cbd" else next(iter(recipe["stages"].values()))["model"]
    settings, data = model["init_args"], recipe["data"]["init_args"]
    assert recipe["trainer"]["max_epochs"] == {"imagenet_lt": 90}.get(folder, 200)
    # "a batch size of 256, learning rate of 0.2 which decays to 0 with cosine learning rate schedule"
    assert settings["optimizer"]["init_args"]["lr"] / data["batch_size"] == pytest.approx(0.2 / 256)
    assert settings["optimizer"]["init_args"]["momentum"] == 0.9
    assert settings["lr_scheduler"]["init_args"] == {"warmup": 0.0}
    assert data["batch_size"] == (128 if cifar else 256)
    if kind == "cbd_ens":
        stages = recipe["stages"]
        assert stages["student"]["data"]["init_args"] == {"sampler": "longtail_lightning.ClassBalancedSampler"}
        for teacher in ("augmented_1", "augmented_2"):
            transforms = as_transforms(stages[teacher]["data"]["init_args"]["transforms"])
            assert transforms.noise == 0.01
    if kind == "cbd_baselines" and not cifar:
        tuned = recipe["stages"]["standard_tuned"]
        assert (tuned["trainer"]["max_epochs"], tuned["model"]["init_args"]["optimizer"]["init_args"]["lr"]) == (
            10,
            0.01,
        )
