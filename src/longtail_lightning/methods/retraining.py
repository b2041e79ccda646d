"""Ways from a trained classifier and a bank to a balanced one: cRT, LWS, tau-normalization, NCM."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import torch
from torch import nn

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._random import isolated_rng
from longtail_lightning._spec import build, spec_of
from longtail_lightning.features._arguments import made, require_callable, require_loss
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.features.fit_head import fit_head
from longtail_lightning.heads import (
    Head,
    LearnableScaleHead,
    LinearHead,
    NearestClassMeanHead,
    TauNormalizedHead,
)
from longtail_lightning.heads.tau_normalized import BiasPolicy, linear_of
from longtail_lightning.losses import LongTailLoss
from longtail_lightning.methods.tau import TAUS, TauSelection, check_taus, learn_tau, select_tau
from longtail_lightning.samplers import LongTailSampler

GIVE_VALIDATION = "pass a loader of some to fit, or hold some out with a data module's val_split=0.1"
Device = torch.device | str


class Retraining(ABC):
    """Base of the methods: `method(head, train, val) -> head`. The trained head is never changed.

    A child sets `name`, of which files are called, and answers `__call__`; it says with
    `needs_validation` when it cannot do without validation features.
    """

    name: str
    uses_views: bool = False
    """Whether it learns from several augmented views of each image; otherwise it gets the images as they are."""

    @abstractmethod
    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Head:
        """A new head.

        Args:
            head: the trained head.
            train: features that it was trained on.
            val: validation features, for what must be chosen.
            device: where to work.
        """

    @property
    def needs_validation(self) -> bool:
        """Whether it needs validation features."""
        return False

    def check(self, head: nn.Module) -> None:
        """Refuse a head that it cannot work on, before anything is trained."""
        return

    def label(self, head: nn.Module) -> str:
        """What a table calls the result."""
        return self.name


class CRT(Retraining):
    """Classifier re-training: a new classifier, trained on class-balanced batches of frozen features.

    Args:
        head: from (num_features, num_classes) to the new head, such as `MLPHead`; by default of the kind
            of the trained one.
        epochs: as many features as the bank has are drawn in each; the paper has 10, and 30 on iNaturalist.
        lr: first learning rate, which falls to 0 along a cosine; the paper has 0.2 for batches of 512.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD.
        batch_size: features per step.
        sampler: from labels to sampler; class-balanced by default.
        loss: cross-entropy by default.
        seed: seed of weights and order.
        name: what files are called.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> CRT(batch_size=8)(LinearHead(4, 4), bank)(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    uses_views = True

    def __init__(
        self,
        *,
        head: Callable[[int, int], Head] | None = None,
        epochs: int = 10,
        lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 512,
        sampler: Callable[[Any], LongTailSampler] | None = None,
        loss: LongTailLoss | None = None,
        seed: int = 0,
        name: str = "crt",
    ) -> None:
        _at_least_one(epochs=epochs, batch_size=batch_size)
        require_callable("head", head)
        require_callable("sampler", sampler)
        require_loss(loss)
        self.head = head
        self.epochs = epochs
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.sampler = sampler
        self.loss = loss
        self.seed = seed
        self.name = name

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Head:
        with isolated_rng(self.seed):
            new = self._new(head, train.num_features, train.num_classes)
        return self._fit(new, train, device)

    def check(self, head: nn.Module) -> None:
        with isolated_rng(0):
            self._new(head, *_sizes(head))
            _check_sampler(self.sampler, head)

    def _new(self, head: nn.Module, num_features: int, num_classes: int) -> Head:
        if self.head is None:
            return new_head(head)
        new: Head = made("head", self.head, num_features, num_classes)
        return new

    def label(self, head: nn.Module) -> str:
        return "cRT" if self.name == "crt" else self.name

    def _fit(self, head: Head, train: FeatureBank, device: Device) -> Head:
        return fit_head(
            train,
            head,
            epochs=self.epochs,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            sampler=self.sampler,
            loss=copy.deepcopy(self.loss),
            seed=self.seed,
            device=device,
        )


class LWS(Retraining):
    """Learnable weight scaling: one factor per class, trained on class-balanced batches of frozen features.

    Args:
        scale_bias: whether the factor applies to the bias too, as in the authors' code.
        epochs: as many features as the bank has are drawn in each; the authors' code has 5.
        lr: first learning rate, which falls to 0 along a cosine.
        momentum: momentum of SGD.
        weight_decay: weight decay of SGD, on the factors.
        batch_size: features per step.
        sampler: from labels to sampler; class-balanced by default.
        seed: seed of the order.
        name: what files are called.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> LWS()(LinearHead(4, 4), bank).scale.shape
        torch.Size([4])
    """

    uses_views = True

    def __init__(
        self,
        *,
        scale_bias: bool = False,
        epochs: int = 5,
        lr: float = 0.2,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        batch_size: int = 512,
        sampler: Callable[[Any], LongTailSampler] | None = None,
        seed: int = 0,
        name: str = "lws",
    ) -> None:
        _at_least_one(epochs=epochs, batch_size=batch_size)
        require_callable("sampler", sampler)
        self.scale_bias = scale_bias
        self.epochs = epochs
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.sampler = sampler
        self.seed = seed
        self.name = name

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Head:
        return fit_head(
            train,
            LearnableScaleHead(head, scale_bias=self.scale_bias),
            epochs=self.epochs,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            sampler=self.sampler,
            seed=self.seed,
            device=device,
        )

    def check(self, head: nn.Module) -> None:
        with isolated_rng(0):
            LearnableScaleHead(head)
            _check_sampler(self.sampler, head)

    def label(self, head: nn.Module) -> str:
        return "LWS" if self.name == "lws" else self.name


class TauNormalization(Retraining):
    r"""\(\tau\)-normalization, with \(\tau\) chosen on validation or training features, learned, or given.

    Args:
        choose: `"val"`: the best accuracy on validation features; `"train"`: the best mean accuracy over the classes on
            training features; `"learn"`: by gradient on class-balanced training features, refused outside of -1 to 3.
        tau: a fixed value instead.
        taus: what is tried.
        bias: `"drop"`, as in the paper, or `"keep"`.
        epochs: of `"learn"`: as many features as the bank has are drawn in each.
        lr: of `"learn"`: first learning rate, which falls to 0 along a cosine.
        batch_size: of `"learn"`: features per step.
        seed: of `"learn"`: seed of the order.
        name: what files are called.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> TauNormalization(tau=0.5)(LinearHead(4, 4), bank).tau
        0.5
    """

    def __init__(
        self,
        *,
        choose: Literal["val", "train", "learn"] = "val",
        tau: float | None = None,
        taus: Sequence[float] = TAUS,
        bias: BiasPolicy = "drop",
        epochs: int = 10,
        lr: float = 0.2,
        batch_size: int = 512,
        seed: int = 0,
        name: str = "tau",
    ) -> None:
        _at_least_one(epochs=epochs, batch_size=batch_size)
        if choose not in ("val", "train", "learn"):
            raise LongTailError(f"Unknown choose={choose!r}: tau is chosen on 'val' or 'train', or by 'learn'.")
        self.choose = choose
        self.tau = tau
        self.taus = check_taus(taus, bias)
        if tau is not None:
            check_taus([tau], bias)
        self.bias = bias
        self.epochs = epochs
        self.lr = lr
        self.batch_size = batch_size
        self.seed = seed
        self.name = name
        self.selection: TauSelection | None = None
        """What the last choice looked at."""

    @property
    def needs_validation(self) -> bool:
        return self.choose == "val" and self.tau is None

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Head:
        return TauNormalizedHead(head, tau=self._choose(head, train, val, device), bias=self.bias)

    def _choose(self, head: nn.Module, train: FeatureBank, val: FeatureBank | None, device: Device) -> float:
        self.selection = None
        if self.tau is not None:
            return self.tau
        if self.choose == "learn":
            return learn_tau(
                head,
                train,
                epochs=self.epochs,
                lr=self.lr,
                batch_size=self.batch_size,
                bias=self.bias,
                seed=self.seed,
                device=device,
            )
        if (bank := train if self.choose == "train" else val) is None:
            raise LongTailError(no_validation("tau"))
        self.selection = select_tau(
            head, bank, self.taus, class_counts=train.class_counts, bias=self.bias, device=device
        )
        return self.selection.tau

    def check(self, head: nn.Module) -> None:
        linear_of(head, "tau-normalization")

    def label(self, head: nn.Module) -> str:
        return f"{self.name} {getattr(head, 'tau', float('nan')):.3g}"


class NCM(Retraining):
    """Nearest class mean: no training.

    Args:
        metric: `"cosine"` or `"euclidean"`; the authors' code has the latter.
        center: whether to subtract the mean of all training features.
        normalize: whether to scale each feature to norm 1.
        name: what files are called.

    Examples:
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> NCM()(LinearHead(4, 4), bank)(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """

    def __init__(
        self,
        *,
        metric: Literal["cosine", "euclidean"] = "cosine",
        center: bool = True,
        normalize: bool = True,
        name: str = "ncm",
    ) -> None:
        NearestClassMeanHead(1, 1, metric=metric)  # which refuses what it does not know
        self.metric = metric
        self.center = center
        self.normalize = normalize
        self.name = name

    def __call__(
        self, head: nn.Module, train: FeatureBank, val: FeatureBank | None = None, *, device: Device = "auto"
    ) -> Head:
        new = NearestClassMeanHead(
            train.num_features,
            train.num_classes,
            metric=self.metric,
            center=self.center,
            normalize=self.normalize,
        )
        where = choose_device(device, head)
        return new.to(where).fit(train).cpu()

    def label(self, head: nn.Module) -> str:
        return "NCM" if self.name == "ncm" else self.name


METHODS: dict[str, type[Retraining]] = {"crt": CRT, "lws": LWS, "tau": TauNormalization, "ncm": NCM}


def as_methods(methods: str | Retraining | Sequence[str | Retraining]) -> list[Retraining]:
    """Names become methods with the paper's settings."""
    alone = isinstance(methods, str) or not isinstance(methods, Iterable)
    chosen = [_as_method(method) for method in ([methods] if alone else methods)]  # type: ignore[union-attr]
    if not chosen:
        raise LongTailError(f"There are no methods: name at least one of {', '.join(METHODS)}.")
    names = [method.name for method in chosen]
    if twice := {name for name in names if names.count(name) > 1}:
        raise LongTailError(
            f"Two methods are called {twice.pop()!r}, and so would be their files: give one another name, name=..."
        )
    return chosen


def _as_method(method: Any) -> Retraining:
    if isinstance(method, Retraining):
        return method
    if isinstance(method, str):
        if method.lower() not in METHODS:
            raise LongTailError(f"There is no method {method!r}. {did_you_mean(method, METHODS)}")
        return METHODS[method.lower()]()
    if isinstance(method, type) and issubclass(method, Retraining):
        raise LongTailError(f"{method.__name__} is a class, not a method: write {method.__name__}() for it.")
    raise LongTailError(
        f"{method!r} is no method: name one of {', '.join(METHODS)}, or configure one, such as CRT(epochs=30)."
    )


def _sizes(head: nn.Module) -> tuple[int, int]:
    """Features and classes of a head; any numbers for one that does not tell."""
    return (
        getattr(head, "num_features", getattr(head, "in_features", 2)),
        getattr(head, "num_classes", getattr(head, "out_features", 2)),
    )


def _check_sampler(sampler: Callable[[Any], Any] | None, head: nn.Module) -> None:
    """Make it once, of two images per class."""
    if sampler is not None:
        made("sampler", sampler, torch.arange(_sizes(head)[1]).repeat(2))


def _at_least_one(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise LongTailError(f"{name}={value} must be at least 1.")


def no_validation(what: str) -> str:
    """The three ways out."""
    return (
        f"There are no validation images to choose {what} on: {GIVE_VALIDATION}, or choose tau on the training "
        'features with TauNormalization(choose="train"), or fix it with TauNormalization(tau=0.7).'
    )


def new_head(head: nn.Module) -> Head:
    """An untrained head of the kind of a trained one; a `LinearHead` for one that builds on another."""
    if isinstance(head, nn.Linear):
        return LinearHead(head.in_features, head.out_features, bias=head.bias is not None)
    if isinstance(head, (LearnableScaleHead, TauNormalizedHead, NearestClassMeanHead)):
        return LinearHead(head.num_features, head.num_classes)
    if isinstance(head, Head) and (spec := spec_of(head)) is not None:
        return build(spec)  # type: ignore[return-value]
    raise LongTailError(f"cRT cannot make a new {type(head).__name__}: say what to train, CRT(head=LinearHead).")
