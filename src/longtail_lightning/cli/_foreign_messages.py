"""Turn errors of jsonargparse, Lightning and torch, recognized by their words alone, into one sentence of ours.

Each row has a test that provokes the error in the real library, so that a release with other words is noticed.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace

import lightning.pytorch.callbacks as lightning_callbacks
import lightning.pytorch.loggers as lightning_loggers
import torch.optim.lr_scheduler as schedulers
from lightning import LightningModule, Trainer
from torch import optim

from longtail_lightning._errors import did_you_mean
from longtail_lightning.cli.catalog import all_components

_ROOTS = ("--model", "--data", "--trainer", "--config", "--ckpt_path", "--seed_everything", "--logit_adjustment",
          "--predictions", "--report", "--fail_on_nan", "--optimizer", "--lr_scheduler")  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A line of jsonargparse's tree that names a problem, and where it stands.

    Args:
        text: the line.
        flag: the option, with those above it: `--model.loss`.
        owner: the class whose option it is.
        value: what was given, as far as the tree says.
        depth: how far it is indented.
    """

    text: str
    flag: str = ""
    owner: str = ""
    value: str = ""
    depth: int = 0


Say = Callable[[re.Match[str], Problem], str]


def _no_option(match: re.Match[str], at: Problem) -> str:
    if at.owner == LightningModule.__name__:  # the class of --model until the user names one
        return _class_first(match, at)
    component = all_components().get(at.owner)
    hint = f" {did_you_mean(match[1], component.options, listing=f'ltl show {at.owner}')}" if component else ""
    return f"{at.owner} has no option {match[1]!r}.{hint}"


def _required_of_class(match: re.Match[str], at: Problem) -> str:
    needed = ", ".join(f"{at.flag}.{name}" for name in match[1].split(", "))
    return f"{at.owner} needs {needed}."


def _no_class(match: re.Match[str], at: Problem) -> str:
    others = (optim, schedulers, lightning_callbacks, lightning_loggers)
    names = [*all_components(), *(n for o in others for n in dir(o) if inspect.isclass(getattr(o, n)))]
    hint = did_you_mean(match[1], names, listing="ltl list")
    return f"{at.flag} {match[1]}: there is no such class. {hint}"


def _other_class(match: re.Match[str], at: Problem) -> str:
    told = f"{at.flag} {at.value}: this class is not a subclass of {match[1]}."
    if match[1] == "LongTailLoss":
        return f"{told} A loss from elsewhere goes into WrapLoss: {at.flag}=WrapLoss {at.flag}.loss={at.value}"
    return told


def _class_first(match: re.Match[str], at: Problem) -> str:
    return f"Say which class before its options: {at.flag} CLASS {at.flag}.OPTION VALUE."


def _no_module(match: re.Match[str], at: Problem) -> str:
    return (
        f"There is no module {match[1]!r}: classes of this library go by their names alone ({at.flag} NAME), your own "
        "by their full path, in a folder of PYTHONPATH."
    )


# In the lines of a tree, the innermost first.
IN_TREE: dict[str, tuple[str, Say]] = {
    "no option": (r"Option '(.+)' is not accepted", _no_option),
    "required of class": (r"the following arguments are required: (.+)", _required_of_class),
    "no class": (r"Expected a dot import path string: (\S*[A-Z]\S*)", _no_class),
    "other class": (r"Import path does not correspond to a subclass of (\w+)", _other_class),
    "abstract": (r"Expected an instantiatable class, but \S+ is abstract", _class_first),
    "model before class": (r"unrecognized arguments: --\S+", _class_first),
    "no module": (r"No module named '(.+)'", _no_module),
}  # fmt: skip


def _unrecognized(match: re.Match[str], at: Problem) -> str:
    flag = match[1].partition("=")[0]
    root, _, option = flag.partition(".")
    if root == "--trainer":
        options = [f"--trainer.{name}" for name in inspect.signature(Trainer.__init__).parameters if name != "self"]
        return f"The trainer has no option {option!r}. {did_you_mean(flag, options)}"
    return f"There is no option {flag}. {did_you_mean(root, _ROOTS)}"


def _not_in_config(match: re.Match[str], at: Problem) -> str:
    key = match[2].removesuffix(".class_path")
    roots = [root.removeprefix("--") for root in _ROOTS]
    return f"`ltl {match[1]}` knows no {key!r}, which a config holds. {did_you_mean(key.partition('.')[0], roots)}"


def _required(match: re.Match[str], at: Problem) -> str:
    command = match[1].partition(".")[0]
    if command in ("validate", "test", "predict"):
        return f"`ltl {command}` needs --ckpt_path FILE, the trained model: see `ltl {command} --help`."
    needed = [f"--{key.rpartition('.')[2]} CLASS" for key in match[1].split(", ")]
    return f"{' and '.join(sorted(needed, reverse=True))} must be given, or a --config FILE_OR_RECIPE that says so."


# In messages as a whole.
WHOLE: dict[str, tuple[str, Say]] = {
    "unrecognized": (r"^unrecognized arguments: (\S+)", _unrecognized),
    "not in config": (r"^Subcommand '(\w+)' does not accept option '(.+)'", _not_in_config),
    "required": (r"^the following arguments are required: (.+)", _required),
    "package missing": (
        r"(?s)Problem with given class_path '(\S+)':.*Requirement '([\w-]+)[^']*' not met",
        lambda match, at: f"{match[1].rpartition('.')[2]} needs another package: pip install {match[2]}",
    ),
    "weights do not fit": (
        r"(?s)Error\(s\) in loading state_dict for (\w+):(.*)",
        lambda match, at: (
            f"The weights of the checkpoint do not fit the {match[1]}: {' '.join(match[2].split())[:400]}"
        ),
    ),
    # Raised while the model was busy, outside of the loader.
}


def sentence_for(text: str) -> str | None:
    """Our sentence for an error that a row knows; None for others."""
    for pattern, say in WHOLE.values():
        if match := re.search(pattern, text):
            return say(match, Problem(text))
    return None


def sentence_for_parser_error(text: str) -> str:
    """Our sentence for any error of jsonargparse's parser; its own words, shortened, where no row knows them."""
    if told := sentence_for(text):
        return told
    problems = sorted(_problems(text), key=lambda problem: -problem.depth)
    for problem in problems:
        for pattern, say in IN_TREE.values():
            if match := re.fullmatch(pattern, problem.text):
                return say(match, problem)
    innermost = [problem for problem in problems if problem.depth == problems[0].depth]
    kinds = [match[1] for problem in innermost if (match := _EXPECTED.fullmatch(problem.text))]
    if kinds:
        wanted = " or ".join(re.sub(r"<class '(?:.*\.)?(.+?)'>|typing\.Literal", _plainly, kind) for kind in kinds)
        value = f" {problems[0].value}" if problems[0].value else ""
        return f"{problems[0].flag}{value}: expected {wanted}."
    for problem in innermost:  # a word in small letters where only a class can be given
        if match := re.fullmatch(r"Expected a dot import path string: (\S+)", problem.text):
            return _no_class(match, problem)
    return " ".join(text.split())[:600]


_EXPECTED = re.compile(r"Expected an? (?!dot import path)(.+?)(?:\. Got value: .*)?")
_NOISE = re.compile(
    r"|Expected a <class 'NoneType'>|Expected a path but .*|Does not validate against any .*|Subtypes: .*|Errors:"
    r"|Given value type: .*|Given value: NestedArg.*"
)
# In one line: what is expected of a function or a class that makes one, what is wrong, and what was given.
_OF_CALLABLE = re.compile(r"Type .+ expects a function or a callable class: (.+)")
_GIVEN_CLASS = re.compile(r"\. Got value: Namespace\(class_path='([^']+)'.*")


def _plainly(kind: re.Match[str]) -> str:
    return kind[1] or "one of "


def _problems(text: str) -> list[Problem]:
    """The lines of jsonargparse's indented tree that name a problem."""
    found: list[Problem] = []
    keys: list[tuple[int, str]] = []
    owners: list[tuple[int, str]] = []
    for line in filter(str.strip, text.splitlines()):
        depth, line = len(line) - len(line.lstrip()), line.strip().removeprefix("- ")
        keys, owners = [(i, key) for i, key in keys if i < depth], [(i, owner) for i, owner in owners if i < depth]
        if match := _GIVEN_CLASS.search(line):
            owners.append((depth, match[1].rpartition(".")[2]))
            line = line[: match.start()]
        line = match[1] if (match := _OF_CALLABLE.fullmatch(line)) else line
        flag, owner = "--" + ".".join(key for _, key in keys), owners[-1][1] if owners else ""
        if match := re.fullmatch(r'Parser key "(.+)":', line):
            keys.append((depth, match[1]))
        elif match := re.fullmatch(r"Problem with given class_path '(.+)':", line):
            owners.append((depth, match[1].rpartition(".")[2]))
        elif match := re.fullmatch(r"Given value: (?!NestedArg)(.+)", line):  # comes after the lines about it
            found = [replace(p, value=p.value or match[1]) if p.flag == flag else p for p in found]
        elif not _NOISE.fullmatch(line):
            found.append(Problem(line, flag, owner, line.partition("Got value: ")[2], depth))
    return found
