"""Properties are checked without a clock: a busy machine makes no test fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from service.dead_letter_store import DeadLetterStore
from tests.dead_letters.letters import LONGEST

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[DeadLetterStore]:
    store = DeadLetterStore(tmp_path / "state" / "penstock.db", LONGEST)
    store.open(None)
    yield store
    store.close()
