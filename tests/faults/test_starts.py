"""A start goes on exactly, or says what it left aside, or refuses with a way on that works."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread, Timer
from typing import Any, Final
from unittest.mock import patch

import pytest

from middleware.errors import ConfigurationError
from service import threads
from service.dead_letter_file import DeadLetterFile
from service.errors import Interrupted, PipelineFailed, StorageBusy, StorageFull
from service.finishing import storage_to_start
from service.intake import Intake
from service.journal.journal import Journal
from service.locks import once_unlocked
from service.opening import open_sinks
from service.signals import Stop
from tests.daemon.running import eventually
from tests.faults.one_process import LIMIT, OneProcess, accept, settle
from tests.faults.stuck_sink import OPEN

pytestmark = pytest.mark.timeout(60)

STUCK: Final = "tests.faults.stuck_sink:StuckSink"
BLOCKED: Final = {"name": "blocked", "use": "blocklist", "params": {"cids": [1]}}


@pytest.fixture
def one(tmp_path: Path) -> OneProcess:
    return OneProcess(tmp_path / "life")


def narrowed(one: OneProcess, level: int) -> dict[str, Any]:
    """Return a step that accepts a level below 5 until ``mended`` is there."""
    params = {"mended": str(one.directory / "mended"), "level": level}
    return {"name": "odd", "use": "tests.faults.bad_steps:Narrowed", "params": params}


@contextmanager
def refused(
    owner: type, method: str, *errors: Exception | None
) -> Iterator[list[Exception | None]]:
    """Let the first calls of a method raise these errors, but for None; yields those still left."""
    real = getattr(owner, method)
    left = list(errors)

    def at_first(*given: Any, **named: Any) -> Any:
        if left and (error := left.pop(0)):
            raise error
        return real(*given, **named)

    with patch.object(owner, method, at_first):
        yield left


def told(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    """Return the messages with a text so far, and forget all of them."""
    found = [message for message in caplog.messages if text in message]
    caplog.clear()
    return found


def test_a_signal_ends_the_finishing_of_another_chain_that_a_sink_holds_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = OneProcess(tmp_path / "life", sink=STUCK)
    OPEN.clear()
    try:
        with one.life(BLOCKED) as pipeline:
            lines = accept(pipeline, 2, 3)
            one.killed(pipeline)
        stop = Stop()
        heard = Timer(1.0, stop.hear, (signal.SIGTERM, time.monotonic()))
        heard.start()
        with (
            patch("service.finishing.WORD", 0.2),
            pytest.raises(Interrupted, match="the next start goes on"),
        ):
            storage_to_start(one.settings(), DeadLetterFile(one.directory / "dead"), stop)
        heard.join()
        assert "the chain as it was is not done: kept: stuck" in told(caplog, "is not done")[-1]
    finally:
        OPEN.set()
    with one.life():
        assert one.kept == lines


LOCKED: Final = StorageBusy("another process holds a lock on it")
FULL: Final = StorageFull("the disk is full")
NEAR: Final[dict[str, Any]] = {"name": "near", "use": "adjacent"}


@pytest.mark.parametrize("trouble", [LOCKED, FULL])
def test_a_last_barrier_that_finds_no_room_is_tried_again_until_there_is_some(
    one: OneProcess, trouble: StorageFull
) -> None:
    with one.life(NEAR) as pipeline:
        lines = accept(pipeline, 2, 5)
        one.killed(pipeline)
    with patch("service.saving.SAVE_AGAIN", 0.01):
        with refused(Intake, "place_barrier", *[trouble] * 3) as left:
            pipeline = one.pipeline(BLOCKED, NEAR)
            assert not left, "what was accepted before was finished first"
        pipeline.stop()
        with one.life(BLOCKED, NEAR) as pipeline:
            lines += accept(pipeline, 8)
            waits: set[str] = set()

            def go_on() -> bool:
                waits.add(pipeline.waits_for())
                return True

            with refused(Intake, "place_barrier", *[trouble] * 3):
                assert pipeline.drain(go_on)
            assert pipeline.saved
            assert f"the last checkpoint: no checkpoint: {trouble}" in waits
            assert not any(each.startswith("0 ") for each in waits)
    assert one.kept == lines


def test_a_finishing_whose_last_barrier_finds_no_room_says_so_and_one_that_meets_a_lock_goes_on(
    one: OneProcess,
) -> None:
    with one.life(NEAR) as pipeline:
        lines = accept(pipeline, 2, 5)
        one.killed(pipeline)
    limits = {"service.pipeline.CHECKPOINT_LIMIT": 0.0, "service.saving.SAVE_AGAIN": 0.0}
    with ExitStack() as limited:
        for limit, seconds in limits.items():
            limited.enter_context(patch(limit, seconds))
        with (
            refused(Intake, "place_barrier", *[FULL] * 100),
            pytest.raises(PipelineFailed, match=r"the disk is full: .* make room, start again"),
        ):
            one.pipeline(BLOCKED, NEAR)
        with refused(Intake, "place_barrier", *[LOCKED] * 5) as left, one.life(BLOCKED, NEAR):
            assert not left
    assert one.kept == lines


@pytest.mark.parametrize(
    ("what", "method", "errors", "how"),
    [
        ("a changed configuration", "append", [LOCKED] * 3, {}),
        ("a memory that is forgotten", "append", [LOCKED] * 2, {"forget": ["near"]}),
    ],
)
def test_a_lock_on_the_journal_delays_what_a_start_writes_and_is_told_once(
    one: OneProcess,
    caplog: pytest.LogCaptureFixture,
    what: str,
    method: str,
    errors: list[Exception | None],
    how: dict[str, Any],
) -> None:
    with one.life(NEAR) as pipeline:
        lines = accept(pipeline, 2)
        assert pipeline.drain(lambda: True)
    with (
        patch("service.locks.LOCK_LOOK", 0.01),
        refused(Journal, method, *errors) as left,
        one.life(BLOCKED, NEAR, **how) as pipeline,
    ):
        assert not left, what
        assert caplog.text.count("the start waits for that") == 1
        assert caplog.text.count("its memory was emptied") == ("forget" in how)
        lines += accept(pipeline, 8)
        assert pipeline.drain(lambda: True)
    assert one.kept == lines


def test_a_lock_that_comes_while_another_chain_is_finished_delays_the_start(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with one.life(NEAR) as pipeline:
        lines = accept(pipeline, 2)
        one.killed(pipeline)
    with (
        patch("service.locks.LOCK_LOOK", 0.01),
        refused(Journal, "open", None, LOCKED, LOCKED) as left,
        one.life(BLOCKED, NEAR),
    ):
        assert not left
    assert caplog.text.count("the start waits for that") == 1
    assert one.kept == lines


def test_a_signal_ends_the_wait_for_a_lock() -> None:
    def locked() -> None:
        raise LOCKED

    with pytest.raises(Interrupted, match="the next start goes on"):
        once_unlocked(locked, lambda: False)


def test_what_is_left_out_may_be_left_out_again_by_the_same_command(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with one.life(BLOCKED) as pipeline:
        first = accept(pipeline, 1, 2)
        one.killed(pipeline)
    skipped = "earlier blocks will skip blocked"
    with one.life(without=["blocked"]) as pipeline:
        assert one.kept == first
        assert told(caplog, skipped)
        assert pipeline.drain(lambda: True)
    with one.life(without=["blocked"]):
        assert told(caplog, "--without blocked leaves nothing out")
    with one.life(BLOCKED, without=["blocked"]):
        assert not told(caplog, skipped)


def test_a_memory_that_is_forgotten_is_told_each_time(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    step: dict[str, Any] = {"name": "near", "use": "adjacent"}
    lines = b""
    for again in range(3):
        with one.life(step, forget=["near"] if again else []) as pipeline:
            lines += accept(pipeline, 1)
            assert bool(told(caplog, "near: its memory was emptied, since --forget")) == bool(again)
            settle(pipeline)
            assert pipeline.drain(lambda: True)
    assert one.kept == lines


def test_a_memory_goes_on_under_the_present_params_where_its_class_accepts_those_of_then_no_more(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with one.life(narrowed(one, 1)) as pipeline:
        first = accept(pipeline, 1)
        assert pipeline.drain(lambda: True)
    (one.directory / "mended").touch()
    with one.life(narrowed(one, 5)) as pipeline:
        accept(pipeline, 1)
        second = accept(pipeline, 2)
        settle(pipeline)
        assert "level is too low" in told(caplog, "does not accept the params any more")[0]
        one.killed(pipeline)
    with one.life(narrowed(one, 6)) as pipeline:
        accept(pipeline, 1, 2)
        settle(pipeline)
    assert not told(caplog, "does not accept")
    assert one.kept == first + second


@pytest.mark.parametrize("switched", [False, True])
def test_blocks_that_wait_for_params_that_a_class_accepts_no_more_are_named_before_it_is_too_late(
    one: OneProcess, *, switched: bool
) -> None:
    with one.life(narrowed(one, 7 if switched else 1)) as pipeline:
        if switched:
            pipeline.switch("odd", params={"level": 1})
        first = accept(pipeline, 1)
        settle(pipeline)
        if switched:
            pipeline.switch("odd", params={"level": 9})
        one.killed(pipeline)
    (one.directory / "mended").touch()
    with pytest.raises(PipelineFailed) as refused:
        one.pipeline(narrowed(one, 5))
    assert "level is too low" in str(refused.value)
    assert "penstock run --without odd" in str(refused.value)
    (one.directory / "mended").unlink()
    with one.life(narrowed(one, 1)) as pipeline:
        accept(pipeline, 1)
        settle(pipeline)
        one.killed(pipeline)
    (one.directory / "mended").touch()
    with one.life(narrowed(one, 5), without=["odd"]) as pipeline:
        last = accept(pipeline, 1)
        settle(pipeline)
    assert one.kept.startswith(first)
    assert one.kept.endswith(last)


def test_a_switched_open_that_hangs_ends_the_daemon_with_its_name_and_a_way_on(
    one: OneProcess,
) -> None:
    params = {"mended": str(one.directory / "mended")}
    odd = {"name": "odd", "use": "tests.faults.bad_steps:OpenDoesOdd", "params": params}
    with (  # noqa: PT012 - wherever
        pytest.raises(PipelineFailed) as failed,
        one.life(odd, workers={"count": 2, "deadline": 0.5}) as pipeline,
    ):
        pipeline.intake.switch(lambda chain, _: chain.switched("odd", params={"odd": "hang"}))
        lines = accept(pipeline, 1, 1)
        settle(pipeline)
    assert "3 in a row while odd was opened" in str(failed.value)
    assert "penstock run --without odd" in str(failed.value)
    with one.life(odd, without=["odd"]) as pipeline:
        settle(pipeline)
    assert one.kept == lines


def test_nothing_is_started_behind_sinks_that_were_opened_as_it_stopped(one: OneProcess) -> None:
    pipeline = one.pipeline(BLOCKED)
    begun, opened = Event(), Event()

    def stopped_meanwhile(*parts: Any) -> bool:
        done = open_sinks(*parts)
        begun.set()
        eventually(lambda: pipeline.emitter.stopped, "it stops", LIMIT)
        opened.set()
        return done

    with patch("service.pipeline.open_sinks", stopped_meanwhile):
        pipeline.start()
        assert begun.wait(LIMIT)
        pipeline.stop()
    assert opened.is_set()
    assert not pipeline.opened, "its journal is closed by now"
    assert pipeline.problem is None


def test_an_intake_that_ends_before_its_thread_is_known_is_drained(
    one: OneProcess,
) -> None:
    def start_thread(name: str, *how: Any) -> Thread:
        thread = threads.start_thread(name, *how)
        if name == "intake":  # a busy machine may run it to its end here
            eventually(lambda: pipeline.queue.closed, "all inputs were read")
            thread.join()
        return thread

    with patch("service.pipeline.start_thread", start_thread):
        pipeline = one.pipeline(BLOCKED)
        try:
            pipeline.start()
            lines = accept(pipeline, 2, 3)
            assert pipeline.drain(lambda: True)
        finally:
            pipeline.stop()
    assert one.kept == lines


def test_a_start_that_is_refused_has_forgotten_nothing(one: OneProcess) -> None:
    near = {"name": "near", "use": "adjacent"}
    with one.life(near) as pipeline:
        first = accept(pipeline, 1)
        assert pipeline.drain(lambda: True)
    with pytest.raises(ConfigurationError, match="nope"):
        one.pipeline(forget=["nope"])
    one.pipeline().stop()  # another chain, and something refuses the start before it has begun
    one.pipeline(near, forget=["near"]).stop()
    one.pipeline(without=["near"]).stop()
    with one.life(near) as pipeline:
        accept(pipeline, 1)
        settle(pipeline)
    assert one.kept == first, "it remembers the one before"
