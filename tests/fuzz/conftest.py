"""Tell how many cases ran."""

from __future__ import annotations

from tests.fuzz import cases


def pytest_terminal_summary(terminalreporter):
    if cases.CASES:
        terminalreporter.write_line(f"{cases.ran} cases")
