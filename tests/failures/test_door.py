"""How commands end when the reader goes away, or the user presses Ctrl-C."""

from __future__ import annotations

import signal
import subprocess
import time

import pytest

from tests.failures.process import LTL, run, start

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGPIPE"), reason="of POSIX")


@pytest.mark.parametrize("words", [["list"], ["list", "backbones", "*"]])  # little is written at the end, much before
def test_a_reader_that_goes_away(words):
    process = start([*LTL, *words], stdout=subprocess.PIPE)
    process.stdout.close()
    assert (process.wait(60), process.stderr.read()) == (0, "")
    process.stderr.close()


def test_ctrl_c_while_torch_is_imported():
    # It may come before Python listens, and code of others that catches everything while it is imported may catch it.
    ends = []
    for pause in (0.6, 0.8, 1.0, 1.2, 1.4, 1.6):
        process = start([*LTL, "counts", "--data=SyntheticLongTail"])
        time.sleep(pause)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        ends.append((process.returncode, err))
        if ends[-1] == (130, ""):
            return
    raise AssertionError(ends)


def test_a_fault_keeps_its_traceback(tmp_path):
    script = (
        "import sys\nfrom longtail_lightning.cli import main\n"
        "def fails(args): return [][1]\nmain._dispatch = fails\nsys.exit(main.main(['list']))"
    )
    status, _, err = run([LTL[0], "-c", script])
    assert status == 1
    assert err.endswith("IndexError: list index out of range\n")
