"""A class that raises, wherever it is told to, what cannot even be written as text."""

from __future__ import annotations

from typing import Any, Self

from pydantic import BaseModel, model_validator

from middleware.contract import Event, SharedMiddleware
from service.sources.source import Source


class Unspeakable(RuntimeError):
    """Raises when it is asked what it says."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class UnspeakableValue(ValueError):
    """Does so, too, and is what validators raise."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


class At(BaseModel):
    """``at`` is where it raises."""

    at: str = ""

    @model_validator(mode="after")
    def _checked(self) -> Self:
        raise_at("params", self)
        if self.at == "value":
            raise UnspeakableValue
        return self


def raise_at(place: str, params: At) -> None:
    if params.at == place:
        raise Unspeakable


class Speechless(SharedMiddleware):
    """Remembers nothing."""

    Params = At

    def __init__(self, params: At) -> None:
        super().__init__(params)
        raise_at("__init__", params)

    @property
    def reads(self) -> tuple[str, ...]:
        raise_at("reads", self.params)
        return ()

    def open(self) -> None:
        raise_at("open", self.params)

    def close(self) -> None:
        raise_at("close", self.params)

    def handle(self, event: Event) -> Event | None:
        return event

    def snapshot(self) -> Any:
        raise_at("snapshot", self.params)

    def restore(self, state: Any) -> None:
        assert state is None
        raise_at("restore", self.params)


class SpeechlessSource(Source):
    """Hands in nothing."""

    class Params(Source.Params, At):
        """``at`` is where it raises."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        raise_at("__init__", self.params)

    def reads(self) -> tuple[str, ...]:
        raise_at("reads", self.params)
        return ()

    def start(self) -> None:
        raise_at("start", self.params)
        if self.params.at == "thread":
            self.start_thread(lambda: raise_at("thread", self.params))
