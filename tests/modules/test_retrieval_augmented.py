"""A classifier with an external memory."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from PIL import Image
from torch import nn

from longtail_lightning import (
    BagOfWords,
    BaseClassifier,
    CIFARResNet,
    FeatureBank,
    FeatureDataModule,
    IdentityBackbone,
    ImageFolderLT,
    JoinedTexts,
    LinearHead,
    LongTailError,
    NormalizedSum,
    PlainSum,
    PreparedBackbone,
    RetrievalAugmented,
    RetrievalMemory,
    extract_features,
    load,
)
from longtail_lightning.modules._description import KEY
from longtail_lightning.text import TextEncoder
from tests.modules.test_resume import Stop
from tests.reference import retrieval as reference
from tests.tiny import tiny_data, tiny_trainer

WORDS = ["red cat", "dog", "wild red fox", "hen", "white owl", "big cat"]


class LearnedWords(TextEncoder):
    """Vectors of words that are trained."""

    def __init__(self, num_features: int = 8, max_tokens: int | None = None) -> None:
        super().__init__()
        self.num_features, self.max_tokens = num_features, max_tokens
        self.words = nn.Embedding(50, num_features)

    def tokens(self, text):
        return [1 + sum(map(ord, word)) % 49 for word in text.split()]

    def encode(self, tokens, lengths):
        there = (torch.arange(tokens.shape[1]) < lengths[:, None]).to(self.words.weight)
        return (self.words(tokens) * there[:, :, None]).sum(1) / lengths.clamp(min=1)[:, None]


def make(data, *, seed=3, path=None, texts=None, index="exact", memory=None, **options):
    """A model on tiny images, with a memory of the training images."""
    torch.manual_seed(seed)
    encoder = CIFARResNet(8, width=4)
    if memory is None:
        bank = extract_features(encoder, data, progress=False, dtype=torch.float32)
        memory = RetrievalMemory.build(bank, texts, path=path, index=index)
    defaults = {"backbone": CIFARResNet(8, width=4), "k": 4, "many": 8, "few": 4}
    return RetrievalAugmented(data.class_counts, **{"memory": memory, "encoder": encoder, **defaults, **options})


def named_data(**options):
    data = tiny_data(**options)
    data.__dict__["class_names"] = WORDS
    return data


# -- what it computes ----------------------------------------------------------------------------


def on_features(seed=0, **options):
    """Model, features and labels, where images are features already."""
    torch.manual_seed(seed)
    labels = [0] * 9 + [1] * 5 + [2] * 2
    bank = FeatureBank.from_arrays(torch.randn(16, 6), labels, class_names=WORDS[:3])
    parts = {"encoder": IdentityBackbone(6), "backbone": IdentityBackbone(6), "k": 3}
    model = RetrievalAugmented(bank.class_counts, **{"memory": RetrievalMemory.build(bank), **parts, **options})
    return model, bank


@pytest.mark.parametrize("own", [True, False])
def test_equals_the_paper_typed_again(own):
    model, bank = on_features(fusion=NormalizedSum("paper"), text_encoder=BagOfWords(7))
    model.double()
    features, texts = bank.features.double(), [WORDS[label] for label in bank.labels.tolist()]
    vectors = {word: BagOfWords(7)([word])[0].double() for text in WORDS for word in text.split()}
    model.lookup.names["train"] = range(16)
    index = torch.arange(16)
    found = model.branch_logits(features, split="train" if own else None, index=index)
    rows = [reference.nearest(f, features, 3, i if own else None) for i, f in enumerate(features)]
    read = torch.stack([reference.bag_of_words([texts[row] for row in neighbors], vectors) for neighbors in rows])
    retrieved = read @ model.retrieval_head.weight.T + model.retrieval_head.bias
    base = features @ model.head.weight.T + model.head.bias
    # The table of words is float32 until it is cast with the model.
    torch.testing.assert_close(found["retrieval"], retrieved, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found["logits"], reference.fused(base, found["retrieval"], 3 / 2))
    gradient = torch.randn(16, 3, dtype=torch.float64)
    ours = torch.autograd.grad((found["logits"] * gradient).sum(), [model.head.weight, model.retrieval_head.weight])
    expected = torch.autograd.grad(
        (reference.fused(base, retrieved, 3 / 2) * gradient).sum(), [model.head.weight, model.retrieval_head.weight]
    )
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-4)


def test_branches_alone_are_plain_logits_and_train_alone():
    for branches, trained in (("base", "head"), ("retrieval", "retrieval_head")):
        model, bank = on_features(branches=branches, text_encoder=LearnedWords())
        names = {name.split(".")[0] for name, p in model.named_parameters() if p.requires_grad}
        assert names == ({"head"} if branches == "base" else {"retrieval_head", "text_encoder"})
        assert model.branch_logits(bank.features).keys() == {"logits"}
        expected = model.head(bank.features) if trained == "head" else model.retrieval_logits(model.find(bank.features))
        torch.testing.assert_close(model(bank.features), expected)
    on_features(branches="base", memory=None)[0](torch.randn(2, 6))  # needs no memory


def test_what_a_training_image_does_not_find():
    found = {}
    for exclude in ("id", "first", "none"):
        model, bank = on_features(exclude=exclude)
        if exclude == "id":
            model.lookup.names["train"] = range(16)
        texts = model.memory.different_texts
        numbers = model.find(bank.features, "train", torch.arange(16))
        found[exclude] = [[texts[n] for n in row] for row in numbers.tolist()]
        assert model.find(bank.features).tolist() == model.lookup.find(bank.features).tolist()
    whole = model.memory.search(bank.features, 4).texts
    assert found["none"] == [row[:3] for row in whole]
    assert found["first"] == found["id"] == [row[1:] for row in whole]


def test_by_id_only_itself_is_left_out_whatever_its_rank():
    features = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.9, 0.4], [0.0, 1.0]])
    bank = FeatureBank.from_arrays(features, ids=["a", "b", "c", "d"], texts=["ant", "bee", "cow", "dog"])
    model = RetrievalAugmented(
        [2, 2], memory=RetrievalMemory.build(bank), encoder=IdentityBackbone(2), backbone=IdentityBackbone(2), k=2
    )
    model.lookup.names["train"] = ["b"]
    # The augmented view of b is nearer to a.
    numbers = model.find(torch.tensor([[1.0, 0.0]]), "train", torch.tensor([0]))
    assert [model.memory.different_texts[n] for n in numbers[0]] == ["ant", "cow"]


def test_views_of_an_image_are_averaged():
    data = tiny_data()
    model = make(data).eval()
    views = torch.randn(3, 2, 3, 32, 32)
    found = model.branch_logits(views)
    for name, logits in found.items():
        each = torch.stack([model.branch_logits(views[:, v])[name] for v in range(2)]).mean(0)
        torch.testing.assert_close(logits, each)


@pytest.fixture
def photos(tmp_path):
    """Folders of pictures: 24 for training and 6 for testing."""
    pixels = torch.randint(0, 256, (30, 40, 40, 3), dtype=torch.uint8).numpy()
    for number, picture in enumerate(pixels):
        name = ("cat", "dog")[number % 3 == 0]
        path = tmp_path / "photos" / ("train" if number < 24 else "test") / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return "photos"


def memory_of(classifier, folder, path):
    """As `ltl memory build --images` makes it: items are called by their files."""
    bank = classifier.features(folder)
    bank = FeatureBank.from_arrays(bank.features, ids=bank.ids, texts=[Path(i).parent.name for i in bank.ids])
    return RetrievalMemory.build(bank, path=path)


def test_pictures_are_recognized_by_their_files_also_those_held_out(photos):
    data = ImageFolderLT(photos, transforms="cifar10", val_split=0.25, batch_size=8)
    first = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4))
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(first, data)
    trainer.save_checkpoint("first.ckpt")
    memory_of(load("first.ckpt"), "photos/train", "memory")
    model = make(data, memory="memory", encoder="first.ckpt", k=3)
    asked = []
    search = model.memory.search
    model.lookup.memory.search = lambda queries, k, exclude=None: (asked.append(exclude), search(queries, k, exclude))[
        1
    ]
    with pytest.warns(UserWarning, match="Images of the val split are in the memory. They do not find themselves"):
        tiny_trainer(max_epochs=1, num_sanity_val_steps=0).fit(model, data)
    called = {name for batch in asked for _, name in batch}
    assert called == {str(path) for path in Path("photos/train").rglob("*.png")}
    assert not data.with_index
    asked.clear()
    tiny_trainer().test(model, data, verbose=False)
    assert asked == [None]


# -- training ------------------------------------------------------------------------------------


def test_a_fit_logs_each_branch_and_leaves_encoder_and_data_alone():
    data = tiny_data()
    model = make(data, text_encoder=LearnedWords())
    before = copy.deepcopy(model.state_dict())
    trainer = tiny_trainer(max_epochs=2)
    trainer.fit(model, data)
    for name, value in model.state_dict().items():
        trained = not name.startswith("encoder.") and "num_batches" not in name
        if name.endswith(("weight", "bias")):
            assert torch.equal(value, before[name]) != trained, name
        elif name.startswith("encoder."):
            assert torch.equal(value, before[name])
    assert not data.with_index
    assert not model.lookup.names
    assert {f"val/{branch}_acc{split}" for branch in ("base", "retrieval") for split in ("", "_many", "_few")} <= set(
        trainer.callback_metrics
    )
    assert float(trainer.callback_metrics["train/truncated"]) == 0


def test_the_encoder_stays_in_evaluation_mode():
    seen = []
    data = tiny_data()
    model = make(data)
    model.encoder.register_forward_hook(lambda module, *_: seen.append((module.training, torch.is_grad_enabled())))
    tiny_trainer(max_epochs=1).fit(model, data)
    assert set(seen) == {(False, False)}
    assert model.backbone.training
    assert not model.train().encoder.training


def test_the_share_of_truncated_texts_is_logged():
    data = named_data()
    model = make(data, text_encoder=LearnedWords(max_tokens=4))
    trainer = tiny_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(model, data)
    assert 0 < float(trainer.callback_metrics["train/truncated"]) <= 1


def test_cached_neighbors_are_those_without_augmentation():
    data = tiny_data()
    cached, exact = make(data, neighbors="cached"), make(data)
    seen = []

    def look(numbers):
        seen.append(numbers)
        return type(cached).retrieval_logits(cached, numbers)

    cached.retrieval_logits = look
    calls = []
    trainer = tiny_trainer(max_epochs=1, limit_val_batches=0)
    original = cached.lookup.remember
    cached.lookup.remember = lambda split, bank, **more: (calls.append(split), original(split, bank, **more))
    index = []
    cached.on_train_batch_start = lambda batch, batch_idx: index.append(batch[2])
    trainer.fit(cached, data)
    assert calls == ["train"]  # nothing is validated
    images = data.ordered_dataloader("train")
    plain = torch.cat([data.prepare_batch(batch[0]) for batch in images])
    exact.lookup.learn_names(data, "train")
    expected = exact.eval().find(plain, "train", torch.arange(len(plain)))
    torch.testing.assert_close(torch.cat(seen), expected[torch.cat(index)])


def test_stop_and_resume_equals_an_uninterrupted_run():
    def run(stop=None, resume=None, **options):
        L.seed_everything(7, verbose=False)
        data = tiny_data()
        model = make(data, text_encoder=LearnedWords(), **options)
        trainer = tiny_trainer(max_epochs=3, callbacks=[Stop(stop)] if stop else [])
        if stop:
            with pytest.raises(SystemExit):
                trainer.fit(model, data)
        else:
            trainer.fit(model, data, ckpt_path=resume, weights_only=True)
        return {name: value.clone() for name, value in model.state_dict().items()}

    for options in ({}, {"neighbors": "cached"}):
        expected = run(**options)
        run(stop=8, **options)
        resumed = run(resume="stopped.ckpt", **options)
        assert all(torch.equal(resumed[name], value) for name, value in expected.items())


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_half_precision(precision):
    data = tiny_data()
    model = make(data, text_encoder=LearnedWords())
    trainer = tiny_trainer(max_epochs=1, precision=precision)
    trainer.fit(model, data)
    (metrics,) = trainer.test(model, data, verbose=False)
    assert torch.tensor(metrics["test/loss"]).isfinite()


def train_in(folder, devices):
    """Weights and results of a run; all processes open one memory."""
    L.seed_everything(5, verbose=False)
    data = tiny_data(batch_size=8 // devices)
    more = {"strategy": "ddp", "devices": devices} if devices > 1 else {}
    model = make(
        data,
        memory=f"{folder}/memory",
        text_encoder=LearnedWords(),
        # Statistics of a batch norm would be those of each process alone.
        backbone=IdentityBackbone(3 * 32 * 32),
        optimizer=partial(torch.optim.SGD, lr=0.05),
    )
    trainer = tiny_trainer(max_epochs=2, limit_val_batches=0, **more)
    trainer.fit(model, data)
    (result,) = trainer.test(model, data, verbose=False)
    return {name: value.tolist() for name, value in model.state_dict().items()}, result


def make_shared(folder):
    data = tiny_data()
    model = make(data)
    model.memory.save(f"{folder}/memory")


def test_two_processes_share_a_memory_and_give_the_result_of_one(pool, tmp_path):
    make_shared(str(tmp_path))
    expected, result = train_in(str(tmp_path), 1)
    (first, one), (second, other) = pool.run(train_in, str(tmp_path), 2)
    assert first == second
    assert one == other
    for name, values in expected.items():
        torch.testing.assert_close(torch.tensor(first[name]), torch.tensor(values), atol=2e-5, rtol=1e-3, msg=name)
    for name, value in result.items():
        assert one[name] == pytest.approx(value, abs=2e-4, nan_ok=True), name


# -- checkpoints and edits -----------------------------------------------------------------------


def test_edits_change_what_the_model_says_and_nothing_in_it():
    data = named_data()
    model = make(data, path="memory")
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(model, data)
    model.eval()
    images = torch.randn(5, 3, 32, 32)
    weights, before = copy.deepcopy(model.state_dict()), model.branch_logits(images)
    bank = FeatureBank.from_arrays(model.encoder(images).detach(), ids=list("abcde"), texts=["white owl"] * 5)
    model.memory.add_source("web", bank)
    after = model.branch_logits(images)
    assert torch.equal(after["base"], before["base"])
    assert not torch.equal(after["retrieval"], before["retrieval"])
    model.memory.relabel(("web", "a"), "hen")
    assert not torch.equal(model.branch_logits(images)["retrieval"][0], after["retrieval"][0])
    model.memory.remove_source("web")
    assert torch.equal(model.branch_logits(images)["retrieval"], before["retrieval"])
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())


def test_a_checkpoint_holds_all_but_the_memory_and_says_where_it_was():
    data = named_data()
    model = make(
        data,
        path="memory",
        fusion=PlainSum(),
        join=JoinedTexts(order="frequent_first"),
        text_encoder=BagOfWords(20, seed=3),
    )
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("m.ckpt")
    saved = torch.load("m.ckpt", weights_only=True)
    assert saved["hyper_parameters"].get("memory") is None
    assert not any("memory" in name for name in saved["state_dict"])
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(LongTailError, match=r"which was '.*memory' in training: give it with load\(path, parts="):
        load("m.ckpt").predict(images)
    Path("memory").rename("moved")
    classifier = load("m.ckpt", parts={"memory": "moved"})
    assert classifier.module.join.order == "frequent_first"
    assert [p.name for p in classifier.predict(images)] == [
        WORDS[c] for c in model.eval()(data.prepare_batch(images)).argmax(1)
    ]
    late = load("m.ckpt")
    late.module.memory = "moved"
    assert late.predict(images) == classifier.predict(images)


def test_a_copy_of_a_model_looks_up_the_same_memory():
    model = make(tiny_data())
    twin = copy.deepcopy(model)
    assert twin.memory is model.memory
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(twin.eval()(images), model.eval()(images))


def test_an_encoder_with_another_preparation_is_the_same_encoder():
    data = tiny_data()
    model = make(data)
    wrapped = PreparedBackbone(model.encoder, size=24, given_mean=list(data.mean), given_std=list(data.std))
    other = make(data, encoder=wrapped, memory=model.memory)
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(other, data)


def test_an_encoder_from_a_checkpoint_sees_its_own_preparation():
    small = tiny_data()
    first = BaseClassifier(small.class_counts, backbone=CIFARResNet(8, width=4))
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(first, small)
    trainer.save_checkpoint("first.ckpt")
    bank = extract_features(first.backbone, small, progress=False, dtype=torch.float32)
    model = make(small, memory=RetrievalMemory.build(bank), encoder="first.ckpt")
    assert (model.encoder.size, list(model.encoder.mean)) == (32, list(small.mean))
    other = tiny_trainer(max_epochs=1, limit_val_batches=0)
    other.fit(model, small)
    images = torch.cat([small.prepare_batch(batch[0]) for batch in small.ordered_dataloader("train")])
    torch.testing.assert_close(model.encoder(images), bank.features, atol=1e-5, rtol=1e-4)
    other.save_checkpoint("m.ckpt")
    Path("first.ckpt").unlink()
    assert torch.load("m.ckpt", weights_only=True)["hyper_parameters"]["encoder"] is None
    again = RetrievalAugmented.load_from_checkpoint("m.ckpt", memory=model.memory)
    assert again.encoder.given_mean == list(map(float, small.mean))
    torch.testing.assert_close(again.eval()(images), model.eval()(images))
    with pytest.raises(LongTailError, match=r"encoder='first\.ckpt': there is no such file"):
        make(small, memory=model.memory, encoder="first.ckpt")


# -- what is refused -----------------------------------------------------------------------------


def refused(model, data, match, **options):
    with pytest.raises(LongTailError, match=match):
        tiny_trainer(max_epochs=1, **options).fit(model, data)


def test_no_memory_no_encoder_or_that_of_another():
    data = tiny_data()
    model = make(data)
    refused(RetrievalAugmented(data.class_counts, encoder=model.encoder), data, "give it with load")
    refused(RetrievalAugmented(data.class_counts, memory=model.memory), data, "encoder is missing")
    other = CIFARResNet(8, width=4)
    refused(make(data, memory=model.memory, encoder=other), data, "was made by CIFARResNet .* and the encoder is")
    wide = CIFARResNet(8, width=8)
    refused(make(data, memory=model.memory, encoder=wide), data, "gives 32 features and those of the memory are 16")


def test_outside_of_a_run_too_a_memory_of_another_encoder_is_refused():
    data = tiny_data()
    model, images = make(data).eval(), torch.randn(1, 3, 32, 32)
    model(images)
    bank = extract_features(CIFARResNet(8, width=4), data, progress=False)
    model.memory = RetrievalMemory.build(bank)
    with pytest.raises(LongTailError, match="was made by CIFARResNet"):
        model(images)


def test_a_checkpoint_cannot_name_files_to_open():
    data = tiny_data()
    model = make(data, path="memory")
    trainer = tiny_trainer(max_epochs=1, limit_val_batches=0)
    trainer.fit(model, data)
    trainer.save_checkpoint("m.ckpt")
    checkpoint = torch.load("m.ckpt", weights_only=True)
    checkpoint["hyper_parameters"] |= {"memory": "/somewhere", "encoder": "/somewhere.ckpt", "weights": "/else.pt"}
    checkpoint[KEY]["card"]["memory"] = "/somewhere"
    torch.save(checkpoint, "hostile.ckpt")
    for module in (load("hostile.ckpt").module, RetrievalAugmented.load_from_checkpoint("hostile.ckpt")):
        assert module.lookup.memory is None
        with pytest.raises(LongTailError, match="which was '/somewhere' in training"):
            _ = module.memory


def test_batches_that_do_not_say_which_images_they_hold():
    data, model = tiny_data(), make(tiny_data())
    data.on_after_batch_transfer = lambda batch, _: [batch[0].float(), batch[1]]
    refused(model, data, "A batch does not say which images it holds", limit_val_batches=0)


def test_a_k_that_is_too_large():
    data = tiny_data()
    refused(make(data, k=39), data, "k=39, but the memory has 38 items")
    refused(make(data, k=38), data, "38 items, 37 without what is excluded; ask for at most 37")


def test_mixed_images():
    data = tiny_data(mixup_alpha=0.4)
    refused(make(data), data, "mixup and cutmix blend two images")
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(make(data, exclude="none"), data)


def test_images_that_the_memory_does_not_know():
    data = tiny_data()
    bank = extract_features(CIFARResNet(8, width=4), data, progress=False)
    strange = FeatureBank.from_arrays(bank.features, ids=[f"photo {n}" for n in range(38)], texts=["cat"] * 38)
    refused(
        make(data, memory=RetrievalMemory.build(strange)),
        data,
        "training images are not in the memory's source 'train'",
    )
    elsewhere = RetrievalMemory.build(strange, name="web")
    tiny_trainer(max_epochs=1, limit_val_batches=0).fit(make(data, memory=elsewhere), data)


def test_loaders_that_do_not_say_which_images_they_hold():
    data = tiny_data()
    model = make(data)
    batch = [torch.randn(8, 3, 32, 32), torch.arange(8) % 6]
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*batch), batch_size=4)
    cached = make(data, neighbors="cached", exclude="none")
    for refusing, match in ((model, "exclude='id' must know which images"), (cached, "neighbors='cached' must know")):
        with pytest.raises(LongTailError, match=match):
            tiny_trainer(max_epochs=1).fit(refusing, loader, loader)
    tiny_trainer(max_epochs=1).fit(make(data, exclude="first"), loader, loader)


def test_a_head_without_a_direction():
    data = tiny_data()
    model = make(data)
    for parameter in model.retrieval_head.parameters():
        nn.init.zeros_(parameter)
    refused(model, data, "All weights of the retrieval_head are 0")


def test_wrong_choices():
    for options in ({"branches": "all"}, {"exclude": "self"}, {"neighbors": "often"}):
        with pytest.raises(LongTailError, match="choose"):
            RetrievalAugmented([2, 1], **options)
    with pytest.raises(LongTailError, match="retrieval head was made for num_classes=5 and needs 6"):
        make(tiny_data(), retrieval_head=LinearHead(300, 5))


@pytest.mark.parametrize("index", ["hnsw", "ivf"])
def test_other_indexes(index):
    data = tiny_data()
    tiny_trainer(max_epochs=1).fit(make(data, index=index), data)


def test_features_in_the_place_of_images():
    data = tiny_data()
    first = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4))
    features = FeatureDataModule.from_encoder(data, first.backbone, progress=False)
    memory = RetrievalMemory.build(features._opened["train"])
    width = features.num_features
    model = RetrievalAugmented(
        data.class_counts, memory=memory, encoder=IdentityBackbone(width), backbone=IdentityBackbone(width), k=3
    )
    tiny_trainer(max_epochs=1).fit(model, features)
