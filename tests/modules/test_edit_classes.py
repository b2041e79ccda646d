"""Classes are added and removed without training, and the checkpoint grows with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    ClassifierRetraining,
    CosineHead,
    FeCAM,
    KnowledgeTransfer,
    LongTailError,
    Prototypes,
    load,
)
from longtail_lightning.modules import Classifier
from tests.tiny import tiny_data, tiny_model, tiny_trainer

pytestmark = pytest.mark.filterwarnings("ignore:The new classes have no learned weight")
PICTURES = [np.random.default_rng(i).integers(0, 255, (40, 36, 3), dtype=np.uint8) for i in range(6)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint whose head takes classes, and one whose head does not."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("trained")
    data = tiny_data()
    model = tiny_model(data, head=CosineHead)
    retraining = ClassifierRetraining([KnowledgeTransfer(k=(0, 4))], keep="kt", plot=False, save=False, start="last")
    trainer = tiny_trainer(callbacks=[retraining])
    trainer.fit(model, data)
    trainer.save_checkpoint(folder / "m.ckpt")
    plain = tiny_model(data, head=CosineHead)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(plain, data)
    trainer.save_checkpoint(folder / "plain.ckpt")
    return folder


def logits(classifier, pictures=PICTURES):
    """By name of the class: places may differ."""
    found = classifier.predict(pictures, top_k=100)
    return [dict(prediction.top) for prediction in found]


def close(first, second):
    for one, other in zip(first, second, strict=True):
        assert one.keys() == other.keys()
        assert all(abs(one[name] - other[name]) < 1e-6 for name in one)


def test_an_enlarged_checkpoint_is_like_any_other(trained):
    classifier = load(trained / "m.ckpt")
    old = classifier.class_names
    same = classifier.add_classes({"axolotl": PICTURES[:3], "quokka": [Image.fromarray(PICTURES[3])]})
    assert same is classifier
    assert classifier.class_names == [*old, "axolotl", "quokka"]
    assert classifier.module.class_counts.tolist()[-2:] == [3, 1]
    assert {p.name for p in classifier.predict(PICTURES)} <= {"axolotl", "quokka"}, "no old class looks like noise"
    saved = classifier.save("more.ckpt")
    again = load(saved, verify=True)
    assert again.class_names == classifier.class_names
    close(logits(again), logits(classifier))
    assert not {"optimizer_states", "callbacks", "lr_schedulers"} & torch.load(saved, weights_only=True).keys()
    loaded = BaseClassifier.load_from_checkpoint(saved)
    assert loaded.class_names == classifier.class_names
    # The old data test it: their classes have the same numbers as before.
    (scores,) = tiny_trainer().test(loaded, tiny_data(), verbose=False)
    assert 0 <= scores["test/acc"] <= 1
    again.add_classes({"numbat": PICTURES[4:]}).save("third.ckpt")
    assert len(load("third.ckpt").class_names) == len(old) + 3


def test_the_order_of_additions_and_files_in_between_do_not_matter(trained):
    one = load(trained / "m.ckpt").add_classes({"a": PICTURES[:2], "b": PICTURES[2:5]})
    step = load(trained / "m.ckpt").add_classes({"b": PICTURES[2:5]}).save("step.ckpt")
    other = load(step).add_classes({"a": PICTURES[:2]})
    close(logits(one), logits(other))


def test_what_was_added_and_removed_leaves_no_trace(trained):
    before = load(trained / "m.ckpt")
    expected = logits(before)
    after = load(trained / "m.ckpt").add_classes({"a": PICTURES[:2]}).remove_classes(["a"])
    assert after.class_names == before.class_names
    assert after.module.class_counts == before.module.class_counts
    close(logits(after), expected)
    name = before.class_names[5]
    fewer = load(trained / "m.ckpt").remove_classes(name)
    assert name not in fewer.class_names
    close(logits(load(fewer.save("fewer.ckpt"))), logits(fewer))


def test_pictures_folders_and_features_give_the_same(trained):
    folder = Path("photos")
    folder.mkdir()
    for i, pixels in enumerate(PICTURES[:3]):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    classifier = load(trained / "m.ckpt")
    from longtail_lightning.modules._edit_classes import features_of

    features = features_of(classifier.module, "x", PICTURES[:3], classifier._prepare)
    assert features.shape == (3, classifier.module.backbone.num_features)
    ways = [PICTURES[:3], str(folder), sorted(folder.iterdir()), features, features.numpy()]
    found = [logits(load(trained / "m.ckpt").add_classes({"x": way})) for way in ways]
    for other in found[1:]:
        close(found[0], other)


def test_what_a_class_was_given(trained):
    classifier = load(trained / "m.ckpt").add_classes({"axolotl": PICTURES[:3]})
    found = classifier.explain("axolotl", top=3)
    assert len(found) == 3
    assert [share for _, share in found] == sorted((share for _, share in found), reverse=True)
    assert "axolotl" not in dict(classifier.explain("axolotl", top=100))
    assert len(classifier.explain("axolotl", top=100, k=4)) == 4, "classes with more than 4 images"
    with pytest.raises(LongTailError, match="no head with k=7: it has 0, 4"):
        classifier.explain("axolotl", k=7)
    with pytest.raises(LongTailError, match=r"no class 'axolotel'\. Did you mean axolotl"):
        classifier.explain("axolotel")


def broken(folder):
    (folder / "bad.png").write_bytes(b"no picture")
    return folder / "bad.png"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c, folder: c.add_classes({c.class_names[0]: PICTURES}), "already: give the new one another name"),
        (lambda c, folder: c.add_classes({"a": []}), "no picture of 'a'"),
        (lambda c, folder: c.add_classes({"a": folder}), "holds no image"),
        (lambda c, folder: c.add_classes({"a": [broken(folder)]}), r"bad\.png.*\('a'\)"),
        (
            lambda c, folder: c.add_classes({"a": [np.zeros((2, 40, 36), np.uint8)]}),
            "2 channels, the model was trained on 3",
        ),
        (lambda c, folder: c.add_classes({"a": torch.ones(2, 3)}), r"needs features \(n, 16\), got shape \(2, 3\)"),
        (lambda c, folder: c.add_classes({"a": torch.ones(2, 16).long()}), "give floating numbers"),
        (lambda c, folder: c.add_classes({"a": torch.full((2, 16), torch.nan)}), "NaN"),
        (lambda c, folder: c.add_classes({"a": {"b": 1}}), "'a' has a dict"),
        (lambda c, folder: c.add_classes({}), "Classes are added by name"),
        (lambda c, folder: c.add_classes([PICTURES]), "Classes are added by name"),
        (lambda c, folder: c.add_classes({" ": PICTURES}), "name of a class is a text"),
        (lambda c, folder: c.add_classes({"good": PICTURES, "a": []}), "no picture of 'a'"),
        (lambda c, folder: c.remove_classes(["nothing"]), "no class 'nothing'"),
        (lambda c, folder: c.remove_classes([]), "No class is named"),
        (lambda c, folder: c.remove_classes(c.class_names), "at least one"),
        (lambda c, folder: c.remove_classes(c.class_names[:4]), "k=4: no learned class"),
        (lambda c, folder: c.save(c._path), "is the checkpoint that was loaded"),
    ],
)
def test_bad_input_changes_nothing(trained, tmp_path, edit, message):
    classifier = load(trained / "m.ckpt")
    names, before = classifier.class_names, logits(classifier)
    with pytest.raises(LongTailError, match=message):
        edit(classifier, tmp_path)
    assert classifier.class_names == names
    close(logits(classifier), before)


def test_a_checkpoint_without_prototypes_says_how_to_make_them(trained):
    classifier = load(trained / "plain.ckpt")
    for edit in (lambda: classifier.add_classes({"a": PICTURES}), lambda: classifier.remove_classes(["a"])):
        with pytest.raises(LongTailError, match=r"CosineHead, which knows no prototypes .*`ltl class prepare"):
            edit()
    with pytest.raises(LongTailError, match="knows no prototypes"):
        classifier.explain(classifier.class_names[0])
    module = load(trained / "m.ckpt").module
    module.head = Prototypes()(CosineHead(16, 6), bank_of(module)).head
    prototypes = Classifier(module, None)
    with pytest.raises(LongTailError, match="transfers no knowledge"):
        prototypes.explain(prototypes.class_names[0])
    with pytest.raises(LongTailError, match="does not say how its images were prepared"):
        prototypes.add_classes({"a": PICTURES})
    prototypes.add_classes({"a": torch.ones(2, 16)})
    assert prototypes.save("made.ckpt").exists()
    assert load("made.ckpt").class_names[-1] == "a"


def bank_of(module):
    from longtail_lightning import extract_features

    return extract_features(module.backbone, tiny_data(), split="train", progress=False)


@pytest.mark.parametrize(
    "method", [FeCAM(), Prototypes(prototypes_per_class=3), KnowledgeTransfer(k=4, prototypes_per_class=2)]
)
def test_all_heads_that_take_classes_travel_in_checkpoints(tmp_path, method):
    data = tiny_data()
    module = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4), head=CosineHead)
    module.eval().head = method(module.head, bank_of(module)).head
    classifier = Classifier(module, None).add_classes({"new": torch.rand(4, 16)}).remove_classes(["0"])
    again = load(classifier.save(tmp_path / "made.ckpt")).add_classes({"newer": torch.rand(1, 16)})
    assert again.class_names == ["1", "2", "3", "4", "5", "new", "newer"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.module(images)[:, :-1], module(images))


def test_a_made_model_is_saved_without_a_file_that_it_came_from():
    data = tiny_data()
    names = list("abcdef")
    module = BaseClassifier(data.class_counts, backbone=CIFARResNet(8, width=4), head=CosineHead, class_names=names)
    module.eval().head = KnowledgeTransfer(k=4)(module.head, bank_of(module)).head
    classifier = Classifier(module, None).add_classes({"g": torch.ones(1, 16)})
    again = load(classifier.save("made.ckpt"))
    assert again.class_names == [*names, "g"]
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.module(images), module(images))
