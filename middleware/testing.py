"""Holds a middleware of yours to the contract, in your own tests.

    def test_keeps_the_contract():
        check_contract(MyMiddleware, {"limit": 3}, [{"cid": 1, "time": 0.0}, ...])

Give it events that matter: kept ones, dropped ones, late ones, some that lack fields.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from itertools import pairwise
from random import Random
from typing import Any, NamedTuple, NoReturn, cast

import msgspec
import numpy as np

from middleware.changed_event import check_changed
from middleware.contract import MISSING, Batch, Event, Middleware, SharedMiddleware
from middleware.declaration import check_declaration, check_instance
from middleware.errors import FAULTS, ConfigurationError, ContractError
from middleware.plain_data import PLAIN, find_odd


def check_contract(
    middleware_class: type[Middleware],
    params: Mapping[str, Any],
    events: Sequence[Mapping[str, Any]],
) -> None:
    """Ask fresh instances about ``events``, in order, in every way the contract allows.

    Each event has a ``cid`` (int64) and a ``time`` (finite). Raises ContractError that says what
    was broken, by which event, and what to do. That ``handle`` raises is an answer as well, for it
    dead-letters the event; whoever else is asked must then raise, too. Not at every event, though:
    that would say nothing about the rest.
    """
    trial = _Trial(middleware_class, params, events)
    one_by_one = list(range(len(events) + 1))
    expected = trial.run(one_by_one, trial.ask_with_care)
    if all(answer.verb == "raises" for answer in expected):
        why = f"{expected[0]} at every event" if expected else "was given no events"
        trial.fail(why, "correct it, or give it events that it takes")

    def compare(who: str, cuts: list[int], ask: _Ask, advice: str, **how: bool) -> None:
        answers = trial.run(cuts, ask, **how)
        for number, (first, other) in enumerate(zip(expected, answers, strict=True)):
            if first != other:
                trial.fail(f"asked first, it {first}; {who}, it {other}", advice, number)

    ask = trial.ask_handle if trial.has_handle else trial.ask_batch
    compare("asked in a fresh instance", one_by_one, ask, "use no clock, no chance, no globals")
    restore = "let restore take over all that snapshot returned, and snapshot return all"
    if not trial.shared:
        advice = "remember nothing, or derive from SharedMiddleware"
        compare("asked in two instances by turns", one_by_one, ask, advice, taking_turns=True)
    else:
        compare("after restore", one_by_one, ask, restore, restoring=True)
        switch = "let open keep what is remembered or begin anew, and restore replace all there is"
        compare("after its parameters were set", one_by_one, ask, switch, switching=True)
    if middleware_class.has_batch_form():
        for cuts in (*_random_cuts(len(events)), [0, len(events)], one_by_one):
            who = f"asked by handle_batch on batches that start at {cuts[:-1]}"
            compare(who, cuts, trial.ask_batch, "let handle_batch decide as handle does")
            if trial.shared:
                who += ", with snapshot and restore between"
                compare(who, cuts, trial.ask_batch, restore, restoring=True)


class _Answer(NamedTuple):
    """What a middleware does with an event: keeps, drops, changes it, raises something."""

    verb: str
    content: Any = None

    def __str__(self) -> str:
        return self.verb if self.content is None else f"{self.verb} {self.content}"


_Ask = Callable[[Middleware, slice], list[_Answer]]
"""A way to ask an instance about a slice of the events."""


class _Trial:
    """A middleware class, its parameters and the events it is asked about."""

    def __init__(
        self,
        middleware_class: type[Middleware],
        params: Mapping[str, Any],
        events: Sequence[Mapping[str, Any]],
    ) -> None:
        self.middleware_class = middleware_class
        self.events = events
        if not (isinstance(middleware_class, type) and issubclass(middleware_class, Middleware)):
            self.fail("derives from no Middleware", "write class NAME(Middleware)")
        self.has_handle = middleware_class.handle is not Middleware.handle
        self.shared = issubclass(middleware_class, SharedMiddleware)
        self.explains = middleware_class.explain is not Middleware.explain
        try:
            check_declaration(middleware_class)
        except ConfigurationError as error:
            self.refuse(error)
        for number, event in enumerate(events):
            if not {"cid", "time"} <= event.keys():
                self.fail("was given an event without cid or time", "add them", number)
        try:
            self.params = middleware_class.parse_params(params)
        except ConfigurationError as error:
            self.fail(f"does not take the parameters: {error}", "correct them, or Params")

    def refuse(self, error: ConfigurationError) -> NoReturn:
        """Raise ContractError for what the class, or an instance, is declared to be."""
        first = str(error).splitlines()[0].removeprefix(f"{self.middleware_class.__name__}: ")
        what, _, advice = first.rpartition(": ")
        self.fail(what or first, advice if what else "correct it")

    def fail(self, what: str, advice: str, number: int | None = None) -> NoReturn:
        """Raise ContractError."""
        which = "" if number is None else f"\n  event {number}: {dict(self.events[number])}"
        name = getattr(self.middleware_class, "__name__", self.middleware_class)
        message = f"{name}: {what}{which}\n  to do: {advice}"
        raise ContractError(message)

    def run(
        self,
        cuts: list[int],
        ask: _Ask,
        *,
        restoring: bool = False,
        switching: bool = False,
        taking_turns: bool = False,
    ) -> list[_Answer]:
        """Return the answers of a fresh instance.

        ``restoring``: of another one restored after each batch; ``switching``: of the same one,
        with its parameters set to what they are after each batch; ``taking_turns``: of one of two,
        as chance will have it, which is always the same.
        """
        answers = []
        random = Random(0)  # noqa: S311  # seeded on purpose
        with ExitStack() as stack:
            instance = other = self._fresh(stack)
            if taking_turns:
                other = self._fresh(stack)
            for start, stop in pairwise(cuts):
                answers += ask(random.choice([instance, other]), slice(start, stop))
                if restoring or switching:
                    state = msgspec.msgpack.decode(self._memory(instance))
                    if restoring:
                        instance = other = self._fresh(stack)
                    else:
                        instance.close()
                        instance.params = self.params
                        instance.open()
                    self._restore(cast("SharedMiddleware", instance), state)
        return answers

    def ask_with_care(self, instance: Middleware, row: slice) -> list[_Answer]:
        """Ask about one event, and check that explain agrees and that nothing else changes."""
        number = row.start
        before = self._memory(instance)
        reason = self._explain(instance, row) if self.explains else None
        if self._memory(instance) != before:
            self.fail("explain changes the memory", "let explain only look", number)
        (answer,) = (self.ask_handle if self.has_handle else self.ask_batch)(instance, row)
        if answer.verb == "raises":
            if self._memory(instance) != before:
                advice = "raise before remembering anything"
                self.fail(f"{answer}, yet remembers the event", advice, number)
        elif self.explains and (answer.verb == "drops") is (reason is None):
            said = "explain finds no reason" if reason is None else f"explain says {reason!r}"
            advice = "let explain return a text exactly when handle returns None"
            self.fail(f"{answer} the event, and {said}", advice, number)
        return [answer]

    def ask_handle(self, instance: Middleware, rows: slice) -> list[_Answer]:
        """Ask ``handle`` about each event."""
        return [
            self._ask_one(instance, event, number)
            for number, event in enumerate(self._batch(instance, rows), rows.start)
        ]

    def ask_batch(self, instance: Middleware, rows: slice) -> list[_Answer]:
        """Ask ``handle_batch``, and where it raises ``handle``, as Penstock does."""
        batch = self._batch(instance, rows)
        before = self._memory(instance)
        try:
            mask: Any = instance.handle_batch(batch)
        except ContractError as error:
            self.fail(f"handle_batch raises {error!r}", "do as it says", rows.start)
        except FAULTS as error:  # any error is an answer
            return self._after_error(instance, rows, error, before)
        advice = f"return a numpy array with a bool per event: bool[{len(batch)}]"
        if not isinstance(mask, np.ndarray):
            self.fail(f"handle_batch returns {type(mask).__name__}", advice, rows.start)
        if mask.dtype != np.bool_ or mask.shape != (len(batch),):
            found = f"{mask.dtype}{list(mask.shape)}"
            self.fail(f"handle_batch returns {found}", advice, rows.start)
        return [_Answer("keeps" if keep else "drops") for keep in mask.tolist()]

    def _after_error(
        self, instance: Middleware, rows: slice, error: BaseException, before: bytes
    ) -> list[_Answer]:
        if self._memory(instance) != before:
            what = f"handle_batch raises {error!r}, yet remembers events"
            self.fail(what, "raise before remembering anything", rows.start)
        if not self.has_handle:
            return [_Answer("raises", type(error).__name__)] * (rows.stop - rows.start)
        answers = self.ask_handle(instance, rows)
        if not any(answer.verb == "raises" for answer in answers):
            what = f"handle_batch raises {error!r}, handle takes each event"
            self.fail(what, "let handle_batch raise only where handle does", rows.start)
        return answers

    def _ask_one(self, instance: Middleware, event: Event, number: int) -> _Answer:
        before = copy.deepcopy(dict(event))
        try:
            answer: Any = instance.handle(event)
        except ContractError as error:
            self.fail(f"handle raises {error!r}", "do as it says", number)
        except FAULTS as error:  # any error is an answer
            if "mappingproxy" in str(error):
                self.fail(f"handle changes its event ({error})", "return a new dict", number)
            return _Answer("raises", type(error).__name__)
        self._check_unchanged("handle", event, before, number)
        if answer is None:
            return _Answer("drops")
        if not isinstance(answer, Mapping):
            what = f"handle returns {type(answer).__name__}"
            self.fail(what, "return the event, None, or a new dict", number)
        if dict(answer) == before:
            return _Answer("keeps")
        try:
            check_changed(answer, set(before))
            msgspec.json.encode(dict(answer))
        except (ValueError, TypeError, OverflowError, RecursionError) as error:
            self.fail(f"handle returns what is no event: {error}", "correct it", number)
        if self.middleware_class.has_batch_form():
            what = "handle changes events, and there is a handle_batch, which cannot"
            self.fail(what, "remove handle_batch", number)
        return _Answer("changes it to", copy.deepcopy(dict(answer)))

    def _explain(self, instance: Middleware, row: slice) -> str | None:
        (event,) = self._batch(instance, row)
        before = copy.deepcopy(dict(event))
        try:
            reason = instance.explain(event)
        except FAULTS:  # fine where handle raises, too: ask_with_care sees
            return None
        self._check_unchanged("explain", event, before, row.start)
        return reason

    def _check_unchanged(self, form: str, event: Event, before: Event, number: int) -> None:
        if dict(event) != before:
            what = f"{form} changes its event, to {dict(event)}"
            self.fail(what, "copy what is nested before changing it", number)

    def _fresh(self, stack: ExitStack) -> Middleware:
        instance = self.middleware_class(self.params)
        try:
            check_instance(instance)
        except ConfigurationError as error:
            self.refuse(error)
        instance.open()
        stack.callback(instance.close)
        return instance

    def _memory(self, instance: Middleware) -> bytes:
        if not isinstance(instance, SharedMiddleware):
            return b""
        state = instance.snapshot()
        if odd := find_odd(state, "snapshot()"):
            self.fail(f"the snapshot is not plain data: {odd}", f"make it of {PLAIN}")
        return msgspec.msgpack.encode(state)

    def _restore(self, instance: SharedMiddleware, state: Any) -> None:
        try:
            instance.restore(state)
        except FAULTS as error:
            what = (
                f"restore raises {error!r} when it is given what snapshot returned: {state!r:.200}"
            )
            self.fail(what, "take it as it comes back, with lists in place of tuples")

    def _batch(self, instance: Middleware, rows: slice) -> Batch:
        """Return the events as the service hands them over: copies, read-only, what is read."""
        events = [copy.deepcopy(dict(event)) for event in self.events[rows]]
        cid = np.array([event["cid"] for event in events], np.int64)
        time = np.array([event["time"] for event in events], np.float64)
        cid.flags.writeable = time.flags.writeable = False
        if not instance.reads:
            for event in events:
                event["time"] = float(event["time"])
            return Batch(cid, time, reads=(), events=events)
        fields = {
            name: [event.get(name, MISSING) for event in events]
            for name in instance.reads
            if name not in {"cid", "time"}
        }
        return Batch(cid, time, reads=instance.reads, fields=fields)


def _random_cuts(count: int) -> list[list[int]]:
    """Return some ways to cut ``count`` events into batches: always the same."""
    random = Random(0)  # noqa: S311  # seeded on purpose
    return [
        [0, *(cut for cut in range(1, count) if random.random() < share), count]
        for share in (0.05, 0.2, 0.5)
    ]
