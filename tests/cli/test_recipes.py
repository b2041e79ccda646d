from __future__ import annotations

import pytest
import yaml

from longtail_lightning.cli.recipes import FOLDER, recipe_names
from tests.data.tiny_cifar import write_cifar10, write_cifar100

SMALL = {
    "SyntheticLongTail": ["--data.max_count=12", "--data.val_per_class=1", "--data.test_per_class=1"],
    "CIFAR10LT": ["--data.root=tiny"],
    "CIFAR100LT": ["--data.root=tiny"],
}
WRITE = {"CIFAR10LT": write_cifar10, "CIFAR100LT": write_cifar100}


@pytest.mark.parametrize("name", recipe_names())
def test_runs_and_is_short(ltl, tmp_path, name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len([line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]) <= 30
    data = yaml.safe_load(text)["data"]["class_path"].rpartition(".")[2]
    if data in WRITE:
        WRITE[data](tmp_path / "tiny")
    quiet = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    status, _, err = ltl("fit", "--config", name, *SMALL.get(data, []), *quiet)
    assert status == 0, err
    with pytest.warns(UserWarning, match="evaluates a model that has not been trained"):
        assert ltl("test", "--config", name, *SMALL.get(data, []), *quiet)[0] == 0


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("cifar")])
def test_the_protocol_of_cifar_is_that_of_the_paper(name):
    recipe = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    data = recipe["data"]["init_args"]
    assert (data["imbalance_factor"], data["batch_size"]) == (100, 128)
    assert "val_split" not in data, "the papers train on all images; nothing may be chosen on the test set"
    assert "monitor" not in str(recipe)
    assert "validation" in (FOLDER / f"{name}.yaml").read_text(encoding="utf-8").split("seed_everything")[0]
