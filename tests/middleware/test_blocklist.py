"""What Blocklist drops."""

from __future__ import annotations

import numpy as np
import pytest

from middleware import Batch, ConfigurationError
from middleware.blocklist import Blocklist
from middleware.testing import check_contract

LOWEST, HIGHEST = -(2**63), 2**63 - 1


def make(*cids: int) -> Blocklist:
    blocklist = Blocklist(Blocklist.parse_params({"cids": cids}))
    blocklist.open()
    return blocklist


def test_it_drops_the_listed_points() -> None:
    blocklist = make(2, LOWEST)
    assert [blocklist.handle({"cid": cid}) is None for cid in (1, 2, LOWEST)] == [False, True, True]


def test_its_batch_form_says_the_same() -> None:
    events = Batch(np.array([1, 2, HIGHEST]), np.zeros(3))
    assert make(2, HIGHEST).handle_batch(events).tolist() == [True, False, False]


def test_an_empty_list_drops_nothing() -> None:
    assert make().handle_batch(Batch(np.array([1, 2]), np.zeros(2))).tolist() == [True, True]


def test_it_explains_itself() -> None:
    assert make(2).explain({"cid": 2}) == "point 2 is on the blocklist"
    assert make(2).explain({"cid": 3}) is None


@pytest.mark.parametrize("cids", [[HIGHEST + 1], [LOWEST - 1], ["a"], 5])
def test_only_points_can_be_listed(cids: object) -> None:
    with pytest.raises(ConfigurationError, match="cids"):
        Blocklist.parse_params({"cids": cids})


def test_it_keeps_the_contract() -> None:
    events = [{"cid": cid, "time": 0.0} for cid in (1, 2, 3, 2, LOWEST, HIGHEST)]
    check_contract(Blocklist, {"cids": [2, HIGHEST]}, events)
