from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from longtail_lightning import (
    CRT,
    LWS,
    NCM,
    BaseClassifier,
    CIFARResNet,
    ClassBalancedSampler,
    ClassifierRetraining,
    CosineHead,
    FeatureBank,
    LearnableScaleHead,
    LinearHead,
    LogitAdjustedLoss,
    MLPHead,
    NearestClassMeanHead,
    Retrained,
    Retraining,
    SyntheticLongTail,
    TauNormalization,
    TauNormalizedHead,
    TauSweep,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning.callbacks import _banks, _candidates
from tests.modules.test_resume import Stop
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def fit(retraining, data=None, model=None, epochs=1, **options):
    data = data or tiny_data()
    model = model if model is not None else tiny_model(data)
    checkpoint = ModelCheckpoint("saved", "best", monitor="val/acc", mode="max", enable_version_counter=False)
    trainer = tiny_trainer(
        **{
            "max_epochs": epochs,
            "callbacks": [retraining, checkpoint],
            "enable_checkpointing": True,
            "logger": CSVLogger("logs"),
            **options,
        }
    )
    trainer.fit(model, data)
    return trainer, model, data


def retrain(*args, **options):
    """Without plots, which take longer than all the rest."""
    return ClassifierRetraining(*args, **{"plot": False, **options})


def values(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(second[name], value, rtol=0, atol=0, msg=name)


@pytest.fixture
def extractions(monkeypatch):
    """Source and type of each pass over images."""
    passes, extract = [], _banks.extract

    def watched(encoder, source, path, settings):
        passes.append((source, settings.dtype))
        return extract(encoder, source, path, settings)

    monkeypatch.setattr(_banks, "extract", watched)
    return passes


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_each_method_is_saved_and_its_row_is_what_its_checkpoint_scores(capsys):
    retraining = retrain()
    _, _, data = fit(retraining)
    out = capsys.readouterr().out
    assert all(
        word in out
        for word in ("Validation accuracy by classifier", "Joint", "cRT", "LWS", "tau ", "NCM", "9-12 images")
    )
    kinds = {"crt": LinearHead, "lws": LearnableScaleHead, "tau": TauNormalizedHead, "ncm": NearestClassMeanHead}
    assert {Path(path).name for path in retraining.checkpoints.values()} == {f"{name}.ckpt" for name in kinds}
    for row, (name, kind) in zip(retraining.rows[1:], kinds.items()):
        path = retraining.checkpoints[name]
        model = BaseClassifier.load_from_checkpoint(path, weights_only=True)
        assert type(model.head) is kind
        (results,) = tiny_trainer().validate(model, data, verbose=False)
        assert [results[f"val/acc{key}"] for key in ("", "_many", "_medium", "_few")] == pytest.approx(
            [row.all, row.many, row.medium, row.few]
        )
        # And a trainer tests and predicts from the file, whatever head the given model has.
        fresh = tiny_model(data)
        assert "test/acc" in tiny_trainer().test(fresh, data, ckpt_path=path, verbose=False, weights_only=True)[0]
        assert type(fresh.head) is kind
    assert retraining.rows[0].name == "Joint"


def test_the_joint_row_is_what_the_fit_logged():
    retraining = retrain(["ncm"], start="last")
    trainer, _, _ = fit(retraining, epochs=2)
    assert retraining.rows[0].all == pytest.approx(trainer.callback_metrics["val/acc"].item(), abs=1e-6)


def test_the_bounds_of_the_splits_are_those_of_the_callback_or_the_module():
    for options, expected in (({}, (8, 4)), ({"few": 0}, (8, 0)), ({"many": 9, "few": 6}, (9, 6))):
        retraining = retrain(["tau"], **options)
        _, _, data = fit(retraining, limit_train_batches=0)
        many, few = expected
        splits = data.class_counts.shots(many=many, few=few)
        curve = retraining.details["tau"]["curve"]
        chosen = next(values for values in curve["rows"] if values["tau"] == curve["chosen"])
        record = json.loads(Path(retraining.files["retraining"]).read_text())
        best = torch.tensor(record["per_class"][retraining.rows[1].name])
        assert record["details"]["tau"]["curve"] == curve
        for name, index in splits:
            mean = best[index].mean().item() if len(index) else None
            assert getattr(retraining.rows[1], name) == chosen[name] == (None if mean is None else pytest.approx(mean))


def test_the_record_and_the_plots():
    retraining = ClassifierRetraining()
    fit(retraining)
    record = json.loads(Path(retraining.files["retraining"]).read_text())
    assert [row["name"] for row in record["rows"]][:3] == ["Joint", "cRT", "LWS"]
    assert set(record["seconds"]) == {"features", "crt", "lws", "tau", "ncm"}
    assert record["kept"] == retraining.kept
    assert 0.0 <= record["tau"]["tau"] <= 2.0
    for name in ("bars", "norms", "tau_plot"):
        with Image.open(retraining.files[name]) as plot:
            assert len(plot.convert("RGB").getcolors(10**6)) > 10


@pytest.mark.parametrize("keep", ["best", "none", "ncm"])
def test_what_is_kept(keep):
    retraining = retrain(["crt", "ncm"], keep=keep, start="last")
    before = {}

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            before.update(values(pl_module))

    trainer, model, data = fit(retraining, callbacks=[Watch(), retraining], enable_checkpointing=False)
    scores = {"joint": retraining.rows[0].all, "crt": retraining.rows[1].all, "ncm": retraining.rows[2].all}
    if keep == "none":
        assert retraining.kept == "joint"
        same(before, values(model))
    else:
        assert retraining.kept == ("ncm" if keep == "ncm" else max(scores, key=scores.get))
        (results,) = trainer.validate(model, data, verbose=False)
        assert results["val/acc"] == pytest.approx(scores[retraining.kept], abs=1e-6)
    for name, value in values(model.backbone).items():
        torch.testing.assert_close(value, before[f"backbone.{name}"], rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_the_best_checkpoint_of_the_fit_has_the_joint_head():
    retraining = retrain(["ncm"], keep="ncm")
    trainer, model, data = fit(retraining)
    for path, kind in (("best", LinearHead), (retraining.checkpoints[retraining.kept], NearestClassMeanHead)):
        trainer.test(model, data, ckpt_path=path, verbose=False)
        assert type(model.head) is kind


@pytest.mark.parametrize("path", ["best.ckpt", "last.ckpt"])
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_of_a_model_that_is_trained_already(path):
    checkpoint = ModelCheckpoint("saved", "best", monitor="val/acc", save_last=True, enable_version_counter=False)
    _, _, data = fit(None, callbacks=[checkpoint], epochs=2)
    before = torch.load(f"saved/{path}", weights_only=True)["state_dict"]
    retraining = retrain(["ncm"], keep="ncm")
    trainer, model, _ = fit(retraining, data, BaseClassifier.load_from_checkpoint(f"saved/{path}"), epochs=0)
    assert trainer.global_step == 0
    same({name: before[f"backbone.{name}"] for name in model.backbone.state_dict()}, values(model.backbone))
    assert [row.name for row in retraining.rows] == ["Joint", "NCM"]
    assert Path(retraining.checkpoints["ncm"]).is_file()


def test_the_joint_head_stays_when_nothing_is_better(monkeypatch):
    monkeypatch.setattr(
        _candidates, "class_accuracy", lambda *args, **options: torch.full((6,), 0.5, dtype=torch.float64)
    )
    retraining = retrain(["ncm", "lws"])
    _, model, _ = fit(retraining)
    assert retraining.kept == "joint"
    assert isinstance(model.head, LinearHead)


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_begins_with_the_best_checkpoint_or_the_last_weights():
    class Worse(BaseClassifier):
        def on_train_epoch_start(self):
            if self.current_epoch == 1:  # what the second epoch leaves is never the best
                nn.init.zeros_(self.head.weight)
                for p in self.backbone.parameters():
                    p.data.zero_()

    kept = {}
    for start in ("best", "last"):
        L.seed_everything(5, verbose=False)
        data = tiny_data()
        model = Worse(data.class_counts, backbone=CIFARResNet(8, width=4), optimizer=slow)
        retraining = retrain(["ncm"], keep="ncm", start=start)
        trainer, _, _ = fit(retraining, data, model, epochs=2)
        kept[start] = values(model.backbone)
        best = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["state_dict"]
    assert any(not torch.equal(kept["best"][name], kept["last"][name]) for name in kept["best"])
    same({name: best[f"backbone.{name}"] for name in kept["best"]}, kept["best"])


def slow(params):
    return torch.optim.SGD(params, lr=1e-4)


def test_the_fit_is_not_disturbed():
    modes = []

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            modes.append((trainer.state.fn, trainer.state.stage, [m.training for m in pl_module.backbone.modules()]))

    retraining = retrain(["crt"], keep="none")
    trainer, model, data = fit(retraining, callbacks=[Watch(), retraining, Watch()], enable_checkpointing=False)
    assert modes[0] == modes[1]
    assert trainer.state.finished
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, data)  # the same trainer goes on
    assert trainer.current_epoch == 2


def test_the_global_random_numbers_are_left_alone():
    states = []

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            states.append(torch.get_rng_state())

    fit(None, callbacks=[Watch(), retrain(), Watch()], enable_checkpointing=False)
    assert torch.equal(*states)


def test_batch_statistics_are_those_of_the_first_stage():
    # The authors' cRT runs the frozen backbone in training mode: its statistics drift.
    before = {}

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            before.update(values(pl_module.backbone))

    retraining = retrain(["crt"], keep="crt", start="last")
    _, model, _ = fit(retraining, callbacks=[Watch(), retraining], enable_checkpointing=False)
    same(before, values(model.backbone))


def test_nothing_is_looked_at_on_test_images(monkeypatch):
    build = SyntheticLongTail.build

    def watched(self, split):
        assert split != "test"
        return build(self, split)

    monkeypatch.setattr(SyntheticLongTail, "build", watched)
    fit(retrain())


def test_test_images_are_reported_when_all_is_chosen(capsys):
    kept, banks = [], []
    for test in (False, True):
        L.seed_everything(3, verbose=False)
        retraining = retrain(test=test)
        _, model, data = fit(retraining)
        kept.append((retraining.kept, [row.as_dict() for row in retraining.rows], values(model)))
        banks.append(retraining)
    assert kept[0][:2] == kept[1][:2]
    same(kept[0][2], kept[1][2])
    assert not banks[0].test_rows
    assert "Test accuracy by classifier" in capsys.readouterr().out
    for row, name in zip(banks[1].test_rows[1:], ("crt", "lws", "tau", "ncm")):
        model = BaseClassifier.load_from_checkpoint(banks[1].checkpoints[name])
        (results,) = tiny_trainer().test(model, data, verbose=False)
        assert [results[f"test/acc{key}"] for key in ("", "_many", "_few")] == pytest.approx(
            [row.all, row.many, row.few]
        )
    with pytest.raises(LongTailError, match="needs a data module of this library with test images"):
        tiny_trainer(callbacks=[ClassifierRetraining(["crt"], test=True)]).fit(NoTraining(), *loaders())


def test_methods_can_be_configured():
    methods = [
        CRT(epochs=1, head=MLPHead, name="crt_mlp"),
        CRT(epochs=2, loss=LogitAdjustedLoss(tau=0.5)),
        LWS(scale_bias=True),
        TauNormalization(tau=0.3),
        TauNormalization(choose="train", name="tau_train"),
        TauNormalization(choose="learn", name="tau_learned"),
        NCM(metric="euclidean"),
    ]
    retraining = retrain(methods, keep="crt_mlp")
    _, model, _ = fit(retraining)
    names = [row.name for row in retraining.rows]
    assert names[:5] == ["Joint", "crt_mlp", "cRT", "LWS", "tau 0.3"]
    assert names[5].startswith("tau_train ")
    assert names[6].startswith("tau_learned ")
    assert isinstance(model.head, MLPHead)
    assert BaseClassifier.load_from_checkpoint(retraining.checkpoints["lws"]).head.scale_bias
    assert BaseClassifier.load_from_checkpoint(retraining.checkpoints["ncm"]).head.metric == "euclidean"


class Shrink(Retraining):
    """A method of a user's own: one class, nothing registered."""

    name = "shrink"

    def __call__(self, head, train, val=None, *, device="auto"):
        made = LinearHead(head.num_features, head.num_classes, bias=False)
        made.weight.data.copy_(head.weight.data / 2)
        rows = [{"factor": factor, "per_class": [factor] * 5 + [float("nan")]} for factor in (0.25, 0.5)]
        return Retrained(made, "halved", {"note": "by two", "scores": {"x": "factor", "rows": rows, "chosen": 0.5}})


def test_a_method_of_ones_own_is_an_instance_and_nothing_else():
    retraining = ClassifierRetraining(["ncm", Shrink()], keep="shrink")
    _, model, _ = fit(retraining)
    assert [row.name for row in retraining.rows] == ["Joint", "NCM", "halved"]
    assert model.head.bias is None
    assert BaseClassifier.load_from_checkpoint(retraining.checkpoints["shrink"]).head.bias is None
    record = json.loads(Path(retraining.files["retraining"]).read_text())
    assert record["details"]["shrink"]["note"] == "by two"
    curve = record["details"]["shrink"]["scores"]
    assert curve["rows"][0] == {"factor": 0.25, "many": 0.25, "medium": 0.25, "few": 0.25, "all": 0.25}
    with Image.open(retraining.files["shrink_scores_plot"]) as plot:
        assert len(plot.convert("RGB").getcolors(10**6)) > 10


class OldForm(NCM):
    def __call__(self, *args, **options):
        return super().__call__(*args, **options).head


class Namesake(NCM):
    title = "cRT"


def test_what_a_method_returns_and_is_called_is_looked_at():
    retraining = retrain([OldForm(name="old"), "crt", Namesake()], keep="crt")
    with pytest.warns(UserWarning, match=r"OldForm returned a NearestClassMeanHead: return Retrained\(head"):
        fit(retraining)
    assert [row.name for row in retraining.rows] == ["Joint", "cRT (crt)", "cRT (ncm)"]


def test_a_second_run_gives_the_same_heads():
    found = []
    for _ in range(2):
        L.seed_everything(3, verbose=False)
        retraining = retrain(["crt", "lws"], keep="crt")
        _, model, _ = fit(retraining)
        found.append(values(model))
        torch.rand(3)
    same(*found)


def test_several_views_are_for_what_learns_from_them(monkeypatch):
    seen = {}
    for method in (CRT, NCM):
        call = method.__call__

        def watched(self, head, train, val=None, *, call=call, **options):
            seen[self.name] = train.num_views
            return call(self, head, train, val, **options)

        monkeypatch.setattr(method, "__call__", watched)
    fit(retrain(["crt", "ncm"], views=3), tiny_data(mixup_alpha=0.5))
    assert seen == {"crt": 3, "ncm": 1}


def test_a_plain_linear_head_comes_back_as_one_that_a_checkpoint_describes():
    data = tiny_data()
    model = tiny_model(data)
    model.head = nn.Linear(16, 6)
    retraining = retrain(["crt", "tau"], keep="crt")
    fit(retraining, data, model)
    images = torch.randn(3, 3, 32, 32)
    loaded = BaseClassifier.load_from_checkpoint(retraining.checkpoints["crt"], weights_only=True)
    torch.testing.assert_close(loaded.eval()(images), model.eval()(images))
    assert isinstance(BaseClassifier.load_from_checkpoint(retraining.checkpoints["tau"]).head, TauNormalizedHead)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_other_precisions(precision):
    retraining = retrain(["crt", "lws", "tau", "ncm"], keep="lws")
    trainer, model, data = fit(retraining, precision=precision)
    dtype = {"bf16-true": torch.bfloat16, "64-true": torch.float64}.get(precision, torch.float32)
    assert model.head.scale.dtype == dtype
    assert model.head.head.weight.dtype == dtype
    trainer.validate(model, data, verbose=False)


def test_averaged_weights_are_what_it_works_on():
    averaged = {}

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            averaged.update(values(pl_module.backbone))

    retraining = retrain(["crt"], keep="crt", start="last")
    fit(retraining, callbacks=[EMAWeightAveraging(decay=0.5), Watch(), retraining])
    model = BaseClassifier.load_from_checkpoint(retraining.checkpoints["crt"])
    same(averaged, values(model.backbone))


def test_a_cosine_head_is_retrained_as_one():
    data = tiny_data()
    retraining = retrain(["crt", "lws", "ncm"], keep="crt")
    _, model, _ = fit(retraining, data, tiny_model(data, head=CosineHead))
    assert isinstance(model.head, CosineHead)


@pytest.mark.filterwarnings("ignore:The bank has no feature of")
@pytest.mark.filterwarnings("ignore:The model was made for")
def test_a_class_without_training_images():
    data = tiny_data()
    train = [i for i, label in enumerate(data.labels("train").tolist()) if label != 4]
    data._splits._parts["train"] = torch.utils.data.Subset(data.dataset("train"), train)
    assert data.class_counts.tolist()[4] == 0
    retraining = retrain()
    fit(retraining, data, tiny_model(data))
    assert all(row.all is not None and 0.0 <= row.all <= 1.0 for row in retraining.rows)
    ncm = BaseClassifier.load_from_checkpoint(retraining.checkpoints["ncm"]).eval()
    assert 4 not in ncm(torch.randn(50, 3, 32, 32)).argmax(1)


# -- modules of one's own --------------------------------------------------------------------------


class Own(L.LightningModule):
    """No class counts, no data module, a plain linear head, augmentation nowhere."""

    def __init__(self, bias: bool = True):
        super().__init__()
        self.backbone, self.head = CIFARResNet(8, width=4), nn.Linear(16, 3, bias=bias)

    def forward(self, images):
        return self.head(self.backbone(images))

    def training_step(self, batch, batch_idx):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/acc", (self(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def loaders():
    torch.manual_seed(1)
    images, labels = torch.randn(40, 3, 8, 8), torch.tensor([0] * 24 + [1] * 12 + [2] * 4)
    images += labels[:, None, None, None]
    train = DataLoader(TensorDataset(images, labels), batch_size=8, shuffle=True)
    return train, DataLoader(TensorDataset(images[::2], labels[::2]), batch_size=8)


@pytest.mark.parametrize("keep", ["crt", "lws", "tau"])
@pytest.mark.filterwarnings("ignore:ncm.ckpt holds a NearestClassMeanHead, which Own does not build by itself")
def test_three_lines_in_a_module_of_ones_own(keep):
    model = Own()
    retraining = retrain(keep=keep, many=20, few=10)
    checkpoint = ModelCheckpoint("saved", monitor="val/acc", mode="max")
    trainer = tiny_trainer(callbacks=[retraining, checkpoint], enable_checkpointing=True, max_epochs=1)
    train, val = loaders()
    trainer.fit(model, train, val)
    assert type(model.head) is nn.Linear
    loaded = Own.load_from_checkpoint(retraining.checkpoints[keep], weights_only=True).eval()
    images = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(loaded(images), model.eval()(images), rtol=0, atol=0)
    (results,) = trainer.validate(loaded, val, verbose=False)
    row = next(row for row in retraining.rows if row.name.lower().startswith(keep))
    right = torch.cat([(loaded(batch).argmax(1) == labels) for batch, labels in val])
    labels = torch.cat([labels for _, labels in val])
    assert row.all == pytest.approx(torch.stack([right[labels == c].float().mean() for c in range(3)]).mean().item())
    assert row.many is not None
    assert results


class Wanted(Own):
    """Its first epoch is the best one."""

    def validation_step(self, batch, batch_idx):
        return

    def on_validation_epoch_end(self):
        self.log("wanted", 1.0 if self.current_epoch == 0 else 0.5)


def test_the_best_checkpoint_is_that_of_a_monitor():
    newest = ModelCheckpoint("saved/all", "{epoch}", save_top_k=-1)
    best = ModelCheckpoint("saved/best", "best", monitor="wanted", mode="max")
    retraining = retrain(["ncm"], keep="ncm", save=False, many=20, few=10)
    model, callbacks = Wanted(), [retraining, newest, best]
    tiny_trainer(callbacks=callbacks, enable_checkpointing=True, num_sanity_val_steps=0).fit(model, *loaders())
    states = [
        torch.load(f"saved/{name}.ckpt", weights_only=True)["state_dict"] for name in ("best/best", "all/epoch=1")
    ]
    kept = values(model.backbone)
    first, last = ({name: state[f"backbone.{name}"] for name in kept} for state in states)
    same(first, kept)
    assert any(not torch.equal(first[name], last[name]) for name in kept)


@pytest.mark.parametrize(
    "options", [{"filename": "crt", "monitor": "wanted"}, {"filename": "{epoch}", "every_n_epochs": 1}]
)
def test_a_checkpoint_of_the_fit_is_not_written_over(options):
    name = "crt" if "monitor" in options else "epoch=1"
    checkpoint = ModelCheckpoint("saved", **options)
    trainer = tiny_trainer(
        callbacks=[retrain([CRT(name=name)], keep=name, many=20, few=10), checkpoint], enable_checkpointing=True
    )
    model = Wanted()
    if name == "crt":
        model.training_step = NoTraining().training_step
        with pytest.raises(LongTailError, match=r"crt\.ckpt is a file of this trainer's ModelCheckpoint.* name="):
            trainer.fit(model, *loaders())
        return
    trainer.fit(model, *loaders())
    assert trainer.callbacks[0].checkpoints == {name: str(Path("saved/epoch=1-retrained.ckpt").resolve())}
    states = [torch.load(f"saved/epoch=1{end}.ckpt", weights_only=True) for end in ("", "-retrained")]
    assert ["optimizer_states" in state for state in states] == [True, False]


class Nested:
    def __init__(self, path):
        self.path = path


class WithSettings(Wanted):
    """Its second epoch moves the weights far away."""

    def __init__(self, settings):
        super().__init__()
        self.save_hyperparameters()

    def on_train_epoch_start(self):
        if self.current_epoch == 1:
            for p in self.backbone.parameters():
                p.data.zero_()


def best_and_last(settings, **options):
    """Whether a fit ends with the backbone of its best epoch, or of its last."""
    model = WithSettings(settings)
    checkpoint = ModelCheckpoint("saved", "best", monitor="wanted", mode="max", enable_version_counter=False)
    retraining = retrain(["ncm"], keep="ncm", save=False, many=20, few=10)
    trainer = tiny_trainer(callbacks=[retraining, checkpoint], enable_checkpointing=True, num_sanity_val_steps=0)
    trainer.fit(model, *loaders(), **options)
    assert [row.name for row in retraining.rows] == ["Joint", "NCM"]
    state = torch.load("saved/best.ckpt", weights_only=False)["state_dict"]
    return "best" if all(torch.equal(state[f"backbone.{k}"], v) for k, v in values(model.backbone).items()) else "last"


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_objects_among_the_hyper_parameters():
    for settings in (3, Path("images"), Nested("images")):
        assert best_and_last(settings) == "best", "of classes that the module has itself"
    with pytest.warns(UserWarning, match=r"The last weights are used .*best\.ckpt holds a .*Path.*ignore="):
        assert best_and_last(Nested(Path("images"))) == "last"


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return Path.touch, (Path("trapped").resolve(),)


@pytest.mark.parametrize("place", ["elsewhere", "saved"])
@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_path_that_a_resumed_checkpoint_names_is_not_trusted(place):
    best_and_last(3)
    Path("saved/best.ckpt").unlink()
    state = WithSettings(3).state_dict()
    Path(place).mkdir(exist_ok=True)
    torch.save({"state_dict": state, "more": Trap()}, f"{place}/bad.ckpt")
    tiny_trainer(max_epochs=1, callbacks=[ModelCheckpoint("saved", "stranger")], enable_checkpointing=True).fit(
        WithSettings(3), *loaders()
    )
    checkpoint = torch.load("saved/stranger.ckpt", weights_only=True)
    (saved,) = checkpoint["callbacks"].values()
    saved["best_model_path"] = str(Path(f"{place}/bad.ckpt").resolve())
    torch.save(checkpoint, "stranger.ckpt")

    retraining = retrain(["ncm"], keep="ncm", save=False, many=20, few=10)
    callbacks = [retraining, ModelCheckpoint("saved", "again")]
    model = WithSettings(3)
    trainer = tiny_trainer(max_epochs=1, callbacks=callbacks, enable_checkpointing=True)
    message = (
        "is none of this run, which writes to" if place == "elsewhere" else "last weights are used .*bad.ckpt holds a"
    )
    with pytest.warns(UserWarning, match=message):
        trainer.fit(model, *loaders(), ckpt_path="stranger.ckpt", weights_only=True)
    assert not Path("trapped").exists()
    same({k: checkpoint["state_dict"][f"backbone.{k}"] for k in model.backbone.state_dict()}, values(model.backbone))


class Elsewhere(L.LightningModule):
    """The parts lie deeper, and are called otherwise."""

    def __init__(self):
        super().__init__()
        self.net = nn.ModuleDict({"encoder": CIFARResNet(8, width=4), "top": nn.Sequential(nn.Linear(16, 3))})

    def forward(self, images):
        return self.net["top"](self.net["encoder"](images))

    training_step, configure_optimizers = Own.training_step, Own.configure_optimizers
    validation_step = Own.validation_step


@pytest.mark.parametrize("keep", ["crt", "ncm", "none"])
@pytest.mark.filterwarnings("ignore:ncm.ckpt holds a NearestClassMeanHead")
def test_parts_of_any_name(keep):
    names = {"backbone": "net.encoder", "head": "net.top.0", "many": 20, "few": 10}
    model, sweep = Elsewhere(), TauSweep(plot=False, **names)
    retraining = retrain(["crt", "ncm"], keep=keep, **names)
    callbacks = [sweep, retraining, ModelCheckpoint("saved", monitor="val/acc", mode="max")]
    trainer = tiny_trainer(callbacks=callbacks, enable_checkpointing=True, max_epochs=1)
    trainer.fit(model, *loaders())
    kinds = {"crt": nn.Linear, "ncm": NearestClassMeanHead, "none": nn.Linear}
    assert type(model.net["top"][0]) is kinds[keep]
    assert len(sweep.selection.table) == 21
    loaded = Elsewhere.load_from_checkpoint(retraining.checkpoints["crt"], weights_only=True).eval()
    if keep == "crt":
        images = torch.randn(5, 3, 8, 8)
        torch.testing.assert_close(loaded(images), model.eval()(images), rtol=0, atol=0)
    with pytest.raises(LongTailError, match=r"Elsewhere has no `net\.bottom`: .* callbacks take other names, such as"):
        tiny_trainer(callbacks=[retrain(["crt"], **{**names, "head": "net.bottom"})]).fit(Elsewhere(), *loaders())


def test_a_head_that_a_class_cannot_build_is_told():
    retraining = retrain(["ncm"], keep="none", many=20, few=10)
    trainer = tiny_trainer(callbacks=[retraining, ModelCheckpoint("saved")], enable_checkpointing=True, max_epochs=1)
    with pytest.warns(UserWarning, match=r"ncm.ckpt holds a NearestClassMeanHead, which Own does not build by itself"):
        trainer.fit(Own(), *loaders())


class NoValidation(Own):
    validation_step = L.LightningModule.validation_step


@pytest.mark.parametrize("callback", [ClassifierRetraining(["tau"], plot=False), TauSweep(plot=False)])
@pytest.mark.filterwarnings("ignore:You passed in a `val_dataloader` but have no `validation_step`")
def test_a_validation_loader_is_used_without_a_validation_step(callback):
    callback.many, callback.few = 20, 10
    tiny_trainer(callbacks=[callback], max_epochs=1).fit(NoValidation(), *loaders())
    assert callback.rows if isinstance(callback, ClassifierRetraining) else callback.selection


@pytest.mark.parametrize("callback", [ClassifierRetraining(["ncm"], plot=False), TauSweep(plot=False)])
def test_of_several_validation_loaders_the_first_is_used(callback, extractions):
    class Several(Own):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            super().validation_step(batch, batch_idx)

    callback.many, callback.few = 20, 10
    train, val = loaders()
    first = DataLoader(TensorDataset(*val.dataset[::2]), batch_size=4)
    with pytest.warns(UserWarning, match="Of the 2 val loaders, .* chosen on the first alone"):
        tiny_trainer(callbacks=[callback], max_epochs=1).fit(Several(), train, [first, val])
    assert [source.dataset for source, _ in extractions if source.split == "val"] == [first.dataset]


def test_a_trainer_that_is_used_again_works_on_the_data_of_the_second_fit():
    retraining = retrain(["ncm"], keep="ncm")
    trainer = tiny_trainer(callbacks=[retraining], max_epochs=1)
    data = tiny_data(num_classes=3)
    trainer.fit(tiny_model(data), data)
    trainer.fit_loop.max_epochs = 2
    model = Own()
    trainer.fit(model, *loaders())
    assert model.head.class_sizes.tolist() == [24, 12, 4]
    trainer.fit_loop.max_epochs = 3
    retraining.test = True
    with pytest.raises(LongTailError, match="needs a data module of this library with test images"):
        trainer.fit(Own(), *loaders())


def test_features_too_large_for_half_precision():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = CIFARResNet(8, width=4)

        def forward(self, images):
            return 1e6 * self.net(images)

    model = Own()
    model.backbone = Large()
    retraining = retrain(["ncm"], keep="ncm", many=20, few=10)
    tiny_trainer(callbacks=[retraining], limit_train_batches=0).fit(model, *loaders())
    model.eval()
    with torch.no_grad():
        images, labels = loaders()[0].dataset.tensors
        expected = NearestClassMeanHead(16, 3).fit(FeatureBank.from_arrays(model.backbone(images), labels))
    torch.testing.assert_close(model.head.class_means, expected.class_means)


def test_other_features_are_extracted_once(extractions):
    fit(retrain(["ncm"]), limit_train_batches=0)
    found = [(source.split, dtype) for source, dtype in extractions]
    assert found == [("train", torch.float16), ("val", torch.float32)]


def on_device(self, batch, dataloader_idx):
    """Normalization, without which the encoder takes no images, and augmentation in training."""
    images, labels = batch
    self.modes = [*getattr(self, "modes", []), self.trainer.state.stage.value]
    return converted(images, labels) + 9 * self.trainer.training * torch.randn(images.shape), labels


def converted(images, labels):
    return 3 * (images.float() / 255 - 0.5) - labels[:, None, None, None]


class InModule(Own):
    on_after_batch_transfer = on_device


class InData(L.LightningDataModule):
    on_after_batch_transfer = on_device

    def train_dataloader(self):
        return bytes_loaders()[0]

    def val_dataloader(self):
        return bytes_loaders()[1]


def bytes_loaders():
    return [
        DataLoader(TensorDataset((30 * (images + 3)).clamp(0, 255).byte(), labels), batch_size=8)
        for images, labels in (loader.dataset.tensors for loader in loaders())
    ]


@pytest.mark.parametrize("where", ["module", "data"])
@pytest.mark.parametrize("views", [1, 2])
def test_batches_go_through_the_hooks_of_the_user(where, views):
    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            owner.modes = []

    (train, val), model = bytes_loaders(), InModule() if where == "module" else Own()
    data = InData()
    owner, arguments = (model, [train, val]) if where == "module" else (data, [data])
    retraining = retrain(["ncm", CRT(epochs=1)], keep="ncm", views=views, many=20, few=10)
    tiny_trainer(callbacks=[Watch(), retraining], max_epochs=1).fit(model, *arguments)
    stages = {"validate", "train"} if views > 1 else {"validate"}
    assert set(owner.modes) == stages, "augmented for views alone"

    images, labels = train.dataset.tensors
    model.eval()
    with torch.no_grad():
        features = model.backbone(converted(images, labels))
        expected = NearestClassMeanHead(16, 3).fit(FeatureBank.from_arrays(features, labels))
        torch.testing.assert_close(model.head.class_means, expected.class_means, atol=5e-3, rtol=0)
        images, labels = val.dataset.tensors
        right = model(converted(images, labels)).argmax(1) == labels
    row = next(row for row in retraining.rows if row.name == "NCM")
    assert row.all == pytest.approx(torch.stack([right[labels == c].float().mean() for c in range(3)]).mean().item())


def test_a_hook_over_that_of_the_library_is_told_before_the_training():
    class Changed(SyntheticLongTail):
        def on_after_batch_transfer(self, batch, dataloader_idx):
            return super().on_after_batch_transfer(batch, dataloader_idx)

    data = Changed(num_classes=3, max_count=12, imbalance_factor=4)
    with pytest.raises(LongTailError, match=r"Changed overrides on_after_batch_transfer.* override prepare_batch"):
        tiny_trainer(callbacks=[ClassifierRetraining(["ncm"])]).fit(NoTraining(), data)


class Labeled(TensorDataset):
    classes = ("a", "b", "c")


def test_fewer_names_than_outputs():
    model = Own()
    model.head = nn.Linear(16, 5)
    retraining = retrain(["crt"], keep="crt", many=20, few=10)
    train, val = (DataLoader(Labeled(*loader.dataset.tensors), batch_size=8) for loader in loaders())
    with pytest.warns(UserWarning, match=r"no feature of 2 of 5 classes \(3, 4\)"):
        tiny_trainer(callbacks=[retraining], max_epochs=1).fit(model, train, val)
    assert model.head.out_features == 5


def test_without_checkpoints_nothing_is_written():
    retraining = retrain(["ncm"], keep="ncm", many=20, few=10)
    model = Own()
    tiny_trainer(callbacks=[retraining], max_epochs=1).fit(model, *loaders())
    assert not retraining.checkpoints
    assert not retraining.files
    assert not list(Path().rglob("*.ckpt"))
    assert isinstance(model.head, NearestClassMeanHead)


# -- what cannot work is told before the training ---------------------------------------------------


class Boring(L.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(2, 2)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch, batch_idx):
        raise AssertionError("must not train")


def test_a_module_without_parts_is_told_what_to_add():
    with pytest.raises(LongTailError, match=r"Boring has no `backbone`: set self\.backbone"):
        tiny_trainer(callbacks=[ClassifierRetraining()]).fit(Boring(), loaders()[0])
    model = Boring()
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(LongTailError, match="has no `head`"):
        tiny_trainer(callbacks=[ClassifierRetraining()]).fit(model, loaders()[0])


class NoTraining(Own):
    def training_step(self, batch, batch_idx):
        raise AssertionError("must not train")


class Stream(IterableDataset):
    def __iter__(self):
        yield from loaders()[0].dataset


class Named(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        image, label = loaders()[0].dataset[index]
        return {"image": image, "label": label}


@pytest.mark.parametrize("callback", [ClassifierRetraining(["ncm"], keep="ncm"), TauSweep(split="train")])
@pytest.mark.parametrize(
    ("loader", "message"),
    [
        (DataLoader(Stream(), batch_size=8), "Stream can only be read from its beginning"),
        (DataLoader(Named(), batch_size=8), r"Named gives batches as dict, expected \(images, labels\)"),
        ({"a": loaders()[0]}, "the train loader is a dict"),
        (DataLoader(TensorDataset(torch.zeros(8, 3, 8, 8), torch.zeros(8, 3))), "labels must be 1-D"),
    ],
)
@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
def test_a_loader_that_cannot_be_read_is_told_before_the_training(callback, loader, message):
    with pytest.raises(LongTailError, match=message):
        tiny_trainer(callbacks=[callback]).fit(NoTraining(), loader)


@pytest.mark.parametrize("callback", [ClassifierRetraining(["ncm"], plot=False), TauSweep(plot=False)])
@pytest.mark.parametrize("options", [{"check_val_every_n_epoch": 5}, {"limit_train_batches": 0}])
def test_loaders_that_lightning_has_not_asked_for(callback, options):
    callback.many, callback.few = 20, 10
    options = {"max_epochs": 1, "num_sanity_val_steps": 0, **options}
    tiny_trainer(callbacks=[callback], **options).fit(Own(), *loaders())
    assert callback.rows if isinstance(callback, ClassifierRetraining) else callback.selection


@pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no `val_dataloader`")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {},
            [
                "pass a loader",
                r"val_split=0\.1",
                r'TauNormalization\(choose="train"\)',
                r"TauNormalization\(tau=0\.7\)",
            ],
        ),
        ({"methods": ["crt"]}, ["pass a loader", r"val_split=0\.1", "keep='crt' or keep='none'"]),
    ],
)
def test_no_validation_split_says_the_ways_out(options, words):
    for data in (loaders()[0], without_val(num_classes=3)):
        with pytest.raises(LongTailError) as error:
            tiny_trainer(callbacks=[ClassifierRetraining(**options)]).fit(NoTraining(), data)
        for word in words:
            error.match(word)


@pytest.mark.parametrize(
    ("method", "head", "message"),
    [
        ("tau", CosineHead(16, 3), r"needs a linear classifier .* got CosineHead"),
        ("crt", nn.Sequential(nn.Linear(16, 3)), r"cannot make a new Sequential: say what to train, CRT\(head="),
        ("lws", nn.Sequential(nn.Linear(16, 3)), "builds on a trained head of this library or an nn.Linear"),
    ],
)
def test_a_head_that_a_method_cannot_work_on_is_told(method, head, message):
    model = NoTraining()
    model.head = head
    with pytest.raises(LongTailError, match=message):
        tiny_trainer(callbacks=[ClassifierRetraining([method])]).fit(model, *loaders())


def without_val(**options):
    data = tiny_data(**options)
    data._splits._parts["val"] = None
    return data


@pytest.mark.parametrize(
    "method", ["crt", TauNormalization(choose="train"), TauNormalization(tau=0.7), TauNormalization(choose="learn")]
)
def test_without_validation_a_chosen_method_is_kept(method):
    name = method if isinstance(method, str) else method.name
    retraining = retrain([method], keep=name)
    data = without_val()
    model = tiny_model(data)
    trainer = tiny_trainer(callbacks=[retraining], max_epochs=1)
    trainer.fit(model, data)
    assert retraining.kept == name
    assert not retraining.rows
    assert isinstance(model.head, LinearHead if name == "crt" else TauNormalizedHead)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["crtt"]}, "There is no method 'crtt'. Did you mean crt"),
        ({"keep": "bst"}, "keep='bst' is none of the methods. Did you mean best"),
        ({"methods": ["crt"], "keep": "lws"}, "none of the methods"),
        ({"methods": [CRT(), CRT(epochs=3)]}, "Two methods are called 'crt'.*name="),
        ({"methods": [CRT(name="joint")]}, "A method cannot be called 'joint', .*name="),
        ({"methods": [NCM(name="best")], "keep": "best"}, "cannot be called 'best'"),
        ({"start": "first"}, "choose 'best' or 'last'"),
        ({"views": 0}, "views=0 must be at least 1"),
    ],
)
def test_wrong_arguments_are_told(options, message):
    with pytest.raises(LongTailError, match=message):
        ClassifierRetraining(**options)


@pytest.mark.parametrize(
    ("callback", "head", "message"),
    [
        (ClassifierRetraining(many=1), None, r"ClassifierRetraining got few=4 above many=1"),
        (TauSweep(few=500), None, r"TauSweep got few=500 above many=8"),
        (ClassifierRetraining(["crt"]), nn.Linear(16, 7), "6 classes of the data, but the Linear has 7 outputs"),
        (TauSweep(), nn.Linear(16, 5), "6 classes of the data, but the Linear has 5 outputs"),
    ],
)
def test_what_does_not_fit_the_data_is_told_before_the_training(callback, head, message):
    data = tiny_data()
    model = tiny_model(data)
    model.head = head or model.head
    model.training_step = NoTraining().training_step
    with pytest.raises(LongTailError, match=message):
        tiny_trainer(callbacks=[callback]).fit(model, data)


def test_an_error_leaves_the_model_as_the_fit_did():
    data = tiny_data()
    model = tiny_model(data)
    before = {}

    class Watch(L.Callback):
        def on_fit_end(self, trainer, pl_module):
            before.update(values(pl_module))

    class Broken(NCM):
        def __call__(self, *args, **options):
            raise KeyboardInterrupt

    retraining = ClassifierRetraining([CRT(), Broken()])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        tiny_trainer(callbacks=[Watch(), retraining], max_epochs=1).fit(model, data)
    same(before, values(model))


@pytest.mark.parametrize("keep", ["best", "wild"])
def test_a_method_that_fails_leaves_the_others_their_results(keep, capsys):
    retraining = retrain([CRT(lr=1e30, name="wild"), "ncm"], keep=keep)
    with pytest.warns(UserWarning, match="wild failed, .* diverged at lr="):
        fit(retraining)
    out = capsys.readouterr().out
    assert "wild failed" in out
    assert "wild: LinearHead diverged" in out
    assert [row.name for row in retraining.rows] == ["Joint", "NCM"]
    assert list(retraining.checkpoints) == ["ncm"]
    assert retraining.kept in (("joint", "ncm") if keep == "best" else ("joint",))
    record = json.loads(Path(retraining.files["retraining"]).read_text())
    assert "diverged" in record["failed"]["wild"]


class BadHead(LinearHead):
    def forward(self, features):
        return super().forward(features, "too much")


class BadSampler(ClassBalancedSampler):
    def draw(self, number, generator):
        raise RuntimeError("no order")


class BadLoss(LogitAdjustedLoss):
    def forward(self, logits, target):
        raise KeyError("one line\nand another")


@pytest.mark.parametrize(
    ("method", "reason"),
    [
        (CRT(head=BadHead), "TypeError: LinearHead.forward() takes 2 positional arguments but 3 were given"),
        (CRT(sampler=BadSampler), "RuntimeError: no order"),
        (CRT(loss=BadLoss()), "KeyError: "),
    ],
)
def test_a_part_of_ones_own_that_fails_leaves_the_others_their_results(method, reason, caplog):
    retraining = retrain([method, "ncm"])
    with pytest.warns(UserWarning, match="crt failed, so the comparison is without it"):
        fit(retraining)
    assert retraining.failed["crt"].startswith(reason)
    assert "\n" not in retraining.failed["crt"]
    assert [row.name for row in retraining.rows] == ["Joint", "NCM"]
    assert "Traceback" in caplog.text, "whoever wrote the part finds where it failed"


def test_a_fast_dev_run_leaves_it_out():
    retraining = ClassifierRetraining()
    data = tiny_data()
    tiny_trainer(callbacks=[retraining], fast_dev_run=True).fit(tiny_model(data), data)
    assert not retraining.rows


# -- resuming and several processes -----------------------------------------------------------------


def test_a_resumed_fit_ends_with_the_same_heads():
    def run(stop=None, resume=False):
        L.seed_everything(7, verbose=False)
        data = tiny_data()
        model = tiny_model(data)
        retraining = retrain(["crt", "lws"], keep="crt", save=False)
        trainer = tiny_trainer(max_epochs=2, callbacks=[retraining, *([Stop(stop)] if stop else [])])
        if stop:
            with pytest.raises(SystemExit):
                trainer.fit(model, data)
            assert not retraining.rows
            return None
        trainer.fit(model, data, ckpt_path="stopped.ckpt" if resume else None, weights_only=True)
        return values(model), [row.as_dict() for row in retraining.rows]

    expected, rows = run()
    run(stop=7)
    resumed, resumed_rows = run(resume=True)
    same(expected, resumed)
    assert resumed_rows == rows


def fit_on_ranks(devices, folder):
    L.seed_everything(3, verbose=False)
    data = tiny_data(num_classes=5, batch_size=4)
    model = tiny_model(data)
    methods = ["crt", "lws", "tau", CRT(lr=1e30, name="wild"), "ncm"]
    retraining = ClassifierRetraining(methods, keep="lws", start="last")
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(
        max_epochs=1,
        limit_train_batches=0,  # the same first stage for all
        callbacks=[retraining, ModelCheckpoint(f"{folder}/{devices}")],
        enable_checkpointing=True,
        logger=CSVLogger(f"{folder}/{devices}"),
        **distributed,
    )
    with pytest.warns(UserWarning, match="wild failed") if trainer.is_global_zero else nullcontext():
        trainer.fit(model, data)
    state = {name: value.tolist() for name, value in model.head.state_dict().items()}
    return state, [row.as_dict() for row in retraining.rows], sorted(retraining.checkpoints)


def test_two_ranks_end_like_one(pool, tmp_path):
    expected = fit_on_ranks(1, str(tmp_path))
    first, second = pool.run(fit_on_ranks, 2, str(tmp_path))
    assert first == second == expected
    model = BaseClassifier.load_from_checkpoint(tmp_path / "2" / "lws.ckpt")
    assert model.head.scale.tolist() == expected[0]["scale"]


def fit_large_on_ranks(devices):
    """Of one process's share, no feature is too large."""
    L.seed_everything(3, verbose=False)
    model = Own()
    model.backbone = Flat()
    images, labels = torch.rand(16, 1, 4, 4), torch.arange(16) % 3
    images[0] = 1e5
    data = DataLoader(TensorDataset(images, labels), batch_size=2)
    retraining = retrain(["ncm"], keep="ncm")
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    tiny_trainer(limit_train_batches=0, callbacks=[retraining], **distributed).fit(model, data, data)
    return model.head.class_means.tolist()


class Flat(nn.Module):
    def forward(self, images):
        return images.flatten(1)


def test_two_ranks_agree_that_features_are_too_large(pool):
    first, second = pool.run(fit_large_on_ranks, 2)
    assert first == second == fit_large_on_ranks(1)


def fit_hooks_on_ranks(devices):
    L.seed_everything(3, verbose=False)
    model = InModule()
    retraining = retrain(["crt", "ncm"], keep="crt", views=2, many=20, few=10)
    distributed = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    trainer = tiny_trainer(limit_train_batches=0, callbacks=[retraining], **distributed)
    trainer.fit(model, *bytes_loaders())
    state = {name: value.tolist() for name, value in model.head.state_dict().items()}
    return state, [row.as_dict() for row in retraining.rows]


def test_hooks_draw_the_same_on_two_ranks(pool):
    first, second = pool.run(fit_hooks_on_ranks, 2)
    assert first == second == fit_hooks_on_ranks(1)
