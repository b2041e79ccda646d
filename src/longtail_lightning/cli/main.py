"""Entry point of `ltl`: looks at the first word and imports torch only for commands that need it."""

from __future__ import annotations

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from importlib import import_module

from longtail_lightning._errors import LongTailError, did_you_mean
from longtail_lightning.cli._import import with_imports
from longtail_lightning.cli.run_help import RUN, run_help

HELP = """\
ltl: train on long-tailed images

usage: ltl COMMAND [options]

  fit        train                        ltl fit --config quickstart
  validate   evaluate on validation data  ltl validate --ckpt_path FILE
  test       evaluate on test data        ltl test --ckpt_path FILE
  predict    write predictions to a file  ltl predict --ckpt_path FILE --images photos
  features   keep the features of images  ltl features --ckpt_path FILE --out bank
  tau        even out a classifier        ltl tau --ckpt_path FILE
  class      add or remove classes        ltl class add --ckpt_path FILE --name N --images photos
  memory     items that a model looks up  ltl memory build MEMORY --ckpt_path FILE --images photos
  knn        nearest neighbors of banks   ltl knn features/train features/test

  list       name what there is           ltl list losses
  show       describe one of them         ltl show LogitAdjustedLoss
  cp         copy a recipe to edit it     ltl cp quickstart mine.yaml
  counts     class counts of labels       ltl counts --data SyntheticLongTail
  data       check images before training ltl data check FOLDER
  verify     find damaged files           ltl verify runs

--config takes a file or the name of a packaged recipe. `ltl COMMAND --help` tells more; of a recipe with
several stages, `ltl fit --config staged_quickstart --help`.
--import MODULE imports a module of yours first, so that a checkpoint may hold classes of it: files alone import
nothing. With --debug, errors show their traceback. `ltl --version` prints the version.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 2 when something the user gave cannot work."""
    args = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in args
    args = [arg for arg in args if arg != "--debug"]
    try:
        status = _dispatch(with_imports(args))
        sys.stdout.flush()  # a reader that is gone is noticed here
        return status
    except BrokenPipeError:
        # Python flushes once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except Exception as error:
        told = _sentence(error)
        if told is None or debug:
            raise
        print(f"ltl: error: {told}", file=sys.stderr)
        return 2


def _sentence(error: Exception) -> str | None:
    """What to tell the user; None for a fault of the program, which shows its traceback."""
    from longtail_lightning._system_errors import sentence_for_system_error
    from longtail_lightning.cli._causes import first_of_ours

    if (ours := first_of_ours(error)) is not None:
        return str(ours)
    if (told := sentence_for_system_error(error)) is None and "torch" in sys.modules:
        from longtail_lightning._distributed import LOST_PROCESS, is_lost_connection

        told = LOST_PROCESS if is_lost_connection(error) else None
    return told


def _dispatch(args: list[str]) -> int:
    if not args or args[0] in ("-h", "--help", "help"):
        print(HELP, end="")
        return 0
    command, *rest = args
    if command == "--version":
        from longtail_lightning import __version__

        print(f"longtail-lightning {__version__}")
        return 0
    pictures = command == "predict" and any(word.partition("=")[0] == "--images" for word in rest)
    if command in RUN and not pictures:
        from longtail_lightning.cli import stages

        if files := stages.staged_configs(rest):
            return stages.run(command, rest, files)
        if {"-h", "--help"} & set(rest):
            print(run_help(command), end="")
            return 0
        from longtail_lightning.cli.app import run

        return run(["--help" if arg == "--help-all" else arg for arg in args])
    from longtail_lightning.cli.parser import COMMANDS, parse

    if command in COMMANDS or pictures:
        asked = parse(args)
        return 0 if asked is None else _run_small(asked)
    raise LongTailError(f"There is no command {command!r}. {did_you_mean(command, [*RUN, *COMMANDS])}")


def _run_small(asked: Namespace) -> int:
    """Import the module of a small command, which may need torch, and run it."""
    module, _, name = asked.run.partition(".")
    run: Callable[[Namespace], int] = getattr(import_module(f"longtail_lightning.cli.{module}"), name)
    return run(asked)


if __name__ == "__main__":
    sys.exit(main())
