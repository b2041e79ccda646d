"""`ltl fit --config RECIPE` of a recipe with `stages:`: several runs, one after the other."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from longtail_lightning._errors import LongTailError
from longtail_lightning.cli._stage_plan import Plan, read_plan, staged_configs
from longtail_lightning.cli._stage_run import RunFolder, newest_run, open_run

__all__ = ["run", "staged_configs"]

HELP = """\
usage: ltl fit --config RECIPE [options]

The recipe holds `stages:`, which run one after the other, each as `ltl fit`, `ltl features` or the like. The same
command goes on where the last one stopped: what has finished is left alone, what was interrupted continues.

  --stage NAME             run this stage alone
  --stages.dry_run         show the stages and their settings, and run nothing
  --stages.new             begin a new version, although there is one that could go on
  --stages.NAME.OPTION     change an option of one stage: --stages.student.trainer.max_epochs 3
  --OPTION                 change an option of all stages that train: --trainer.accelerator cpu

A run writes to runs/RECIPE/version_N, each stage into a folder of its name. A stage takes what an earlier one left by
${stages.NAME.best}, .last, .checkpoints.FILE, .bank or .folder. `ltl fit --help` shows the options of a stage.
"""


def run(command: str, args: list[str], files: Sequence[Path]) -> int:
    """Run the stages that have not finished; the exit status of the first that fails."""
    if {"-h", "--help"} & set(args):
        print(HELP, end="")
        return 0
    if command != "fit":
        raise LongTailError(
            f"{files[0]} holds stages: `ltl fit` runs them, and `ltl {command} --ckpt_path FILE` takes the checkpoint "
            "of one."
        )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise LongTailError("Stages start their own processes: run `ltl fit` without torchrun, with --trainer.devices.")
    plan = read_plan(args)
    if plan.dry_run:
        _show_plan(plan)
        return 0
    try:
        with open_run(plan.name, new=plan.new) as (folder, lock):
            for stage in plan.checked():
                folder.refuse_changes(stage)
            return _run(plan, folder, lock)
    except KeyboardInterrupt:  # between two stages
        return 128 + signal.SIGINT


def _run(plan: Plan, folder: RunFolder, lock: Sequence[int]) -> int:
    left = [stage for stage in plan.chosen() if folder.finished(stage) is None]
    for stage in left[:1]:  # the others run after those that they depend on
        folder.refuse_unfinished(stage)
    _show(plan, folder, left[0].name if left else "")
    for place, stage in enumerate(left):
        status = folder.run_stage(stage, lock=lock)
        following = left[place + 1].name if status == 0 and stage is not left[-1] else ""
        _show(plan, folder, following)
        if status != 0:
            how = "was stopped" if status > 128 else f"ended with status {status}"
            print(f"ltl: stage {stage.name} {how}; the same command continues from there.", file=sys.stderr)
            return status
    if not left:
        print("All of it has finished; --stages.new begins a new version.")
    return 0


def _show(plan: Plan, folder: RunFolder, current: str) -> None:
    """Print a table of the stages and their state."""
    rows = [("stage", "run", "state", "seconds", "result")]
    for stage in plan.stages:
        done, started = folder.finished(stage), folder.started(stage)
        state = "finished" if done else "interrupted" if started else "waiting"
        if stage.name == current:
            state = "continues" if folder.goes_on(stage) else "starts"
        seconds, result = (f"{done['seconds']:.1f}", done["result"]) if done else ("", "")
        rows.append((stage.name, stage.run, state, seconds, result))
    widths = [max(map(len, column)) for column in zip(*rows)]
    print(f"\n{folder.path.as_posix()}")
    for row in rows:
        cells = [text.rjust(width) if i == 3 else text.ljust(width) for i, (text, width) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
    print(flush=True)


def _show_plan(plan: Plan) -> None:
    """The stages with their settings, as they would run."""
    import yaml

    folder = newest_run(plan.name)
    if folder is not None and not plan.new:
        _show(plan, folder, "")
    for stage in plan.chosen():
        print(f"# {stage.name}: ltl {shlex.join([stage.run, *stage.flags])}")
        print(yaml.safe_dump(stage.settings, sort_keys=False, allow_unicode=True))
