"""Shows, after the tests, how many faults each of them has injected."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("tests.faults.mortal_daemon", "tests.faults.producers")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the tests recorded as their property ``faults``."""
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    found = [
        (report.nodeid.rpartition("/")[2], value)
        for report in reports
        for name, value in report.user_properties
        if name == "faults"
    ]
    if found:
        terminalreporter.section("faults injected")
        for test, value in found:
            terminalreporter.line(f"{test}: {value}")
