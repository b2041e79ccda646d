"""More memory than there is."""

from __future__ import annotations

import sys

import pytest

from tests.cli.conftest import MODEL, TINY
from tests.failures.process import LTL, run, sentence


def test_a_model_that_is_too_large(ltl):
    status, _, err = ltl("fit", *MODEL, *TINY, "--model.backbone.width=1000000")
    assert sentence(status, err) == (
        "The memory is used up (32.7 TiB were asked for): use a smaller batch_size or fewer num_workers, or give the "
        "process more memory."
    )


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit the memory of a process")
def test_a_limit_that_a_batch_exceeds():
    large = ["--data.max_count=9000", "--data.batch_size=9000", "--model.backbone.width=256", "--trainer.max_epochs=1"]
    # Enough for the libraries, whatever they are, and too little for the batch.
    code = "import resource, sys; import torch, lightning; from longtail_lightning.cli.main import main\n"
    code += "used = int(open('/proc/self/statm').read().split()[0]) * resource.getpagesize()\n"
    code += "resource.setrlimit(resource.RLIMIT_AS, (used + 3_000_000_000,) * 2); sys.exit(main(sys.argv[1:]))"
    status, _, err = run([LTL[0], "-c", code, "fit", *MODEL, *TINY, *large])
    assert sentence(status, err).startswith("The memory is used up (")
