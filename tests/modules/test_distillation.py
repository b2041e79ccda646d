"""A student that learns from trained networks."""

from __future__ import annotations

import copy
import os
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import nn

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassBalancedSampler,
    CosineHead,
    CrossEntropyLoss,
    Distillation,
    IdentityBackbone,
    LinearHead,
    LogitDistillationLoss,
    LongTailError,
    ProjectedBackbone,
    SyntheticLongTail,
    load,
)
from longtail_lightning.modules._description import KEY
from longtail_lightning.modules._teachers import Taught
from tests.modules.test_resume import Stop
from tests.modules.test_retrieval_augmented import make as make_retrieval
from tests.reference import distillation as reference
from tests.tiny import tiny_data, tiny_model, tiny_trainer


def teacher(data, seed=0, path=None, width=4, epochs=1):
    """A trained classifier, or its file."""
    L.seed_everything(seed, verbose=False)
    model = tiny_model(data, backbone=CIFARResNet(8, width=width))
    trainer = tiny_trainer(max_epochs=epochs, limit_val_batches=0)
    trainer.fit(model, data)
    if path is None:
        return model
    trainer.save_checkpoint(path)
    return path


def student(data, teachers, seed=3, **options):
    torch.manual_seed(seed)
    defaults = {"backbone": CIFARResNet(8, width=4), "many": 8, "few": 4}
    return Distillation(data.class_counts, teachers=teachers, **{**defaults, **options})


def values(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


# -- the equations -------------------------------------------------------------------------------


def on_vectors(num_teachers, seed=0, **options):
    """A student in double precision whose images are vectors, a batch, and what teachers say."""
    draw = torch.Generator().manual_seed(seed)
    y = [0, 2, 1, 2, 0]
    images = torch.randn(5, 7, generator=draw, dtype=torch.float64)
    teachers = [torch.randn(5, 4 + k, generator=draw, dtype=torch.float64) for k in range(num_teachers)]
    logits = torch.randn(5, 3, generator=draw, dtype=torch.float64)
    torch.manual_seed(seed)
    backbone = ProjectedBackbone(IdentityBackbone(7), sum(t.shape[1] for t in teachers))
    model = Distillation([9, 5, 2], backbone=backbone, **options).double()
    return model, images, torch.tensor(y), Taught(teachers, logits)


def compare(model, images, y, taught, expected):
    features = model.backbone(images)
    logits = model.head(features)
    found = torch.autograd.grad(model.loss_terms(features, logits, y, taught)["loss"], [*model.parameters()])
    features = model.backbone(images)
    wanted = expected(features, model.head(features))
    torch.testing.assert_close(model.loss_terms(features, model.head(features), y, taught)["loss"], wanted)
    for gradient, other in zip(found, torch.autograd.grad(wanted, [*model.parameters()])):
        torch.testing.assert_close(gradient, other)


def test_equation_2():
    model, images, y, taught = on_vectors(1, alpha=0.3, beta=7.0)
    compare(
        model, images, y, taught,
        lambda v, z: reference.eq_2(v, z, y.tolist(), taught.features[0], alpha=0.3, beta=7.0),
    )  # fmt: skip


def test_equation_3():
    """Its gradient; the loss differs by the entropy of the teacher."""
    options = {"distill": "logits", "logit_loss": LogitDistillationLoss(temperature=5.0)}
    model, images, y, taught = on_vectors(1, alpha=0.3, **options)

    def expected(_, z):
        soft = torch.softmax(taught.logits / 5.0, 1)
        entropy = -(soft * soft.log()).sum(1).mean()
        return reference.eq_3(z, y.tolist(), taught.logits, alpha=0.3, temperature=5.0) - 0.3 * 25 * entropy

    compare(model, images, y, taught, expected)


@pytest.mark.parametrize("num_teachers", [2, 4])
def test_equation_4(num_teachers):
    model, images, y, taught = on_vectors(num_teachers)
    compare(
        model, images, y, taught,
        lambda hv, z: reference.eq_4(hv, z, y.tolist(), taught.features, alpha=0.4, beta=100.0),
    )  # fmt: skip


def test_both_is_their_sum():
    shared = {"logit_loss": LogitDistillationLoss(temperature=5.0), "alpha": 0.3}
    found = {}
    for distill in ("features", "logits", "both"):
        model, images, y, taught = on_vectors(1, distill=distill, **shared)
        features = model.backbone(images)
        found[distill] = model.loss_terms(features, model.head(features), y, taught)
    own = found["both"]["loss_own"]
    torch.testing.assert_close(
        found["both"]["loss"], found["features"]["loss"] + found["logits"]["loss"] - 0.7 * own
    )  # counted twice


def test_alpha_by_count():
    """alpha ** ((n / geometric mean) ** r): nearer to 1 for classes with fewer images."""
    model, images, y, taught = on_vectors(1, alpha=0.4, beta=10.0, alpha_by_count=0.5)
    middle = (9 * 5 * 2) ** (1 / 3)
    alphas = [0.4 ** ((n / middle) ** 0.5) for n in (9, 5, 2)]
    assert alphas[0] < 0.4 < alphas[2]

    def expected(v, z):
        rows = [
            reference.eq_2(
                v[i : i + 1], z[i : i + 1], [label], taught.features[0][i : i + 1], alpha=alphas[label], beta=10.0
            )
            for i, label in enumerate(y.tolist())
        ]
        return sum(rows) / len(rows)

    features = model.backbone(images)
    logits = model.head(features)
    found = model.loss_terms(features, logits, y, taught)["loss"]
    torch.testing.assert_close(found, expected(features, logits), rtol=1e-6, atol=1e-6)
    soft = F.one_hot(y, 3).double()
    torch.testing.assert_close(model.loss_terms(features, logits, soft, taught)["loss"], found)
    assert model.loss.reduction == "mean"


def test_a_constant_is_nearer_than_its_distance_to_any_other():
    model, images, y, taught = on_vectors(2)
    told = model.loss_terms(model.backbone(images), model.head(model.backbone(images)), y, taught)
    wide = F.normalize(torch.cat([F.normalize(t, dim=1) for t in taught.features], 1), dim=1)
    best = torch.nn.Parameter(wide.mean(0).clone())
    optimizer = torch.optim.Adam([best], 0.05)
    for _ in range(300):
        optimizer.zero_grad()
        distance = (1 - F.cosine_similarity(wide, best[None])).mean()
        distance.backward()
        optimizer.step()
    assert told["feature_distance_of_a_constant"].item() == pytest.approx(distance.item(), abs=1e-4)


def test_several_teachers_give_the_log_of_their_mean_probability():
    data = tiny_data()
    model = student(data, [teacher(data, seed) for seed in (0, 1)], distill="logits")
    images = torch.randn(4, 3, 32, 32)
    taught = model.teachers.look(images, logits=True)
    mean = torch.stack([t.head(t.backbone(images)).softmax(1) for t in model.teachers.all]).mean(0)
    torch.testing.assert_close(taught.logits.softmax(1), mean)
    assert isinstance(model.backbone, CIFARResNet)  # nothing has to be matched


# -- the student's network -----------------------------------------------------------------------


def test_the_layer_h():
    data = tiny_data()
    one, wide = teacher(data), teacher(data, width=8)
    assert isinstance(student(data, one).backbone, CIFARResNet)
    assert student(data, [wide]).backbone.num_features == 32
    model = student(data, [one, wide], projection="linear_relu")
    assert (model.backbone.num_features, model.backbone.relu, model.head.num_features) == (48, True, 48)
    assert isinstance(model.head, CosineHead)
    assert (float(model.head.scale), model.head.learnable_scale) == (20.0, False)
    given = ProjectedBackbone(CIFARResNet(8, width=4), 48)
    assert student(data, [one, wide], backbone=given).backbone is given


# -- teachers are no part of the student ---------------------------------------------------------


def test_nothing_reaches_a_teacher():
    data = tiny_data(sampler=ClassBalancedSampler)
    first, second = teacher(data), teacher(data, 1)
    before = [copy.deepcopy(model.state_dict()) for model in (first, second)]
    model = student(data, [first, second])
    inside = [copy.deepcopy(part.state_dict()) for t in model.teachers.all for part in (t.backbone, t.head)]
    optimized = []

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, *_):
            pl_module.train()
            optimized.extend(p for group in trainer.optimizers[0].param_groups for p in group["params"])
            for one in pl_module.teachers.all:
                assert not one.backbone.training
                assert all(p.grad is None and not p.requires_grad for p in one.backbone.parameters())

    tiny_trainer(callbacks=[Look()]).fit(model, data)
    after = [part.state_dict() for t in model.teachers.all for part in (t.backbone, t.head)]
    for old, new in zip([*inside, *before], [*after, first.state_dict(), second.state_dict()]):
        assert all(torch.equal(value, new[name]) for name, value in old.items())
    own = {id(p) for p in model.parameters()}
    assert optimized
    assert {id(p) for p in optimized} <= own
    plain = BaseClassifier(data.class_counts, backbone=ProjectedBackbone(CIFARResNet(8, width=4), 32), head=CosineHead)
    assert model.state_dict().keys() == plain.state_dict().keys()


def test_a_checkpoint_is_as_large_as_that_of_a_classifier_with_h():
    data = tiny_data()
    model = student(data, [teacher(data, path="a.ckpt", width=16), teacher(data, 1, "b.ckpt", width=16)])
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("student.ckpt")
    backbone = ProjectedBackbone(CIFARResNet(8, width=4), 128)
    plain = BaseClassifier(data.class_counts, backbone=backbone, head=model.head)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(plain, data)
    trainer.save_checkpoint("plain.ckpt")
    assert Path("student.ckpt").stat().st_size < Path("plain.ckpt").stat().st_size + 4000


def test_loads_tests_and_predicts_without_the_files_of_its_teachers():
    data = tiny_data()
    model = student(data, [teacher(data, path="a.ckpt"), teacher(data, 1, "b.ckpt")])
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("student.ckpt")
    expected = model.eval()(torch.zeros(2, 3, 32, 32))
    for path in ("a.ckpt", "b.ckpt"):
        Path(path).unlink()
    again = Distillation.load_from_checkpoint("student.ckpt", weights_only=True).eval()
    assert torch.equal(again(torch.zeros(2, 3, 32, 32)), expected)
    assert tiny_trainer().test(again, data, verbose=False)
    load("student.ckpt").save("copy.ckpt")
    assert load("copy.ckpt").predict(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))
    told = torch.load("copy.ckpt", weights_only=True)
    assert told["hyper_parameters"].get("teachers") is None
    assert [one["name"] for one in told[KEY]["card"]["teachers"]] == ["a.ckpt", "b.ckpt"]
    with pytest.raises(LongTailError, match=r"needs teachers; the run began with a.ckpt, b.ckpt: give Distillation\("):
        tiny_trainer(max_epochs=2).fit(again, data, ckpt_path="student.ckpt", weights_only=True)


def run(stop=None, resume=None, teachers=("a.ckpt", "b.ckpt"), **options):
    L.seed_everything(7, verbose=False)
    data = tiny_data(sampler=ClassBalancedSampler)
    model = student(data, [*teachers], **options)
    trainer = tiny_trainer(max_epochs=3, callbacks=[Stop(stop)] if stop else [])
    if stop:
        with pytest.raises(SystemExit):
            trainer.fit(model, data)
    else:
        trainer.fit(model, data, ckpt_path=resume, weights_only=True)
    return values(model)


@pytest.mark.parametrize("options", [{}, {"teacher_features": "cached", "views": 2, "cache": "cache"}], ids=str)
def test_stop_and_resume_equals_an_uninterrupted_run(options):
    data = tiny_data()
    for seed, path in enumerate(("a.ckpt", "b.ckpt")):
        teacher(data, seed, path)
    expected = run(**options)
    run(stop=8, **options)
    resumed = run(resume="stopped.ckpt", **options)
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


def test_a_loaded_student_begins_a_new_run_with_any_teachers():
    data = tiny_data()
    first, second = teacher(data, path="a.ckpt"), teacher(data, 1, "b.ckpt")
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(student(data, first), data)
    trainer.save_checkpoint("student.ckpt")
    again = Distillation.load_from_checkpoint("student.ckpt", teachers=second)
    fit(again, data)
    assert [one["name"] for one in again.card()["teachers"]] == ["b.ckpt"]


def test_a_strategy_that_restores_late_refuses_other_teachers(monkeypatch):
    data = tiny_data()
    for seed, path in enumerate(("a.ckpt", "b.ckpt")):
        teacher(data, seed, path)
    run(stop=8)
    teacher(data, 5, "b.ckpt")
    monkeypatch.setattr(SingleDeviceStrategy, "restore_checkpoint_after_setup", property(lambda self: True))
    with pytest.raises(LongTailError, match="with which the run began"):
        run(resume="stopped.ckpt")


def test_a_run_goes_on_with_its_own_teachers_alone():
    data = tiny_data()
    for seed, path in enumerate(("a.ckpt", "b.ckpt")):
        teacher(data, seed, path)
    run(stop=8)
    with pytest.raises(LongTailError, match="The run began with 2 teachers and now has 1"):
        run(resume="stopped.ckpt", teachers=["a.ckpt"], backbone=ProjectedBackbone(CIFARResNet(8, width=4), 32))
    Path("b.ckpt").rename("moved.ckpt")
    run(resume="stopped.ckpt", teachers=["a.ckpt", "moved.ckpt"])
    teacher(data, 5, "b.ckpt")
    with pytest.raises(LongTailError, match=r"The teacher b.ckpt is another one than b.ckpt with which the run began"):
        run(resume="stopped.ckpt")


# -- exact and cached ----------------------------------------------------------------------------


def test_remembered_features_are_those_of_the_same_views():
    data = tiny_data(sampler=ClassBalancedSampler)
    model = student(data, [teacher(data), teacher(data, 1, width=8)], teacher_features="cached", views=3)
    seen = []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            images, _, index, view = batch
            live = pl_module.teachers.look(images, logits=False).features
            kept = pl_module.teachers.recall(index, view, images.device, logits=False).features
            for one, other in zip(live, kept):
                assert torch.equal(one, other)
            seen.extend(zip(index.tolist(), view.tolist()))

    tiny_trainer(max_epochs=4, limit_val_batches=0, callbacks=[Look()]).fit(model, data)
    assert {view for _, view in seen} == {0, 1, 2}
    assert len(set(seen)) > 60  # of 38 x 3
    assert not model.teachers.remembers
    batch = next(iter(data.train_dataloader()))
    assert batch[2][:, 1].max() > 1000  # later runs see new views again


def test_a_cache_serves_later_runs_with_the_same_augmentation():
    data = tiny_data()
    options = {"teacher_features": "cached", "views": 2, "cache": "cache"}
    one = teacher(data)

    def fit(data):
        model = student(data, one, **options)
        tiny_trainer(max_epochs=1, limit_val_batches=0).fit(model, data)
        return values(model)

    first = fit(data)
    files = {file: file.stat().st_mtime_ns for file in Path("cache").rglob("*.npy")}
    assert files
    second = fit(tiny_data())
    assert all(torch.equal(second[name], value) for name, value in first.items())
    assert {file: file.stat().st_mtime_ns for file in Path("cache").rglob("*.npy")} == files
    other = tiny_data()
    other.augment_batch = lambda images, keys: images.flip(3)
    with pytest.raises(LongTailError, match=r"give another cache \(--model.cache FOLDER\), or delete this one"):
        fit(other)


def test_an_interrupted_run_leaves_the_data_with_all_their_views():
    data = tiny_data()
    model = student(data, teacher(data), teacher_features="cached", views=2)

    class Fail(L.Callback):
        def on_train_batch_end(self, *_):
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        tiny_trainer(callbacks=[Fail()]).fit(model, data)
    lengths = []

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            lengths.append(len(batch))

    tiny_trainer(max_epochs=1, callbacks=[Look()]).fit(tiny_model(data), data)
    assert set(lengths) == {2}


# -- what teachers may be ------------------------------------------------------------------------


class Tower(nn.Module):
    """Features of nobody knows which classes."""

    num_features = 6

    def forward(self, images):
        return images.mean((2, 3)) @ torch.arange(18.0).view(3, 6)


def test_a_tower_of_other_classes_teaches_features():
    data = tiny_data()
    model = student(data, [Tower(), teacher(tiny_data(num_classes=5))])
    tiny_trainer(max_epochs=1).fit(model, data)
    assert model.backbone.num_features == 22


def test_a_teacher_sees_its_own_normalization_and_size():
    small = tiny_data()
    path = teacher(small, path="small.ckpt")
    data = tiny_data()
    data.mean, data.std = [0.2, 0.3, 0.4], [0.7, 0.6, 0.5]
    model = student(data, path)
    seen = []
    inner = model.teachers.all[0].backbone.backbone
    inner.register_forward_hook(lambda module, given, out: seen.append(given[0].clone()))

    class Look(L.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            pl_module.seen = batch[0]

        def on_train_batch_end(self, trainer, pl_module, *_):
            raw = pl_module.seen * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)
            wanted = (raw - torch.tensor(small.mean).view(3, 1, 1)) / torch.tensor(small.std).view(3, 1, 1)
            torch.testing.assert_close(seen[-1], wanted, atol=1e-5, rtol=1e-5)

    tiny_trainer(max_epochs=1, limit_val_batches=0, callbacks=[Look()]).fit(model, data)
    assert seen


@pytest.mark.filterwarnings("ignore:You defined a .validation_step")
def test_a_teacher_beside_data_that_say_nothing_sees_what_the_student_sees():
    data = tiny_data()
    model = student(data, teacher(data, path="a.ckpt"))
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 6
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=16)
    seen = []
    model.teachers.all[0].backbone.backbone.register_forward_hook(lambda m, given, out: seen.append(given[0].clone()))
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(model, loader)
    assert torch.equal(seen[0], images)


class Named(SyntheticLongTail):
    def build_class_names(self):
        return self.own_names


def named(names):
    data = Named(num_classes=6, max_count=12, imbalance_factor=4, val_per_class=3, test_per_class=3, batch_size=8)
    data.own_names = names
    return data


def test_a_teacher_that_says_nothing_about_its_images_sees_what_the_student_sees():
    """The card of a model that was trained from loaders knows the shape alone."""
    data = tiny_data()
    given = teacher(data)
    given.input = {"shape": [3, 32, 32]}
    model, seen = student(data, given), []
    model.teachers.all[0].backbone.register_forward_hook(lambda m, given, out: seen.append(given[0].clone()))

    class Look(L.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            assert torch.equal(seen[-1], batch[0])

    tiny_trainer(max_epochs=1, limit_val_batches=0, callbacks=[Look()]).fit(model, data)
    assert seen


def test_a_module_with_backbone_and_head_is_taken_apart():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone, self.head = CIFARResNet(8, width=4), LinearHead(16, 6)

    data = tiny_data()
    model = student(data, Plain(), distill="both")
    fit(model, data)
    assert isinstance(model.teachers.all[0].head, LinearHead)


def test_another_order_in_a_later_fit():
    path = teacher(named(list("abcdef")), path="a.ckpt")
    model = student(named(list("fabcde")), path, distill="logits")
    fit(model, named(list("fabcde")))
    assert model.teachers.all[0].order.tolist() == [5, 0, 1, 2, 3, 4]
    fit(model, named(list("abcdef")))
    assert model.teachers.all[0].order is None
    fit(model, named([str(c) for c in range(6)]))  # numbers, in the place of names
    twice = teacher(named(list("abcdee")), path="b.ckpt")
    with pytest.raises(LongTailError, match="two classes of one name"):
        fit(student(data := named(list("abceed")), twice, distill="logits"), data)


@pytest.mark.parametrize("branches", ["both", "retrieval"])
def test_one_branch_of_several_is_not_what_a_teacher_says(branches):
    data = tiny_data()
    given = make_retrieval(data, branches=branches)
    if branches == "retrieval":
        with pytest.raises(LongTailError, match="reads a memory alone"):
            student(data, given)
        return
    fit(student(data, given), data)
    with pytest.raises(LongTailError, match="so it gives no logits"):
        fit(student(data, given, distill="logits"), data)


@pytest.mark.parametrize(
    "options", [{"weighting": "inverse", "normalize": "weight_sum"}, {"reduction": "sum"}], ids=str
)
def test_alpha_by_count_keeps_the_scale_of_the_loss(options):
    found = []
    for by_count in (0.0, 1e-9):
        model, images, y, taught = on_vectors(1, loss=CrossEntropyLoss(**options), alpha_by_count=by_count)
        features = model.backbone(images)
        found.append(model.loss_terms(features, model.head(features), y, taught)["loss_own"])
    torch.testing.assert_close(*found)


def test_several_views_of_an_image_at_a_time():
    data = tiny_data()
    model = student(data, teacher(data))
    with pytest.raises(LongTailError, match="one view of an image at a time"):
        model.training_step([torch.zeros(2, 3, 3, 32, 32), torch.zeros(2, dtype=torch.int64)], 0)


def test_remembered_features_of_images_that_may_be_left_out():
    data = tiny_data(on_error="skip")
    with pytest.raises(LongTailError, match="on_error='skip' lets a run go on without some"):
        fit(student(data, teacher(data), teacher_features="cached"), data)


def test_a_cache_tells_preparations_of_one_network_apart():
    data = tiny_data()
    options = {"teacher_features": "cached", "views": 1, "cache": "cache"}
    path = teacher(data, path="a.ckpt")
    fit(student(data, path, **options), data)
    fit(student(data, load(path, device="cpu").module.backbone, **options), data)
    assert len(list(Path("cache").iterdir())) == 2


def test_logits_come_in_the_order_of_the_students_classes():
    path = teacher(named(list("abcdef")), path="a.ckpt")
    data = named(list("fabcde"))
    model = student(data, path, distill="logits")
    tiny_trainer(max_epochs=1).fit(model, data)
    images = torch.randn(4, 3, 32, 32)
    taught = model.teachers.look(images, logits=True).logits
    one = model.teachers.all[0]
    torch.testing.assert_close(taught, one.head(one.backbone(images)).log_softmax(1).roll(1, 1))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
@pytest.mark.parametrize("teacher_precision", ["32", "bf16"])
def test_half_precision(precision, teacher_precision):
    data = tiny_data()
    model = student(data, [teacher(data), teacher(data, 1)], teacher_precision=teacher_precision, distill="both")
    expected = {"32": torch.float32, "bf16": torch.bfloat16}[teacher_precision]
    trainer = tiny_trainer(max_epochs=1, precision=precision)
    trainer.fit(model, data)
    assert {p.dtype for t in model.teachers.all for p in t.backbone.parameters()} == {expected}
    (metrics,) = trainer.test(model, data, verbose=False)
    assert torch.tensor(metrics["test/loss"]).isfinite()


def test_mixed_images_are_seen_by_the_teachers():
    data = tiny_data(mixup_alpha=0.5)
    one = teacher(data)
    tiny_trainer(max_epochs=1).fit(student(data, one, alpha_by_count=0.25), data)
    with pytest.raises(LongTailError, match="turn them off, or choose teacher_features='exact'"):
        tiny_trainer(max_epochs=1).fit(student(data, one, teacher_features="cached"), data)


# -- several processes ---------------------------------------------------------------------------


def train_in(folder, devices, options):
    os.chdir(folder)
    L.seed_everything(5, verbose=False)
    data = tiny_data(batch_size=8 // devices, sampler=ClassBalancedSampler)
    several = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    # Statistics of a batch norm would be those of each process alone.
    backbone = ProjectedBackbone(IdentityBackbone(3 * 32 * 32), 32)
    model = student(
        data, ["a.ckpt", "b.ckpt"], backbone=backbone, optimizer=partial(torch.optim.SGD, lr=0.01), **options
    )
    trainer = tiny_trainer(max_epochs=2, limit_val_batches=0, **several)
    trainer.fit(model, data)
    return {name: value.tolist() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("options", [{"distill": "both"}, {"teacher_features": "cached", "views": 2}], ids=str)
def test_two_processes_give_the_student_of_one(pool, tmp_path, options):
    data = tiny_data()
    for seed, path in enumerate(("a.ckpt", "b.ckpt")):
        teacher(data, seed, tmp_path / path)
    expected = train_in(str(tmp_path), 1, options)
    first, second = pool.run(train_in, str(tmp_path), 2, options)
    assert first == second
    for name, wanted in expected.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(wanted), atol=2e-5, rtol=1e-3, msg=name)


# -- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.0}, "alpha=1 never trains the head"),
        ({"alpha": -0.1}, "alpha"),
        ({"beta": float("nan")}, "beta"),
        ({"views": 0}, "views"),
        ({"distill": "soft"}, "Unknown distill='soft': choose 'features' or 'logits' or 'both'"),
        ({"teachers": "none.ckpt"}, "teachers: there is no file none.ckpt"),
        ({"teachers": [3]}, "A teacher is the file of a checkpoint, or a module; got int"),
        ({"teachers": nn.Linear(2, 2)}, "The teacher Linear has no num_features"),
    ],
)
def test_wrong_choices(options, message):
    with pytest.raises(LongTailError, match=message):
        Distillation([9, 5, 2], **options)


def fit(model, data):
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(model, data)


def test_no_teachers():
    data = tiny_data()
    with pytest.raises(LongTailError, match=r"Distillation needs teachers: give Distillation\(class_counts, teachers="):
        fit(student(data, None), data)
    fit(student(data, None, alpha=0.0), data)


def test_logits_of_other_classes():
    data = named(list("abcdef"))
    cases = {
        "knows 5 classes and the student 6": teacher(tiny_data(num_classes=5)),
        "does not know the class 'f'": teacher(named(list("abcdeg")), path="a.ckpt"),
        "has no head, so it gives no logits": Tower(),
    }
    for message, one in cases.items():
        with pytest.raises(LongTailError, match=message):
            fit(student(data, one, distill="both"), data)
        fit(student(data, one), data)


def test_a_broken_teacher():
    data = tiny_data()
    one = teacher(data)
    next(iter(one.backbone.parameters())).data.fill_(float("nan"))
    with pytest.raises(LongTailError, match="The teacher BaseClassifier gives features that are not finite"):
        fit(student(data, one), data)
    with pytest.raises(LongTailError, match=r"not finite|NaN"):
        fit(student(data, one, teacher_features="cached"), data)


def test_a_teacher_that_gives_other_features_than_it_says():
    class Whole(Tower):
        num_features = 5

    data = tiny_data()
    with pytest.raises(LongTailError, match="gives 6 features and says num_features=5: take its classifier off"):
        fit(student(data, Whole()), data)


def test_a_checkpoint_of_an_unknown_class():
    data = tiny_data()
    path = teacher(data, path="a.ckpt")
    content = torch.load(path, weights_only=True)
    content[KEY]["class_path"] = "somebody.elses.Net"
    torch.save(content, path)
    with pytest.raises(LongTailError, match=r"somebody.elses.Net"):
        student(data, path)


def test_a_teacher_that_has_seen_validation_images():
    path = teacher(held_out(seed=1), path="a.ckpt")
    with pytest.warns(UserWarning, match="a.ckpt was trained with other images held out"):
        fit(student(held_out(seed=2), path), held_out(seed=2))
    fit(student(held_out(seed=1), path), held_out(seed=1))


class Held(SyntheticLongTail):
    def build(self, split):
        return None if split == "val" else super().build(split)


def held_out(seed):
    data = Held(num_classes=6, max_count=12, imbalance_factor=4, test_per_class=3, batch_size=8)
    data.val_split, data.seed = 0.2, seed
    return data


@pytest.mark.filterwarnings("ignore:You defined a .validation_step")
def test_data_that_do_not_say_which_images_a_batch_holds():
    data = tiny_data()
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(8, 3, 32, 32), torch.arange(8) % 6), batch_size=8
    )
    with pytest.raises(LongTailError, match="must know which images a batch holds"):
        tiny_trainer(max_epochs=1, limit_val_batches=0).fit(
            student(data, teacher(data), teacher_features="cached"), loader
        )


def test_a_loss_without_one_value_per_image():
    class Own(nn.Module):
        def forward(self, logits, target):
            return F.cross_entropy(logits, target)

    data = tiny_data()
    with pytest.raises(LongTailError, match="gives one loss for a whole batch"):
        fit(student(data, teacher(data), loss=Own(), alpha_by_count=0.5), data)
    fit(student(data, teacher(data), loss=Own(), head=LinearHead), data)
