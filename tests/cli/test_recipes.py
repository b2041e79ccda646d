from __future__ import annotations

import pytest
import torch
import yaml

from longtail_lightning import FeatureBank, RetrievalMemory
from longtail_lightning.cli.recipes import FOLDER, recipe_names
from longtail_lightning.methods.by_name import METHODS
from tests.data import trees
from tests.data.tiny_cifar import write_cifar10, write_cifar100
from tests.tiny import tiny_data, tiny_model, tiny_trainer

SMALL = {
    "SyntheticLongTail": ["--data.max_count=12", "--data.val_per_class=1", "--data.test_per_class=1"],
    "CIFAR10LT": ["--data.root=tiny"],
    "CIFAR100LT": ["--data.root=tiny"],
    "ImageListLT": [
        "--data.root=tiny",
        *(f"--data.{split}_list=My_LT_{split}.txt" for split in ("train", "val", "test")),
        "--data.batch_size=2",
        "--data.num_workers=0",
    ],
    "INaturalist": ["--data.root=tiny", "--data.batch_size=2", "--data.num_workers=0"],
}
WRITE = {
    "CIFAR10LT": write_cifar10,
    "CIFAR100LT": write_cifar100,
    "ImageListLT": trees.lists,
    "INaturalist": trees.inaturalist,
}
OTHER_YEAR = {"inaturalist17": ["--data.version=2018"]}  # the tiny set is of that year
# The recipe's own network, where it must not be downloaded or is too large for a test.
SMALL_MODEL = {
    "cifar10_lt/decoupled": ["--model.backbone=cifar_resnet20"],
    "cifar100_lt/decoupled": ["--model.backbone=cifar_resnet20"],
    "places_lt/decoupled": ["--model.backbone.name=resnet18", "--model.backbone.pretrained=false"],
    "imagenet_lt/decoupled": ["--model.backbone=resnet10"],
    "cifar10_lt/prototype_transfer": ["--model.backbone=cifar_resnet20", "--model.k=[0]"],
    "cifar100_lt/prototype_transfer": ["--model.backbone=cifar_resnet20", "--model.k=[0]"],
    "imagenet_lt/prototype_transfer": ["--model.backbone=resnet10", "--model.k=[0]"],
    "places_lt/prototype_transfer": [
        *("--model.backbone.name=resnet18", "--model.backbone.pretrained=false", "--model.k=[0]")
    ],
    "inaturalist18/decoupled": ["--model.backbone=resnet10"],
    **{
        name: [
            *("--model.memory=memory", "--model.k=3", "--model.exclude=first"),
            *("--model.encoder.name=vit_tiny_patch16_224", "--model.encoder.pretrained=false"),
            *("--model.backbone.name=vit_tiny_patch16_224", "--model.backbone.pretrained=false"),
        ]
        for name in ("places_lt/rac", "inaturalist18/rac")
    },
    "cifar100_lt/rac": [
        *("--model.memory=memory", "--model.k=3", "--model.exclude=first", "--model.backbone=cifar_resnet20"),
        *("--model.encoder.backbone.name=vit_tiny_patch16_224", "--model.encoder.backbone.pretrained=false"),
        *("--model.encoder.size=224", "--model.neighbors=exact"),
    ],
    **{
        name: ["--model.backbone=cifar_resnet20", "--model.teachers=teacher.ckpt"]
        for name in recipe_names()
        if name.endswith("/cbd")
    },
}
SILENT = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
STAGED = [name for name in recipe_names() if "\nstages:" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")]


def write_memory():
    """Features of nobody knows which encoder, as wide as those of the small one."""
    RetrievalMemory.build(FeatureBank.from_arrays(torch.randn(12, 192), texts=["a cat"] * 12), path="memory")


def write_teacher():
    """A network of nobody knows which classes."""
    data = tiny_data()
    trainer = tiny_trainer(max_epochs=0)
    trainer.fit(tiny_model(data), data)
    trainer.save_checkpoint("teacher.ckpt")


@pytest.mark.parametrize("name", sorted({*recipe_names()} - {*STAGED}))  # tests/cli/test_stages.py runs these
def test_runs_and_is_short(ltl, tmp_path, name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len([line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]) <= 30
    data = yaml.safe_load(text)["data"]["class_path"].rpartition(".")[2]
    if data in WRITE:
        WRITE[data](tmp_path / "tiny")
    write_memory()
    write_teacher()
    quiet = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", *SILENT]
    small = [*SMALL.get(data, []), *SMALL_MODEL.get(name, []), *OTHER_YEAR.get(name.partition("/")[0], [])]
    status, _, err = ltl("fit", "--config", name, *small, *quiet)
    assert status == 0, err
    with pytest.warns(UserWarning, match="evaluates a model that has not been trained"):
        assert ltl("test", "--config", name, *small, *quiet)[0] == 0


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("cifar")])
def test_the_protocol_of_cifar_is_that_of_the_paper(name):
    recipe = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    data = recipe["data"]["init_args"]
    assert (data["imbalance_factor"], data["batch_size"]) == (100, 128)
    assert "val_split" not in data, "the papers train on all images; nothing may be chosen on the test set"
    assert "monitor" not in str(recipe)
    assert "validation" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("seed_everything")[0]


# Of the configurations that the authors released: epochs, learning rate, weight decay, batch size.
RELEASED = {
    "imagenet_lt": {"crt": (10, 0.2, 5e-4, 512), "lws": (5, 0.2, 5e-4, 512)},
    "places_lt": {"crt": (10, 0.1, 5e-4, 256), "lws": (5, 0.1, 5e-4, 256)},
    "inaturalist18": {"crt": (30, 0.2, 1e-4, 512), "lws": (5, 0.2, 1e-4, 512)},
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_second_stage_is_as_released(name):
    recipe = yaml.safe_load((FOLDER / name / "decoupled.yaml").read_text(encoding="utf-8"))
    found = {}
    for method in recipe["trainer"]["callbacks"]["init_args"]["methods"]:
        kind = METHODS[method if isinstance(method, str) else method["class_path"].rpartition(".")[2].lower()[:3]]
        made = kind(**({} if isinstance(method, str) else method["init_args"]))
        if made.name in ("crt", "lws"):
            training = made.training
            assert training.momentum == 0.9
            found[made.name] = (training.epochs, training.lr, training.weight_decay, training.batch_size)
    assert found == RELEASED[name]


@pytest.mark.filterwarnings("ignore:The bank has no feature of")  # the tiny CIFAR
@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith("decoupled")])
def test_decoupled_training_ends_with_a_table_and_a_checkpoint_per_method(ltl, tmp_path, name):
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["data"]["class_path"].split(".")[-1]
    WRITE[data](tmp_path / "tiny")
    quiet = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", *SILENT]
    status, out, err = ltl("fit", "--config", name, *SMALL[data], *SMALL_MODEL.get(name, []), *quiet)
    assert status == 0, err
    assert all(word in out for word in ("Test accuracy by classifier", "Joint", "cRT", "LWS", "tau ", "NCM"))
    assert ("Validation accuracy by" in out) == (data == "ImageListLT"), "the others have no validation images"
    for method in ("crt", "lws", "tau", "ncm"):
        assert len(list((tmp_path / "runs").rglob(f"{method}.ckpt"))) == 1


@pytest.mark.filterwarnings("ignore:The bank has no feature of")  # the tiny CIFAR
@pytest.mark.parametrize("name", [name for name in recipe_names() if name.endswith("prototype_transfer")])
def test_knowledge_transfer_ends_with_the_papers_table(ltl, tmp_path, name):
    data = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))["data"]["class_path"].split(".")[-1]
    WRITE[data](tmp_path / "tiny")
    quiet = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", *SILENT]
    status, out, err = ltl("fit", "--config", name, *SMALL[data], *SMALL_MODEL[name], *quiet)
    assert status == 0, err
    rows = ("Test accuracy by classifier", "adjusted logits", "prototypes", "p_plus_w", "w_h_0", "knowledge transfer")
    assert all(word in out for word in (*rows, "continual", "mean_of_donors"))
