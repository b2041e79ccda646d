"""`ltl class`: add classes to a trained model, take some out, list them, and say where their knowledge is from."""

from __future__ import annotations

import math
import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail_lightning._errors import LongTailError

if TYPE_CHECKING:
    from longtail_lightning.modules import Classifier


def add(asked: Namespace) -> int:
    """Write the model with classes more."""
    out = new_file(asked.ckpt_path, asked.out, "more")
    if (asked.folder is None) == (asked.name is None) or (asked.name is None) != (asked.images is None):
        raise LongTailError("Give --name and --images for one class, or --folder with one folder of pictures for each.")
    found = _folders(Path(asked.folder)) if asked.images is None else {asked.name: asked.images}
    for path in asked.images or ():
        if not Path(path).expanduser().exists():
            raise LongTailError(f"--images {path}: there is no such file or folder.")
    classifier = _load(asked)
    before = len(classifier.class_names)
    classifier.add_classes(found).save(out)
    _tell(classifier, before, out)
    return 0


def remove(asked: Namespace) -> int:
    """Write the model with classes less."""
    out = new_file(asked.ckpt_path, asked.out, "fewer")
    classifier = _load(asked)
    before = len(classifier.class_names)
    classifier.remove_classes(asked.name).save(out)
    _tell(classifier, before, out)
    return 0


def list_(asked: Namespace) -> int:
    """Print a line per class."""
    classifier = _load(asked)
    counts, names = classifier.module.class_counts.tolist(), classifier.class_names
    head: Any = getattr(classifier.module, "head", None)
    knowledge = getattr(getattr(head, "heads", [head])[0], "classes", None)
    learned = [True] * len(names) if knowledge is None else knowledge.learned.tolist()
    width = max(map(len, names))
    for name, count, known in zip(names, counts, learned):
        print(f"{name:<{width}}  {count:>8} images{'' if known else '  added'}")
    return 0


def explain(asked: Namespace) -> int:
    """Print, and draw if asked, which classes gave a class its knowledge."""
    found = _load(asked).explain(asked.name, top=asked.top, k=asked.k)
    width = max(len(name) for name, _ in found)
    for name, share in found:
        print(f"{name:<{width}}  {share:7.4f}")
    if asked.plot is not None:
        from longtail_lightning.report.comparison import save_figure
        from longtail_lightning.report.plots import plot_shares

        print(f"\nplot  {save_figure(Path(asked.plot), plot_shares(found, f'What {asked.name} was given'))}")
    return 0


def threshold(asked: Namespace) -> int:
    """Print, and draw if asked, below which score a picture is of no known class."""
    if not 0 < asked.keep <= 1:
        raise LongTailError(f"--keep {asked.keep:g} must be a share above 0, up to 1.")
    if asked.plot is not None and asked.unknown is None:
        raise LongTailError("--plot draws how many pictures of each kind are kept: give some of others with --unknown.")
    for flag in ("known", "unknown"):
        for path in getattr(asked, flag) or ():
            if not Path(path).expanduser().exists():
                raise LongTailError(f"--{flag} {path}: there is no such file or folder.")
    classifier = _load(asked)
    found = classifier.find_threshold(asked.known, asked.unknown, keep=asked.keep, progress=sys.stderr.isatty())
    line = math.floor(1e4 * found.threshold) / 1e4  # never above what keeps the share
    print(f"threshold   {line}\nkept        {100 * found.kept:.1f} % of the known pictures")
    if found.rejected is not None:
        print(f"rejected    {100 * found.rejected:.1f} % of the others\nAUROC       {found.auroc:.4f}")
    if asked.plot is not None:
        from longtail_lightning.report.comparison import save_figure
        from longtail_lightning.report.rejection import plot_rejection

        print(f"plot        {save_figure(Path(asked.plot), plot_rejection(found))}")
    print(f"\npredict     ltl predict --ckpt_path {asked.ckpt_path} --images PICTURES --reject_below {line}")
    return 0


def prepare(asked: Namespace) -> int:
    """Write a trained model whose head knows prototypes, and so takes new classes."""
    out = new_file(asked.ckpt_path, asked.out, "kt")
    from longtail_lightning.callbacks._backbone_and_head import backbone_and_head
    from longtail_lightning.callbacks._heads import in_float, replacement_for
    from longtail_lightning.cli._classes import place_of_classes
    from longtail_lightning.cli.instantiate import load_trained
    from longtail_lightning.features import extract_features
    from longtail_lightning.methods import KnowledgeTransfer
    from longtail_lightning.modules._checkpoint import write_changed

    model, data = load_trained(asked.ckpt_path, asked.components)
    names, counts = getattr(model, "class_names", None), getattr(model, "class_counts", None)
    if place_of_classes(names, counts, data) is not None:
        raise LongTailError(
            "The data have other classes than the model, or in another order: give the data of its run."
        )
    backbone, head = backbone_and_head(model, "ltl class prepare")
    method = KnowledgeTransfer(k=[int(k) for k in asked.k], tau=asked.tau)
    method.check(head)
    running = {name: getattr(asked, name) for name in ("batch_size", "num_workers", "precision", "device")}
    bank = extract_features(backbone, data, split="train", **running)
    made = method(in_float(head), bank, device=asked.device)
    model.head = replacement_for(model, made.head, head)  # type: ignore[arg-type]
    write_changed(model, asked.ckpt_path, out)
    print(f"checkpoint  {out}\n\nadd         ltl class add --ckpt_path {out} --name NAME --images PICTURES")
    return 0


def new_file(source: str, out: str | None, word: str) -> Path:
    """Where the changed model goes: never over a file that is there.

    Args:
        source: the checkpoint.
        out: what the user said.
        word: what the name ends with otherwise.
    """
    path = Path(source).with_name(f"{Path(source).stem}_{word}.ckpt") if out is None else Path(out)
    if path.exists():
        raise LongTailError(f"{path} exists already: give the new checkpoint another name with --out.")
    return path


def _load(asked: Namespace) -> Classifier:
    from longtail_lightning.modules import load

    return load(asked.ckpt_path, device=asked.device)


def _folders(folder: Path) -> dict[str, list[str]]:
    """One class per folder."""
    if not folder.expanduser().is_dir():
        raise LongTailError(f"--folder {folder}: there is no such folder.")
    found = {path.name: [str(path)] for path in sorted(folder.expanduser().iterdir()) if path.is_dir()}
    if not found:
        raise LongTailError(f"--folder {folder} holds no folder: give one folder of pictures for each class.")
    return found


def _tell(classifier: Classifier, before: int, out: Path) -> None:
    print(f"classes     {before} -> {len(classifier.class_names)}\ncheckpoint  {out}")
    print(f"\npredict     ltl predict --ckpt_path {out} --images PICTURES")
