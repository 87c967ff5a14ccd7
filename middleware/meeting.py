"""Which events of a batch meet: how earlier ones change what a later one refers to."""

from __future__ import annotations

from typing import Final

import numpy as np

from middleware.contract import Mask
from middleware.near_rows import rising
from middleware.point_times import HIGHEST_POINT, Points, Times

MOST_MEETING: Final = 12
"""Events near each other in a batch from which on they are taken one by one."""


def with_earlier(cid: Points, time: Times, latest: Times, radius: int) -> Times | None:
    """Return ``latest`` with the times of earlier events within ``radius``, all of them remembered.

    In columns, as nothing depends on the decisions: by rising point, each event is compared with
    the next one, the one after that, and so on. None where too many meet for that to pay.
    """
    order = rising(cid)
    point = cid[order]
    reach = np.minimum(point, HIGHEST_POINT - radius) + radius
    result = latest.copy()
    for step in range(1, MOST_MEETING):
        left = np.flatnonzero(point[step:] <= reach[:-step])
        if not len(left):
            return result
        one, other = order[left], order[left + step]
        np.maximum.at(result, np.maximum(one, other), time[np.minimum(one, other)])
    return None


def to_walk(cid: Points, settled: Mask, radius: int, *, seen: bool) -> Points:
    """Return the rows, in order, that the decision about an unsettled row may hang together with.

    These are the unsettled rows with another row within ``radius``, and the rows near them, as far
    as they may be remembered: all if ``seen``, otherwise only unsettled ones.
    """
    rows = np.arange(len(cid)) if seen else np.flatnonzero(~settled)
    order = rows[rising(cid[rows])]
    point = cid[order]
    reach = np.minimum(point, HIGHEST_POINT - radius) + radius
    unsettled = ~settled[order]
    close = point[1:] <= reach[:-1]
    walk = np.zeros(len(order), np.bool_)
    walk[1:] |= close & unsettled[1:]
    walk[:-1] |= close & unsettled[:-1]
    if seen and walk.any():
        position = np.arange(len(order))
        left = np.maximum.accumulate(np.where(unsettled, position, 0))
        walk |= unsettled[left] & (point <= reach[left]) & ~unsettled
        right = np.minimum.accumulate(np.where(unsettled, position, len(order) - 1)[::-1])[::-1]
        walk |= unsettled[right] & (point[right] <= reach) & ~unsettled
    return np.sort(order[walk])
