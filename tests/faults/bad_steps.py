"""Steps that do what no step should, at the places where a start or a switch meets them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Event as Forever
from typing import Any, Self

from pydantic import BaseModel, model_validator

from middleware.contract import Batch, Event, Middleware, SharedMiddleware


class Where(BaseModel):
    """``mended`` is a file: once it is there, the class is."""

    mended: Path
    bad: bool = False


class ExitsAtOpen(Middleware):
    """Ends its process as it is opened."""

    Params = Where

    def open(self) -> None:
        if not self.params.mended.exists():
            os._exit(3)

    def handle(self, event: Event) -> Event | None:
        return event


class HangsAtOpen(ExitsAtOpen):
    """Does not return from being opened."""

    def open(self) -> None:
        Forever().wait()


class RaisesAtOpen(ExitsAtOpen):
    """Cannot be opened."""

    def open(self) -> None:
        raise ValueError("bad is bad")


class ExitsAsItIsMade(ExitsAtOpen):
    """Ends the interpreter as it is made."""

    def __init__(self, params: Where) -> None:
        super().__init__(params)
        sys.exit(3)


class Once(SharedMiddleware):
    """Passes each cid once."""

    Params = Where

    def open(self) -> None:
        self.seen: list[int] = []

    def handle(self, event: Event) -> Event | None:
        if event["cid"] in self.seen:
            return None
        self.seen.append(event["cid"])
        return event

    def snapshot(self) -> Any:
        return self.seen

    def restore(self, state: Any) -> None:
        self.seen = state


class Narrowed(Once):
    """Once it is mended, it accepts only some of the params that it did."""

    class Params(Where):
        """``level`` is at least 5 once it is mended."""

        level: int = 0

        @model_validator(mode="after")
        def _narrower(self) -> Self:
            if self.mended.exists() and self.level < 5:
                raise ValueError("level is too low")
            return self


class SharedExitsAtOpen(Once):
    """Ends the state host as it is opened."""

    def open(self) -> None:
        if not self.params.mended.exists():
            os._exit(3)
        super().open()


class BatchInterrupts(Once):
    """Raises as it is handed many events, not with each of them."""

    def handle_batch(self, batch: Batch) -> Any:
        raise KeyboardInterrupt(f"at {len(batch)} events")


class HandleExits(Once):
    """Ends the state host at an event."""

    def handle(self, event: Event) -> Event | None:
        os._exit(event["cid"])


class OpenRaises(Once):
    """Cannot be opened with bad parameters."""

    def open(self) -> None:
        if self.params.bad:
            raise ValueError("bad is bad")
        super().open()


class SharedHangsAtOpen(Once):
    """Does not return from being opened."""

    def open(self) -> None:
        Forever().wait()


class RestoreHangs(Once):
    """Does not return from taking its memory over."""

    def restore(self, state: Any) -> None:
        super().restore(state)
        Forever().wait()


class SnapshotExits(Once):
    """Ends its process as it is asked for a memory that is not empty."""

    def snapshot(self) -> Any:
        return os._exit(7) if self.seen else []


class CloseRaises(Once):
    """Cannot be closed."""

    def close(self) -> None:
        raise RuntimeError("it does not close")


class CannotBeKept(Once):
    """Can keep an empty memory only, until it is mended."""

    def snapshot(self) -> Any:
        return self.seen if self.params.mended.exists() else [object() for _ in self.seen]


class KeepsNothing(SharedMiddleware):
    """Has no snapshot and no restore."""

    def handle(self, event: Event) -> Event | None:
        return event


class OpenDoesOdd(Once):
    """Hangs or exits as it is opened, as told."""

    class Params(Where):
        """``odd`` is what to do."""

        odd: str = ""

    def open(self) -> None:
        super().open()
        if self.params.odd == "hang":
            Forever().wait()
        elif self.params.odd == "os._exit":
            os._exit(5)
        elif self.params.odd == "sys.exit":
            sys.exit(6)
        elif self.params.odd == "raise":
            raise ValueError("odd")


class ChecksOdd(Once):
    """Exits, hangs or leaves a note as its parameters are checked, or its memory is asked about."""

    class Params(Where):
        """``at`` is where, ``odd`` what to do there; ``note`` gets a line for each process."""

        at: str = ""
        odd: str = ""
        note: Path | None = None

        @model_validator(mode="after")
        def _checked(self) -> Self:
            self.be_odd("check")
            return self

        def be_odd(self, where: str) -> None:
            if self.note is not None:
                with self.note.open("a") as note:
                    print(os.getpid(), file=note)
            if self.at == where and self.odd == "hang":
                Forever().wait()
            elif self.at == where:
                sys.exit(6)

    @classmethod
    def keeps_memory(cls, before: BaseModel, after: BaseModel) -> bool:
        assert isinstance(before, cls.Params)
        assert isinstance(after, cls.Params)
        after.be_odd("memory")
        return True


class OddOnceMended(Once):
    """Once it is mended, it hangs or ends its process as it is made, as its parameters tell."""

    class Params(Where):
        """``odd`` is what to do."""

        odd: str = ""

    def __init__(self, params: Params) -> None:
        super().__init__(params)
        if params.mended.exists() and params.odd == "hang":
            Forever().wait()
        elif params.mended.exists() and params.odd == "os._exit":
            os._exit(5)
