"""How many faults a test injects: so many by default, scaled with FAULTS (``make faults N=5000``).

By default all tests here together inject about a thousand faults, in a few minutes on two cores.
"""

from __future__ import annotations

import os
from typing import Final

DEFAULT: Final = 1_000
"""What FAULTS is when it is not set."""


def faults(share: int) -> int:
    """Return how many faults a test is to inject whose share is ``share`` of DEFAULT."""
    return max(1, share * int(os.environ.get("FAULTS") or DEFAULT) // DEFAULT)


def spread(number: int, wanted: int) -> list[int]:
    """Return ``wanted`` of the numbers 1 to ``number``, evenly spread; all if there are fewer."""
    if wanted >= number:
        return list(range(1, number + 1))
    return sorted({1 + index * (number - 1) // max(1, wanted - 1) for index in range(wanted)})
