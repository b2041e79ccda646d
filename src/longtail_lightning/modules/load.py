"""Load a checkpoint as a classifier that predicts on pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._number_range import require_number
from longtail_lightning._progress import progress_bar
from longtail_lightning.datasets.image_transforms import ImageTransforms
from longtail_lightning.datasets.pictures import Picture, Preparation, find_pictures, read_pictures
from longtail_lightning.features import FeatureBank
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._fingerprint import encoder_fingerprint
from longtail_lightning.modules._checkpoint import build_module, write_changed
from longtail_lightning.modules._described_module import DescribedModule
from longtail_lightning.modules._edit_classes import (
    add_classes,
    encode_pictures,
    remove_classes,
    require_preparation,
    transferring_head,
)
from longtail_lightning.modules.explanation import Explanation, explain_pictures
from longtail_lightning.modules.prediction import Prediction
from longtail_lightning.report.rejection import Rejection, find_threshold

Prior = str | Sequence[float] | Mapping[str, float] | None


class Classifier:
    """A trained model with all that it needs to predict on pictures; `load` makes it.

    Args:
        module: a module of this library, in evaluation mode.
        prepare: what is done to pictures; None when nobody knows.
        path: the checkpoint that the module came from, if it did.

    Examples:
        >>> from longtail_lightning import BaseClassifier, CIFARResNet
        >>> module = BaseClassifier([9, 3], backbone=CIFARResNet(8), class_names=["cat", "dog"])
        >>> described = {"shape": [3, 32, 32], "mean": None, "std": None, **ImageTransforms().describe_evaluation()}
        >>> classifier = Classifier(module.eval(), Preparation(described))
        >>> [p.name in ("cat", "dog") for p in classifier.predict(torch.zeros(2, 3, 40, 30, dtype=torch.uint8))]
        [True, True]
    """

    def __init__(self, module: DescribedModule, prepare: Preparation | None, *, path: str | Path | None = None) -> None:
        self.module = module
        self._prepare = prepare
        self._path = path

    @property
    def class_names(self) -> list[str]:
        """One name per class; the numbers when nobody gave names."""
        return self.module.class_names or [str(c) for c in range(len(self.module.class_counts))]

    def predict(
        self,
        inputs: Any,
        *,
        top_k: int = 5,
        prior: Prior = None,
        reject_below: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> list[Prediction]:
        """Classify pictures.

        Args:
            inputs: a file, a folder (with its subfolders), a PIL image, a uint8 array, or a list of them.
            top_k: how many classes each prediction names.
            prior: how frequent the classes are among the pictures, where that differs from the training set: a
                number per class, or by name, or `"uniform"`. It moves the logits of a model that was trained with
                cross-entropy; one that is balanced already is moved too far by it.
            reject_below: a picture with a lower score is of no known class: it gets no name. `find_threshold` tells
                a good value.
            batch_size: pictures at a time.
            progress: show a progress bar.
        """
        options: dict[str, Any] = {"top_k": top_k, "prior": prior, "reject_below": reject_below}
        return list(self.stream(inputs, **options, batch_size=batch_size, progress=progress))

    def stream(
        self,
        inputs: Any,
        *,
        top_k: int = 5,
        prior: Prior = None,
        reject_below: float | None = None,
        batch_size: int = 64,
        progress: bool = False,
    ) -> Iterator[Prediction]:
        """The same one by one, for more pictures than the memory should hold predictions of; see `predict`."""
        if min(top_k, batch_size) < 1:
            raise LongTailError(f"top_k={top_k} and batch_size={batch_size} must be at least 1.")
        if reject_below is not None:
            require_number("predict", "reject_below", reject_below)
        line = -math.inf if reject_below is None else float(reject_below)
        pictures = find_pictures(inputs)
        offset = self._offset(prior)
        read = read_pictures(pictures, require_preparation(self._prepare))
        with progress_bar("Predicting", len(pictures), shown=progress) as tell:
            done = 0
            while batch := list(islice(read, batch_size)):
                yield from self._predict(batch, top_k, offset, line)
                tell(done := done + len(batch), len(pictures))

    def features(self, inputs: Any, *, texts: Sequence[str] | None = None, progress: bool = False) -> FeatureBank:
        """What the backbone (with a memory: the encoder) sees in pictures, as a bank whose ids are their files.

        Args:
            inputs: pictures in any form that `predict` takes.
            texts: one for each.
            progress: show a progress bar.
        """
        pictures = find_pictures(inputs)
        if not pictures:
            raise LongTailError("There is no picture to encode.")
        encoder = self.module.query_encoder
        features = encode_pictures(self.module, pictures, self._prepare, encoder=encoder, progress=progress)
        files = [str(picture) if isinstance(picture, (str, Path)) else None for picture in pictures]
        ids = None if None in files else files
        made = {"encoder": encoder_fingerprint(encoder)}
        return FeatureBank.from_arrays(features, ids=ids, texts=texts, fingerprint=made)

    # -- classes ---------------------------------------------------------------------------------

    def add_classes(self, new: Mapping[str, Any]) -> Self:
        """Add classes from a few pictures each, without any training; the head must know prototypes.

        Args:
            new: name of a class -> its pictures (files, a folder, PIL images, arrays), or their features
                `(n, num_features)`.
        """
        add_classes(self.module, self.class_names, new, self._prepare)
        return self

    def remove_classes(self, names: Sequence[str]) -> Self:
        """Take classes out, learned or added.

        Args:
            names: which ones.
        """
        remove_classes(self.module, self.class_names, names)
        return self

    def explain(self, name: str, *, top: int = 10, k: int | None = None) -> list[tuple[str, float]]:
        """The classes that a class was given knowledge from, with their shares, largest first.

        Args:
            name: of the class.
            top: how many are told.
            k: which of an ensemble's heads is asked; by default the one with the smallest `k`, where most classes give.
        """
        names = self.class_names
        if name not in names:
            raise LongTailError(f"There is no class {name!r}. {did_you_mean(str(name), names)}")
        found = transferring_head(self.module, k).donors_of(names.index(name), top)
        return [(names[donor], share) for donor, share in found]

    def find_threshold(
        self, known: Any, unknown: Any = None, *, keep: float = 0.95, batch_size: int = 64, progress: bool = False
    ) -> Rejection:
        """Where to draw the line between pictures of known classes and others: a value for `reject_below`.

        It holds for the model as it is: look again after classes were added.

        Args:
            known: pictures of the model's classes that it was not trained on; see `predict` for their forms.
            unknown: pictures of other classes, to see how many are rejected; the line does not depend on them.
            keep: share of the known pictures that stay.
            batch_size: pictures at a time.
            progress: show a progress bar.
        """
        require_number("find_threshold", "keep", keep, 0, 1, above=True)

        def scores(inputs: Any) -> Tensor:
            told = self.predict(inputs, batch_size=batch_size, progress=progress)
            if broken := [prediction.error for prediction in told if prediction.error is not None]:
                raise LongTailError(f"{broken[0]}: leave the picture out.")
            return torch.tensor([prediction.score for prediction in told], dtype=torch.float64)

        return find_threshold(scores(known), None if unknown is None else scores(unknown), keep=keep)

    def explain_pictures(self, inputs: Any, *, progress: bool = False) -> list[Explanation]:
        """Which items of its memory spoke for which class, for each picture.

        Args:
            inputs: pictures in any form that `predict` takes.
            progress: show a progress bar.
        """
        return list(explain_pictures(self.module, self.class_names, inputs, self._prepare, progress=progress))

    def save(self, path: str | Path) -> Path:
        """Write the model as it is now: a checkpoint like that of a training, without the state of its optimizer.

        Args:
            path: the file; it must not be the one that was loaded.
        """
        if self._path is not None and Path(path).resolve() == Path(self._path).resolve():
            raise LongTailError(f"{path} is the checkpoint that was loaded: give the changed model another name.")
        return write_changed(self.module, self._path, path)

    @torch.inference_mode()
    def _predict(self, pictures: Sequence[Picture], top_k: int, offset: Tensor, line: float) -> Iterator[Prediction]:
        good = [picture.image for picture in pictures if picture.image is not None]
        found: Iterator[Prediction] = iter(())
        if good:
            logits = self.module.predict_step([torch.stack(good).to(self.module.device)], 0)["logits"]
            top = (logits + offset.to(logits)).softmax(1).topk(min(top_k, logits.shape[1]), dim=1)
            found = map(self._named, top.values.tolist(), top.indices.tolist(), logits.amax(1).tolist())
        for picture in pictures:
            if picture.image is None:
                yield Prediction(None, None, file=picture.file, error=picture.error)
            elif math.isfinite((told := next(found)).top[0][1]):
                name = told.name if told.score is None or told.score >= line else None
                yield replace(told, name=name, file=picture.file)
            else:
                where = "" if picture.file is None else f"{picture.file}: "
                yield Prediction(None, None, file=picture.file, error=f"{where}the model's output is not finite")

    def _named(self, probabilities: Sequence[float], classes: Sequence[int], score: float) -> Prediction:
        top = [(self.class_names[c], probability) for c, probability in zip(classes, probabilities)]
        return Prediction(*top[0], top, score=score)

    def _offset(self, prior: Prior) -> Tensor:
        """What is added to the logits, so that the classes are as frequent as `prior` says."""
        counts, names = self.module.class_counts, self.class_names
        if prior is None:
            return torch.zeros(len(counts), dtype=torch.float64)
        if isinstance(prior, str):
            if prior != "uniform":
                raise LongTailError(f"prior={prior!r}: give 'uniform', or one number per class.")
            prior = [1.0] * len(counts)
        if isinstance(prior, Mapping):
            if unknown := [name for name in prior if name not in names]:
                raise LongTailError(f"prior has a class {unknown[0]!r}. {did_you_mean(unknown[0], names)}")
            prior = [float(prior.get(name, 0.0)) for name in names]
        try:
            wanted = torch.as_tensor(prior, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):  # words, or lists in lists
            wanted = torch.empty(0, dtype=torch.float64)
        total = float(wanted.sum())
        if wanted.shape != (len(counts),) or not bool((wanted >= 0).all()) or not 0 < total < float("inf"):
            raise LongTailError(f"prior needs one frequency, 0 or more, for each of the {len(counts)} classes.")
        return (wanted / total).log() - counts.log_prior()


def load(
    path: str | Path,
    *,
    device: torch.device | str = "auto",
    transforms: ImageTransforms | None = None,
    parts: Mapping[str, Any] | None = None,
    verify: bool = False,
) -> Classifier:
    """Make a checkpoint ready to use, whichever module of this library wrote it: nothing else is needed.

    Args:
        path: the checkpoint. No code is run from it.
        device: where to work; by default a GPU, if there is one.
        transforms: how images are prepared, for a checkpoint that does not say: `ResizedCropTransforms(...)`.
        parts: those that the checkpoint cannot describe in plain values, such as `{"backbone": MyNet()}`, or does not
            hold, `{"memory": "FOLDER"}`.
        verify: compare the whole file with the checksum that it carries, if it does; its parts are compared always.

    Examples:
        >>> from longtail_lightning import load
        >>> for prediction in load("best.ckpt").predict("photos/"):  # doctest: +SKIP
        ...     print(prediction.file, prediction.name, prediction.probability)
    """
    module = build_module(path, parts or {}, verify=verify)
    if not isinstance(module, DescribedModule):
        raise LongTailError(f"{path} is of a {type(module).__name__}, which does not classify: load it with its class.")
    described = dict(module.input or {})
    if transforms is not None:
        if (told := transforms.describe_evaluation()) is None:
            name = type(transforms).__name__
            raise LongTailError(f"{name} does not say what it does to an image: use ResizedCropTransforms(...).")
        described |= {**told, "mean": transforms.mean, "std": transforms.std}
        described.setdefault("shape", [3, told["crop"], told["crop"]])
    known = "interpolation" in described and len(described.get("shape", ())) == 3
    return Classifier(module.to(choose_device(device, module)), Preparation(described) if known else None, path=path)
