"""What a middleware may make of an event: the service and your tests hold it to the same."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from middleware.contract import CID_RANGE, Event


def check_changed(event: Event, seen: Collection[str]) -> None:
    """Raise ValueError or TypeError unless what was made of an event can be passed on.

    It still has its point and its time, where these were ``seen``, and no value that JSON cannot
    hold, or not in one way: what is written must not depend on the process that writes it.
    """
    for name in ("cid", "time"):
        if name in seen and name not in event:
            raise ValueError(f'it has no "{name}"')
    cid = event.get("cid", 0)
    if not isinstance(cid, int) or isinstance(cid, bool):
        raise TypeError('its "cid" is not an integer')
    if not CID_RANGE[0] <= cid <= CID_RANGE[1]:
        raise ValueError('its "cid" does not fit 64 bits')
    time = event.get("time", 0.0)
    if not isinstance(time, (int, float)) or isinstance(time, bool) or not math.isfinite(time):
        raise TypeError('its "time" is not a finite number')
    for name, value in event.items():
        if odd := _odd(value):
            raise ValueError(f'its "{name}" {odd}')


def _odd(value: Any) -> str:
    """Say what about a value cannot be written in one way; empty if nothing."""
    kind = type(value)
    if kind is str or kind is int:
        return ""
    if isinstance(value, float):
        return "" if math.isfinite(value) else f"is {value}, which JSON cannot hold"
    if isinstance(value, set | frozenset):
        return "is a set, whose order is another one in each process: make it a sorted list"
    if isinstance(value, Mapping):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return ""
    return next((f"holds what {odd}" for odd in map(_odd, value) if odd), "")
