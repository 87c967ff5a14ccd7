"""What a sink is: where kept events go, in offset order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from service.block import Offset


@dataclass(frozen=True, slots=True)
class Emission:
    """The kept events of one block, in order.

    ``lines`` is NDJSON, n events, each with its line end; ``kept`` has one bit for each line of the
    block, set where it is one of them.
    """

    block: int
    lines: bytes
    kept: bytes

    @property
    def rows(self) -> NDArray[np.int64]:
        """The line of the block that each event was, int64[n]: with ``block`` its offset."""
        return np.flatnonzero(self._mask())

    def __iter__(self) -> Iterator[tuple[Offset, bytes]]:
        """Yield each event with its offset, without the line end."""
        for row, line in zip(self.rows.tolist(), self.lines.split(b"\n")[:-1], strict=True):
            yield Offset(self.block, row), line

    def without(self, rows: Collection[int]) -> Emission:
        """Return the emission without the events of some rows."""
        lines = b"".join(line + b"\n" for offset, line in self if offset.row not in rows)
        mask = self._mask()
        mask[list(rows)] = 0
        return Emission(self.block, lines, np.packbits(mask).tobytes())

    def _mask(self) -> NDArray[np.uint8]:
        return np.unpackbits(np.frombuffer(self.kept, np.uint8))


class Sink:
    """Takes the kept events of one block after the other, in order, from one thread.

    Exactly once, if it can tell by itself how far it is: ``open`` is given the ``position`` of the
    last checkpoint and cuts off, or skips, what came after it; the blocks after the checkpoint are
    then written again. A sink without a position gets these a second time: at least once, each
    event with its offset to know it by.

    Whatever a method raises stops nothing else: it is called again after a pause, and what failed
    is told. ``write`` gets the same emission then, so it must not leave part of it behind, or must
    know how to go on. RecordRefused names one event that it will never take. PipelineFailed says
    that trying again will never help: the daemon stops.
    """

    class Params(BaseModel):
        """The parameters; a name not declared is an error."""

    needs_position: ClassVar[bool] = False
    """It cannot begin anew where it wrote before, so it is refused where no checkpoint is kept."""

    settled: int = 0
    """Every block up to this one is in the sink for good; it is not asked to write it again."""

    shares: bool = False
    """Whether others of its kind may write to what ``writes`` tells: they know how to share it."""

    def __init__(self, params: Any) -> None:
        """Take ``params``, an instance of ``Params``."""
        self.params = params

    def writes(self) -> Collection[Path | str]:
        """Return the files, or the name of the stream, that no other sink may write to."""
        return ()

    def open(self, position: Any) -> None:
        """Get ready to write; ``position`` is that of the last checkpoint, None at first.

        Raises OSError or SinkFailed when that is not possible now: the daemon takes nothing in and
        opens it again after a pause. PipelineFailed when what was written before is no longer
        there.
        """

    def write(self, emission: Emission) -> None:
        """Write the events, all of them or none."""
        raise NotImplementedError

    def position(self) -> Any:
        """Return how far it is, as plain data (None, int, str, lists, dicts).

        Asked after ``open``, and after a write.

        Every writing before must be in it, none after it; ``flush`` makes it last.
        """
        return None

    def flush(self) -> None:
        """Return when all that was written will survive a loss of power; asked in another thread.

        OutcomeUnknown, or an OSError of a disk that failed or is full, says that nobody knows what
        was kept: the daemon stops, and its next start writes all since the last checkpoint again.
        """

    def close(self) -> None:
        """Give back what ``open`` took."""
