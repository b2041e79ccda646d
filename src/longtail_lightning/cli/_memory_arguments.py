"""What `ltl memory` and its commands take, and `ltl knn`. No torch here."""

from __future__ import annotations

import argparse
from typing import Any

from longtail_lightning.cli._argparse import Parser, add_command, at_least_one, number, one_of

MEMORY = ("build", "add", "remove", "relabel", "info", "search", "explain", "verify", "compact")
_FOLDER = "folder of the memory"


def add_memory(commands: Any) -> None:
    """Add the group with its commands, and `ltl knn`."""
    _add_knn(commands)
    group = add_command(commands, "memory", "", "COMMAND ...", "Keeps items that a model looks up, and edits them.")
    group.epilog = (
        "  build    from pictures or a bank     ltl memory build MEMORY --ckpt_path FILE --images photos\n"
        "  add      another source of items     ltl memory add MEMORY --name web --ckpt_path FILE --images web\n"
        "  remove   items, or a whole source    ltl memory remove MEMORY --source web\n"
        "  relabel  give an item another text   ltl memory relabel MEMORY ID TEXT\n"
        "  info     what is in it               ltl memory info MEMORY\n"
        "  search   what is near a picture      ltl memory search MEMORY --image x.jpg --ckpt_path FILE\n"
        "  explain  which items spoke for what  ltl memory explain MEMORY --ckpt_path FILE --images x.jpg\n"
        "  verify   find damaged files          ltl memory verify MEMORY\n"
        "  compact  forget what was removed     ltl memory compact MEMORY\n\n"
        "`ltl memory COMMAND --help` tells more."
    )
    below = group.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for add in (_add_build, _add_add, _add_edits, _add_search, _add_explain, _add_others):
        add(below)


def _add_build(below: Any) -> None:
    made = add_command(
        below,
        "build",
        "memory.build",
        "MEMORY --ckpt_path FILE --images PATH [PATH ...] [options]\nMEMORY --bank FOLDER [options]",
        "Makes a memory of pictures, which the model of a checkpoint encodes, or of a bank that `ltl features` made.",
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("--name", metavar="NAME", default="train", help="of the source (default: train)")
    _add_items(made)
    made.add_argument(
        "--index",
        type=one_of("exact", "hnsw", "ivf"),
        default="exact",
        help="hnsw: faster from some ten thousand items on; ivf: smaller (default: exact)",
    )
    made.add_argument("--metric", type=one_of("cosine", "l2"), default="cosine", help="cosine (default) or l2")


def _add_add(below: Any) -> None:
    made = add_command(
        below,
        "add",
        "memory.add",
        "MEMORY --name NAME --ckpt_path FILE --images PATH [PATH ...]\nMEMORY --name NAME --bank FOLDER",
        "Adds a source of items. Nothing is trained, and the items that are there are not touched.",
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("--name", metavar="NAME", required=True, help="of the new source")
    _add_items(made)


def _add_items(made: Parser) -> None:
    made.add_argument("--images", metavar="PATH", nargs="+", action="extend", help="pictures, or folders of them")
    made.add_argument("--ckpt_path", metavar="FILE", help="the model whose backbone encodes the pictures")
    made.add_argument("--bank", metavar="FOLDER", help="features of the items, in place of pictures")
    made.add_argument("--text", metavar="TEXT", help="of all items (default: of a picture, the name of its folder)")
    made.add_argument("--texts", metavar="FILE", help="a text for each item of the bank, one a line")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")


def _add_edits(below: Any) -> None:
    made = add_command(
        below,
        "remove",
        "memory.remove",
        "MEMORY ID [ID ...] [--source NAME]\nMEMORY --source NAME",
        "Removes items, or a whole source.",
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("ids", metavar="ID", nargs="*", help="of the items")
    made.add_argument("--source", metavar="NAME", help="that the items are of; alone: the whole source")
    made = add_command(
        below, "relabel", "memory.relabel", "MEMORY ID TEXT [--source NAME]", "Gives an item another text."
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("id", metavar="ID", help="of the item")
    made.add_argument("text", metavar="TEXT", help="the new one")
    made.add_argument("--source", metavar="NAME", help="that the item is of, where several have the id")


def _add_search(below: Any) -> None:
    made = add_command(
        below,
        "search",
        "memory.search",
        "MEMORY --image FILE --ckpt_path FILE [options]\nMEMORY --item ID [options]",
        "Shows the items that are nearest to a picture, or to an item of the memory.",
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("--image", metavar="FILE", help="the picture")
    made.add_argument("--ckpt_path", metavar="FILE", help="the model whose backbone has encoded the items")
    made.add_argument("--item", metavar="ID", help="an item of the memory, in place of a picture")
    made.add_argument("--source", metavar="NAME", help="that the item is of")
    made.add_argument("--k", metavar="N", type=at_least_one, help="how many (default: 10)")
    made.add_argument("--plot", metavar="FILE", help="also draw them, as PNG, when ids are files")
    made.add_argument("--root", metavar="FOLDER", default=".", help="where the files of the ids are (default: here)")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")


def _add_explain(below: Any) -> None:
    made = add_command(
        below,
        "explain",
        "memory.explain",
        "MEMORY --ckpt_path FILE --images PATH [PATH ...] [options]",
        "Says what a model that was trained with a memory sees on pictures, and which items spoke for it: by how much\n"
        "the logit of the retrieval branch falls without each of them.",
    )
    made.add_argument("memory", metavar="MEMORY", help=_FOLDER)
    made.add_argument("--ckpt_path", metavar="FILE", required=True, help="a model of the class RetrievalAugmented")
    made.add_argument(
        "--images", metavar="PATH", nargs="+", action="extend", required=True, help="pictures, or folders"
    )
    made.add_argument("--top", metavar="N", type=at_least_one, default=5, help="items to print of each (default: 5)")
    made.add_argument("--out", metavar="FILE", help="also write all of it, as JSON")
    made.add_argument("--plot", metavar="FILE", help="also draw it, as PNG")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")


def _add_others(below: Any) -> None:
    for name, run, told in (
        ("info", "memory.info", "Tells the sources of a memory, its index, and the model that has encoded its items."),
        ("verify", "memory.verify", "Compares every file of a memory with its checksum."),
        ("compact", "memory.compact", "Forgets what was removed: files get smaller, searches faster."),
    ):
        made = add_command(below, name, run, "MEMORY", told)
        made.add_argument("memory", metavar="MEMORY", help=_FOLDER)


def _add_knn(commands: Any) -> None:
    made = add_command(
        commands,
        "knn",
        "knn.knn",
        "TRAIN TEST [options]",
        "Classifies the items of one bank by their nearest neighbors in another one, without any training.\n"
        "`ltl features` makes the banks.",
    )
    made.add_argument("train", metavar="TRAIN", help="folder of the bank with the neighbors")
    made.add_argument("test", metavar="TEST", help="folder of the bank to classify")
    made.add_argument("--k", metavar="N", type=at_least_one, default=30, help="how many neighbors (default: 30)")
    made.add_argument("--tau", type=number, default=1.0, help="of the row with adjusted frequencies (default: 1)")
    made.add_argument(
        "--index", type=one_of("exact", "hnsw", "ivf"), default="exact", help="exact (default), hnsw, ivf"
    )
    made.add_argument("--metric", type=one_of("cosine", "l2"), default="cosine", help="cosine (default) or l2")
    made.add_argument("--out", metavar="FOLDER", help="also write the accuracies, as JSON")
