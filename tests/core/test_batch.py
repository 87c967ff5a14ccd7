"""A batch: the same events by column, one by one, and in another process."""

from __future__ import annotations

import pickle
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.contract import MISSING, Batch

CID = np.array([1, 2])
TIME = np.array([0.5, 1.5])


def some() -> Batch:
    return Batch(CID, TIME, reads=("time", "colour"), fields={"colour": ["red", MISSING]})


def whole() -> Batch:
    events: list[dict[str, Any]] = [
        {"cid": 1, "time": 0.5, "colour": "red"},
        {"cid": 2, "time": 1.5, "size": 3},
    ]
    return Batch(CID, TIME, reads=(), events=events)


def test_columns() -> None:
    for batch in (some(), whole()):
        assert len(batch) == 2
        assert batch["cid"] is batch.cid
        assert batch["time"] is batch.time
        assert batch["colour"] == ["red", None]


def test_events_have_the_fields_that_are_read_and_not_those_they_lack() -> None:
    assert [dict(event) for event in some()] == [{"time": 0.5, "colour": "red"}, {"time": 1.5}]
    assert [dict(event) for event in whole()] == list(whole().events or ())


def test_events_hold_plain_numbers() -> None:
    (first, _) = Batch(CID, TIME)
    assert (type(first["cid"]), type(first["time"])) == (int, float)


def test_events_are_read_only() -> None:
    for batch in (some(), whole()):
        for event in batch:
            with pytest.raises(TypeError):
                event["time"] = 0.0  # type: ignore[index]


def test_a_field_that_is_not_read_is_no_column() -> None:
    with pytest.raises(KeyError):
        some()["size"]


fields = st.lists(st.none() | st.just(MISSING) | st.integers() | st.text(), max_size=5)


@given(fields)
def test_a_batch_is_the_same_in_another_process(column: list[Any]) -> None:
    cid = np.arange(len(column))
    batch = Batch(cid, cid / 2, reads=("cid", "time", "x"), fields={"x": column})
    other = pickle.loads(pickle.dumps(batch))  # noqa: S301 - made right here
    assert list(map(dict, other)) == list(map(dict, batch))
    assert (other["x"], len(other)) == (batch["x"], len(batch))
    assert other.cid.dtype == np.int64
    assert not other.cid.flags.writeable


@pytest.mark.parametrize("reads", [("cid",), ("time",), ("cid", "time"), ("time", "cid")])
def test_an_event_has_the_fields_read_in_their_order(reads: tuple[str, ...]) -> None:
    values = {"cid": CID.tolist(), "time": TIME.tolist()}
    expected = [{name: values[name][row] for name in reads} for row in range(len(CID))]
    events = list(Batch(CID, TIME, reads=reads))
    assert events == expected
    assert [tuple(event) for event in events] == [reads] * len(CID)
    assert {type(event) for event in events} == {MappingProxyType}
