"""The folder of a run with stages: what has finished there, and how one stage is run."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from longtail_lightning._errors import LongTailError
from longtail_lightning._files import write_json, write_text
from longtail_lightning.cli._argv import CONFIG_FILE, config_beside, flatten
from longtail_lightning.cli._read_config import read_config
from longtail_lightning.cli._stage_plan import Reference, Stage, merged
from longtail_lightning.cli._stage_process import locked, run_process

MARK, STARTED, FINISHED, LAST = "stages.json", "started.json", "finished.json", "checkpoints/last.ckpt"
# `ltl features` and `ltl tau` take these from a config file, and all else as flags.
_OF_CONFIG = ("seed_everything", "trainer", "model", "data")


@dataclass(frozen=True)
class RunFolder:
    """`runs/NAME/version_N`, with a folder per stage."""

    path: Path

    def folder(self, stage: Stage | str) -> Path:
        """The folder of a stage."""
        return self.path / (stage if isinstance(stage, str) else stage.name)

    def finished(self, stage: Stage | str) -> dict[str, Any] | None:
        """What a stage left when it ended well; None before."""
        return _read_json(self.folder(stage) / FINISHED)

    def started(self, stage: Stage | str) -> dict[str, Any] | None:
        """The settings that a stage began with, whether or not it has finished."""
        return _read_json(self.folder(stage) / STARTED)

    def goes_on(self, stage: Stage) -> bool:
        """Whether there is a checkpoint to resume from; a truncated file does not count."""
        return stage.run == "fit" and zipfile.is_zipfile(self.folder(stage) / LAST)

    def resolve(self, reference: Reference) -> Path:
        """The file or folder that a reference means."""
        folder = self.folder(reference.stage)
        checkpoints, what = folder / "checkpoints", reference.what.removeprefix("checkpoints.")
        if what == "folder":
            return folder
        if what == "bank" and (folder / "bank").is_dir():
            return folder / "bank"
        # Without validation nothing is best, and `ltl tau` writes a single file.
        names = ["best", "last", "tau"] if reference.what == "best" else [what]
        for name in names:
            if (file := checkpoints / f"{name}.ckpt").is_file():
                return file
        there = ", ".join(sorted(file.stem for file in checkpoints.glob("*.ckpt"))) or "no checkpoint"
        raise LongTailError(f"{reference}: there is no such file in {checkpoints}, which holds {there}.")

    def refuse_changes(self, stage: Stage) -> None:
        """Refuse to go on if a stage ran with other settings or files than it would now."""
        record = self.finished(stage) or (self.started(stage) if self.goes_on(stage) else None)
        if record is None:
            return
        then, now = record["settings"], stage.identity()
        new = "or begin a new version with --stages.new"
        if changed := sorted(key for key in then.keys() | now.keys() if then.get(key) != now.get(key)):
            told = ", ".join(f"{key} {_shown(then, key)}, now {_shown(now, key)}" for key in changed[:3])
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise LongTailError(f"Stage {stage.name} ran with {told}{more}: set it back, {new}.")
        for path, checksum in record["files"].items():
            if Path(path).exists() and checksum_of(Path(path)) != checksum:
                raise LongTailError(
                    f"Stage {stage.name} was made from another {path} than the one that is there now: "
                    f"delete {self.folder(stage)} to run it again, {new}."
                )

    def refuse_unfinished(self, stage: Stage) -> None:
        """Refuse a stage that takes something from a stage that has not finished."""
        for reference in stage.references():
            if self.finished(reference.stage) is None:
                raise LongTailError(
                    f"Stage {stage.name} takes {reference}, and {reference.stage} has not finished: "
                    f"run it first, with --stage {reference.stage}, or all of them, without --stage."
                )

    def run_stage(self, stage: Stage, *, lock: Sequence[int] = ()) -> int:
        """Run a stage as a process of its own, from where it stopped; the exit status."""
        used = {path.as_posix(): checksum_of(path) for path in map(self.resolve, stage.references())}
        folder = self.folder(stage)
        resumed = self.goes_on(stage)
        if resumed:
            _keep_curves(folder)
        elif stage.run != "features" and folder.exists():  # an extraction resumes by itself
            _clear(folder)
        record = {"settings": stage.identity(), "files": used}
        write_json(folder / STARTED, record)
        command = self._command(stage.resolved(self.resolve), folder / LAST if resumed else None)
        begin = time.monotonic()
        status = run_process([sys.executable, "-m", "longtail_lightning.cli.main", *command], lock)
        if status == 0:
            self._make_repeatable(stage)
            seconds = round(time.monotonic() - begin, 1)
            write_json(folder / FINISHED, record | {"seconds": seconds, "result": _result(folder)})
        return status

    def _command(self, stage: Stage, last: Path | None) -> list[str]:
        """The command line after `ltl`, with a config file of the stage's own."""
        folder, settings = self.folder(stage), dict(stage.settings)
        checkpoint = settings.pop("ckpt_path", None)
        flags = [*stage.flags, *(f"--ckpt_path={path}" for path in (last or checkpoint,) if path is not None)]
        pictures = stage.run == "predict" and "images" in settings  # a checkpoint and pictures, and no data module
        if stage.run in ("features", "tau") or pictures:
            flags += [_as_flag(*item) for item in self._own_options(stage, settings) if item[1] is not False]
        elif stage.run == "predict":
            settings = merged({"predictions": {"path": (folder / "predictions.csv").as_posix()}}, settings)
        if stage.run != "fit" and checkpoint is not None and "data" not in settings and not pictures:
            beside = config_beside(checkpoint)
            settings = settings if beside is None else merged(read_config(beside) | {"ckpt_path": None}, settings)
        if stage.run in ("fit", "validate", "test", "predict") and not pictures:
            settings["trainer"] = self._with_logger(stage, settings.get("trainer"))
        if not settings:
            return [stage.run, *flags]
        config = write_text(folder / "stage.yaml", _as_yaml(settings))
        return [stage.run, f"--config={config.as_posix()}", *flags]

    def _own_options(self, stage: Stage, settings: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        """What a small command takes as flags, out of the settings; it writes to the folder of the stage."""
        option, file = {"features": ("out", "bank"), "tau": ("out", "checkpoints/tau.ckpt")}.get(
            stage.run, ("predictions.path", "predictions.csv")
        )
        yield option, (self.folder(stage) / file).as_posix()
        for key in [key for key in settings if key not in _OF_CONFIG]:
            value = settings.pop(key)
            if key == "images" and isinstance(value, list):  # a comma may be in the name of a file
                yield from ((key, file) for file in value)
            else:
                yield from flatten(key, value)

    def _with_logger(self, stage: Stage, options: Any) -> dict[str, Any]:
        """The folder of the stage is that of its first logger; checkpoints and reports go there as well."""
        trainer: dict[str, Any] = dict(options or {})
        own = {
            "class_path": "lightning.pytorch.loggers.CSVLogger",
            "init_args": {"save_dir": self.path.parent.as_posix(), "name": self.path.name, "version": stage.name},
        }
        further = trainer.get("logger") if stage.run == "fit" else None
        listed = further if isinstance(further, list) else [further] if isinstance(further, (dict, str)) else []
        trainer["logger"] = [own, *listed] if listed else own
        return trainer

    def _make_repeatable(self, stage: Stage) -> None:
        """Take the version out of the configs that the run saved, so that repeating it does not overwrite it."""
        folder = self.folder(stage)
        if stage.run == "tau":
            checkpoint = stage.resolved(self.resolve).settings.get("ckpt_path", "")
            if (beside := config_beside(checkpoint)) is not None:  # `ltl test` looks for it beside tau.ckpt
                write_text(folder / CONFIG_FILE, beside.read_text(encoding="utf-8"))
        for file in folder.glob("config_*.yaml"):
            config = read_config(file)
            logger = config.get("trainer", {}).get("logger")
            first = logger[0] if isinstance(logger, list) else logger
            if not isinstance(first, dict) or first.get("init_args", {}).get("version") != stage.name:
                continue
            first["init_args"] |= {"save_dir": self.path.as_posix(), "name": stage.name, "version": None}
            if stage.run == "fit":
                config["ckpt_path"] = stage.resolved(self.resolve).settings.get("ckpt_path")
            head = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
            write_text(file, "\n".join([*head, _as_yaml(config)]))


@contextmanager
def open_run(name: str, *, new: bool) -> Iterator[tuple[RunFolder, Sequence[int]]]:
    """The newest run of this name, or a new one, kept from other processes while it is open.

    The stages inherit the lock: it holds as long as one of them lives, even when this process was killed.
    """
    run = newest_run(name)
    if run is None or new:
        parent = Path("runs") / name
        parent.mkdir(parents=True, exist_ok=True)
        number = 1 + max((_number(folder) for folder in parent.glob("version_*")), default=-1)
        run = RunFolder(parent / f"version_{number}")
        try:
            run.path.mkdir()
        except FileExistsError as error:
            raise LongTailError(f"Another process has just begun {run.path}: wait for it, and begin again.") from error
        write_json(run.path / MARK, {"recipe": name})
    with open(run.path / ".lock", "w") as file:
        yield run, locked(run.path, file.fileno())


def newest_run(name: str) -> RunFolder | None:
    """The run of this name that was begun last."""
    folders = [mark.parent for mark in (Path("runs") / name).glob(f"version_*/{MARK}")]
    return RunFolder(max(folders, key=_number)) if folders else None


def checksum_of(path: Path) -> str:
    """SHA-256 of a file; of a bank, that of its headers; of the folder of a stage, that of how it ended."""
    digest = hashlib.sha256()
    end = path / FINISHED
    for file in [path] if path.is_file() else [end] if end.is_file() else sorted(path.rglob("*.json")):
        with open(file, "rb") as data:
            while block := data.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def _clear(folder: Path) -> None:
    """Make room for a stage that starts over; a folder with checkpoints is renamed, and left for the user to delete."""
    if any(zipfile.is_zipfile(file) for file in folder.rglob("*.ckpt")):
        folder.rename(_free(folder.parent, f"{folder.name}.stopped_"))
    else:
        shutil.rmtree(folder)


def _keep_curves(folder: Path) -> None:
    """Move earlier curves away: Lightning deletes those in a folder to which it logs again."""
    if (curves := folder / "metrics.csv").is_file():
        curves.rename(_free(folder, "metrics_", ".csv"))


def _free(folder: Path, name: str, ending: str = "") -> Path:
    """The first numbered name that is not taken; the user may have deleted an earlier one."""
    return next(path for i in count() if not (path := folder / f"{name}{i}{ending}").exists())


def _result(folder: Path) -> str:
    """One number to show: accuracy, or what was written."""
    curves = [file.read_text(encoding="utf-8").splitlines() for file in sorted(folder.glob("metrics*.csv"))]
    rows = [row for lines in curves for row in csv.DictReader(lines)]
    for name in ("test/acc", "val/acc", "train/loss", "train/loss_epoch"):
        if values := [float(row[name]) for row in rows if row.get(name)]:
            return f"{name} {max(values) if name == 'val/acc' else values[-1]:.3f}"
    banks = sorted(header.parent.name for header in (folder / "bank").glob("*/bank.json"))
    files = [f"bank/{name}" for name in banks] or [file.name for file in folder.glob("checkpoints/*.ckpt")]
    return ", ".join(files or [file.name for file in folder.glob("predictions*")])


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def _as_yaml(settings: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(settings, sort_keys=False, allow_unicode=True)
    return text


def _as_flag(key: str, value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"--{key}" if value is True else f"--{key}={text}"


def _shown(values: dict[str, Any], key: str) -> str:
    return repr(values[key]) if key in values else "not given"


def _number(folder: Path) -> int:
    digits = folder.name.removeprefix("version_")
    return int(digits) if digits.isdigit() else -1
