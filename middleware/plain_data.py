"""Plain data: what can be kept, and is the same when it comes back."""

from __future__ import annotations

from typing import Any, Final

PLAIN: Final = "None, bool, int (64-bit), float, str, bytes, memoryviews, lists and dicts"
"""What plain data is made of; tuples come back as lists, and memoryviews as bytes."""


def find_odd(state: Any, where: str) -> str | None:
    """Return what in ``state`` is not plain data, and where; None if all is plain."""
    if isinstance(state, dict):
        inside = [(f"{where}'s key", key) for key in state]
        inside += [(f"{where}[{key!r}]", value) for key, value in state.items()]
    elif isinstance(state, list | tuple):
        inside = [(f"{where}[{number}]", value) for number, value in enumerate(state)]
    elif type(state) is int:
        fits = -(2**63) <= state < 2**64
        return None if fits else f"{where} is {state}, more than 64 bits"
    else:
        plain = type(state) in {type(None), bool, float, str, bytes, memoryview}
        return None if plain else f"{where} is a {type(state).__name__}"
    return next(filter(None, (find_odd(value, place) for place, value in inside)), None)
