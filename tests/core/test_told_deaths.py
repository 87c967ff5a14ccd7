"""What goes to the dead letters is counted by place, and told to the log once in a while."""

from __future__ import annotations

import pytest

from service import deaths
from service.deaths import DeathNotices
from service.passage import DeadLetter


def test_each_place_is_told_with_its_number_and_last_reason_and_not_again_for_a_while(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    notices = DeathNotices()
    notices.take([DeadLetter(0, b"", "not JSON"), DeadLetter(1, b"", "no time", "step")])
    notices.take([DeadLetter(0, b"", "too long")])
    notices.take([DeadLetter(0, b"", "too wide")], "table")
    for _ in range(2):
        notices.tell()
    assert caplog.messages == [
        "no event: 2 more went to the dead letters, the last one: too long",
        "step: 1 more went to the dead letters, the last one: no time",
        "sink table: 1 more went to the dead letters, the last one: too wide",
    ]
    caplog.clear()
    notices.take([DeadLetter(0, b"", "not JSON")])
    notices.tell()
    assert not caplog.messages, "it was told a moment ago"
    monkeypatch.setattr(deaths, "EVERY", 0.0)
    notices.tell()
    assert caplog.messages == ["no event: 1 more went to the dead letters, the last one: not JSON"]
    assert notices.describe()["no event"] == {"count": 3, "first": "not JSON", "last": "not JSON"}
