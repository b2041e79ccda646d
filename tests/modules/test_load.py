"""`load`: a checkpoint alone answers what is on pictures."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, TensorDataset

from longtail_lightning import BaseClassifier, LinearHead, LongTailError, ResizedCropTransforms, load
from tests.tiny import tiny_data, tiny_model, tiny_trainer


@pytest.fixture
def trained():
    data = tiny_data()
    model = tiny_model(data)
    trainer = tiny_trainer(max_epochs=1)
    trainer.fit(model, data)
    trainer.save_checkpoint("m.ckpt")
    return model.eval(), data


def pictures(data, number=4):
    """Test images as uint8 arrays, and what the trained model is given for them."""
    images, labels, *_ = next(iter(data.test_dataloader()))
    return images[:number], labels[:number]


def probabilities(model, data, images):
    with torch.no_grad():
        return model(data.prepare_batch(images)).softmax(1)


def test_predicts_what_the_model_in_training_would(trained):
    model, data = trained
    images, _ = pictures(data)
    expected = probabilities(model, data, images)
    found = load("m.ckpt").predict(images, top_k=6)
    for prediction, row in zip(found, expected):
        assert prediction.name == data.class_names[int(row.argmax())]
        by_name = dict(prediction.top)
        torch.testing.assert_close(torch.tensor([by_name[name] for name in data.class_names]), row)
        assert prediction.probability == max(by_name.values())


def test_every_form_of_a_picture_is_the_same(trained):
    _, data = trained
    images, _ = pictures(data)
    folder = Path("photos/below")
    folder.mkdir(parents=True)
    arrays = images.permute(0, 2, 3, 1).numpy()
    for number, array in enumerate(arrays):
        Image.fromarray(array).save(folder / f"{number}.png")
    files = sorted(folder.iterdir())
    classifier = load("m.ckpt")
    expected = [p.top for p in classifier.predict(images)]
    forms = ["photos", folder, [str(f) for f in files], files, arrays, list(arrays), [Image.open(f) for f in files]]
    for form in forms:
        for found, row in zip(classifier.predict(form), expected, strict=True):
            assert [name for name, _ in found.top] == [name for name, _ in row]
            assert [p for _, p in found.top] == pytest.approx([p for _, p in row], abs=1e-6)
    assert [p.file for p in classifier.predict("photos")] == [str(f) for f in files]
    assert classifier.predict(str(files[2]))[0].name == expected[2][0][0]


def test_a_broken_file_among_others_is_named_and_the_rest_is_predicted(trained):
    Path("photos").mkdir()
    Image.fromarray(np.zeros((40, 50, 3), dtype=np.uint8)).save("photos/a.jpg")
    Path("photos/b.jpg").write_bytes(b"no image")
    Path("photos/c.txt").write_text("not looked at")
    good, bad = load("m.ckpt").predict("photos")
    assert good.error is None
    assert (bad.name, bad.probability, bad.top) == (None, None, [])
    assert "b.jpg" in bad.error
    (missing,) = load("m.ckpt").predict(["nowhere.jpg"])
    assert "nowhere.jpg" in missing.error


def test_batches_do_not_matter(trained):
    _, data = trained
    images, _ = pictures(data, 8)
    classifier = load("m.ckpt")
    for one, other in zip(classifier.predict(images, batch_size=3), classifier.predict(images)):
        assert one.name == other.name
        assert one.probability == pytest.approx(other.probability, abs=1e-6)


def test_photographs_are_prepared_as_in_evaluation(trained):
    model, _ = trained
    transforms = ResizedCropTransforms(image_size=24, resize=28, crops=5, interpolation="bicubic")
    image = (torch.rand(3, 60, 80) * 255).to(torch.uint8)
    (found,) = load("m.ckpt", transforms=transforms).predict(image)
    crops = transforms.evaluate(image).float() / 255
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (transforms.mean, transforms.std))
    with torch.no_grad():
        expected = model(((crops - mean) / std)[None]).softmax(1)
    assert found.probability == pytest.approx(float(expected.max()), abs=1e-5)


def test_a_prior_moves_the_logits(trained):
    model, data = trained
    images, _ = pictures(data)
    expected = probabilities(model, data, images).double() / data.class_counts.prior()
    for prior in ("uniform", [2.0] * 6, dict.fromkeys(data.class_names, 1.0)):
        for prediction, row in zip(load("m.ckpt").predict(images, prior=prior), expected):
            assert prediction.name == data.class_names[int(row.argmax())]
            assert prediction.probability == pytest.approx(float(row.max() / row.sum()), abs=1e-5)
    only = load("m.ckpt").predict(images, prior={data.class_names[3]: 1.0})
    assert {p.name for p in only} == {data.class_names[3]}


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ("empty", {}, "empty holds no image"),
        (3, {}, "not int"),
        (np.zeros((4, 4), dtype=np.uint8), {}, "A picture is a file"),
        (np.zeros((1, 32, 32, 3)), {}, "uint8 with values from 0 to 255, got float64"),
        (np.zeros((1, 32, 32, 3), dtype=np.uint8), {"top_k": 0}, "top_k=0"),
        (np.zeros((1, 32, 32, 3), dtype=np.uint8), {"prior": [1.0]}, "for each of the 6 classes"),
        (np.zeros((1, 32, 32, 3), dtype=np.uint8), {"prior": {"fan-3 blu": 1.0}}, "Did you mean"),
        (np.zeros((1, 32, 32, 3), dtype=np.uint8), {"prior": "flat"}, "'uniform'"),
        (np.zeros((1, 32, 32, 3), dtype=np.uint8), {"prior": ["cat", "dog"]}, "one frequency"),
    ],
)
def test_wrong_input_is_told(trained, inputs, options, message):
    Path("empty").mkdir()
    with pytest.raises(LongTailError, match=message):
        load("m.ckpt").predict(inputs, **options)


def test_nothing_of_the_first_run_is_needed(trained, monkeypatch):
    # No default backbone is built on the way, and no data are asked for.
    import longtail_lightning.modules.base_classifier as module

    monkeypatch.setattr(module, "create_backbone", None)
    assert load("m.ckpt").class_names == trained[1].class_names


def test_a_model_with_a_class_added_predicts_tests_and_is_saved_again(trained):
    model, data = trained
    old = model.head
    model.head = LinearHead(16, 7)
    with torch.no_grad():
        model.head.weight[:6], model.head.bias[:6] = old.weight, old.bias
        model.head.weight[6], model.head.bias[6] = 0.0, 99.0
    model.set_classes([*data.class_counts, 2], [*data.class_names, "axolotl"])
    trainer = tiny_trainer()
    trainer.strategy.connect(model)
    trainer.save_checkpoint("more.ckpt")
    images, _ = pictures(data)
    assert {p.name for p in load("more.ckpt").predict(images)} == {"axolotl"}
    assert BaseClassifier.load_from_checkpoint("more.ckpt").class_counts.tolist()[-1] == 2
    # A model of the old classes takes over those of the checkpoint.
    tested = tiny_model(data)
    (metrics,) = tiny_trainer().test(tested, data, ckpt_path="more.ckpt", verbose=False)
    assert tested.class_names[-1] == "axolotl"
    assert metrics["test/acc"] == 0.0


@pytest.mark.filterwarnings("ignore:You defined a `validation_step`")
def test_what_a_checkpoint_does_not_say_is_asked_for(trained):
    data = trained[1]
    model = tiny_model(data)
    trainer = tiny_trainer(max_epochs=1)
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.rand(6, 3, 32, 32), torch.arange(6)))
    trainer.fit(model, loader)
    trainer.save_checkpoint("own.ckpt")
    with pytest.raises(LongTailError, match="trained on loaders or transforms of your own"):
        load("own.ckpt").predict(pictures(data)[0])
    told = load("own.ckpt", transforms=ResizedCropTransforms(image_size=32))
    assert len(told.predict(pictures(data)[0])) == 4
    torch.save({"state_dict": {}}, "foreign.ckpt")
    with pytest.raises(LongTailError, match="was not written by a module of this library"):
        load("foreign.ckpt")


def test_a_picture_from_memory_is_seen_as_its_file(trained):
    deep = Image.fromarray((np.arange(40 * 30).reshape(40, 30) * 50).astype(np.uint16))
    deep.save("deep.png")
    turned = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    turned.getexif()[274] = 6  # lying on its side
    turned.save("turned.png", exif=turned.getexif())
    Image.new("RGBA", (30, 40), (200, 90, 20, 128)).save("glass.png")
    Image.new("L", (30, 40), 90).save("gray.png")
    classifier = load("m.ckpt")
    for name in ("deep.png", "turned.png", "glass.png", "gray.png"):
        (expected,) = classifier.predict(name)
        (found,) = classifier.predict(Image.open(name))
        assert found.top == expected.top
    glass, gray = np.array(Image.open("glass.png")), np.array(Image.open("gray.png"))
    assert classifier.predict(glass)[0].top == classifier.predict("glass.png")[0].top
    assert classifier.predict(gray[..., None])[0].top == classifier.predict("gray.png")[0].top
    assert classifier.predict(gray[None])[0].top == classifier.predict("gray.png")[0].top


def test_arrays_of_opencv_are_taken_and_broken_pictures_from_memory_are_named(trained):
    classifier, array = load("m.ckpt"), np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8)
    assert classifier.predict(array[:, :, ::-1])[0].top == classifier.predict(array[:, :, ::-1].copy())[0].top
    Image.fromarray(array).save(file := BytesIO(), "PNG")
    half = Image.open(BytesIO(file.getvalue()[:300]))
    cut, empty = classifier.predict([half, np.zeros((0, 30, 3), dtype=np.uint8)])
    assert "cannot be decoded" in cut.error
    assert "no pixels" in empty.error
    with pytest.raises(LongTailError, match="uint8"):
        classifier.predict([np.zeros((3, 3, 3), dtype=object)])


@pytest.mark.parametrize("resume", [False, True])
def test_a_fit_that_trains_nothing_keeps_the_shape_of_pictures(trained, resume):
    _, data = trained
    again = tiny_model(data) if resume else BaseClassifier.load_from_checkpoint("m.ckpt")
    trainer = tiny_trainer(max_epochs=1 if resume else 0)
    trainer.fit(again, data, ckpt_path="m.ckpt" if resume else None)
    trainer.save_checkpoint("again.ckpt")
    images, _ = pictures(data)
    assert load("again.ckpt").predict(images) == load("m.ckpt").predict(images)


def test_training_on_images_of_another_size_tells_the_new_one(trained):
    model, _ = trained
    assert model.input["shape"] == [3, 32, 32]
    smaller = DataLoader(TensorDataset(torch.randn(4, 3, 24, 24), torch.arange(4)), batch_size=4)
    tiny_trainer(max_epochs=1, log_every_n_steps=1).fit(model.train(), smaller, smaller)
    assert model.input["shape"] == [3, 24, 24]


def test_pictures_with_a_low_score_get_no_name(trained):
    model, data = trained
    images, _ = pictures(data, 8)
    with torch.no_grad():
        scores = model(data.prepare_batch(images)).amax(1)
    classifier = load("m.ckpt")
    plain = classifier.predict(images)
    assert [p.score for p in plain] == pytest.approx(scores.tolist(), abs=1e-5)
    line = float(scores.sort().values[3])
    found = classifier.predict(images, reject_below=line - 1e-4, prior="uniform")
    assert [p.name is None for p in found] == (scores < line - 1e-4).tolist()
    assert all(p.error is None and p.probability and p.top for p in found)
    assert [p.name is None for p in classifier.predict(images)] == [False] * 8


def test_a_threshold_is_found_on_pictures_of_known_classes(trained):
    _, data = trained
    images, _ = pictures(data, 8)
    classifier = load("m.ckpt")
    scores = torch.tensor([p.score for p in classifier.predict(images)])
    found = classifier.find_threshold(images, torch.zeros(3, 3, 32, 32, dtype=torch.uint8), keep=0.75)
    assert found.threshold == pytest.approx(float(scores.sort().values[2]))
    assert found.kept == 0.75
    assert found.rejected in (0.0, 1.0)
    kept = classifier.predict(images, reject_below=found.threshold)
    assert sum(p.name is not None for p in kept) == 6
    assert classifier.find_threshold(images).auroc is None
    Path("broken.png").write_bytes(b"no image")
    with pytest.raises(LongTailError, match=r"broken.png.*leave the picture out"):
        classifier.find_threshold("broken.png")
    with pytest.raises(LongTailError, match="keep"):
        classifier.find_threshold(images, keep=95)
    with pytest.raises(LongTailError, match="reject_below"):
        classifier.predict(images, reject_below=float("nan"))
