"""What a recipe with stages asks for: which `ltl` runs, in which order, with which settings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import reduce
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli._argv import flatten, plain_key, value_of
from longtail_lightning.cli._read_config import read_config
from longtail_lightning.cli.recipes import find_config

RUNS = ("fit", "validate", "test", "predict", "features", "tau")
WHAT = ("best", "last", "folder", "bank", "checkpoints.NAME")
SWITCHES = ("dry_run", "new")
_REFERENCE = re.compile(r"\$\{stages\.([^.{}]+)\.([^{}]+)\}")
# Options for where and how fast a stage runs: they may change when it resumes on another machine.
_ANYWHERE = re.compile(
    r"data\.num_workers|trainer\.(accelerator|devices|num_nodes|strategy|logger|profiler|enable_progress_bar"
    r"|enable_model_summary|log_every_n_steps)(\..*)?"
)


@dataclass(frozen=True)
class Reference:
    """`${stages.STAGE.WHAT}`."""

    stage: str
    what: str

    def __str__(self) -> str:
        return f"${{stages.{self.stage}.{self.what}}}"


@dataclass(frozen=True)
class Stage:
    """One run of `ltl`: its command, what its config file holds, and the flags of the command line."""

    name: str
    run: str
    settings: dict[str, Any]
    flags: list[str] = field(default_factory=list)

    def references(self) -> list[Reference]:
        """What it takes from other stages."""
        found = [match for text in _texts([self.settings, self.flags]) for match in _REFERENCE.findall(text)]
        return [Reference(*match) for match in dict.fromkeys(found)]

    def resolved(self, place: Callable[[Reference], Path]) -> Stage:
        """The same stage with each reference `${stages.x.best}` replaced by its file or folder."""

        def fill(value: Any) -> Any:
            if isinstance(value, str):
                return _REFERENCE.sub(lambda match: place(Reference(*match.groups())).as_posix(), value)
            if isinstance(value, dict):
                return {key: fill(item) for key, item in value.items()}
            return [fill(item) for item in value] if isinstance(value, list) else value

        return replace(self, settings=fill(self.settings), flags=fill(self.flags))

    def identity(self) -> dict[str, Any]:
        """The settings that decide its result: dotted keys and values; a flag wins over the file."""
        values = {key.lstrip("."): value for key, value in flatten("", {"run": self.run, **self.settings})}
        for flag in self.flags:
            name, _, value = flag.partition("=")
            values[plain_key(name)] = _value(value)
        kept = {key: value for key, value in values.items() if not _ANYWHERE.fullmatch(key)}
        plain: dict[str, Any] = json.loads(json.dumps(kept, default=str))
        return plain


@dataclass(frozen=True)
class Plan:
    """The stages in their order, and what the command line says about all of them."""

    name: str
    stages: list[Stage]
    only: str | None
    dry_run: bool
    new: bool

    def chosen(self) -> list[Stage]:
        """Those to run."""
        return [stage for stage in self.stages if self.only in (None, stage.name)]

    def checked(self) -> list[Stage]:
        """Those to run, and those that they depend on."""
        wanted = {stage.name for stage in self.chosen()}
        for stage in reversed(self.stages):
            if stage.name in wanted:
                wanted |= {reference.stage for reference in stage.references()}
        return [stage for stage in self.stages if stage.name in wanted]


def staged_configs(args: list[str]) -> list[Path]:
    """The files after `--config` if one of them holds stages, else none; files are searched, not parsed."""
    files = [find_config(value) for flag, value in _flags(args) if flag in ("--config", "-c") and value is not None]
    staged = [re.search(r"^stages\s*:", file.read_text("utf-8", "replace"), re.MULTILINE) for file in files]
    return files if any(staged) else []


def read_plan(args: list[str]) -> Plan:
    """The plan of a command line, `ltl fit` without the first word, whose `--config` holds stages."""
    files = staged_configs(args)
    recipe: dict[str, Any] = reduce(merged, map(read_config, files))
    stages = recipe.pop("stages", None)
    if not isinstance(stages, dict) or not stages:
        raise LongTailError(f"{files[0]}: stages has to be a mapping of names to runs, `stages: {{teacher: {{...}}}}`.")
    for name in stages:
        if not re.fullmatch(r"[A-Za-z][\w-]*", str(name)) or name in SWITCHES:
            raise LongTailError(f"{name!r} cannot name a stage: take letters, digits, - and _, and not {SWITCHES}.")
    options = _options(args, list(stages))
    made = [_stage(name, given, recipe, files[0].parent) for name, given in stages.items()]
    made = [_with_flags(stage, options) for stage in made]
    _check_references(made)
    return Plan(files[0].stem, made, options.only, options.switches["dry_run"], options.switches["new"])


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Nested options, where the second ones win; another class does not inherit the options of the first.

    Examples:
        >>> merged({"trainer": {"max_epochs": 2, "devices": 1}}, {"trainer": {"max_epochs": 3}})
        {'trainer': {'max_epochs': 3, 'devices': 1}}
        >>> merged({"loss": {"class_path": "A", "init_args": {"tau": 1}}}, {"loss": {"class_path": "B"}})
        {'loss': {'class_path': 'B'}}
    """
    result = dict(base)
    for key, value in over.items():
        old = base.get(key)
        both = isinstance(old, dict) and isinstance(value, dict)
        result[key] = merged(old, value) if both and _same_class(old, value) else value  # type: ignore[arg-type]
    return result


def _same_class(base: Any, over: Any) -> bool:
    old, new = base.get("class_path"), over.get("class_path")
    return new is None or str(old).rpartition(".")[2] == str(new).rpartition(".")[2]


def _stage(name: str, given: Any, shared: dict[str, Any], folder: Path) -> Stage:
    """A stage with the settings that all stages share; one that runs a checkpoint, those of its run."""
    if not isinstance(given, dict | None):
        raise LongTailError(f"Stage {name} has to be a mapping of options, such as `{name}: {{config: quickstart}}`.")
    own = dict(given or {})
    run, config = own.pop("run", "fit"), own.pop("config", None)
    if run not in RUNS:
        raise LongTailError(f"Stage {name}: there is no `run: {run}`. {did_you_mean(str(run), RUNS)}")
    alone = run == "fit" or "ckpt_path" not in own
    base: dict[str, Any] = {}
    if config is not None:
        beside = folder / str(config)
        base = read_config(beside if beside.is_file() else find_config(str(config)))
        if "stages" in base:
            raise LongTailError(f"Stage {name}: {config} has stages of its own; name a recipe of one run.")
    return Stage(name, run, merged(merged(base, shared) if alone else base, own))


def _with_flags(stage: Stage, options: _Options) -> Stage:
    """The stage as the command line has it."""
    flags = [*(options.shared if stage.run == "fit" else []), *options.own.get(stage.name, [])]
    settings = dict(stage.settings)
    if (checkpoint := value_of(flags, "--ckpt_path")) is not None:
        settings["ckpt_path"] = checkpoint
        flags = [flag for flag in flags if not flag.startswith("--ckpt_path=")]
    if stage.run not in ("fit", "features") and "ckpt_path" not in settings:
        raise LongTailError(f"Stage {stage.name} needs a checkpoint: ckpt_path: ${{stages.NAME.best}}, or a file.")
    return replace(stage, settings=settings, flags=flags)


def _check_references(stages: list[Stage]) -> None:
    order = {stage.name: place for place, stage in enumerate(stages)}
    runs = {stage.name: stage.run for stage in stages}
    for stage in stages:
        for text in _texts([stage.settings, stage.flags]):
            if "${stage" in _REFERENCE.sub("", text):
                raise LongTailError(f"Stage {stage.name}: {text!r} is not a reference; write ${{stages.NAME.best}}.")
        for reference in stage.references():
            told = f"Stage {stage.name} refers to {reference}"
            if reference.stage not in order:
                raise LongTailError(f"{told}, and there is no such stage. {did_you_mean(reference.stage, order)}")
            if order[reference.stage] >= order[stage.name]:
                raise LongTailError(f"{told}, which does not come before it: put {reference.stage} first.")
            what, run = reference.what, runs[reference.stage]
            if what not in WHAT[:-1] and not re.fullmatch(r"checkpoints\.[\w-]+", what):
                raise LongTailError(f"{told}, and a stage has no {what!r}. {did_you_mean(what, WHAT)}")
            if what != "folder" and run not in (("features",) if what == "bank" else ("fit", "tau")):
                raise LongTailError(f"{told}, and `ltl {run}` leaves no {what.partition('.')[0]}.")


@dataclass(frozen=True)
class _Options:
    only: str | None
    switches: dict[str, bool]
    shared: list[str]
    own: dict[str, list[str]]


def _options(args: list[str], names: list[str]) -> _Options:
    """What the command line says, apart from the file."""
    only, switches = None, dict.fromkeys(SWITCHES, False)
    shared: list[str] = []
    own: dict[str, list[str]] = {}
    for flag, value in _flags(args):
        first, _, rest = flag.removeprefix("--stages.").partition(".")
        if flag in ("--config", "-c"):
            continue
        if flag == "--stage":
            only = value or ""
            _known(f"--stage {only}", only, names)
        elif flag.startswith("--stages.") and first in SWITCHES:
            switches[first] = _value(value) is True or value is None
        elif flag.startswith("--stages."):
            _known(flag, first, [*names, *SWITCHES])
            own.setdefault(first, []).append(_joined(f"--{rest}", value))
        elif flag == "--ckpt_path":
            raise LongTailError(
                "Stages go on by themselves: drop --ckpt_path, or give it to one, --stages.NAME.ckpt_path."
            )
        elif not flag.startswith("--"):
            raise LongTailError(f"{flag}: an option begins with two dashes.")
        else:
            shared.append(_joined(flag, value))
    for flag in (*shared, *(flag for flags in own.values() for flag in flags)):
        if flag.startswith("--trainer.logger"):
            raise LongTailError("Each stage logs to a folder of its own: write further loggers into the file.")
    return _Options(only, switches, shared, own)


def _known(flag: str, name: str, names: list[str]) -> None:
    if name not in names:
        raise LongTailError(f"{flag}: there is no such stage. {did_you_mean(name, names)}")


def _flags(args: list[str]) -> Iterator[tuple[str, str | None]]:
    """Flags and their values."""
    words = list(args)
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if equals or not words or words[0].startswith("--"):
            yield flag, value if equals else None
        else:
            yield flag, words.pop(0)


def _joined(flag: str, value: str | None) -> str:
    return flag if value is None else f"{flag}={value}"


def _value(text: str | None) -> Any:
    import yaml

    try:
        return yaml.safe_load(text or "")
    except yaml.YAMLError:
        return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(item)
