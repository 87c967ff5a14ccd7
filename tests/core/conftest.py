"""Properties are checked without a clock: a busy machine makes no test fail."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from service import border, scan

settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


@pytest.fixture(scope="module", params=[True, False], ids=["large", "small"])
def blocks_of_either_size(request: pytest.FixtureRequest) -> Iterator[None]:
    """Read the few lines of a test once as those of a large block, and once as they are."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(border, "FEW_BYTES", 0)
            patch.setattr(border, "FEW_LINES", 1)
            patch.setattr(border, "PIECES", 2)
            patch.setattr(scan, "LEAST_BYTES", 0)
        yield
