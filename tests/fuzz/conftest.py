"""Tell how many cases ran, in all processes together."""

from __future__ import annotations

import pytest

from tests.fuzz import cases


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["fuzz_cases"] = cases.ran


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node):
    cases.ran += getattr(node, "workeroutput", {}).get("fuzz_cases", 0)


def pytest_terminal_summary(terminalreporter):
    if cases.CASES:
        terminalreporter.write_line(f"{cases.ran} cases")
