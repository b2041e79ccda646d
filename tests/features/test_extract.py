from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import FrozenInstanceError, fields
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from longtail_lightning import (
    BaseClassifier,
    CIFARResNet,
    Extraction,
    FeatureBank,
    LinearHead,
    LongTailDataModule,
    extract_features,
)
from longtail_lightning._errors import LongTailError
from longtail_lightning._files import LOCK, locked
from longtail_lightning.features import verify_bank
from longtail_lightning.features._checks import NotFiniteError
from longtail_lightning.features._fingerprint import encoder_fingerprint
from longtail_lightning.features._folder import Folder
from longtail_lightning.features._source import source_of
from longtail_lightning.features.extract import extract
from tests.features.data import NUMBER, Noisy, Slow, Stops, encoder, images, loader
from tests.tiny import tiny_data, tiny_model, tiny_trainer

QUIET = {"progress": False}
REPOSITORY = Path(__file__).parent.parent.parent


def bytes_of(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.name != "bank.json"}


def test_features_are_those_of_the_encoder_in_evaluation_mode():
    net = encoder()
    bank = extract_features(net, loader(), dtype=torch.float32, **QUIET)
    net.eval()
    with torch.no_grad():
        expected = torch.cat([net(batch) for batch, _ in loader()])
    assert torch.equal(bank.features, expected)
    assert torch.equal(bank.labels, images().tensors[1])
    half = extract_features(net, loader(), **QUIET)
    assert torch.equal(half.features, expected.half())


def test_the_encoder_and_the_generators_are_left_as_they_were():
    net = encoder()
    net.train()
    net.blocks[0].eval()
    modes = [module.training for module in net.modules()]
    state = {name: value.clone() for name, value in net.state_dict().items()}
    before = torch.get_rng_state()
    extract_features(net, loader(num_workers=1), views=2, **QUIET)
    assert torch.equal(torch.get_rng_state(), before)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in net.parameters())


def test_the_order_is_that_of_the_data_whatever_the_loader_does():
    plain = extract_features(encoder(), loader(), **QUIET)
    shuffled = extract_features(encoder(), loader(shuffle=True, drop_last=True), **QUIET)
    assert torch.equal(shuffled.features, plain.features)
    assert len(shuffled) == NUMBER


@pytest.mark.parametrize("views", [1, 2])
def test_a_data_module(views):
    data, net = tiny_data(), encoder()
    bank = extract_features(net, data, views=views, dtype=torch.float32, **QUIET)
    assert bank.num_views == views
    assert torch.equal(bank.labels, data.labels("train"))
    assert bank.class_names == data.class_names
    assert bank.class_counts == data.class_counts
    if views == 1:
        plain = torch.stack([data.dataset("train")[index][0] for index in range(8)])
        with torch.no_grad():
            torch.testing.assert_close(bank.features[:8], net.eval()(data.prepare_batch(plain)))
    else:
        assert not bool((bank.views[0] == bank.views[1]).all(1).any())
    torch.rand(3)
    again = extract_features(net, tiny_data(), views=views, dtype=torch.float32, **QUIET)
    assert torch.equal(again.views, bank.views)
    val = extract_features(net, data, split="val", **QUIET)
    assert torch.equal(val.labels, data.labels("val"))
    assert data.batch_size == 8
    assert data.num_workers == 0


def test_random_data_sets_repeat_whatever_the_number_of_workers_and_the_shards():
    noisy = DataLoader(Noisy(), batch_size=4)
    first = extract_features(encoder(), noisy, views=2, **QUIET)
    assert not torch.equal(first.views[0], first.views[1])
    assert first.ids[:2] == ["0.jpg", "1.jpg"]
    for options in ({"num_workers": 2}, {"shard_size": 4}, {"shard_size": 1000}):
        assert torch.equal(extract_features(encoder(), noisy, views=2, **options, **QUIET).views, first.views)


def test_disk_and_memory_hold_the_same(tmp_path):
    kept = extract_features(encoder(), DataLoader(Noisy(), batch_size=4), tmp_path / "bank", views=2, **QUIET)
    memory = extract_features(encoder(), DataLoader(Noisy(), batch_size=4), views=2, **QUIET)
    assert torch.equal(kept.views, memory.views)
    assert torch.equal(kept.labels, memory.labels)
    assert kept.ids == memory.ids
    assert kept.fingerprint == memory.fingerprint
    assert {path.name for path in (tmp_path / "bank").iterdir()} == {
        "bank.json", "features.npy", "labels.npy", "ids.npy", "ids_offsets.npy",
    }  # fmt: skip
    kept.save(tmp_path / "copy")
    assert bytes_of(tmp_path / "copy") == bytes_of(tmp_path / "bank")


class Files(Noisy):
    """Knows the file of each item."""

    def __init__(self):
        super().__init__()
        del self.ids

    def file(self, index):
        return f"folder/{index}.png"


def test_files_are_the_ids_below_subsets_too():
    part = Subset(Subset(Files(), range(10, 30)), [3, 0])
    assert extract_features(encoder(), DataLoader(part), **QUIET).ids == ["folder/13.png", "folder/10.png"]


def test_bfloat16_is_close_to_float32():
    full = extract_features(encoder(), loader(), dtype=torch.float32, **QUIET)
    low = extract_features(encoder(), loader(), dtype=torch.float32, precision="bf16", **QUIET)
    assert not torch.equal(low.features, full.features)
    torch.testing.assert_close(low.features, full.features, rtol=0.05, atol=0.05)
    true = extract_features(encoder().bfloat16(), loader(), dtype=torch.float32, **QUIET)
    torch.testing.assert_close(true.features, full.features, rtol=0.05, atol=0.05)


def test_an_encoder_in_channels_last_order_gives_the_same():
    net = encoder().to(memory_format=torch.channels_last)
    full = extract_features(encoder(), loader(), dtype=torch.float32, **QUIET)
    torch.testing.assert_close(extract_features(net, loader(), dtype=torch.float32, **QUIET).features, full.features)


def test_crops_of_an_image_are_averaged():
    crops = torch.randn(6, 3, 3, 16, 16)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    bank = extract_features(
        encoder(), DataLoader(TensorDataset(crops, labels), batch_size=4), dtype=torch.float32, **QUIET
    )
    each = [
        extract_features(encoder(), DataLoader(TensorDataset(crops[:, k], labels)), dtype=torch.float32, **QUIET)
        for k in range(3)
    ]
    torch.testing.assert_close(bank.features, torch.stack([one.features for one in each]).mean(0))


def test_a_wrapped_encoder_is_that_encoder_and_a_whole_model_is_none():
    net = BaseClassifier([3, 2], backbone=encoder())
    wrapped = extract_features(nn.DataParallel(net.backbone), loader(), **QUIET)
    wrapped.check(encoder=net.backbone)
    for model in (net, nn.DataParallel(net)):
        with pytest.raises(LongTailError, match=r"a whole BaseClassifier, head included, .*: pass model\.backbone"):
            extract_features(model, loader(), **QUIET)


@pytest.mark.parametrize(
    ("make", "name"),
    [(partial(timm.create_model, "resnet10t"), "fc"), (torchvision.models.mobilenet_v3_small, r"classifier\.3")],
)
def test_a_classifier_from_elsewhere_gives_logits(make, name):
    few = DataLoader(Subset(images(), range(2)))
    with pytest.warns(UserWarning, match=f"ends in `{name}`, so what is kept are 1000 logits, not features: put nn"):
        extract_features(make(), few, **QUIET)
    with pytest.warns(UserWarning, match="what is kept are 5 logits"):
        extract_features(make(num_classes=5), few, num_classes=5, **QUIET)
    net = make()
    setattr(net, name.split("\\")[0], nn.Identity())
    extract_features(net, few, **QUIET)


def test_a_loader_does_not_say_which_split_it_is(tmp_path):
    unknown = extract_features(encoder(), loader(), **QUIET)
    assert unknown.fingerprint["data"]["split"] is None
    unknown.check(data=loader())
    test = extract_features(encoder(), loader(), tmp_path, split="test", **QUIET)
    test.check(data=loader())
    again = extract_features(encoder(), loader(), tmp_path, **QUIET)
    assert again.fingerprint["data"]["split"] == "test", "a bank that is known stays known"
    unknown.save(tmp_path / "unknown")
    with pytest.raises(LongTailError, match=r"TensorDataset \(of an unknown split\) of 41 .*not of TensorDataset test"):
        extract_features(encoder(), loader(), tmp_path / "unknown", split="test", **QUIET)
    with pytest.raises(LongTailError, match=r"train of .*, not of TensorDataset"):
        extract_features(encoder(), tiny_data(), **QUIET).check(data=loader())


def test_the_split_that_was_named_at_the_start_stays(tmp_path):
    interrupt(tmp_path, RuntimeError(), split="test")
    assert resume(tmp_path).fingerprint["data"]["split"] == "test"


@pytest.mark.parametrize("folder", [None, "bank"])
def test_a_loader_whose_last_classes_have_no_image(folder):
    bank = extract_features(encoder(), loader(), folder, num_classes=7, **QUIET)
    assert bank.class_counts.tolist() == [*images().tensors[1].bincount().tolist(), 0, 0]
    with pytest.raises(LongTailError, match=r"is 4, outside 0\.\.3"):
        extract_features(encoder(), loader(), folder and "other", num_classes=4, **QUIET)
    if folder:
        assert extract_features(encoder(), loader(), folder, **QUIET).num_classes == 7
        with pytest.raises(LongTailError, match="The bank bank is of 7 classes, not of 6: give another path, or over"):
            extract_features(encoder(), loader(), folder, num_classes=6, **QUIET)


class Named(Noisy):
    classes = ("a", "b", "c", "d", "e")


# -- stopped and continued ------------------------------------------------------------------------


def interrupt(path, error, after=9, **options):
    """Extraction of `Noisy` that ends in an error after some batches (one more is the look at the first image)."""
    with pytest.raises(type(error)) as caught:
        extract_features(
            Stops(encoder(), error, after), DataLoader(Noisy(), batch_size=4), path,
            views=2, shard_size=8, **QUIET, **options,
        )  # fmt: skip
    return str(caught.value)


def resume(path, module=None, **options):
    module = Stops(encoder()) if module is None else module
    settings = {"batch_size": 4, "views": 2, "shard_size": 8, **QUIET, **options}
    return extract_features(module, DataLoader(Noisy()), path, **settings)


def test_files_of_the_system_are_no_shards(tmp_path):
    interrupt(tmp_path, KeyboardInterrupt())
    (tmp_path / "done" / ".DS_Store").touch()
    assert len(resume(tmp_path)) == NUMBER


class Told(Noisy):
    """What a data set may tell of its items, and what it may not."""

    def __init__(self, **told):
        super().__init__()
        for name, value in told.items():
            setattr(self, name, value)


@pytest.mark.parametrize("name", ["ids", "texts"])
def test_what_is_no_string_is_told_before_the_work(name):
    source, asked = DataLoader(Told(**{name: [None] * NUMBER}), batch_size=4), []
    with pytest.raises(LongTailError, match=rf"{name}\[0\] is None, not a string"):
        extract_features(Returns(lambda images: asked.append(images) or images.flatten(1)), source, **QUIET)
    assert len(asked) == 1, "the look at the first image"


def test_methods_are_no_columns_and_any_string_is_an_id():
    ids = [f"\ud800 {index}" for index in range(NUMBER)]
    found = extract_features(encoder(), DataLoader(Told(ids=ids, texts=len, classes=len)), **QUIET)
    assert (found.ids, found.texts, found.num_classes) == (ids, None, 5)


def test_an_interrupted_extraction_continues_where_it_was(tmp_path):
    whole = resume(tmp_path / "whole")
    told = interrupt(tmp_path / "bank", KeyboardInterrupt())
    assert "4 of 12 shards are kept: continue with the same extract_features call for" in told
    with pytest.raises(LongTailError, match=r"bank is unfinished, 4 of 12 shards are there: continue with the same"):
        FeatureBank.load(tmp_path / "bank")
    counting = Stops(encoder())
    resumed = resume(tmp_path / "bank", counting)
    assert counting.seen == 2 * NUMBER - 4 * 8 + 1
    assert torch.equal(resumed.views, whole.views)
    assert bytes_of(tmp_path / "bank") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize("views", [1, 2])
def test_killed_and_continued_is_uninterrupted(tmp_path, views):
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from torch.utils.data import DataLoader\n"
        "from longtail_lightning import extract_features\n"
        "from tests.features.data import Noisy, Slow, encoder\n"
        f"extract_features(Slow(encoder(), 0.05), DataLoader(Noisy(), batch_size=4), {str(tmp_path / 'bank')!r}, "
        f"views={views}, shard_size=8, progress=False)\n"
    )
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path})
    done = tmp_path / "bank" / "done"
    deadline = time.monotonic() + 120
    while not (done.is_dir() and len(list(done.iterdir())) >= 2):
        assert process.poll() is None, "ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "bank" / "bank.json").exists()
    resume(tmp_path / "bank", Slow(encoder()), views=views)
    resume(tmp_path / "whole", Slow(encoder()), views=views)
    assert bytes_of(tmp_path / "bank") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"module": Stops(encoder(seed=5))}, r"unfinished bank .* was made by Stops \w{12}, not by Stops \w{12}"),
        ({"batch_size": 2}, "was made with batch_size=4, not with batch_size=2"),
        ({"shard_size": 16}, "was made with size=8, not with size=16"),
        ({"views": 1}, r"was made with views=2, augment=True, not with views=1, augment=False"),
        ({"dtype": torch.float32}, "was made with dtype=float16, not with dtype=float32"),
        ({"precision": "bf16"}, "was made with precision=float32, not with precision=bfloat16"),
    ],
)
def test_it_does_not_continue_with_anything_else(tmp_path, options, message):
    interrupt(tmp_path, RuntimeError("stop"))
    with pytest.raises(LongTailError, match=message):
        resume(tmp_path, **options)
    assert resume(tmp_path, **{**options, "overwrite": True}).num_features == 16


def test_it_does_not_continue_with_other_data(tmp_path):
    with pytest.raises(RuntimeError):
        extract_features(Stops(encoder(), RuntimeError(), 3), tiny_data(), tmp_path, **QUIET)
    with pytest.raises(LongTailError, match=r"of SyntheticLongTail train of 38 inputs \(images \w{12}\), not of"):
        extract_features(Stops(encoder()), tiny_data(seed=1), tmp_path, **QUIET)
    with pytest.raises(LongTailError, match=r"not of SyntheticLongTail val of 18 inputs"):
        extract_features(Stops(encoder()), tiny_data(), tmp_path, split="val", **QUIET)
    assert len(extract_features(Stops(encoder()), tiny_data(), tmp_path, **QUIET)) == 38


def test_a_finished_bank_is_opened_and_not_made_again(tmp_path):
    first = extract_features(Stops(encoder()), loader(), tmp_path, **QUIET)
    counting = Stops(encoder())
    again = extract_features(counting, loader(batch_size=7), tmp_path, **QUIET)
    assert torch.equal(again.features, first.features)
    assert counting.seen == 1
    with pytest.raises(LongTailError, match="was made by Stops"):
        extract_features(Stops(encoder(seed=1)), loader(), tmp_path, **QUIET)


def cut(path):
    path.write_bytes(path.read_bytes()[:-8])


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("name", ["features.npy", "labels.npy"])
@pytest.mark.parametrize("damage", [cut, Path.unlink, lambda path: path.write_bytes(b"")], ids=["cut", "gone", "empty"])
def test_a_damaged_bank_is_made_again(tmp_path, damage, name, finished):
    expected, folder = resume(None), tmp_path / "bank"
    if finished:
        resume(folder)
    else:
        interrupt(folder, RuntimeError())
    damage(folder / name)
    if finished:
        with pytest.raises(LongTailError, match=r"is damaged .*: extract the features again"):
            FeatureBank.load(folder)
    with pytest.warns(UserWarning, match="is damaged and made again"):
        again = resume(folder)
    assert torch.equal(again.views, expected.views)
    assert torch.equal(again.labels, expected.labels)
    assert len(FeatureBank.load(folder)) == NUMBER


def test_the_precision_of_a_trainer_plays_no_part():
    data = tiny_data()
    tiny_trainer(max_epochs=1, precision="bf16-true").fit(tiny_model(data), data)
    trained, fresh = (extract_features(encoder(), made, split="val", **QUIET) for made in (data, tiny_data()))
    assert torch.equal(trained.features, fresh.features)


class Unnamed(LongTailDataModule):
    """Images without file names."""

    def build(self, split):
        generator = torch.Generator().manual_seed(1)
        labels = torch.arange(4).repeat_interleave(25)
        return TensorDataset(torch.rand(100, 3, 8, 8, generator=generator), labels) if split == "train" else None


def held_out(seed):
    """Whichever images are held out, the labels of the others are the same, and often the first, middle and last."""
    return Unnamed(val_split=0.1, seed=seed)


def relabeled(label):
    """Only a label in between differs."""
    made = images()
    made.tensors[1][10] = label
    return DataLoader(made)


@pytest.mark.parametrize(
    ("first", "second", "options"),
    [
        *((held_out(0), held_out(seed), {}) for seed in range(1, 6)),
        (tiny_data(augment=True), tiny_data(augment=False), {"views": 2}),
        (relabeled(0), relabeled(1), {}),
        (DataLoader(Subset(images(), [0, 1, 20, 30, 40])), DataLoader(Subset(images(), [0, 2, 20, 30, 40])), {}),
    ],
    ids=[*(f"held out {seed}" for seed in range(1, 6)), "augmentation", "labels", "subset"],
)
def test_a_bank_of_other_data_is_not_opened(tmp_path, first, second, options):
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    extract_features(net, first, tmp_path, **options, **QUIET)
    extract_features(net, first, tmp_path, **options, **QUIET)
    with pytest.raises(LongTailError, match=r"was made (of|with)"):
        extract_features(net, second, tmp_path, **options, **QUIET)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (nn.ReLU(), nn.Tanh()),
        (nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)),
        (CIFARResNet(8, width=1), CIFARResNet(8, width=1, last_relu=False)),
    ],
)
def test_equal_weights_do_not_make_equal_encoders(first, second):
    second.load_state_dict(first.state_dict())
    bank = extract_features(nn.Sequential(first, nn.Flatten()), loader(), **QUIET)
    bank.check(encoder=nn.Sequential(first, nn.Flatten()).eval())
    with pytest.raises(LongTailError, match=r"made by Sequential .*, not by Sequential"):
        bank.check(encoder=nn.Sequential(second, nn.Flatten()))


class TellsItsFunction(nn.Module):
    """Describes itself with an address of this process."""

    def extra_repr(self):
        return f"function={object()}"


def test_an_encoder_has_the_same_fingerprint_in_every_process():
    code = (
        "from torch import nn; from tests.features.data import encoder; "
        "from tests.features.test_extract import TellsItsFunction; "
        "from longtail_lightning.features._fingerprint import encoder_fingerprint; "
        "print(encoder_fingerprint(nn.Sequential(encoder(), TellsItsFunction()))['checksum'])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    net = nn.Sequential(encoder(), TellsItsFunction()).eval()
    assert encoder_fingerprint(net)["checksum"] == other.stdout.strip()


def test_a_bank_tells_whether_it_belongs_to_encoder_and_data():
    data, net = tiny_data(), encoder()
    bank = extract_features(net, data, split="val", **QUIET)
    bank.check(encoder=net, data=data)
    with pytest.raises(LongTailError, match=r"The bank was made by CIFARResNet .*, not by CIFARResNet"):
        bank.check(encoder=encoder(seed=1))
    with pytest.raises(LongTailError, match="not by LinearHead"):
        bank.check(encoder=LinearHead(3, 3))
    with pytest.raises(LongTailError, match=r"val of 18 inputs .* not of SyntheticLongTail val of 12 inputs"):
        bank.check(data=tiny_data(val_per_class=2))
    with pytest.raises(LongTailError, match=r"Tail val of 2 inputs, not of SyntheticLongTail val of 18 inputs \("):
        bank.subset([0, 1]).check(data=data)
    with pytest.raises(LongTailError, match=r"made of SyntheticLongTail val of 18 inputs, not of"):
        bank.subset(range(18)).check(data=data)
    with pytest.raises(LongTailError, match="an unknown data set"):
        FeatureBank.from_arrays(bank.features, bank.labels).subset([0, 1]).check(data=data)


# -- settings, and others at the same folder ------------------------------------------------------


def test_the_settings_are_the_arguments():
    parameters = inspect.signature(extract_features).parameters
    for field in fields(Extraction):
        assert parameters[field.name].default == field.default, field.name
    settings = Extraction(views=2, dtype=torch.float32, **QUIET)
    given = extract_features(encoder(), loader(), views=2, dtype=torch.float32, **QUIET)
    assert torch.equal(extract(encoder(), source_of(loader(), None), None, settings).views, given.views)
    with pytest.raises(FrozenInstanceError):
        settings.views = 1


@pytest.mark.parametrize("folder", [None, "bank"])
def test_inputs_without_labels(folder):
    alone = DataLoader([images for images, _ in loader().dataset], batch_size=loader().batch_size)
    bank = extract_features(encoder(), alone, folder, num_classes=7, **QUIET)
    assert (bank.labels, bank.num_classes) == (None, 7)
    assert torch.equal(bank.features, extract_features(encoder(), loader(), **QUIET).features)
    if folder:
        assert {path.name for path in Path(folder).iterdir()} == {"bank.json", "features.npy"}


def test_only_one_process_extracts_to_a_folder_and_many_open_it(tmp_path):
    with locked(tmp_path), pytest.raises(LongTailError, match="Another process is writing to"):
        extract_features(encoder(), loader(), tmp_path, **QUIET)
    made = extract_features(encoder(), loader(), tmp_path, **QUIET)
    with locked(tmp_path):
        assert torch.equal(extract_features(encoder(), loader(), tmp_path, **QUIET).features, made.features)
        with pytest.raises(LongTailError, match="Another process is writing to"):
            extract_features(encoder(), loader(), tmp_path, overwrite=True, **QUIET)
    assert len(FeatureBank.load(tmp_path, verify=True)) == NUMBER


def test_the_folder_is_locked_while_it_is_written_to(tmp_path):
    class Looks(nn.Module):
        def forward(self, images):
            seen.append((tmp_path / LOCK).exists())
            return images.flatten(1)

    seen = []
    extract_features(Looks(), loader(), tmp_path, **QUIET)
    assert seen == [False] + [True] * 11, "the look at the first image is before"
    assert not (tmp_path / LOCK).exists()


def test_a_bank_of_an_older_version_is_not_overwritten_unasked(tmp_path):
    extract_features(encoder(), loader(), tmp_path, **QUIET)
    header = json.loads((tmp_path / "bank.json").read_text())
    (tmp_path / "bank.json").write_text(json.dumps({**header, "format": 1}))
    with pytest.raises(LongTailError, match=r"has format 1, .* with overwrite=True or into another folder"):
        extract_features(encoder(), loader(), tmp_path, **QUIET)
    extract_features(encoder(), loader(), tmp_path, overwrite=True, **QUIET)


def test_features_too_large_for_float16_are_told_by_the_type_of_the_error():
    with pytest.raises(NotFiniteError) as error:
        extract_features(Returns(lambda x: x.flatten(1) * 1e5), DataLoader(Noisy(), batch_size=4), **QUIET)
    assert (error.value.dtype, error.value.number) == (torch.float16, 4)
    assert error.value.names == ("0.jpg", "1.jpg", "2.jpg")


# -- wrong input ----------------------------------------------------------------------------------


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(3, 16, 16), 0


class Returns(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, images):
        return self.function(images)


@pytest.mark.parametrize(
    ("module", "source", "options", "message"),
    [
        (None, DataLoader(Stream()), {}, "Stream can only be read from its beginning"),
        (None, images(), {}, "not from a TensorDataset: wrap the data set in DataLoader"),
        (None, DataLoader([{"image": torch.zeros(3, 16, 16)}] * 3), {}, r"as dict, expected \(images, labels\)"),
        (None, DataLoader(TensorDataset(torch.zeros(2, 3, 8, 8).byte(), torch.zeros(2))), {}, "torch.uint8 images"),
        (Returns(lambda x: x), None, {}, r"gives \(1, 3, 16, 16\) for 1 inputs, expected \(inputs, features\)"),
        (Returns(lambda x: [x]), None, {}, "gives list for 1 inputs"),
        (Returns(lambda x: x.flatten(1) * 1e5), None, {}, "store them as float32"),
        (
            Returns(lambda x: x.flatten(1).log()),
            None,
            {"dtype": torch.float32},
            r"of at least 4 of 41 inputs .*\(ids 0, ",
        ),
        (None, None, {"dtype": torch.bfloat16}, "kept as float16, float32 or float64, not as torch.bfloat16"),
        (None, None, {"precision": "bfloat"}, "Unknown precision 'bfloat': choose one of '32'"),
        (None, None, {"views": 3, "augment": False}, "views=3 without augmentation are all the same"),
        (
            None,
            tiny_data(),
            {"num_classes": 6},
            "num_classes is for a DataLoader: a SyntheticLongTail knows its classes",
        ),
        (
            None,
            DataLoader(Named()),
            {"num_classes": 6},
            r"num_classes=6, but Named\.classes names 5: leave num_classes",
        ),
        (None, None, {"views": 0}, "views=0 must be at least 1"),
        (None, None, {"shard_size": 0}, "shard_size=0 must be at least 1"),
        (None, tiny_data(), {"split": "val", "path": "file"}, "file is a file, a bank is a folder"),
        (None, tiny_data(), {"split": "valid"}, "has no split 'valid': choose 'train', 'val' or 'test'"),
        (None, None, {"path": "file/bank"}, "file/bank cannot be written .*: give another place"),
        (None, None, {"device": "gpu"}, "There is no device 'gpu'"),
        (None, None, {"device": "cuda:99"}, r"device='cuda:99': this process sees \d+ GPUs"),
    ],
)
def test_bad_input_is_named_with_the_fix(module, source, options, message):
    Path("file").write_text("")
    with pytest.raises(LongTailError, match=message):
        extract_features(module or encoder(), loader() if source is None else source, **options, **QUIET)


def test_a_disk_that_is_too_small_is_told_before_the_work(tmp_path, monkeypatch):
    from longtail_lightning.features import _folder

    monkeypatch.setattr(_folder.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000})())
    with pytest.raises(LongTailError, match=r"needs 0\.00 GB but 0\.00 GB are free"):
        extract_features(encoder(), loader(), tmp_path / "bank", **QUIET)


def test_a_disk_that_runs_full_is_told_and_the_extraction_continues(tmp_path, monkeypatch):
    from longtail_lightning.features import _writers

    write = _writers.to_disk

    def full(file):
        if file.name.endswith("features.npy") and len(list((tmp_path / "done").iterdir())) == 3:
            raise OSError(28, "No space left on device")
        write(file)

    with monkeypatch.context() as patch:
        patch.setattr(_writers, "to_disk", full)
        with pytest.raises(LongTailError, match=r"The disk is full, 3 of 12 shards .*: make room and repeat the call"):
            resume(tmp_path)
    counting = Stops(encoder())
    resume(tmp_path, counting)
    assert counting.seen == 2 * NUMBER - 3 * 8 + 1


def test_a_kill_after_the_last_shard_leaves_nothing_to_compute(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Folder, "finalize", lambda *_: (_ for _ in ()).throw(OSError))
        with pytest.raises(OSError):
            resume(tmp_path)
    counting = Stops(encoder())
    assert len(resume(tmp_path, counting)) == NUMBER
    assert counting.seen == 1


@pytest.mark.parametrize("damage", ["zeros", "bit", "empty marker"])
def test_rows_that_were_not_written_are_not_sealed(tmp_path, damage):
    """Two writers, or a disk, leave zeros in a shard that counts as finished: the bank is not made of them."""
    whole = resume(tmp_path / "whole")
    folder = tmp_path / "bank"
    interrupt(folder, KeyboardInterrupt())
    (first, *_) = sorted((folder / "done").iterdir())
    if damage == "empty marker":  # of an earlier release, or cut by a full disk
        first.write_bytes(b"")
    with open(folder / "features.npy", "r+b") as file:
        file.seek(-whole.views.numel() * 2 + 3, 2)  # in the first shard of the first view
        byte = file.read(8)
        file.seek(-len(byte), 1)
        file.write(bytes(8) if damage != "bit" else bytes([byte[0] ^ 1]) + byte[1:])
    if damage != "empty marker":
        with pytest.raises(LongTailError, match=r"1 of 12 shards in .* are not what was written: .* repeat the call"):
            resume(folder)
    assert torch.equal(resume(folder).views, whole.views)
    assert verify_bank(folder) == {}


def test_the_bar_tells_images_per_second(capsys):
    extract_features(encoder(), loader(), split="train")
    err = capsys.readouterr().err
    assert "train features" in err
    assert f"{NUMBER}/{NUMBER}" in err
    extract_features(encoder(), loader(), progress=False)
    assert not capsys.readouterr().err
