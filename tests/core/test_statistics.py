"""The counts: every event is accounted for, at any time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from middleware.contract import MOST_COUNTED
from service.passage import DeadLetter, Result
from service.statistics import Statistics
from tests.core.examples import block

small = st.integers(0, 3)


@st.composite
def results(draw: st.DrawFn) -> Result:
    emitted, dead, dropped = draw(small), draw(small), draw(small)
    return Result(
        lines=emitted + dead + dropped + draw(small),  # the rest is blank
        accepted=emitted + dead + dropped,
        emitted=emitted,
        kept=b"",
        dead=[DeadLetter(0, b"", "")] * dead,
        dropped={"step": dropped},
        counts={"step": {"late": draw(small)}},
    )


@given(st.lists(results(), max_size=6), st.integers(0, 6))
def test_accepted_is_emitted_dropped_dead_and_in_flight(outcome: list[Result], so_far: int) -> None:
    statistics = Statistics(["step"])
    blocks = [block(number, b"\n" * each.lines) for number, each in enumerate(outcome)]
    for each in blocks:
        statistics.accept(each)
    for each, result in list(zip(blocks, outcome, strict=True))[:so_far]:
        statistics.settle(each, result)
    totals = statistics.totals()
    accounted = totals.emitted + sum(totals.dropped.values()) + totals.dead + totals.in_flight
    assert totals.accepted == accounted
    if so_far >= len(blocks):
        assert totals.in_flight == 0
        assert totals.accepted == sum(result.accepted for result in outcome)
        late = sum(result.counts["step"]["late"] for result in outcome)
        assert totals.counts.get("step", {}).get("late", 0) == late


def test_every_step_has_a_number_from_the_beginning() -> None:
    totals = Statistics(["first", "second"]).totals()
    assert totals.dropped == totals.shadow == {"first": 0, "second": 0}


def test_what_a_removed_step_has_dropped_or_would_have_dropped_is_still_told() -> None:
    state = {"dropped": {"one": 2}, "shadow": {"two": 3}}
    totals = Statistics(["three"], state).totals()
    assert totals.dropped == {"three": 0, "one": 2, "two": 0}
    assert totals.shadow == {"three": 0, "one": 0, "two": 3}


def test_what_steps_count_stays_within_what_a_checkpoint_holds() -> None:
    statistics = Statistics(["step"])
    most = {"step": {"up": MOST_COUNTED, "down": -MOST_COUNTED}}
    for number in range(3):
        result = Result(lines=0, accepted=0, emitted=0, kept=b"", dead=[], counts=most)
        statistics.settle(block(number, b""), result)
    assert statistics.totals().counts == most
