"""Train a classifier on a bank: seconds instead of passes through the backbone."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from longtail_lightning._errors import LongTailError
from longtail_lightning._random import mix, temporary_seed
from longtail_lightning.features._encoding import choose_device
from longtail_lightning.features._evaluate import mean_class_accuracy
from longtail_lightning.features._head_batches import Batches
from longtail_lightning.features._require import refuse_test, require_bank, require_fits
from longtail_lightning.features.bank import FeatureBank
from longtail_lightning.features.head_training import HeadTraining
from longtail_lightning.losses import LogitDistillationLoss, LongTailLoss, WrapLoss

HeadType = TypeVar("HeadType", bound=nn.Module)


def fit_head(
    bank: FeatureBank,
    head: HeadType,
    *,
    epochs: int = 10,
    sampler: Callable[[Any], Any] | None = None,
    loss: nn.Module | None = None,
    optimizer: Callable[[Iterable[Tensor]], Optimizer] | None = None,
    lr: float = 0.2,
    momentum: float = 0.9,
    weight_decay: float = 5e-4,
    batch_size: int = 512,
    device: torch.device | str = "auto",
    val: FeatureBank | None = None,
    seed: int = 0,
    teacher: nn.Module | None = None,
    alpha: float = 0.9,
    logit_loss: nn.Module | None = None,
    progress: bool = False,
) -> HeadType:
    r"""Train a head on a bank, or fit it when it has a closed form, `head.fit(bank, bank.class_counts)`.

    Defaults are those of classifier re-training (cRT): class-balanced sampling, cross-entropy, SGD, the learning
    rate falling to 0 along a cosine, here per step: \(\eta_t = \eta \, (1 + \cos(\pi t / T)) / 2\). The head
    starts from the weights it has. See `train_head` for what happens.

    Args:
        bank: features to train on.
        head: from features to logits; trained in place.
        epochs: how often as many features as the bank has are drawn.
        sampler: from labels to sampler; class-balanced by default, instance-balanced for multi-hot labels.
        loss: called as `loss(logits, labels)`; cross-entropy by default, binary for multi-hot labels.
        optimizer: from parameters to optimizer; SGD by default.
        lr: first learning rate of the default optimizer.
        momentum: its momentum.
        weight_decay: its weight decay.
        batch_size: features per step.
        device: where to train; by default where the head is, or else a GPU. The head comes back.
        val: with it, the epoch with the best mean accuracy over its classes is kept instead of the last; a
            bank of test features is refused.
        seed: seed of order and dropout; a sampler that is given a seed of its own keeps it.
        teacher: a trained head on the same features, such as an ensemble, whose predictions the new one learns, too.
        alpha: share of the teacher in the loss, from 0 to 1.
        logit_loss: called as `logit_loss(logits, teacher's logits)`; `LogitDistillationLoss()` by default.
        progress: show a progress bar.

    Examples:
        >>> from longtail_lightning import LinearHead
        >>> bank = FeatureBank.from_arrays(torch.eye(4).repeat(8, 1), [0, 1, 2, 3] * 8)
        >>> head = fit_head(bank, LinearHead(4, 4), batch_size=8)
        >>> head(bank.features[:4].float()).argmax(1).tolist()
        [0, 1, 2, 3]
    """
    training = HeadTraining(
        epochs, sampler, loss, optimizer, lr, momentum, weight_decay, batch_size, seed, teacher, alpha, logit_loss
    )
    return train_head(bank, head, training, device=device, val=val, progress=progress)


def train_head(
    bank: FeatureBank,
    head: HeadType,
    training: HeadTraining,
    *,
    device: torch.device | str = "auto",
    val: FeatureBank | None = None,
    progress: bool = False,
) -> HeadType:
    """`fit_head` with its settings as one value.

    Only parameters that require gradients are trained. The bank is moved to the device when it takes less than
    half of the free memory, and read batch by batch otherwise, with the same result. With several views, epoch e
    trains on view e modulo the number of views. Dropout and order are a function of the seed; the global generators
    are left alone.

    In a process group every process does the whole work by itself, with the same result when the heads
    they are given are the same; nothing is sent.

    **Classes without features** are never drawn, so they are only learned as what others are not; a
    warning names them. A bank without class names may lack the last classes: the head says how many there are.
    """
    bank = _checked(bank, val, head)
    if callable(closed_form := getattr(head, "fit", None)):
        if training.teacher is not None:
            raise LongTailError(f"{type(head).__name__} has a closed form, so it learns from no teacher: leave it out.")
        closed_form(bank, bank.class_counts)
        return head
    if told := bank.missing_classes:
        warnings.warn(f"The bank has no feature of {told}: the head cannot learn them.", stacklevel=3)
    where = choose_device(device, head)
    home = next((p.device for p in head.parameters()), where)
    loss, unbind = _bound(training.loss, bank)
    was_training = head.training
    head.to(where).train()
    loss.to(where)
    try:
        with _seeded(training.seed, where):
            _train(bank, head, loss, training, val, progress)
    finally:
        head.train(was_training).to(home)
        unbind()
    return head


def _train(
    bank: FeatureBank, head: nn.Module, loss: nn.Module, training: HeadTraining, val: FeatureBank | None, progress: bool
) -> None:
    parameters = [p for p in (*head.parameters(), *loss.parameters()) if p.requires_grad]
    if not parameters:
        raise LongTailError(
            f"{type(head).__name__} has no parameter to train: set requires_grad, or give a head that learns."
        )
    optimizer = _optimizer(parameters, training)
    rates = [group["lr"] for group in optimizer.param_groups]
    where, kind = parameters[0].device, parameters[0].dtype
    batches = Batches(bank, training, where)
    taught = _teaching(training, bank, parameters[0])
    best: tuple[float, dict[str, Tensor]] | None = None
    for epoch in _counted(training.epochs, progress):
        for step, (features, target) in enumerate(batches.epoch(epoch)):
            done = (epoch * batches.per_epoch + step) / (training.epochs * batches.per_epoch)
            for group, rate in zip(optimizer.param_groups, rates):
                group["lr"] = rate * 0.5 * (1.0 + math.cos(math.pi * done))
            logits = head(features.to(kind))
            value = loss(logits, target.to(kind) if bank.multi_hot else target)
            if taught is not None:
                value = (1 - training.alpha) * value + training.alpha * taught(logits, features.to(kind))
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
        if val is not None:
            accuracy = mean_class_accuracy(head, val, where)
            if best is None or accuracy > best[0]:
                best = accuracy, {name: value.clone() for name, value in head.state_dict().items()}
    if best is not None:
        head.load_state_dict(best[1])
    if not all(bool(p.isfinite().all()) for p in parameters):
        raise LongTailError(
            f"{type(head).__name__} diverged at lr={rates[0]}: use a smaller lr, or normalize the features."
        )


def _teaching(training: HeadTraining, bank: FeatureBank, like: Tensor) -> Callable[[Tensor, Tensor], Any] | None:
    """What the teacher adds to the loss, from logits and features; the teacher itself is left alone."""
    if training.teacher is None:
        return None
    if bank.multi_hot:
        raise LongTailError("A teacher's predictions are distilled for single labels: leave it out for multi-hot ones.")
    teacher = copy.deepcopy(training.teacher).to(like).eval()
    loss = copy.deepcopy(training.logit_loss) if training.logit_loss is not None else LogitDistillationLoss()
    counts: Any = getattr(loss, "class_counts", None)
    if callable(bind := getattr(loss, "bind_class_counts", None)) and counts is None:
        bind(bank.class_counts)
    loss.to(like.device)

    def taught(logits: Tensor, features: Tensor) -> Any:
        with torch.no_grad():
            told = teacher(features)
        return loss(logits, told)

    return taught


def _optimizer(parameters: list[nn.Parameter], training: HeadTraining) -> Optimizer:
    if training.optimizer is not None:
        return training.optimizer(parameters)
    return SGD(parameters, lr=training.lr, momentum=training.momentum, weight_decay=training.weight_decay)


def _checked(bank: FeatureBank, val: FeatureBank | None, head: nn.Module) -> FeatureBank:
    """The bank, with as many classes as the head when it does not know of those without an input."""
    require_bank(bank)
    bank.require_labels("The training of a head")
    outputs = getattr(head, "num_classes", getattr(head, "out_features", None))
    if isinstance(outputs, int) and outputs > bank.num_classes and bank.given_names is None:
        bank = bank.with_num_classes(outputs)
    for what, own, torch_name in (
        ("features", "num_features", "in_features"),
        ("classes", "num_classes", "out_features"),
    ):
        has, wanted = getattr(head, own, getattr(head, torch_name, None)), getattr(bank, own)
        if isinstance(has, int) and has != wanted:
            raise LongTailError(
                f"{type(head).__name__} was made for {has} {what} but the bank has {wanted}: "
                f"give a head from {bank.num_features} features to {bank.num_classes} classes."
            )
    if val is not None:
        require_bank(val, "val")
        val.require_single_labels("The choice of the best epoch")
        refuse_test(val, "The best epoch")
        require_fits(bank, val, "The validation bank")
    return bank


def _bound(loss: nn.Module | None, bank: FeatureBank) -> tuple[nn.Module, Callable[[], Any]]:
    """The loss with the class counts of this bank, and a function that undoes the binding."""
    if loss is None:
        return nn.BCEWithLogitsLoss() if bank.multi_hot else _CrossEntropy(), lambda: None
    if bank.multi_hot and isinstance(loss, LongTailLoss) and not loss.multi_label and not isinstance(loss, WrapLoss):
        raise LongTailError(
            f"{type(loss).__name__} takes one label per input, but the labels of the bank are multi-hot: "
            "use DistributionBalancedLoss or WrapLoss(nn.BCEWithLogitsLoss())."
        )
    home = next((t.device for t in (*loss.parameters(), *loss.buffers())), torch.device("cpu"))
    bind = getattr(loss, "bind_class_counts", None)
    if bind is None or getattr(loss, "class_counts", None) is not None:
        return loss, lambda: loss.to(home)
    before = [(part, part.class_counts) for part in loss.modules() if hasattr(part, "class_counts")]
    bind(bank.class_counts)

    def unbind() -> None:
        # With these counts still bound, the next bank would be trained as if it were this one.
        for part, counts in before:
            part.class_counts = counts
        loss.to(home)

    return loss, unbind


class _CrossEntropy(nn.Module):
    """Cross-entropy without the checks of `CrossEntropyLoss`, which a bank has passed already."""

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(logits, target)


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed dropout on CPU and GPU, and put the global generators back."""
    if device.type != "cuda":
        with temporary_seed(seed):
            yield
        return
    with torch.random.fork_rng([device]), torch.cuda.device(device), temporary_seed(seed):
        torch.cuda.manual_seed(mix(seed))
        yield


def _counted(epochs: int, progress: bool) -> Iterable[int]:
    if not progress:
        return range(epochs)
    from rich.progress import track

    return track(range(epochs), "head")
