"""What all children need, imported once in the server that they are forked from."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy.ma

import middleware.adjacent
import service.state_host
import service.worker

__all__ = ["middleware", "numpy", "service"]
# Of numpy: the first np.unique imports it, and the first event would wait for that.

# A service manager's TERM reaches the whole group; the daemon decides when to end.
signal.signal(signal.SIGTERM, signal.SIG_IGN)

_comm = Path("/proc/self/comm")
if _comm.exists():
    _comm.write_text("penstock-fork")
