"""Threads that do not die in silence, whatever their log does."""

from __future__ import annotations

import logging
import sys

import pytest

from service.threads import start_thread

pytestmark = pytest.mark.timeout(20)


def test_a_failure_is_reported_before_it_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[str] = []

    def fail() -> None:
        raise ValueError("no number")

    log = logging.getLogger("service.threads")
    monkeypatch.setattr(log, "critical", lambda *_, **__: heard.append("logged"))
    start_thread("counter", fail, heard.append).join(10)
    assert heard == ["counter: ValueError: no number", "logged"]


def test_an_exit_is_reported_as_any_other_failure(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []
    start_thread("counter", lambda: sys.exit(3), heard.append).join(10)
    assert heard == ["counter: SystemExit: 3"]
    assert caplog.messages == ["counter: unexpected error"]
