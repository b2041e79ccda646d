"""A checkpoint from a stranger runs no code, through whichever door it comes."""

from __future__ import annotations

import pickle
import re
from contextlib import suppress
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    Decoupled,
    ImageFolderLT,
    LongTailError,
    SyntheticLongTail,
    WholeCheckpointIO,
    load,
    load_weights,
)
from tests.cli.conftest import TINY
from tests.security.conftest import Shell
from tests.tiny import tiny_data, tiny_model, tiny_trainer

NET = {"class_path": "evilmod.Net", "init_args": {"in_features": 4, "out_features": 4}}
PROCESS = {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}


def settings(**values):
    return lambda checkpoint: checkpoint["hyper_parameters"].update(values)


def description(**values):
    return lambda checkpoint: checkpoint["longtail_lightning"].update(values)


def part(name, spec):
    def change(checkpoint):
        checkpoint["longtail_lightning"]["parts"][name]["spec"] = spec

    return change


def pickled(checkpoint):
    checkpoint["hyper_parameters"]["extra"] = Shell()


HOSTILE = {
    "class of the model": settings(_class_path="evilmod.Module"),
    "instantiator": settings(_instantiator="evilmod.function"),
    "backbone": settings(backbone=NET),
    "loss": settings(loss={"class_path": "evilmod.Net"}),
    "inside a backbone": settings(
        backbone={"class_path": "longtail_lightning.backbones.TimmBackbone", "init_args": {"name": NET}}
    ),
    "optimizer": settings(optimizer="evilmod.function"),
    "optimizer with arguments": settings(optimizer={"class_path": "evilmod.function", "init_args": {"lr": 1}}),
    "schedule": settings(lr_scheduler="evilmod.function"),
    "an imported function": settings(optimizer="os.system"),
    "an imported class": settings(optimizer=PROCESS),
    "a function of torch": settings(optimizer={"class_path": "torch.load", "init_args": {"f": "x.ckpt"}}),
    "a file of the package": settings(optimizer="longtail_lightning._files.write_text"),
    "through the package": settings(backbone={"class_path": "longtail_lightning._files.os.system"}),
    "described class": description(class_path="evilmod.Module"),
    "described part": part("head", NET),
    "described in a list": part("head", [NET]),
    "described in a Sequential": part("head", {"class_path": "torch.nn.Sequential", "named": {"0": NET}}),
    "described function": part("head", {"class_path": "os.system", "init_args": {"command": "touch ran"}}),
    "described process": part("head", PROCESS),
    "pickle": pickled,
}  # fmt: skip
DOORS = {
    "test": lambda path: ["test", f"--ckpt_path={path}", *TINY],
    "config": lambda path: ["validate", f"--ckpt_path={path}", "--config=own.yaml"],
    "fit": lambda path: ["fit", f"--ckpt_path={path}", "--config=own.yaml", "--trainer.max_epochs=2"],
    "pictures": lambda path: ["predict", f"--ckpt_path={path}", "--images=photos"],
    "tau": lambda path: ["tau", f"--ckpt_path={path}", *TINY],
}


PAIRS = [(attack, door) for attack in HOSTILE for door in ("test", "fit")]
PAIRS += [
    (attack, door) for attack in ("backbone", "described part", "pickle") for door in ("config", "pictures", "tau")
]


@pytest.mark.parametrize(("attack", "door"), PAIRS)
def test_the_command_line(ltl, stranger, trained, attack, door):
    path = stranger(HOSTILE[attack])
    Path("own.yaml").write_text((trained / "config_fit.yaml").read_text())
    Path("photos").mkdir()
    status, _, err = ltl(*DOORS[door](path))
    # What is not used does not matter; what is used is refused in one sentence.
    assert status == 0 or (status == 2 and err.splitlines()[-1].startswith("ltl: error: ")), err
    assert "Traceback" not in err
    assert not Path("ran").exists()


@pytest.mark.parametrize("attack", HOSTILE)
def test_python(stranger, attack):
    path = stranger(HOSTILE[attack])
    data = tiny_data()
    for use in (
        lambda: load(path),
        lambda: BaseClassifier.load_from_checkpoint(path),
        lambda: Decoupled.load_from_checkpoint(path),
        lambda: Decoupled(data.class_counts, checkpoint=str(path)),
        lambda: load_weights(CIFARResNet(8, width=4), path),
        lambda: CIFARResNet(8, width=4, weights=str(path)),
        lambda: tiny_trainer().test(tiny_model(data), data, ckpt_path=path, weights_only=True, verbose=False),
    ):
        with suppress(Exception):  # Lightning and torch refuse in words of their own
            use()
        assert not Path("ran").exists()


def under(key, settings):
    def change(checkpoint):
        checkpoint["hyper_parameters"].pop("_instantiator", None)
        checkpoint[key] = settings

    return change


ASKS = {"_instantiator": "evilmod.function"}


@pytest.mark.parametrize(
    ("cls", "key", "settings"),
    [
        (BaseClassifier, "hyper_parameters", ASKS),
        (BaseClassifier, "hparams", ASKS),
        (BaseClassifier, "module_arguments", ASKS),
        (BaseClassifier, "hparams", list(ASKS.items())),
        (SyntheticLongTail, "datamodule_hyper_parameters", ASKS),
    ],
)
def test_no_other_function_builds_a_module(stranger, cls, key, settings):
    path = stranger(under(key, settings))
    with pytest.raises(LongTailError, match=r"asks to be built by 'evilmod\.function'"):
        cls.load_from_checkpoint(path)
    with open(path, "rb") as file, pytest.raises(LongTailError, match="asks to be built"):
        cls.load_from_checkpoint(file)
    assert not Path("ran").exists()


def test_what_is_refused_is_named(ltl, stranger):
    path = stranger(HOSTILE["backbone"])
    status, _, err = ltl("test", "--ckpt_path", path, *TINY)
    assert status == 2
    assert "names evilmod.Net, which is no class of this library" in err
    assert "--import evilmod" in err
    with pytest.raises(LongTailError, match=r"names evilmod\.Net"):
        BaseClassifier.load_from_checkpoint(path)
    with pytest.raises(LongTailError, match=r"names evilmod\.Net"):
        load(stranger(HOSTILE["described part"]))


def test_the_name_of_a_checkpoint_names_no_class(ltl, stranger):
    path = stranger(HOSTILE["backbone"]).rename("evilmod.Net")
    for word in ([f"--ckpt_path={path}"], ["--ckpt_path", path], ["--ckpt", path], [f"--ckpt_p={path}"]):
        assert ltl("test", *word, *TINY, "--model=BaseClassifier")[0] == 2
        assert not Path("ran").exists()
    path = path.rename("x.ckpt")
    Path("own.yaml").write_text("ckpt_path: x.ckpt\n")
    assert ltl("test", "--config=own.yaml", *TINY, "--model=BaseClassifier")[0] == 2
    assert not Path("ran").exists()


def test_the_user_may_name_a_module(ltl, stranger, monkeypatch):
    Path("mine.py").write_text("from torch import nn\nclass Head(nn.Linear):\n    pass\n")
    head = {"class_path": "mine.Head", "init_args": {"in_features": 16, "out_features": 6, "bias": True}}
    path = stranger(part("head", head))
    Path("photos").mkdir()
    Image.new("RGB", (40, 40)).save("photos/a.png")
    commands = (["predict", "--images=photos", "--ckpt_path", path], ["test", "--ckpt_path", path, *TINY])
    for command in commands:
        status, _, err = ltl(*command)
        assert status == 2
        assert "--import mine" in err
    for command in commands:
        status, _, err = ltl(*command, "--import", "mine")
        assert status == 0, err
    assert ltl("test", "--ckpt_path", path, *TINY, "--import=mine_")[0] == 2
    assert ltl("test", "--ckpt_path", path, *TINY, "--import")[0] == 2


def test_where_a_model_began_is_not_asked_again(stranger):
    def change(checkpoint):
        spec = checkpoint["longtail_lightning"]["parts"]["backbone"]["spec"]
        spec["init_args"]["weights"] = "x.ckpt"

    def other(checkpoint):
        change(checkpoint)
        checkpoint["hyper_parameters"]["backbone"]["init_args"]["weights"] = "nowhere.pt"

    for changed in (change, other):
        path = stranger(changed)
        assert load(path).module.backbone.weights is None


@pytest.mark.parametrize("door", ["test", "config", "fit", "pictures"])
def test_a_file_that_the_settings_name_is_not_opened(ltl, stranger, trained, door):
    path = stranger(settings(weights=str(Path("secret.pt").absolute()), pretrained=True))
    Path("own.yaml").write_text((trained / "config_fit.yaml").read_text())
    Path("photos").mkdir()
    status, _, err = ltl(*DOORS[door](path))
    assert "secret" not in err
    assert status == 0 or "photos" in err, err


def test_a_folder_of_shards_is_not_taken(ltl, stranger):
    Path("sharded.ckpt").mkdir()
    torch.save(Shell(), "sharded.ckpt/meta.pt")
    Path("sharded.ckpt/.metadata").write_bytes(pickle.dumps(Shell()))
    for args in (["test", *TINY], ["fit", *TINY, "--model=BaseClassifier", "--trainer.strategy=fsdp"], ["tau"]):
        status, _, err = ltl(*args, "--ckpt_path=sharded.ckpt")
        assert status == 2
        assert "sharded.ckpt: there is no such file" in err
    for read in (load, lambda path: load_weights(CIFARResNet(8, width=4), path)):
        with pytest.raises(LongTailError):
            read("sharded.ckpt")


@pytest.mark.parametrize(
    "change",
    [
        description(card=None),
        description(card=[]),
        description(parts=[1]),
        description(parts={"head": None}),
        description(class_path=7),
        description(shared=[["head"], [7]]),
        lambda checkpoint: checkpoint["longtail_lightning"]["card"].update(class_counts=10**11),
        lambda checkpoint: checkpoint["longtail_lightning"]["card"].update(class_counts=["a"]),
        lambda checkpoint: checkpoint["longtail_lightning"]["card"].update(class_names=["a"]),
        lambda checkpoint: checkpoint["longtail_lightning"]["card"].update(many="x"),
        lambda checkpoint: checkpoint.update(hyper_parameters=[1]),
        lambda checkpoint: checkpoint.update(longtail_lightning=3),
        lambda checkpoint: checkpoint.update(state_dict=3),
        lambda checkpoint: checkpoint.update(state_dict={"head.weight": "text"}),
        settings(num_classes=10**11),
        lambda checkpoint: checkpoint["longtail_lightning"]["parts"]["head"]["spec"]["init_args"].update(
            num_classes=10**9
        ),
    ],
)
def test_what_makes_no_sense_is_one_sentence(ltl, stranger, change):
    path = stranger(change)
    with pytest.raises(LongTailError):
        load(path)
    for door in ("test", "tau"):
        status, _, err = ltl(*DOORS[door](path))
        assert status == 2, err
        assert "Traceback" not in err


def test_the_best_checkpoint_of_a_resumed_run_is_not_a_strangers(stranger):
    """A clean last.ckpt that names a second file, a pickle, as the best one."""
    from lightning.pytorch.callbacks import ModelCheckpoint

    from longtail_lightning import ClassifierRetraining

    torch.save(Shell(), "best.ckpt")
    data = tiny_data()
    first = tiny_trainer(max_epochs=1, enable_checkpointing=True, callbacks=[ModelCheckpoint("own", save_last=True)])
    first.fit(tiny_model(data), data)
    saved = torch.load("own/last.ckpt", weights_only=True)
    (state,) = (value for name, value in saved["callbacks"].items() if name.startswith("ModelCheckpoint"))
    for place in ("best.ckpt", str(Path("best.ckpt").resolve()), "own/../best.ckpt"):
        state.update(best_model_path=place)
        torch.save(saved, "own/last.ckpt")
        again = tiny_trainer(
            max_epochs=1,
            enable_checkpointing=True,
            callbacks=[ModelCheckpoint("own"), ClassifierRetraining(methods=["ncm"])],
        )
        with pytest.warns(UserWarning, match="is none of this run"):
            again.fit(tiny_model(data), data, ckpt_path="own/last.ckpt", weights_only=True)
        assert not Path("ran").exists()


CONFIGS = {
    "callback": {"trainer": {"callbacks": [{"class_path": "evilmod.Net"}]}},
    "function of a callback": {
        "trainer": {
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.LambdaCallback",
                    "init_args": {"on_test_start": "evilmod.function"},
                }
            ]
        }
    },
    "logger": {"trainer": {"logger": {"class_path": "evilmod.Net"}}},
    "strategy": {"trainer": {"strategy": {"class_path": "evilmod.Net"}}},
    "plugin": {"trainer": {"plugins": [{"class_path": "evilmod.Net"}]}},
    "data": {"data": {"class_path": "evilmod.Net"}},
    "model": {"model": {"class_path": "evilmod.Module"}},
    "process": {"trainer": {"logger": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "ran"]}}}},
}


@pytest.mark.parametrize("attack", CONFIGS)
def test_the_config_beside_a_checkpoint(ltl, stranger, trained, attack):
    path = stranger(lambda checkpoint: None)
    config = yaml.safe_load((trained / "config_fit.yaml").read_text())
    for key, values in CONFIGS[attack].items():
        if "class_path" in values:
            config[key] = values
        else:
            config[key].update(values)
    Path("config_fit.yaml").write_text(yaml.safe_dump(config))
    status, _, err = ltl("test", "--ckpt_path", path)
    assert status == 2
    assert "is no class of this library" in err or "evilmod" in err
    assert not Path("ran").exists()


def test_a_config_further_above_is_not_taken(ltl, stranger, trained):
    path = stranger(lambda checkpoint: None)
    Path("config_fit.yaml").write_text((trained / "config_fit.yaml").read_text())
    assert ltl("test", "--ckpt_path", path)[0] == 0
    for folder in ("below", "below/checkpoints"):
        Path(folder).mkdir()
        (Path(folder) / "x.ckpt").write_bytes(path.read_bytes())
    status, _, err = ltl("test", "--ckpt_path", "below/x.ckpt")
    assert status == 2
    assert "add --config FILE or --data CLASS" in err
    assert ltl("test", "--ckpt_path", "below/checkpoints/x.ckpt")[0] == 2
    Path("config_fit.yaml").rename("below/config_fit.yaml")
    assert ltl("test", "--ckpt_path", "below/checkpoints/x.ckpt")[0] == 0, "as `ltl fit` lays them out"


def itself(checkpoint):
    values = [1]
    values.append(values)
    checkpoint["hyper_parameters"]["extra"] = values


def repeated(checkpoint):
    values = [1]
    for _ in range(30):
        values = [values] * 10
    checkpoint["optimizer_states"].append(values)


def layers(checkpoint):
    layer = {"class_path": "torch.nn.Linear", "init_args": {"in_features": 15000, "out_features": 15000, "bias": True}}
    part("head", {"class_path": "torch.nn.Sequential", "named": {str(i): layer for i in range(100)}})(checkpoint)


def claimed(tensor):
    def change(checkpoint):
        sizes = {"num_features": 10**6, "num_classes": 10**6}
        checkpoint["longtail_lightning"]["parts"]["head"]["spec"]["init_args"].update(sizes)
        checkpoint["state_dict"]["head.weight"] = tensor

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (itself, "nested without end"),
        (repeated, "it repeats the same ones"),
        (layers, "made to fill the memory"),
        (claimed(torch.zeros(1).expand(10**6, 10**6)), "made to fill the memory"),
        (claimed(torch.zeros(10**6, 10**6, device="meta")), "made to fill the memory"),
        (description(shared=[["head", "head.x"]]), "(shared)"),
        (description(shared=[["head.nope", "head.x"]]), "which are not there"),
        (description(trainable=7), "(trainable)"),
        (description(class_path="longtail_lightning." + "a." * 5000 + "B"), "is no class of this library"),
        (description(class_path="lightning.pytorch.LightningModule"), "the weights do not fit the parts"),
    ],
)
def test_what_would_not_end_is_one_sentence(stranger, change, words):
    with pytest.raises(LongTailError, match=re.escape(words)):
        load(stranger(change))


def test_a_resumed_checkpoint_removes_no_file_elsewhere(ltl, stranger, trained):
    """Lightning removes the checkpoint that is no longer the best, which the resumed one names."""
    Path("own.yaml").write_text((trained / "config_fit.yaml").read_text())
    (theirs := Path("victim/thesis.txt")).parent.mkdir()
    theirs.touch()
    for version, place in enumerate(("victim", "victim/thesis.txt")):
        path = f"runs/own/version_{version}/checkpoints/../../../../{place}"

        def change(checkpoint, path=path):
            worst = torch.tensor(-1.0)
            for state in checkpoint["callbacks"].values():
                if "best_k_models" in state:
                    state.pop("dirpath")  # then it counts as that of this run
                    state.update(best_k_models={path: worst}, kth_best_model_path=path, best_model_path=path)
                    state.update(kth_value=worst, best_model_score=worst, last_model_path=path)

        logger = ["--trainer.logger.name=own", f"--trainer.logger.version={version}"]
        word = f"--ckpt_path={stranger(change)}"
        status, _, err = ltl("fit", "--config=own.yaml", *logger, "--trainer.max_epochs=2", word)
        assert status == 0, err
        assert theirs.exists(), path


def test_no_folder_is_removed_as_a_checkpoint():
    Path("folder").mkdir()
    Path("file.ckpt").touch()
    plugin = WholeCheckpointIO()
    for path in ("folder", Path("file.ckpt").resolve().as_uri(), "file.ckpt"):
        assert Path("file.ckpt").exists()
        plugin.remove_checkpoint(path)
    assert Path("folder").exists()
    assert not Path("file.ckpt").exists()


def test_data_modules_import_nothing(stranger):
    def change(checkpoint):
        values = {"root": "x", "transforms": {"class_path": "evilmod.Net"}}
        checkpoint["datamodule_hyper_parameters"] = {
            "_instantiator": "lightning.pytorch.cli.instantiate_module",
            **values,
        }

    with pytest.raises(LongTailError, match=r"names evilmod\.Net"):
        ImageFolderLT.load_from_checkpoint(stranger(change))
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        ImageFolderLT.load_from_checkpoint(stranger(pickled))
