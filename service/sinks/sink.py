"""What a sink is: where kept events go, in offset order."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Sink:
    """Takes the kept lines of one block after the other, from one thread.

    ``write`` may raise OSError: the same lines are then written again after a pause, so it must not
    leave part of them behind, or must know how to go on.
    """

    class Params(BaseModel):
        """The parameters; a name not declared is an error."""

    def __init__(self, params: Any) -> None:
        """Take ``params``, an instance of ``Params``."""
        self.params = params

    def open(self) -> None:
        """Get ready to write; raises OSError when that is not possible."""

    def write(self, lines: bytes) -> None:
        """Write complete lines, all of them or none."""
        raise NotImplementedError

    def close(self) -> None:
        """Give back what ``open`` took."""
