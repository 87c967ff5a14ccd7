"""The keeper of the state host: what dies is told, but not what it ended itself."""

from __future__ import annotations

from threading import Event
from typing import Any, cast

import pytest

from service.errors import ProcessLost
from service.guardian import StateKeeper
from service.state_host import StateHost
from tests.core.dispatching import LIMIT, Setup


class Starting:
    """A state host that is not ready yet, and is killed before it is."""

    steps = ()

    def __init__(self) -> None:
        self.began, self.killed = Event(), Event()

    def start(self, snapshot: Any) -> None:
        del snapshot
        self.began.set()
        assert self.killed.wait(LIMIT)
        raise ProcessLost("the state host died while starting (exit code -9)")

    def kill(self) -> None:
        self.killed.set()

    def places(self) -> list[Any]:
        return []


def test_a_state_host_that_a_stop_ends_while_it_starts_is_no_death(
    caplog: pytest.LogCaptureFixture,
) -> None:
    host, failures = Starting(), list[str]()
    keeper = StateKeeper(Setup().dispatcher, cast("StateHost", host), 10.0, failures.append)
    keeper.start()
    assert host.began.wait(LIMIT)
    assert keeper.stop(LIMIT)
    assert caplog.messages == []
    assert failures == []
