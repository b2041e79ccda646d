"""The small commands, `list` to `verify`: what each takes, and its help. No torch here, so that help comes at once."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning._rooms import ROOMS
from longtail_lightning.cli._argparse import (
    Parser,
    add_command,
    add_running,
    at_least_one,
    number,
    numbers,
    one_of,
    some_of,
    whole_number,
)
from longtail_lightning.cli._class_arguments import add_class
from longtail_lightning.cli._memory_arguments import MEMORY, add_memory

TOPICS = (*(room for room in ROOMS if room not in ("backbones", "report")), "backbones", "recipes")
COMMANDS = ("list", "show", "cp", "counts", "data", "features", "tau", "class", "memory", "knn", "verify")
_GROUPS = {
    "data": ("check", "prepare"),
    "class": ("add", "remove", "list", "explain", "threshold", "prepare"),
    "memory": MEMORY,
}
_READERS = "processes that read (default: one per core)"
# Without a word more, these show their help.
_ASKING = (
    ["counts"],
    ["features"],
    ["tau"],
    ["knn"],
    ["verify"],
    *([group] for group in _GROUPS),
    *([group, name] for group in _GROUPS for name in _GROUPS[group]),
)


def parse(words: Sequence[str]) -> argparse.Namespace | None:
    """Parse a small command; None when the user asked for help, which is then printed already.

    Examples:
        >>> parse(["counts", "labels.csv", "--few=5"]).few
        5
        >>> parse(["counts", "--data", "SyntheticLongTail"]).components
        ['--data', 'SyntheticLongTail']
    """
    words = list(words)
    group = _GROUPS.get(words[0])
    if group and len(words) > 1 and not words[1].startswith("-") and words[1] not in group:
        raise LongTailError(f"There is no command `ltl {words[0]} {words[1]}`. {did_you_mean(words[1], group)}")
    if words in _ASKING:
        words.append("--help")
    if words[0] == "predict":
        words[0] = "predict --images"
    try:
        found = build_parser().parse_args(words)
    except SystemExit:  # argparse leaves in this way after help
        return None
    found.words = words[1:]
    return found


def build_parser() -> Parser:
    """The parser of all small commands; `run` in its result is the function to call."""
    parser = Parser(prog="ltl")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_look(commands)
    _add_counts(commands)
    _add_features(commands)
    _add_tau(commands)
    _add_pictures(commands)
    _add_verify(commands)
    data = add_command(commands, "data", "", "COMMAND ...", "What is done to images before training.")
    data.epilog = (
        "  check      find what is wrong with images and labels   ltl data check FOLDER\n"
        "  prepare    copy images into a few large files          ltl data prepare FOLDER --out SHARDS\n\n"
        "`ltl data COMMAND --help` tells more."
    )
    below = data.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    _add_data_check(below)
    _add_data_prepare(below)
    add_class(commands)
    add_memory(commands)
    return parser


def _add_look(commands: Any) -> None:
    made = add_command(
        commands, "list", "list_show_cp.list_", "[TOPIC] [PATTERN]", "Name what there is, each with a sentence."
    )
    made.add_argument("topic", metavar="TOPIC", nargs="?", help=", ".join(TOPICS))
    made.add_argument("pattern", metavar="PATTERN", nargs="?", help="selects backbones: ltl list backbones 'vit*'")
    made = add_command(commands, "show", "list_show_cp.show", "NAME", "Describe a component, or print a recipe.")
    made.add_argument("name", metavar="NAME", help="a component (LogitAdjustedLoss) or a recipe (quickstart)")
    made = add_command(
        commands, "cp", "list_show_cp.cp", "RECIPE [FILE]", "Copy a recipe, to edit it; nothing is overwritten."
    )
    made.add_argument("recipe", metavar="RECIPE", help="its name, as in `ltl list recipes`")
    made.add_argument("file", metavar="FILE", nargs="?", help="where to (default: RECIPE.yaml)")


def _add_counts(commands: Any) -> None:
    made = add_command(
        commands,
        "counts",
        "counts.counts",
        "--data CLASS [--data.OPTION VALUE ...]\n--config FILE_OR_RECIPE\nFILE [--column NAME_OR_NUMBER]",
        "Counts training images per class, from labels only.",
        takes_components=True,
    )
    made.add_argument(
        "file",
        metavar="FILE",
        nargs="?",
        help="labels: .txt with one label per line (or `path label`), .csv with a column of labels, .npy, .pt, or "
        ".json with a list",
    )
    made.add_argument("--column", default="-1", help="of a .csv: its name or number (default: the last one)")
    made.add_argument("--many", metavar="N", type=whole_number, default=100, help="many-shot classes have more images")
    made.add_argument("--few", metavar="N", type=whole_number, default=20, help="few-shot classes have fewer images")
    made.add_argument(
        "--convention",
        type=one_of("kang", "oltr"),
        default="kang",
        help="kang: more than --many, fewer than --few (default); oltr: the bounds themselves belong to the splits",
    )


def _add_features(commands: Any) -> None:
    made = add_command(
        commands,
        "features",
        "features.features",
        "--ckpt_path FILE --out FOLDER [options]\n--encoder NAME [--weights PATH] --data CLASS --out FOLDER [options]",
        "Runs the backbone of a checkpoint, or any encoder, over the data and writes FOLDER/train, FOLDER/val and\n"
        "FOLDER/test, each a FeatureBank. Stopped, it continues with the same command. The data are those of the\n"
        "checkpoint's run, unless --data or --config say others, as for `ltl test`.",
        epilog="Several processes share the work:\n"
        "  torchrun --nproc_per_node 4 -m longtail_lightning.cli.main features ...",
        takes_components=True,
    )
    made.add_argument("--ckpt_path", metavar="FILE", help="a checkpoint whose backbone to run")
    made.add_argument("--encoder", metavar="NAME", help="a backbone instead: `ltl list backbones` names them")
    made.add_argument("--weights", metavar="PATH", help="of the encoder (default: those that its library downloads)")
    made.add_argument("--out", metavar="FOLDER", required=True, help="folder of the banks")
    made.add_argument(
        "--split",
        type=some_of("train", "val", "test"),
        help="train, val, test or several with commas (default: all that the data have)",
    )
    made.add_argument(
        "--views", metavar="N", type=at_least_one, default=1, help="augmented views per training image (default: none)"
    )
    dtype = one_of("float16", "float32", "float64")
    made.add_argument("--dtype", type=dtype, default="float16", help="float16 (default), float32 or float64")
    add_running(made)
    made.add_argument("--overwrite", action="store_true", help="delete what is in FOLDER/train and so on")


def _add_verify(commands: Any) -> None:
    made = add_command(
        commands,
        "verify",
        "verify.verify",
        "PATH [PATH ...]",
        "Reads checkpoints, feature banks and shards from end to end, and compares them with the checksums that were\n"
        "written with them. The exit status is 1 when something is damaged.",
    )
    made.add_argument("paths", metavar="PATH", nargs="+", help="one of them, or a folder that holds some, as runs")


def _add_tau(commands: Any) -> None:
    made = add_command(
        commands,
        "tau",
        "tau.tau",
        "--ckpt_path FILE [options]",
        "Chooses tau of the tau-normalized classifier, w / |w|^tau, and writes a checkpoint with that classifier,\n"
        "which tests and predicts like any other. Accuracy over tau is printed and goes beside it, as JSON and PNG.\n"
        "The backbone runs once. Tau is never chosen on test images. The data are those of the run, unless --data\n"
        "or --config say others, as for `ltl test`.",
        takes_components=True,
    )
    made.add_argument("--ckpt_path", metavar="FILE", required=True, help="the trained model")
    made.add_argument(
        "--choose",
        type=one_of("val", "train", "learn"),
        help="val: best validation accuracy (default); train: best mean accuracy over the classes on training images; "
        "learn: by gradient on class-balanced training images, refused outside of -1 to 3",
    )
    made.add_argument("--taus", type=numbers, help="values to look at, with commas (default: 0,0.1,...,2)")
    made.add_argument("--tau", type=number, help="a fixed value instead; nothing is looked at")
    made.add_argument("--bias", type=one_of("drop", "keep"), default="drop", help="drop, as in the paper, or keep")
    made.add_argument("--out", metavar="FILE", help="the new checkpoint (default: FILE_tau.ckpt)")
    add_running(made)


def _add_pictures(commands: Any) -> None:
    made = add_command(
        commands,
        "predict --images",
        "predict_pictures.predict",
        "PATH [PATH ...] --ckpt_path FILE [options]",
        "Says what is on pictures: files, or folders with all that is in them. The checkpoint alone is needed.",
    )
    made.add_argument("--images", metavar="PATH", nargs="+", action="extend", help="pictures, or folders of them")
    made.add_argument("--ckpt_path", metavar="FILE", required=True, help="the trained model")
    made.add_argument("--memory", metavar="FOLDER", help="of a model that was trained with one")
    out = "predictions.csv"
    made.add_argument("--predictions.path", dest="path", metavar="FILE", default=out, help=f"a .csv (default: {out})")
    made.add_argument(
        "--predictions.top_k",
        dest="top_k",
        metavar="N",
        type=at_least_one,
        default=5,
        help="classes of each (default: 5)",
    )
    made.add_argument("--prior", type=one_of("uniform"), help="uniform: classes are as frequent as each other here")
    made.add_argument(
        "--reject_below",
        metavar="SCORE",
        type=number,
        help="pictures with a lower score get no class; `ltl class threshold` tells a good value",
    )
    made.add_argument(
        "--batch_size", metavar="N", type=at_least_one, default=64, help="pictures at a time (default: 64)"
    )
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")


def _add_source(made: Parser) -> None:
    """Which images."""
    made.add_argument("source", metavar="SOURCE", nargs="?", help="a folder, LIST.txt, TABLE.csv or TABLE.parquet")
    made.add_argument("--val", metavar="FILE", help="a list or table of validation images")
    made.add_argument("--test", metavar="FILE", help="a list or table of test images")
    made.add_argument("--root", metavar="FOLDER", help="where the paths of lists and tables start")
    for column in ("path", "label", "split"):
        made.add_argument(f"--{column}_column", metavar="NAME", help=f"of a table: the column of the {column}")


def _add_data_check(commands: Any) -> None:
    made = add_command(
        commands,
        "check",
        "data.check",
        "FOLDER\nLIST.txt|TABLE.csv [--val FILE] [--test FILE] [options]\n"
        "--data CLASS [--data.OPTION VALUE ...]\n--config FILE_OR_RECIPE",
        "Reads and decodes every image once: files that are missing, empty, damaged or no images, labels with gaps,\n"
        "images that occur twice, under two labels, or in training and evaluation. Changes nothing. The exit status\n"
        "is 0 when all is well and 1 when something was found.",
        takes_components=True,
    )
    _add_source(made)
    made.add_argument("--num_workers", metavar="N", type=whole_number, help=_READERS)
    made.add_argument("--pixels", action="store_true", help="compare pixels, not files: finds copies saved again")
    made.add_argument("--out", metavar="FILE", default="data_check.json", help="the report (default: data_check.json)")
    made.add_argument(
        "--fix",
        metavar="list",
        help="write the good images to train_clean.txt, ..., for ImageListLT; or --fix FILE.txt",
    )
    made.add_argument("--json", action="store_true", help="print the report to stdout instead of tables")


def _add_data_prepare(commands: Any) -> None:
    made = add_command(
        commands,
        "prepare",
        "data.prepare",
        "FOLDER --out SHARDS [--resize PIXELS]\nLIST.txt|TABLE.csv --out SHARDS [--val FILE] [--test FILE] [options]\n"
        "--data CLASS [--data.OPTION VALUE ...] --out SHARDS",
        "Copies the images into a few large Arrow files, from which `--data ShardsLT --data.root SHARDS` trains with\n"
        "the same result. Worth it on network drives and for millions of files; with --resize also on a local disk.\n"
        "When it is interrupted, the same command continues.",
        takes_components=True,
    )
    _add_source(made)
    made.add_argument("--out", metavar="SHARDS", required=True, help="a new folder")
    made.add_argument(
        "--resize",
        metavar="PIXELS",
        type=whole_number,
        help="shorter side of images that are larger, such as 256",
    )
    made.add_argument(
        "--quality", metavar="N", type=whole_number, default=95, help="of the JPEGs that this makes (default: 95)"
    )
    made.add_argument(
        "--shard_size", metavar="N", type=whole_number, default=500, help="megabytes per file (default: 500)"
    )
    made.add_argument("--num_workers", metavar="N", type=whole_number, help=_READERS)
