"""How much is measured: all of it, or with QUICK=1 in the environment a tenth, once."""

from __future__ import annotations

import os
import sys
from typing import Final

QUICK: Final = os.environ.get("QUICK") == "1"
SHARE: Final = 10 if QUICK else 1
"""Full sizes are divided by this."""

REPETITIONS: Final = 1 if QUICK else 3


def say(message: str) -> None:
    """Tell whoever waits what is being measured."""
    print(message, file=sys.stderr, flush=True)
