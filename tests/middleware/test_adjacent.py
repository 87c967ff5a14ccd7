"""What AdjacentSuppressor decides, remembers, forgets and explains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from middleware import Batch, ConfigurationError, ContractError
from middleware.adjacent import AdjacentSuppressor
from middleware.contract import MISSING
from middleware.memories import unpack
from tests.middleware.reference import Reference

LOWEST, HIGHEST = -(2**63), 2**63 - 1

# cid, time, whether refresh="seen" keeps it, whether refresh="kept" does
TABLE = [
    (223, 0.0, True, True),  # nothing remembered
    (224, 10.0, False, False),  # neighbour 223 at 0
    (225, 20.0, False, True),  # "seen" remembers the suppressed 224 at 10
    (225, 319.9, False, False),  # itself at 20: 299.9 < 300
    (226, 619.9, True, True),  # 225 at 319.9, age exactly 300
    (228, 620.0, True, True),  # 226 is two away
    (227, 620.0, False, False),  # neighbours on both sides
    (222, 100.0, False, False),  # behind the others, but 223 at 0 is 100 before it
    (225, 19.0, True, True),  # late: 226 at 619.9 is 600.9 after it
]


class Columns(AdjacentSuppressor):
    """Decides even a few events in columns."""

    FEW = 0


class Forgetful(Columns):
    """Forgets often, too: its cycles are short."""

    LEAST_CYCLE = 17


Suppressor = AdjacentSuppressor
Events = Sequence[dict[str, Any]]


def make(cls: type[Suppressor] = AdjacentSuppressor, **params: Any) -> Suppressor:
    suppressor = cls(cls.Params(**params))
    suppressor.open()
    return suppressor


def batch(events: Events, by: Sequence[str] = ()) -> Batch:
    return Batch(
        np.array([event["cid"] for event in events], np.int64),
        np.array([event["time"] for event in events], np.float64),
        reads=("cid", "time", *by),
        fields={name: [event.get(name, MISSING) for event in events] for name in by},
    )


def handled(suppressor: Suppressor, events: Events) -> list[bool]:
    return [suppressor.handle(event) is not None for event in events]


def copy_of(suppressor: Suppressor) -> Suppressor:
    """Return another suppressor that took over the memory, as after a restart."""
    other = type(suppressor)(suppressor.params)
    other.open()
    other.restore(msgspec.msgpack.decode(encoded(suppressor)))
    return other


def encoded(suppressor: Suppressor) -> bytes:
    """Return the memory as it is now; what ``snapshot`` returns may go on with it."""
    return msgspec.msgpack.encode(suppressor.snapshot())


def remembered(suppressor: Suppressor) -> Any:
    """Return the whole memory in one order: that of points in a snapshot means nothing."""
    state = suppressor.snapshot()
    touched = state.pop("touched")
    if touched is not None:
        touched = (touched["events"], in_order(touched["numbers"]))
    return in_order(state.pop("memories")), touched, state


def in_order(packed: Any) -> list[Any]:
    return [
        (value, sorted(zip(*map(tuple, unpack(*pages)), strict=True))) for value, *pages in packed
    ]


def at(cid: int, time: float, **fields: Any) -> dict[str, Any]:
    return {"cid": cid, "time": time, **fields}


@pytest.mark.parametrize("refresh", ["seen", "kept"])
@pytest.mark.parametrize("cls", [AdjacentSuppressor, Columns])
class TestTheTable:
    events = tuple(at(cid, time) for cid, time, _, _ in TABLE)

    @staticmethod
    def expected(refresh: str) -> list[bool]:
        return [seen if refresh == "seen" else kept for _, _, seen, kept in TABLE]

    def test_by_handle(self, cls: type[Suppressor], refresh: str) -> None:
        suppressor = make(cls, refresh=refresh)
        assert handled(suppressor, self.events) == self.expected(refresh)
        assert suppressor.take_counts() == {"late": 1}

    def test_by_handle_batch(self, cls: type[Suppressor], refresh: str) -> None:
        suppressor = make(cls, refresh=refresh)
        assert suppressor.handle_batch(batch(self.events)).tolist() == self.expected(refresh)
        assert suppressor.take_counts() == {"late": 1}

    def test_with_a_restart_before_each_event(self, cls: type[Suppressor], refresh: str) -> None:
        suppressor = make(cls, refresh=refresh)
        keep = []
        for event in self.events:
            suppressor = copy_of(suppressor)
            keep += suppressor.handle_batch(batch([event])).tolist()
        assert keep == self.expected(refresh)

    def test_late_events_can_be_suppressed(self, cls: type[Suppressor], refresh: str) -> None:
        suppressor = make(cls, refresh=refresh, late="suppress")
        keep = suppressor.handle_batch(batch(self.events)).tolist()
        assert keep == [*self.expected(refresh)[:-1], False]
        assert suppressor.take_counts() == {"late": 1}


def test_handle_passes_on_the_very_event() -> None:
    event = at(1, 0.0)
    assert make().handle(event) is event


def test_of_equal_times_the_first_accepted_is_kept() -> None:
    assert handled(make(), [at(1, 5.0), at(2, 5.0), at(1, 5.0)]) == [True, False, False]


def test_a_late_event_does_not_lower_the_memory() -> None:
    suppressor = make(window=10.0)
    assert handled(suppressor, [at(1, 100.0), at(1, 50.0), at(1, 105.0)]) == [True, True, False]


def test_there_are_no_neighbours_beyond_the_ends_of_int64() -> None:
    events = [at(LOWEST, 0.0), at(HIGHEST, 0.0), at(LOWEST + 1, 1.0), at(HIGHEST - 1, 1.0)]
    for radius in (1, 1000):
        assert handled(make(radius=radius), events) == [True, True, False, False]
        mask = make(Columns, radius=radius).handle_batch(batch(events))
        assert mask.tolist() == [True, True, False, False]


def test_radius_0_asks_the_point_alone() -> None:
    assert handled(make(radius=0), [at(1, 0.0), at(2, 0.0), at(1, 1.0)]) == [True, True, False]


def test_an_empty_batch_has_an_empty_mask() -> None:
    for cls in (AdjacentSuppressor, Columns):
        assert make(cls).handle_batch(batch([])).tolist() == []


CIDS = st.one_of(
    st.integers(0, 12),
    st.integers(0, 3).map(lambda distance: LOWEST + distance),
    st.integers(0, 3).map(lambda distance: HIGHEST - distance),
    st.sampled_from([-1, -64, 63, 64, 65, 2**40, 2**40 + 1]),
)
TIMES = st.one_of(st.integers(0, 60).map(float), st.floats(-60, 60), st.floats(-1e300, 1e300))
EVENTS = st.lists(st.builds(at, CIDS, TIMES), max_size=40)
PARAMS = st.fixed_dictionaries(
    {
        "window": st.sampled_from([0.5, 3.0, 10.0, 1e200]),
        "radius": st.integers(0, 3),
        "refresh": st.sampled_from(["seen", "kept"]),
        "late": st.sampled_from(["keep", "suppress"]),
    }
)
LIMITS = st.one_of(
    st.fixed_dictionaries({"remember": st.integers(0, 9), "most": st.integers(9, 15)}),
    st.fixed_dictionaries({"remember": st.integers(0, 2), "most": st.integers(2, 9)}),
)


def in_batches(
    suppressor: Suppressor, events: Events, cuts: set[int], restarts: set[int]
) -> tuple[list[bool], dict[str, int], Suppressor]:
    """Return the decisions on batches cut at ``cuts``, the counts, and the last suppressor."""
    keep: list[bool] = []
    counts: dict[str, int] = {}
    edges = sorted({0, *(cut for cut in cuts | restarts if cut < len(events)), len(events)})
    for start, stop in pairwise(edges):
        if start in restarts:
            suppressor = copy_of(suppressor)
        part = batch(events[start:stop], suppressor.params.by)
        keep += suppressor.handle_batch(part).tolist()
        for name, number in suppressor.take_counts().items():
            counts[name] = counts.get(name, 0) + number
    return keep, counts, suppressor


@given(
    st.lists(st.builds(at, CIDS, TIMES), max_size=80),
    PARAMS,
    LIMITS,
    st.sets(st.integers(1, 79)),
    st.sets(st.integers(1, 79), max_size=2),
)
@settings(max_examples=300, deadline=None)
def test_any_cut_decides_like_the_reference(
    events: Events,
    params: dict[str, Any],
    limits: dict[str, int],
    cuts: set[int],
    restarts: set[int],
) -> None:
    params = params | limits
    reference = Reference(**params, least_cycle=Forgetful.LEAST_CYCLE)
    expected = [reference.keeps(event) for event in events]
    keep, counts, suppressor = in_batches(make(Forgetful, **params), events, cuts, restarts)
    assert keep == expected
    assert counts.get("late", 0) == reference.late_events
    assert counts.get("beyond most", 0) == reference.beyond_most
    one_by_one = make(Forgetful, **params)
    assert handled(one_by_one, events) == expected
    assert remembered(one_by_one) == remembered(suppressor)


class Sampling(Columns):
    """Looks at two events of each cycle's last eighth."""

    LEAST_CYCLE = 40
    MOST_SAMPLED = 2


@given(
    st.lists(st.builds(at, CIDS, TIMES), min_size=80, max_size=130),
    st.sampled_from([(), ("kind",)]),
    LIMITS,
    st.sets(st.integers(1, 129), max_size=9),
    st.sets(st.integers(1, 129), max_size=2),
)
@settings(max_examples=25, deadline=None)
def test_what_is_forgotten_by_a_sample_does_not_depend_on_the_cut(
    events: Events,
    by: tuple[str, ...],
    limits: dict[str, int],
    cuts: set[int],
    restarts: set[int],
) -> None:
    params = {"window": 3.0, "by": by, **limits}
    keep, counts, suppressor = in_batches(make(Sampling, **params), events, cuts, restarts)
    one_by_one = make(Sampling, **params)
    assert handled(one_by_one, events) == keep
    assert one_by_one.take_counts() == counts
    assert remembered(one_by_one) == remembered(suppressor)


@pytest.mark.parametrize("refresh", ["seen", "kept"])
@pytest.mark.parametrize("points", [100, 5_000, 2**62])
def test_many_events_in_large_batches_decide_like_the_reference(refresh: str, points: int) -> None:
    random = Random(points)
    events = [
        at(random.randrange(points), step * 0.25 - (random.random() < 0.1) * random.randrange(99))
        for step in range(2_000)
    ]
    limits: dict[str, Any] = {"remember": 50, "most": 200}
    reference = Reference(window=30.0, refresh=refresh, **limits, least_cycle=400)

    class OftenForgetting(AdjacentSuppressor):
        LEAST_CYCLE = 400

    suppressor = make(OftenForgetting, window=30.0, refresh=refresh, **limits)
    keep = in_batches(suppressor, events, {700, 701, 1_500}, {1_500})[0]
    assert keep == [reference.keeps(event) for event in events]


class TestBy:
    def test_events_with_different_values_do_not_meet(self) -> None:
        events = [at(1, 0.0, kind="a"), at(1, 0.0, kind="b"), at(2, 1.0, kind="a")]
        assert handled(make(by=("kind",)), events) == [True, True, False]

    def test_a_missing_field_is_null(self) -> None:
        events = [at(1, 0.0), at(1, 0.0, kind=None), at(1, 0.0, kind="")]
        suppressor = make(by=("kind",))
        assert suppressor.handle_batch(batch(events, ["kind"])).tolist() == [True, False, True]

    def test_the_order_of_keys_in_a_value_does_not_matter(self) -> None:
        events = [at(1, 0.0, kind={"a": 1, "b": 2}), at(1, 0.0, kind={"b": 2, "a": 1})]
        assert handled(make(by=("kind",)), events) == [True, False]

    def test_radius_0_is_deduplication_by_key(self) -> None:
        events = [at(7, 0.0, key=key) for key in ("x", "y", "x", "z", "y")]
        keep = handled(make(radius=0, by=("key",)), events)
        assert keep == [True, True, False, True, False]

    def test_it_reads_its_fields(self) -> None:
        assert make(by=("kind", "area")).reads == ("cid", "time", "kind", "area")

    @given(
        st.lists(
            st.builds(at, CIDS, TIMES, kind=st.sampled_from([None, 1, "1", [1]])), max_size=60
        ),
        PARAMS,
        LIMITS,
        st.sets(st.integers(1, 59), max_size=3),
    )
    @settings(max_examples=60, deadline=None)
    def test_it_decides_like_the_reference(
        self, events: Events, params: dict[str, Any], limits: dict[str, int], cuts: set[int]
    ) -> None:
        params = {**params, **limits, "by": ("kind",)}
        reference = Reference(**params, least_cycle=Forgetful.LEAST_CYCLE)
        expected = [reference.keeps(event) for event in events]
        keep, _, suppressor = in_batches(make(Forgetful, **params), events, cuts, cuts)
        assert keep == expected
        one_by_one = make(Forgetful, **params)
        assert handled(one_by_one, events) == expected
        assert encoded(one_by_one) == encoded(suppressor)

    def test_values_that_went_quiet_are_forgotten(self) -> None:
        suppressor = make(Forgetful, window=1.0, by=("key",), remember=10)
        handled(suppressor, [at(1, float(step), key=step) for step in range(1_000)])
        assert len(suppressor.snapshot()["memories"]) < 3 * Forgetful.LEAST_CYCLE

    def test_a_batch_with_an_unnameable_value_changes_nothing(self) -> None:
        suppressor = make(by=("kind",))
        before = encoded(suppressor)
        events = [at(1, 0.0, kind="a"), at(1, 0.0, kind=object())]
        with pytest.raises(TypeError):
            suppressor.handle_batch(batch(events, ["kind"]))
        assert encoded(suppressor) == before


class TestExplain:
    def test_it_names_the_neighbour_its_time_and_the_age(self) -> None:
        suppressor = make()
        suppressor.handle(at(223, 0.0))
        reason = suppressor.explain(at(224, 10.0))
        assert reason == (
            "neighbouring point 223 was at 0.0: age 10.0 s, within the window of 300.0 s"
        )

    def test_it_names_the_point_itself(self) -> None:
        suppressor = make()
        suppressor.handle(at(5, 7.5))
        reason = suppressor.explain(at(5, 8.0))
        assert reason is not None
        assert reason.startswith("point 5 itself was at 7.5: age 0.5 s")

    def test_it_explains_a_suppressed_late_event(self) -> None:
        suppressor = make(late="suppress")
        suppressor.handle(at(1, 1000.0))
        reason = suppressor.explain(at(2, 100.0))
        assert reason == (
            "neighbouring point 1 was at 1000.0: 900.0 s later, "
            "late by the window of 300.0 s or more"
        )

    def test_it_has_nothing_to_say_about_a_kept_event_and_changes_nothing(self) -> None:
        suppressor = make(by=("kind",))
        suppressor.handle(at(1, 0.0, kind="a"))
        before = encoded(suppressor)
        assert suppressor.explain(at(9, 0.0, kind="a")) is None
        assert suppressor.explain(at(1, 0.0, kind="b")) is None
        assert encoded(suppressor) == before
        assert suppressor.take_counts() == {}


class TestSnapshot:
    def test_another_format_is_refused(self) -> None:
        state = make().snapshot()
        for wrong in ({**state, "format": 1}, {}, None, [1]):
            with pytest.raises(ContractError, match="has format 3, this has"):
                make().restore(wrong)

    def test_columns_are_little_endian(self) -> None:
        suppressor = make()
        suppressor.handle(at(2, 1.0))
        (_, shift, points, times) = suppressor.snapshot()["memories"][0]
        assert shift == 0
        assert bytes(points) == (2).to_bytes(8, "little")
        assert bytes(times) == bytes.fromhex("000000000000f03f")

    def test_it_includes_where_the_cycle_of_forgetting_stands(self) -> None:
        suppressor = make(Forgetful)
        handled(suppressor, [at(1, 3.0), at(1, 2.0)])
        cycle = suppressor.snapshot()["cycle"]
        assert (cycle["length"], cycle["events"]) == (Forgetful.LEAST_CYCLE, 2)

    def test_one_of_the_format_before_is_taken_over(self) -> None:
        suppressor = make()
        handled(suppressor, [at(1, 3.0), at(9, 2.0)])
        state = suppressor.snapshot()
        old = {
            "format": 2,
            "by": [],
            "high": 3.0,
            "events": 2,
            "forget_after": 65_536,
            "memories": state["memories"],
        }
        other = make()
        other.restore(msgspec.msgpack.decode(msgspec.msgpack.encode(old)))
        assert remembered(other)[0] == remembered(suppressor)[0]
        assert handled(other, [at(1, 4.0), at(5, 4.0)]) == [False, True]


class TestSet:
    """Parameters can be set while it runs: close, new params, open."""

    @staticmethod
    def set_params(suppressor: Suppressor, **params: Any) -> None:
        suppressor.close()
        suppressor.params = suppressor.Params(**params)
        suppressor.open()

    def test_a_new_window_holds_at_once_and_the_memory_stays(self) -> None:
        suppressor = make(window=300.0)
        suppressor.handle(at(1, 0.0))
        self.set_params(suppressor, window=5.0)
        assert handled(suppressor, [at(1, 4.0), at(1, 9.0)]) == [False, True]

    def test_a_wider_window_meets_all_that_was_while_nothing_had_to_be_forgotten(self) -> None:
        suppressor = make(Forgetful, window=1.0)
        handled(suppressor, [at(3 * step, 10.0 * step) for step in range(100)])
        self.set_params(suppressor, window=1e6)
        assert handled(suppressor, [at(3 * step, 5_000.0) for step in range(100)]) == [False] * 100

    def test_another_by_starts_with_an_empty_memory(self) -> None:
        suppressor = make()
        suppressor.handle(at(1, 0.0))
        self.set_params(suppressor, by=("kind",))
        assert handled(suppressor, [at(1, 1.0, kind="a"), at(1, 1.0, kind="a")]) == [True, False]

    def test_a_snapshot_taken_with_another_by_leaves_the_memory_empty(self) -> None:
        suppressor = make()
        suppressor.handle(at(1, 0.0))
        other = make(by=("kind",))
        other.restore(suppressor.snapshot())
        assert encoded(other) == encoded(make(by=("kind",)))


@pytest.mark.parametrize(
    "params",
    [
        {"window": 0},
        {"window": -1.0},
        {"window": float("inf")},
        {"window": float("nan")},
        {"window": "300"},
        {"radius": -1},
        {"radius": 1001},
        {"radius": 1.5},
        {"radius": True},
        {"refresh": "always"},
        {"late": "drop"},
        {"by": "kind"},
        {"by": ["cid"]},
        {"by": ["kind", "kind"]},
        {"remember": -1},
        {"most": 0},
        {"most": 1e7},
    ],
    ids=repr,
)
def test_a_wrong_parameter_is_refused_by_name(params: dict[str, Any]) -> None:
    (name,) = params
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        AdjacentSuppressor.parse_params(params)


def test_more_to_remember_than_the_most_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"remember \(250000\) is more than most \(1000\)"):
        AdjacentSuppressor.parse_params({"most": 1000})


def test_an_unknown_parameter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ConfigurationError, match=r"windw: unknown .*known: window, radius, refresh"
    ):
        AdjacentSuppressor.parse_params({"windw": 5})


def test_the_defaults_are_those_of_the_specification() -> None:
    params = AdjacentSuppressor.parse_params({}).model_dump()
    assert params == {
        "window": 300.0,
        "radius": 1,
        "refresh": "seen",
        "late": "keep",
        "by": (),
        "remember": 250_000,
        "most": 10_000_000,
    }
