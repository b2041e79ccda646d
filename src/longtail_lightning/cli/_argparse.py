"""An argparse parser whose errors are ours, and the kinds of values that the small commands take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Container, Sequence
from typing import Any, NoReturn

from longtail_lightning._errors import LongTailError, did_you_mean

# What jsonargparse reads, with everything below it: `--data CLASS`, `--data.root FOLDER`.
_COMPONENTS = ("config", "data", "model", "trainer", "optimizer", "lr_scheduler", "seed_everything", "ckpt_path",
               "weights_only", "logit_adjustment", "predictions", "report", "fail_on_nan")  # fmt: skip


class Parser(argparse.ArgumentParser):
    """Raises its errors as ours, and leaves what describes model and data to jsonargparse.

    Args:
        takes_components: whether `--data`, `--config` and the like are admitted; they go to `components`.
        options: those of `argparse.ArgumentParser`.
    """

    def __init__(self, *, takes_components: bool = False, **options: Any) -> None:
        self.flags: dict[str, argparse.Action] = {}
        self.needed: list[str] = []
        self.takes_components = takes_components
        options.setdefault("formatter_class", _formatter)
        super().__init__(allow_abbrev=False, exit_on_error=False, **options)

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        flag = names[-1] if names[-1].startswith("--") else None
        needed = flag is not None and options.pop("required", False)
        action = super().add_argument(*names, **options)
        if flag is not None:
            self.flags[flag] = action
        if needed:
            self.needed.append(names[-1])
        return action

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:  # type: ignore[override]
        own, components = apart(args, self.flags) if self.takes_components else (args, [])
        if len(self.flags) > 1 and {"-h", "--help"} & set(own):  # whatever else is wrong
            self.print_help()
            self.exit()
        for word, value in zip(own, [*own[1:], None]):
            if word in self.flags and self.flags[word].nargs != 0 and (value is None or value.startswith("--")):
                raise LongTailError(f"{word} needs a value: see `{self.prog} --help`.")
        try:
            found, rest = super().parse_known_args(own, namespace)
        except argparse.ArgumentError as error:
            end = "" if error.message.endswith((".", "?")) else "."
            raise LongTailError(f"{error.argument_name or f'`{self.prog}`'}: {error.message}{end}") from error
        if rest:
            raise LongTailError(self._not_taken(rest))
        for flag in self.needed:
            if getattr(found, self.flags[flag].dest) is None:
                raise LongTailError(f"`{self.prog}` needs {flag} {self.flags[flag].metavar}: see `{self.prog} --help`.")
        if self.takes_components:
            found.components = components
        return found, []

    def _not_taken(self, words: list[str]) -> str:
        flag = next((word.partition("=")[0] for word in words if word.startswith("-")), None)
        if flag is None:
            return f"`{self.prog}` has no place for {words[0]!r}: see `{self.prog} --help`."
        known = [*self.flags, *(("--data", "--config") if self.takes_components else ())]
        return f"`{self.prog}` has no option {flag}. {did_you_mean(flag, known, listing=f'{self.prog} --help')}"

    def error(self, message: str) -> NoReturn:
        raise LongTailError(f"`{self.prog}`: {message}; see `{self.prog} --help`.")


def _formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=26)


def apart(words: Sequence[str], own: Container[str]) -> tuple[list[str], list[str]]:
    """The words for argparse, and those that describe components, each flag with its value.

    Examples:
        >>> apart(["--data", "CSVLT", "--data.root=x", "--views", "2"], ["--views"])
        (['--views', '2'], ['--data', 'CSVLT', '--data.root=x'])
    """
    mine: list[str] = []
    theirs: list[str] = []
    left = list(words)
    while left:
        word = left.pop(0)
        flag, equals, _ = word.partition("=")
        key = "config" if flag == "-c" else flag.removeprefix("--").partition(".")[0].rstrip("+")
        if flag in own or not flag.startswith("-") or key not in _COMPONENTS:
            mine.append(word)
            continue
        theirs.append(word)
        if not equals and left and not left[0].startswith("--"):
            theirs.append(left.pop(0))
    return mine, theirs


def whole_number(word: str) -> int:
    """A number of things."""
    if not word.isdigit():
        raise argparse.ArgumentTypeError(f"a whole number is expected, got {word!r}")
    return int(word)


def at_least_one(word: str) -> int:
    """A number of things, of which there must be some."""
    if (number := whole_number(word)) < 1:
        raise argparse.ArgumentTypeError("it must be at least 1")
    return number


def number(word: str) -> float:
    """A finite number."""
    try:
        value = float(word)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"a number is expected, got {word!r}")
    return value


def numbers(words: str) -> list[float]:
    """Numbers with commas between them."""
    return [number(word) for word in words.split(",")]


def one_of(*names: str) -> Callable[[str], str]:
    """One of a few names, as `choices` of argparse, but with the closest one in the error."""

    def choose(word: str) -> str:
        if word not in names:
            raise argparse.ArgumentTypeError(f"there is no choice {word!r}. {did_you_mean(word, names)}")
        return word

    return choose


def some_of(*names: str) -> Callable[[str], list[str]]:
    """Several of a few names, with commas between them, in the order given here."""

    def choose(words: str) -> list[str]:
        chosen = [one_of(*names)(word) for word in words.split(",")]
        return [name for name in names if name in chosen]

    return choose


def add_command(commands: Any, name: str, run: str, usage: str, description: str, **options: Any) -> Parser:
    """Add a small command; `run` names the module and function that it calls."""
    full = {"data": f"data {name}", "classes": f"class {name}", "memory": f"memory {name}"}.get(
        run.partition(".")[0], name
    )
    usage = "\n       ".join(f"ltl {full} {line}" for line in usage.splitlines())
    made: Parser = commands.add_parser(name, prog=f"ltl {full}", usage=usage, description=description, **options)
    made.set_defaults(run=run)
    return made


def add_running(made: Parser) -> None:
    """How a backbone is run."""
    data = "(default: that of the data)"
    made.add_argument("--batch_size", metavar="N", type=at_least_one, help=f"images at a time {data}")
    made.add_argument("--num_workers", metavar="N", type=whole_number, help=f"processes that load images {data}")
    made.add_argument("--precision", help="bf16 or 16 to run the backbone in (default: 32)")
    made.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU, if there is one)")
