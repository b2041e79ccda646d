"""`ltl memory`: keep items that a model looks up, and edit them."""

from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from longtail_lightning._errors import LongTailError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from longtail_lightning.features import FeatureBank
    from longtail_lightning.modules import Classifier
    from longtail_lightning.retrieval import RetrievalMemory


def build(asked: Namespace) -> int:
    """Write a memory with one source."""
    from longtail_lightning.retrieval import RetrievalMemory

    if (Path(asked.memory) / "memory.json").exists():
        raise LongTailError(
            f"{asked.memory} is a memory already: add to it with `ltl memory add`, or give another folder."
        )
    bank, texts = _items(asked)
    memory = RetrievalMemory.build(
        bank, texts, path=asked.memory, name=asked.name, index=asked.index, metric=asked.metric
    )
    print(f"memory      {asked.memory}\nitems       {len(memory)}, {len(memory.different_texts)} different texts")
    return 0


def add(asked: Namespace) -> int:
    """Write the memory with a source more."""
    memory = _load(asked)
    before = len(memory)
    memory.add_source(asked.name, *_items(asked)).save()
    print(f"items       {before} -> {len(memory)}\nsources     {', '.join(memory.sources)}")
    return 0


def remove(asked: Namespace) -> int:
    """Write the memory without some items."""
    memory = _load(asked)
    before = len(memory)
    if not asked.ids and asked.source is None:
        raise LongTailError("Name the items to remove, or a whole source with --source NAME.")
    if asked.ids:
        memory.remove([_item(memory, name, asked.source) for name in asked.ids])
    else:
        memory.remove_source(asked.source)
    memory.save()
    print(f"items       {before} -> {len(memory)}")
    return 0


def relabel(asked: Namespace) -> int:
    """Write the memory with another text of an item."""
    memory = _load(asked)
    item = _item(memory, asked.id, asked.source)
    before = memory.text(item)
    memory.relabel(item, asked.text)
    memory.save()
    print(f"text        {before} -> {asked.text}")
    return 0


def info(asked: Namespace) -> int:
    """Print what is in a memory."""
    memory = _load(asked)
    encoder: Any = memory.fingerprint.get("encoder")
    known = isinstance(encoder, dict) and {"class", "checksum"} <= encoder.keys()
    made = f"{encoder['class']} {encoder['checksum'][:12]}" if known else encoder or "unknown"
    print(f"items       {len(memory)}, {len(memory.different_texts)} different texts")
    for name, number in memory.sources.items():
        print(f"source      {name}: {number}")
    kind = memory.index_settings.get("kind", "of your own")
    print(f"features    {memory.num_features}, {memory.metric}\nindex       {kind}")
    print(f"encoder     {made}")
    return 0


def search(asked: Namespace) -> int:
    """Print, and draw if asked, what is near."""
    if (asked.image is None) == (asked.item is None):
        raise LongTailError("Give a picture, --image FILE with --ckpt_path FILE, or an item of the memory, --item ID.")
    memory = _load(asked)
    if asked.item is not None:
        item = _item(memory, asked.item, asked.source)
        found = memory.search(memory.features(item), asked.k or min(10, len(memory) - 1), exclude=[item])
        query = asked.item
    else:
        query = asked.image
        bank = _encoded([asked.image], None, asked)
        memory.check(bank)
        found = memory.search(bank.features, asked.k or min(10, len(memory)))
    rows = list(zip(found.scores[0].tolist(), found.texts[0], found.sources[0], found.ids[0]))
    width = max(len(text) for _, text, _, _ in rows)
    for score, text, source, name in rows:
        print(f"{score:8.4f}  {text:<{width}}  {source}  {name}")
    if asked.plot is not None:
        from longtail_lightning.report.comparison import save_figure
        from longtail_lightning.report.sheet import plot_pictures

        root = Path(asked.root)
        pictures = [(root / str(query), "the query"), *((root / str(n), f"{t}\n{s:.3f}") for s, t, _, n in rows)]
        print(f"\nplot  {save_figure(Path(asked.plot), plot_pictures(pictures, 'Nearest in the memory'))}")
    return 0


def explain(asked: Namespace) -> int:
    """Print, write and draw which items spoke for what a model says of pictures; 1 when one cannot be read."""
    from longtail_lightning._files import write_json
    from longtail_lightning.modules import load

    _require_there(asked.images)
    classifier = load(asked.ckpt_path, device=asked.device, parts={"memory": asked.memory})
    found = classifier.explain_pictures(asked.images, progress=sys.stderr.isatty())
    for told in found:
        if told.error is not None:
            print(told.error, file=sys.stderr)
            continue
        branches = "" if told.base is None else f"  (base: {told.base}, retrieval: {told.retrieval})"
        print(f"{told.file}  {told.name} {told.probability:.4f}{branches}")
        spoke = sorted(told.items, key=lambda item: item.for_predicted, reverse=True)[: asked.top]
        width = max(len(item.text) for item in spoke)
        for item in spoke:
            print(f"{item.for_predicted:+8.4f}  {item.text:<{width}}  {item.score:.4f}  {item.source}  {item.id}")
    rows = [told.as_dict() for told in found]
    if asked.out is not None:
        print(f"\nfile  {write_json(Path(asked.out), rows)}")
    if asked.plot is not None and any(row["error"] is None for row in rows):
        from longtail_lightning.report.comparison import save_figure
        from longtail_lightning.report.evidence import plot_evidence

        print(f"\nplot  {save_figure(Path(asked.plot), plot_evidence(rows))}")
    return 1 if any(row["error"] is not None for row in rows) else 0


def verify(asked: Namespace) -> int:
    """Print what is damaged; 1 when something is."""
    from longtail_lightning.retrieval._memory_manifest import verify_memory

    wrong = verify_memory(asked.memory)
    for name, what in wrong.items():
        print(f"{asked.memory}/{name} {what}")
    if not wrong:
        print(f"{asked.memory} is whole")
    return 1 if wrong else 0


def compact(asked: Namespace) -> int:
    """Write the memory without a trace of what was removed."""
    memory = _load(asked)
    before = _bytes(Path(asked.memory))
    memory.compact().save()
    print(f"items       {len(memory)}\nsize        {before / 1e6:.1f} -> {_bytes(Path(asked.memory)) / 1e6:.1f} MB")
    return 0


def _load(asked: Namespace) -> RetrievalMemory:
    from longtail_lightning.retrieval import RetrievalMemory

    return RetrievalMemory.load(asked.memory)


def _items(asked: Namespace) -> tuple[FeatureBank, Sequence[str] | None]:
    """Features and texts of what is to be added."""
    from longtail_lightning.features import FeatureBank

    if (asked.bank is None) == (asked.images is None) or (asked.images is None) != (asked.ckpt_path is None):
        raise LongTailError("Give pictures and the model that encodes them, --images with --ckpt_path, or a --bank.")
    if asked.text is not None and asked.texts is not None:
        raise LongTailError("--text is one for all items, --texts one for each: give one of the two.")
    if asked.images is not None:
        if asked.texts is not None:
            raise LongTailError(
                "--texts are those of a bank's items; pictures get --text, or the names of their folders."
            )
        bank = _encoded(asked.images, asked.text, asked)
        return bank, None
    bank = FeatureBank.load(asked.bank)
    if asked.text is not None:
        return bank, [asked.text] * len(bank)
    if asked.texts is None:
        return bank, None
    try:
        lines = Path(asked.texts).read_text(encoding="utf-8-sig").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise LongTailError(f"--texts {asked.texts} cannot be read: give a text file in UTF-8.") from error
    return bank, lines


def _encoded(images: Sequence[str], text: str | None, asked: Namespace) -> FeatureBank:
    from longtail_lightning.datasets.pictures import find_pictures
    from longtail_lightning.modules import load

    if asked.ckpt_path is None:
        raise LongTailError("--ckpt_path FILE is needed: the model whose backbone encodes the pictures.")
    _require_there(images)
    files = [Path(file) for path in images for file in find_pictures(path)]
    if not files:
        raise LongTailError(f"{', '.join(images)} holds no picture.")
    # A model that was trained with a memory encodes pictures without it.
    classifier: Classifier = load(asked.ckpt_path, device=asked.device)
    texts = [text if text is not None else file.resolve().parent.name for file in files]
    return classifier.features(files, texts=texts, progress=sys.stderr.isatty())


def _require_there(images: Sequence[str]) -> None:
    for path in images:
        if not Path(path).expanduser().exists():
            raise LongTailError(f"{path}: there is no such file or folder.")


def _item(memory: RetrievalMemory, name: str, source: str | None) -> Any:
    """The item of a word of the command line: ids may be numbers."""
    number = int(name) if name.removeprefix("-").isdecimal() else name
    for item in (name, number):
        if memory.has(item if source is None else (source, item)):
            return item if source is None else (source, item)
    return name if source is None else (source, name)


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
