"""What `ltl class` and its commands take. No torch here."""

from __future__ import annotations

import argparse
from typing import Any

from longtail_lightning.cli._argparse import (
    Parser,
    add_command,
    add_running,
    at_least_one,
    number,
    numbers,
    whole_number,
)


def add_class(commands: Any) -> None:
    """Add the group and its commands."""
    group = add_command(commands, "class", "", "COMMAND ...", "Changes the classes of a trained model.")
    group.epilog = (
        "  add        from a few pictures           ltl class add --ckpt_path FILE --name axolotl --images photos\n"
        "  remove     take classes out              ltl class remove --ckpt_path FILE --name axolotl\n"
        "  list       name them                     ltl class list --ckpt_path FILE\n"
        "  explain    who gave a class knowledge    ltl class explain --ckpt_path FILE --name axolotl\n"
        "  threshold  tell pictures of no class     ltl class threshold --ckpt_path FILE --known photos\n"
        "  prepare    let a model take new classes  ltl class prepare --ckpt_path FILE\n\n"
        "`ltl class COMMAND --help` tells more."
    )
    below = group.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for add in (_add_add, _add_remove, _add_look, _add_threshold, _add_prepare):
        add(below)


def _add_add(below: Any) -> None:
    made = add_command(
        below,
        "add",
        "classes.add",
        "--ckpt_path FILE --name NAME --images PATH [PATH ...] [options]\n--ckpt_path FILE --folder FOLDER [options]",
        "Adds classes from a few pictures each, and writes a checkpoint that tests, predicts and grows again like any\n"
        "other. The training images are not needed. The head must know prototypes: that of a `prototype_transfer`\n"
        "recipe does, and `ltl class prepare` makes one.",
    )
    _add_model(made)
    made.add_argument("--name", metavar="NAME", help="of a new class")
    made.add_argument("--images", metavar="PATH", nargs="+", action="extend", help="its pictures, or folders of them")
    made.add_argument("--folder", metavar="FOLDER", help="several new classes: one folder of pictures for each")
    made.add_argument("--out", metavar="FILE", help="the new checkpoint (default: FILE_more.ckpt)")


def _add_remove(below: Any) -> None:
    made = add_command(
        below,
        "remove",
        "classes.remove",
        "--ckpt_path FILE --name NAME [NAME ...] [--out FILE]",
        "Takes classes out, learned or added, and writes a checkpoint without them.",
    )
    _add_model(made)
    made.add_argument("--name", metavar="NAME", nargs="+", action="extend", required=True, help="of the classes")
    made.add_argument("--out", metavar="FILE", help="the new checkpoint (default: FILE_fewer.ckpt)")


def _add_look(below: Any) -> None:
    made = add_command(
        below, "list", "classes.list_", "--ckpt_path FILE", "Names the classes, and how many images each was made of."
    )
    _add_model(made)
    made = add_command(
        below,
        "explain",
        "classes.explain",
        "--ckpt_path FILE --name NAME [--top N] [--k N] [--plot FILE]",
        "Names the classes that a class was given knowledge from, with their shares.",
    )
    _add_model(made)
    made.add_argument("--name", metavar="NAME", required=True, help="of the class")
    made.add_argument("--top", metavar="N", type=at_least_one, default=10, help="how many classes (default: 10)")
    made.add_argument("--k", metavar="N", type=whole_number, help="which head of an ensemble (default: the smallest k)")
    made.add_argument("--plot", metavar="FILE", help="also draw them, as PNG")


def _add_threshold(below: Any) -> None:
    made = add_command(
        below,
        "threshold",
        "classes.threshold",
        "--ckpt_path FILE --known PATH [PATH ...] [--unknown PATH [PATH ...]] [--keep SHARE] [--plot FILE]",
        "Tells below which score, the largest logit, a picture is of none of the model's classes, so that most\n"
        "pictures of its classes stay: a value for `ltl predict --images PATH --reject_below SCORE`.",
    )
    _add_model(made)
    made.add_argument(
        "--known", metavar="PATH", nargs="+", action="extend", required=True,
        help="pictures of the model's classes that it was not trained on, or folders of them",
    )  # fmt: skip
    made.add_argument(
        "--unknown", metavar="PATH", nargs="+", action="extend", help="pictures of others: tells how many are rejected"
    )
    made.add_argument("--keep", metavar="SHARE", type=number, default=0.95, help="of the known ones (default: 0.95)")
    made.add_argument("--plot", metavar="FILE", help="also draw the curve of both shares, as PNG; needs --unknown")


def _add_prepare(below: Any) -> None:
    made = add_command(
        below,
        "prepare",
        "classes.prepare",
        "--ckpt_path FILE [options]",
        "Gives a trained model prototypes of its classes, from its training images, so that classes can be added: its\n"
        "head becomes an ensemble of knowledge-transfer heads. A CosineHead is wanted. The backbone runs once.\n"
        "The data are those of the run, unless --data or --config say others.",
        takes_components=True,
    )
    made.add_argument("--ckpt_path", metavar="FILE", required=True, help="the trained model")
    made.add_argument(
        "--k", type=numbers, default=[0, 20, 100], help="donors have more images, one head for each (default: 0,20,100)"
    )
    made.add_argument("--tau", type=number, default=10.0, help="temperature of the attention (default: 10)")
    made.add_argument("--out", metavar="FILE", help="the new checkpoint (default: FILE_kt.ckpt)")
    add_running(made)


def _add_model(made: Parser) -> None:
    made.add_argument("--ckpt_path", metavar="FILE", required=True, help="the trained model")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")
