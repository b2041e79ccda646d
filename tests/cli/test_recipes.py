from __future__ import annotations

import pytest
import yaml

from longtail_lightning.cli.recipes import FOLDER, recipe_names

SMALL = {"SyntheticLongTail": ["--data.max_count=12", "--data.val_per_class=1", "--data.test_per_class=1"]}


@pytest.mark.parametrize("name", recipe_names())
def test_runs_and_is_short(ltl, name):
    text = (FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert len([line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]) <= 30
    data = yaml.safe_load(text)["data"]["class_path"].rpartition(".")[2]
    quiet = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    status, _, err = ltl("fit", "--config", name, *SMALL.get(data, []), *quiet)
    assert status == 0, err
    with pytest.warns(UserWarning, match="evaluates a model that has not been trained"):
        assert ltl("test", "--config", name, *SMALL.get(data, []), *quiet)[0] == 0
