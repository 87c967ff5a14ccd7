"""What all children need, imported once in the server that they are forked from."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from service.garbage import importing
from service.signals import HEARD

with importing():
    import middleware.adjacent
    import service.state_host
    import service.worker

__all__ = ["middleware", "service"]

os.environ.pop("PYTHONSAFEPATH", None)  # meant for this process alone
# Standard output is the daemon's alone: who reads it should see its end when the daemon ends.
os.dup2(2, 1)
for _number in HEARD:
    signal.signal(_number, signal.SIG_IGN)

_comm = Path("/proc/self/comm")
if _comm.exists():
    _comm.write_text("penstock-fork")
