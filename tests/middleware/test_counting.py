"""What a step may count, and what it is told when it counts anything else."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
import numpy as np
import pytest

from middleware import ContractError, Middleware
from middleware.contract import LONGEST_NAME, MOST_COUNTED, NoParams


class Kind(StrEnum):
    LATE = "late"


def counting() -> Middleware:
    return Middleware(NoParams())


def test_counts_add_up_until_they_are_taken() -> None:
    step = counting()
    step.count("late")
    step.count("late", 2)
    step.count("lost", -1)
    assert step.take_counts() == {"late": 3, "lost": -1}
    assert step.take_counts() == {}


def test_integers_of_numpy_and_names_of_enumerations_count_as_plain_ones() -> None:
    step = counting()
    step.count(Kind.LATE, np.ones(3, np.bool_).sum())
    step.count("late", np.int8(2))
    counts = step.take_counts()
    assert [(type(name), type(number)) for name, number in counts.items()] == [(str, int)]
    assert msgspec.json.encode(counts) == b'{"late":5}'


@pytest.mark.parametrize("number", [1.0, "1", None, np.float64(2), np.ones(2, int)], ids=repr)
def test_what_is_no_integer_is_refused_where_it_is_counted(number: Any) -> None:
    step = counting()
    with pytest.raises(ContractError, match=r'count\("late", .*not an integer: write int'):
        step.count("late", number)
    assert step.take_counts() == {}


@pytest.mark.parametrize("number", [MOST_COUNTED + 1, -(2**70)])
def test_an_absurd_number_is_refused(number: int) -> None:
    with pytest.raises(ContractError, match="more than it can hold"):
        counting().count("late", number)


@pytest.mark.parametrize("name", [1, None, b"late", "", "\ud800", "x" * (LONGEST_NAME + 1)])
def test_a_name_that_the_stats_cannot_show_is_refused(name: Any) -> None:
    with pytest.raises(ContractError, match="count"):
        counting().count(name)
