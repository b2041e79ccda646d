"""`ltl tau`: even out the weight norms of a trained classifier, and write it as a new checkpoint."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail_lightning._errors import LongTailError, did_you_mean

if TYPE_CHECKING:
    import lightning as L

    from longtail_lightning.counts import ShotSplits
    from longtail_lightning.methods import TauSelection

HELP = """\
usage: ltl tau --ckpt_path FILE [options]

Chooses tau of the tau-normalized classifier, w / |w|^tau, and writes a checkpoint with that classifier, which tests
and predicts like any other. Accuracy over tau is printed and goes beside it, as JSON and PNG. The backbone runs
once. Tau is never chosen on test images. The data are those of the run, unless --data or --config say others, as
for `ltl test`.

  --choose       val: best validation accuracy (default)
                 train: best mean accuracy over the classes on training images
                 learn: by gradient on class-balanced training images; refused outside of -1 to 3
  --taus         values to look at, with commas (default: 0,0.1,...,2)
  --tau          a fixed value instead; nothing is looked at
  --bias         drop, as in the paper (default), or keep
  --out          the new checkpoint (default: FILE_tau.ckpt)
  --batch_size   images at a time (default: that of the data)
  --num_workers  processes that load images (default: that of the data)
  --precision    bf16 or 16 to run the backbone in (default 32)
  --device       cpu, cuda, cuda:1 ... (default: a GPU, if there is one)
"""
_CHOICES = {"--choose": ("val", "train", "learn"), "--bias": ("drop", "keep")}
_OPTIONS = (*_CHOICES, "--tau", "--taus", "--out", "--batch_size", "--num_workers", "--precision", "--device")
# What belongs to the training that made the checkpoint, and to its old head.
_OF_TRAINING = ("optimizer_states", "lr_schedulers", "callbacks", "current_model_state", "averaging_state")


def tau(args: list[str]) -> int:
    """Choose tau, and write the classifier."""
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    options, rest = _parse(args)
    from longtail_lightning.cli._argv import value_of

    path = value_of(rest, "--ckpt_path")
    if path is None:
        raise LongTailError("`ltl tau` needs --ckpt_path: ltl tau --ckpt_path FILE")
    out = Path(options.get("--out", str(Path(path).with_name(f"{Path(path).stem}_tau.ckpt"))))
    if out.resolve() == Path(path).resolve():
        raise LongTailError(f"--out {out} is the checkpoint itself: give the new one another name.")
    if out.exists():
        raise LongTailError(f"{out} exists already: give the new checkpoint another name with --out.")
    from longtail_lightning.callbacks._banks import parts_of
    from longtail_lightning.cli.app import load_trained
    from longtail_lightning.heads.tau_normalized import linear_of

    model, data = load_trained(rest)
    head = linear_of(parts_of(model, "ltl tau")[1], "ltl tau")
    value = float(options["--tau"]) if "--tau" in options else _choose(model, data, head, options, out)
    _write(model, head, value, options, Path(path), out)
    print(f"tau         {value:.4g}\ncheckpoint  {out}\n\ntest        ltl test --ckpt_path {out}")
    return 0


def _choose(model: L.LightningModule, data: Any, head: Any, options: dict[str, str], out: Path) -> float:
    import torch

    from longtail_lightning.callbacks._banks import parts_of
    from longtail_lightning.features import extract_features
    from longtail_lightning.methods import learn_tau, select_tau
    from longtail_lightning.methods.tau_selection import TAUS

    choose, bias = options.get("--choose", "val"), options.get("--bias", "drop")
    split = "val" if choose == "val" else "train"
    if data.dataset(split) is None:
        raise LongTailError(
            "The data have no validation split: choose tau on the training images with --choose train, fix it with "
            "--tau 0.7, or train again with images held out, --data.val_split 0.1."
        )
    bank = extract_features(
        parts_of(model, "ltl tau")[0],
        data,
        split=split,
        dtype=torch.float32 if split == "val" else torch.float16,
        batch_size=int(options["--batch_size"]) if "--batch_size" in options else None,
        num_workers=int(options["--num_workers"]) if "--num_workers" in options else None,
        precision=options.get("--precision"),
        device=options.get("--device", "auto"),
    )
    many, few = getattr(model, "many", 100), getattr(model, "few", 20)
    taus = [float(word) for word in options["--taus"].split(",")] if "--taus" in options else TAUS
    found = select_tau(head, bank, taus, class_counts=data.class_counts, bias=bias, many=many, few=few)  # type: ignore[arg-type]
    learned = learn_tau(head, bank, bias=bias) if choose == "learn" else None  # type: ignore[arg-type]
    _show(found, data, data.class_counts.shots(many=many, few=few), split, bias, learned, out)
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


def _write(model: L.LightningModule, head: Any, value: float, options: dict[str, str], path: Path, out: Path) -> None:
    import torch

    from longtail_lightning.callbacks._heads import replacement_for
    from longtail_lightning.cli._checkpoints import read_checkpoint
    from longtail_lightning.heads import TauNormalizedHead

    made = TauNormalizedHead(head, tau=value, bias=options.get("--bias", "drop"))  # type: ignore[arg-type]
    model.head = replacement_for(model, made, model.head)  # type: ignore[arg-type]
    checkpoint = read_checkpoint(path)
    for key in _OF_TRAINING:
        checkpoint.pop(key, None)
    checkpoint["state_dict"] = model.state_dict()
    model.on_save_checkpoint(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(checkpoint, out)


def _parse(args: list[str]) -> tuple[dict[str, str], list[str]]:
    """Own options, and what says which model and data."""
    options: dict[str, str] = {}
    rest: list[str] = []
    words = [part for arg in args for part in (arg.split("=", 1) if arg.split("=")[0] in _OPTIONS else [arg])]
    while words:
        word = words.pop(0)
        if word not in _OPTIONS:
            rest.append(word)
            continue
        if not words or words[0].startswith("--"):
            raise LongTailError(f"{word} needs a value.")
        options[word] = words.pop(0)
    for flag, choices in _CHOICES.items():
        if flag in options and options[flag] not in choices:
            raise LongTailError(
                f"{flag} {options[flag]}: there is no such choice. {did_you_mean(options[flag], choices)}"
            )
    for flag in ("--batch_size", "--num_workers"):
        if flag in options and not options[flag].isdigit():
            raise LongTailError(f"{flag} is a number, got {options[flag]!r}.")
    if "--tau" in options and (other := next((flag for flag in ("--choose", "--taus") if flag in options), None)):
        raise LongTailError(f"--tau fixes the value that {other} would choose: give one of the two.")
    if "--tau" in options and not _is_number(options["--tau"]):
        raise LongTailError(f"--tau is a number, got {options['--tau']!r}.")
    if wrong := [word for word in options.get("--taus", "0").split(",") if not _is_number(word)]:
        raise LongTailError(f"--taus are numbers with commas between them, got {wrong[0]!r}.")
    return options, rest


def _is_number(word: str) -> bool:
    try:
        return math.isfinite(float(word))
    except ValueError:
        return False
