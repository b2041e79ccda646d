"""`ltl tau`: even out the weight norms of a trained classifier, and write it as a new checkpoint."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail_lightning._errors import LongTailError

if TYPE_CHECKING:
    import lightning as L

    from longtail_lightning.counts import ShotSplits
    from longtail_lightning.methods import TauSelection


def tau(asked: Namespace) -> int:
    """Choose tau, and write the classifier."""
    if asked.tau is not None and (other := "choose" if asked.choose else "taus" if asked.taus else None):
        raise LongTailError(f"--tau fixes the value that --{other} would choose: give one of the two.")
    path = Path(asked.ckpt_path)
    out = Path(asked.out) if asked.out else path.with_name(f"{path.stem}_tau.ckpt")
    if out.resolve() == path.resolve():
        raise LongTailError(f"--out {out} is the checkpoint itself: give the new one another name.")
    if out.exists():
        raise LongTailError(f"{out} exists already: give the new checkpoint another name with --out.")
    from longtail_lightning.callbacks._backbone_and_head import backbone_and_head
    from longtail_lightning.cli._classes import place_of_classes
    from longtail_lightning.cli.instantiate import load_trained
    from longtail_lightning.heads.tau_normalized import linear_of

    model, data = load_trained(path, asked.components)
    if (
        asked.tau is None
        and place_of_classes(getattr(model, "class_names", None), getattr(model, "class_counts", None), data)
        is not None
    ):
        raise LongTailError(
            "The data have other classes than the model, or in another order: give the data of its run, or a fixed "
            "value, --tau 0.7."
        )
    head = linear_of(backbone_and_head(model, "ltl tau")[1], "ltl tau")
    value = asked.tau if asked.tau is not None else _choose(model, data, head, asked, out)
    _write(model, head, value, asked.bias, path, out)
    print(f"tau         {value:.4g}\ncheckpoint  {out}\n\ntest        ltl test --ckpt_path {out}")
    return 0


def _choose(model: L.LightningModule, data: Any, head: Any, asked: Namespace, out: Path) -> float:
    import torch

    from longtail_lightning.callbacks._backbone_and_head import backbone_and_head
    from longtail_lightning.callbacks._counts import bounds_of
    from longtail_lightning.features import extract_features
    from longtail_lightning.methods import learn_tau, select_tau
    from longtail_lightning.methods.tau_selection import TAUS

    choose, bias = asked.choose or "val", asked.bias
    split = "val" if choose == "val" else "train"
    if data.dataset(split) is None:
        raise LongTailError(
            "The data have no validation split: choose tau on the training images with --choose train, fix it with "
            "--tau 0.7, or train again with images held out, --data.val_split 0.1."
        )
    bank = extract_features(
        backbone_and_head(model, "ltl tau")[0],
        data,
        split=split,
        dtype=torch.float32 if split == "val" else torch.float16,
        batch_size=asked.batch_size,
        num_workers=asked.num_workers,
        precision=asked.precision,
        device=asked.device,
    )
    bounds = bounds_of(None, model)
    found = select_tau(head, bank, asked.taus or TAUS, class_counts=data.class_counts, bias=bias, **bounds)
    learned = learn_tau(head, bank, bias=bias) if choose == "learn" else None
    _show(found, data, data.class_counts.shots(**bounds), split, bias, learned, out)
    return found.tau if learned is None else learned


def _show(
    found: TauSelection, data: Any, splits: ShotSplits, split: str, bias: str, learned: float | None, out: Path
) -> None:
    """Accuracy over tau, on the screen and beside the checkpoint."""
    from longtail_lightning.report.curve import CurveComparison

    chosen = found.tau if learned is None else learned
    comparison = CurveComparison({**found.curve(split), "chosen": chosen}, data.class_counts, splits)
    comparison.print()
    comparison.save_all(out.parent, out.stem, bias=bias)


def _write(model: L.LightningModule, head: Any, value: float, bias: Any, path: Path, out: Path) -> None:
    from longtail_lightning.callbacks._heads import replacement_for
    from longtail_lightning.heads import TauNormalizedHead
    from longtail_lightning.modules._checkpoint import write_changed

    made = TauNormalizedHead(head, tau=value, bias=bias)
    model.head = replacement_for(model, made, model.head)  # type: ignore[arg-type]
    write_changed(model, path, out)
