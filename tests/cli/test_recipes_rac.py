"""The recipes of retrieval-augmented classification: the paper's numbers, and what their comments tell one to type."""

from __future__ import annotations

import itertools
import re
import shlex

import pytest
import timm
import torch
import yaml

from longtail_lightning.cli.main import main
from longtail_lightning.cli.recipes import FOLDER
from longtail_lightning.datasets.presets import as_transforms
from tests.cli.test_recipes import SILENT, SMALL, SMALL_MODEL, WRITE, write_memory

DATA = {"places_lt/rac": "ImageListLT", "inaturalist18/rac": "INaturalist", "cifar100_lt/rac": "CIFAR100LT"}
QUICK = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", *SILENT]
TINY = "vit_tiny_patch16_224"
VIT = "vit_base_patch16_384.augreg_in21k_ft_in1k"


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")


def commands(name: str) -> list[list[str]]:
    """The commands in the comments of a recipe, without `ltl`; lines that are indented further go on with one."""
    found: list[str] = []
    for line in re.findall(r"^#   (.*)$", text_of(name), re.MULTILINE):
        if line.startswith("ltl "):
            found.append(line.removeprefix("ltl "))
        elif line.startswith("  --"):
            found[-1] += line
    return [shlex.split(command) for command in found]


def ablations() -> list[list[str]]:
    """The flags in the comments of a recipe: `a|b` are two, what is in brackets is left out once."""
    found = []
    for line in re.findall(r"^#   (?!ltl).+?  +(--.*)$", text_of("places_lt/rac"), re.MULTILINE):
        line = line.replace("VIT", VIT).replace("FOLDER", "memory")
        for whole in sorted({re.sub(r"\[|\]", "", line), re.sub(r" \[.*?\]", "", line)}):
            words = [word.split("|") for word in whole.split()]
            found += [list(chosen) for chosen in itertools.product(*words)]
    return found


ABLATIONS = ablations()


def test_the_comments_name_what_the_paper_shows():
    assert len(ABLATIONS) == 17
    assert ["--model.branches", "base", "--model.loss", "CrossEntropyLoss"] in ABLATIONS
    assert ["--model.loss.weighting", "inverse_sqrt"] in ABLATIONS
    assert len([flags for flags in ABLATIONS if VIT in flags]) == 1


@pytest.mark.parametrize("flags", ABLATIONS, ids=" ".join)
def test_the_flags_of_ablations_are_understood(capsys, flags):
    with pytest.raises(SystemExit, match="0"):
        main(["fit", "--config", "places_lt/rac", *flags, "--print_config"])
    written = yaml.safe_load(capsys.readouterr().out)
    for flag, value in zip(flags[::2], flags[1::2]):
        top, *path = flag.removeprefix("--").split(".")
        found = written[top]
        if path[0] == "encoder":
            continue  # printed as one string
        for part in path:
            found = found.get("init_args", found)[part]
        assert str(found["class_path"] if isinstance(found, dict) else found).endswith(value)


@pytest.mark.parametrize(
    "flags",
    [flags for flags in ABLATIONS if not {"CLIPText"} & {*flags} and "name" not in " ".join(flags)],
    ids=" ".join,
)
def test_ablations_run(ltl, tmp_path, flags):
    WRITE["ImageListLT"](tmp_path / "tiny")
    write_memory()
    status, _, err = ltl(
        "fit", "--config", "places_lt/rac", *SMALL["ImageListLT"], *SMALL_MODEL["places_lt/rac"], *flags, *QUICK
    )
    assert status == 0, err


@pytest.fixture
def downloads(monkeypatch):
    """timm without the network: pretrained weights are numbers that depend on the name alone."""
    make = timm.create_model

    def create_model(name, *, pretrained=False, **options):
        with torch.random.fork_rng(devices=[]):
            if pretrained:
                torch.manual_seed(sum(map(ord, name)))
            return make(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", create_model)


# The recipe's networks are too large for a test. Both begin with the same pretrained weights.
NETWORKS = {name: [f"--model.encoder.name={TINY}", f"--model.backbone.name={TINY}"] for name in DATA}
NETWORKS["cifar100_lt/rac"] = ["--model.backbone=cifar_resnet20"]
ENCODER = {"places_lt/rac": ["--encoder", TINY], "inaturalist18/rac": ["--encoder", TINY], "cifar100_lt/rac": []}


@pytest.mark.parametrize("name", DATA)
def test_the_commands_in_the_comments_make_the_memory_that_the_recipe_wants(ltl, tmp_path, downloads, name):
    data = DATA[name]
    WRITE[data](tmp_path / "tiny")
    features, build = commands(name)[:2]
    for words in ([*features, *ENCODER[name], *SMALL[data]], build):
        status, _, err = ltl(*words)
        assert status == 0, err
    fit = ["fit", "--config", name, *SMALL[data], *NETWORKS[name], "--model.k=3", "--data.batch_size=2", *QUICK]
    status, _, err = ltl(*fit)
    assert status == 0, err
    nested = ".backbone" if name == "cifar100_lt/rac" else ""
    status, _, err = ltl(*fit, f"--model.encoder{nested}.pretrained=false")
    assert status == 2
    assert "give the encoder with the weights that have made the memory" in err


def test_an_encoder_of_ones_own_looks_up_cifar(ltl, tmp_path):
    WRITE["CIFAR100LT"](tmp_path / "tiny")
    tiny = [*SMALL["CIFAR100LT"], "--trainer.accelerator=cpu", *SILENT, "--model.backbone=cifar_resnet20"]
    assert ltl("fit", "--config", "cifar100_lt/ce", *tiny, "--trainer.max_epochs=1")[0] == 0
    file = str(next((tmp_path / "runs").rglob("last.ckpt")))
    for words in commands("cifar100_lt/rac")[2:]:
        filled = [file if word == "FILE" else "own" if word == "FOLDER" else word for word in words]
        status, _, err = ltl(*filled)
        assert status == 0, err
    own = ["--model.encoder", file, "--model.memory", "own", "--model.k=3", "--trainer.fast_dev_run=true"]
    status, _, err = ltl("fit", "--config", "cifar100_lt/rac", *tiny, *own)
    assert status == 0, err


@pytest.mark.parametrize(
    ("name", "epochs", "lr", "batch"), [("places_lt/rac", 30, 5e-5, 200), ("inaturalist18/rac", 20, 1e-4, 50)]
)
def test_the_numbers_are_those_of_tables_s6_and_s7(name, epochs, lr, batch):
    recipe = yaml.safe_load(text_of(name))
    trainer, model, data = recipe["trainer"], recipe["model"]["init_args"], recipe["data"]["init_args"]
    assert (trainer["max_epochs"], data["batch_size"]) == (epochs, batch)
    assert trainer["gradient_clip_val"] == 1.0
    assert (model["k"], model["loss"]["init_args"]["label_smoothing"]) == (30, 0.1)
    assert model["backbone"]["init_args"]["drop_path_rate"] == 0.1
    assert "drop_path_rate" not in model["encoder"]["init_args"]
    assert model["optimizer"]["class_path"] == "torch.optim.AdamW"
    weight = torch.zeros(1, requires_grad=True)
    settings = torch.optim.AdamW([weight], **model["optimizer"]["init_args"]).defaults
    assert (settings["lr"], settings["weight_decay"]) == (lr, 0.02)
    assert (settings["betas"], settings["eps"]) == ((0.9, 0.999), 1e-8)
    schedule = model["lr_scheduler"]["init_args"]
    assert epochs * schedule["warmup"] == pytest.approx(5, abs=0.01)
    assert lr * schedule["final"] == pytest.approx(1e-7)
    transforms = as_transforms(data["transforms"])
    assert (transforms.mean, transforms.std) == ([0.5] * 3, [0.5] * 3)
    assert transforms.image_size / transforms.resize == pytest.approx(0.95, abs=0.002)
