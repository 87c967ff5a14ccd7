"""Steps that make a start or a switch impossible: every end is bounded, named, and has a way on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any
from unittest.mock import patch

import pytest
from pydantic import BaseModel

from middleware.errors import ConfigurationError
from service.chain import Mode, Step
from service.class_trial import try_out_steps
from service.configured import configured_chain
from service.errors import Interrupted, NotAccepted, PipelineFailed
from service.operation import Operation
from service.settings import EventSettings
from service.trial import try_out
from tests.faults.one_process import LIMIT, OneProcess, accept, settle

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(autouse=True)
def _no_pauses() -> Iterator[None]:
    with (
        patch("service.threads.LONGEST_PAUSE", 0.0),
    ):
        yield


@pytest.fixture
def one(tmp_path: Path) -> OneProcess:
    return OneProcess(tmp_path / "life")


class Narrower(BaseModel):
    """Parameters of which a later version of a class took one away."""

    mended: str


def step(one: OneProcess, kind: str, **params: Any) -> dict[str, Any]:
    """Return a step called ``odd`` of a class in ``bad_steps``."""
    params = {"mended": str(one.directory / "mended"), **params}
    return {"name": "odd", "use": f"tests.faults.bad_steps:{kind}", "params": params}


@pytest.mark.parametrize(
    ("kind", "who"), [("ExitsAtOpen", "a worker"), ("SharedExitsAtOpen", "the state host")]
)
def test_a_step_that_ends_its_process_as_it_is_opened_ends_the_start(
    one: OneProcess, caplog: pytest.LogCaptureFixture, kind: str, who: str
) -> None:
    odd = step(one, kind)
    with pytest.raises(PipelineFailed) as failed, one.life(odd):
        pass
    message = str(failed.value)
    assert who in message
    assert "exit code 3" in message
    assert "6 in a row" in message
    assert "while odd was opened" in message
    assert "penstock run --without odd" in message
    assert "socket" not in caplog.text
    deaths = [each for each in caplog.messages if "exit code 3" in each]
    assert deaths, "each death is told"
    assert all("while odd was opened" in each for each in deaths)
    if who == "the state host":
        assert [each[each.index("attempt") :] for each in deaths] == [
            f"attempt {number} of 6, nothing is lost" for number in range(1, 6)
        ]
    with one.life(odd, without=["odd"]) as pipeline:
        lines = accept(pipeline, 1, 1)
        settle(pipeline)
    assert one.kept == lines


@pytest.mark.parametrize("kind", ["BatchInterrupts", "HandleExits"])
def test_a_death_of_the_state_host_is_one_message_with_the_name_of_the_step(
    one: OneProcess, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with one.life(step(one, kind)) as pipeline:
        accept(pipeline, 1)
        settle(pipeline)
        deaths = pipeline.keeper.restarts
    assert deaths
    told = [each for each in caplog.messages if "starts from the last snapshot" in each]
    assert len(told) == deaths
    assert all("odd" in each and "block 1" in each for each in told)
    assert "Traceback" not in caplog.text
    if kind == "BatchInterrupts":
        assert "odd: handle_batch raised KeyboardInterrupt: at 1 events (at " in told[0]
        assert "bad_steps.py:" in told[0]


@pytest.mark.parametrize(
    ("kind", "who"), [("RaisesAtOpen", "worker"), ("OpenRaises", "state host")]
)
def test_an_open_that_raises_ends_the_start_with_a_way_that_works(
    one: OneProcess, kind: str, who: str, capfd: pytest.CaptureFixture[str], caplog: Any
) -> None:
    odd = step(one, kind, bad=True)
    with pytest.raises(PipelineFailed, match=who) as failed, one.life(odd):
        pass
    assert "odd cannot be opened: ValueError: bad is bad (at " in str(failed.value)
    assert "penstock run --without odd" in str(failed.value)
    assert "Traceback" not in capfd.readouterr().err + caplog.text
    with one.life(odd, without=["odd"]):
        pass


def test_an_instance_that_cannot_be_made_is_refused_with_a_way_on(one: OneProcess) -> None:
    with pytest.raises(ConfigurationError) as refused:
        configured_chain(one.settings(step(one, "ExitsAsItIsMade")))
    assert 'middleware[0] "odd": odd cannot be made: SystemExit: 3 (at ' in str(refused.value)
    assert "penstock run --without odd" in str(refused.value)


@pytest.mark.parametrize(
    ("kind", "who", "what"),
    [
        ("HangsAtOpen", "a worker", "while odd was opened"),
        ("SharedHangsAtOpen", "the state host", "while odd was opened"),
        ("RestoreHangs", "the state host", "while odd took its memory over (restore)"),
    ],
)
def test_a_step_that_hangs_is_named_soon_and_ends_the_start_once(
    one: OneProcess, kind: str, who: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    odd = step(one, kind)
    with (
        patch("service.own_code.SLOW", 0.2),
        patch("service.worker_pool.START_LIMIT", 2.0),
        patch("service.state_host.START_LIMIT", 2.0),
        pytest.raises(PipelineFailed) as failed,
        one.life(odd),
    ):
        pass
    message = str(failed.value)
    assert f"{who} was not ready within 2 s {what}" in message
    assert "penstock run --without odd" in message
    told = [each for each in caplog.messages if f"have passed {what}" in each]
    assert told
    assert "penstock run --without odd" in told[0]
    with one.life(odd, without=["odd"]) as pipeline:
        lines = accept(pipeline, 1, 1)
        settle(pipeline)
    assert one.kept == lines


def test_a_snapshot_that_ends_its_process_stops_with_its_name(one: OneProcess) -> None:
    odd = step(one, "SnapshotExits")
    with (  # noqa: PT012 - wherever
        pytest.raises(PipelineFailed) as failed,
        one.life(odd) as pipeline,
    ):
        lines = accept(pipeline, 1, 2)
        pipeline.checkpoint()
        pipeline.wait_until(lambda: False, lambda: True)
    message = str(failed.value)
    assert "the state host ended (exit code 7), 3 in a row" in message
    assert "while odd was asked for its memory (snapshot)" in message
    assert "penstock run --without odd" in message
    with one.life(without=["odd"]) as pipeline:
        settle(pipeline)
    assert one.kept == lines


def test_a_close_that_raises_is_passed_over(one: OneProcess) -> None:
    with one.life(step(one, "CloseRaises")) as pipeline:
        first = accept(pipeline, 1, 2)
        other = {"mended": str(one.directory / "other")}
        pipeline.intake.switch(lambda chain, _: chain.switched("odd", params=other))
        accept(pipeline, 1, 2)
        pipeline.switch("odd", reset=True)
        last = accept(pipeline, 1, 2)
        settle(pipeline)
        assert pipeline.keeper.restarts == 0
    assert one.kept == first + last


def test_an_open_that_raises_in_the_state_host_stops_once_with_its_name(one: OneProcess) -> None:
    """What a switch tries out may still go wrong where it counts."""
    odd = step(one, "OpenRaises")
    with (  # noqa: PT012 - wherever
        pytest.raises(PipelineFailed, match="bad is bad") as failed,
        one.life(odd) as pipeline,
    ):
        first = accept(pipeline, 1)
        pipeline.intake.switch(lambda chain, _: chain.switched("odd", params={"bad": True}))
        lines = accept(pipeline, 2, 2)
        settle(pipeline)
    assert pipeline.keeper.restarts == 0
    assert "odd cannot be opened: ValueError: bad is bad (at " in str(failed.value)
    assert "penstock run --without odd" in str(failed.value)
    with one.life(odd, without=["odd"]) as pipeline:
        settle(pipeline)
    assert one.kept == first + lines


def test_a_step_that_has_no_snapshot_is_refused_by_the_check(one: OneProcess) -> None:
    with pytest.raises(ConfigurationError, match="KeepsNothing: has no snapshot"):
        configured_chain(one.settings(step(one, "KeepsNothing")))


@pytest.mark.parametrize("pending", [True, False], ids=["before the barrier", "after it"])
@pytest.mark.parametrize("way", ["mended", "without", "removed"])
def test_a_memory_that_cannot_be_kept_stops_with_ways_that_work(
    one: OneProcess, way: str, pending: bool
) -> None:
    odd = step(one, "CannotBeKept")
    with (  # noqa: PT012 - wherever
        pytest.raises(PipelineFailed) as failed,
        one.life(odd) as pipeline,
    ):
        lines = accept(pipeline, 1, 2)
        if not pending:
            settle(pipeline)
        pipeline.checkpoint()
        pipeline.wait_until(lambda: False, lambda: True)
    message = str(failed.value)
    assert "odd: its memory cannot be kept: TypeError" in message
    assert "nothing that was confirmed is lost" in message
    if way == "removed":
        with pytest.raises(PipelineFailed, match="penstock run --without odd"):
            one.pipeline()
    if way == "mended":
        (one.directory / "mended").touch()
    without = [] if way == "mended" else ["odd"]
    with one.life(odd, without=without) as pipeline:
        more = accept(pipeline, 1, 3)
        settle(pipeline)
    third = more.splitlines(keepends=True)[1]
    assert one.kept == lines + (third if way == "mended" else more)


def test_a_class_that_is_gone_is_named_before_anything_is_written(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    (one.directory / "mended").touch()
    odd = step(one, "CannotBeKept")
    with one.life(odd) as pipeline:
        lines = accept(pipeline, 1, 2)
        one.killed(pipeline)
    before = one.kept
    gone = patch("tests.faults.bad_steps.CannotBeKept", None)
    with gone, pytest.raises(PipelineFailed) as failed:
        one.pipeline()
    assert one.kept == before
    assert "odd: 1 blocks that were accepted before need it" in str(failed.value)
    assert "penstock run --without odd" in str(failed.value)
    with gone, one.life(without=["odd"]) as pipeline:
        more = accept(pipeline, 1, 2)
        settle(pipeline)
    assert one.kept == lines + more
    assert "pass it undecided" in caplog.text


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("hang", "odd: its class did not come to an end within 1 s as it was tried out"),
        ("os._exit", "odd: its class ended its process (exit code 5) as it was tried out"),
    ],
)
@pytest.mark.parametrize("then", ["removed", "switched"])
def test_a_class_is_tried_out_apart_as_only_the_state_directory_needs_it(
    one: OneProcess, then: str, odd: str, why: str
) -> None:
    removed = step(one, "OddOnceMended", odd=odd)
    with one.life(removed) if then == "removed" else one.life(step(one, "OddOnceMended")) as life:
        if then == "switched":
            life.switch("odd", params={"odd": odd})
        lines = accept(life, 1)
        settle(life)
        if then == "removed":
            one.killed(life)
        else:
            assert life.drain(lambda: True)
    (one.directory / "mended").touch()
    configured = [step(one, "OddOnceMended")] if then == "switched" else []
    with (
        patch("service.class_trial.SLOW", 0.5),
        patch("service.class_trial.LIMIT", 1.0),
        pytest.raises(PipelineFailed) as failed,
    ):
        one.pipeline(*configured)
    assert why in str(failed.value)
    assert "penstock run --without odd" in str(failed.value)
    with one.life(*configured, without=["odd"]) as life:
        lines += accept(life, 1)
        settle(life)
    assert one.kept == lines


def test_a_class_that_hangs_as_it_is_tried_out_keeps_no_signal_waiting(one: OneProcess) -> None:
    (hangs,) = configured_chain(one.settings(step(one, "OddOnceMended", odd="hang"))).steps
    (one.directory / "mended").touch()
    with pytest.raises(Interrupted):
        try_out_steps([hangs], lambda: False)


def test_params_that_the_class_accepts_no_more_are_refused_with_ways_that_work(
    one: OneProcess,
) -> None:
    odd = step(one, "Once")
    with one.life(odd) as pipeline:
        lines = accept(pipeline, 1)
        pipeline.switch("odd", params={"bad": True})
        assert pipeline.drain(lambda: True)
    with patch("tests.faults.bad_steps.Once.Params", Narrower):
        with pytest.raises(PipelineFailed) as failed:
            one.pipeline(odd)
        message = str(failed.value)
        assert "odd: its params were switched while it ran" in message
        assert "bad: unknown parameter of Once" in message
        assert "a table that was changed wins" in message
        assert "penstock run --without odd" in message
        one.pipeline(step(one, "Once", mended=str(one.directory / "elsewhere"))).stop()
    with one.life(odd) as pipeline:
        accept(pipeline, 1)
        settle(pipeline)
    assert one.kept == lines


def test_what_was_without_once_begins_anew_when_it_comes_again(one: OneProcess) -> None:
    (one.directory / "mended").touch()
    odd = step(one, "CannotBeKept")
    with one.life(odd) as pipeline:
        first = accept(pipeline, 1)
        settle(pipeline)
        one.killed(pipeline)
    with one.life(odd, without=["odd"]) as pipeline:
        second = accept(pipeline, 1, 1)
        settle(pipeline)
        one.killed(pipeline)
    with one.life(odd) as pipeline:
        third = accept(pipeline, 1)
        settle(pipeline)
        one.killed(pipeline)
    with one.life(odd) as pipeline:
        accept(pipeline, 1)
        settle(pipeline)
    assert one.kept == first + second + third


def test_a_name_that_stands_for_nothing_is_told(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with one.life(without=["nobody"]):
        assert "--without nobody leaves nothing out" in caplog.text
    with pytest.raises(ConfigurationError, match="no sink is left"):
        one.pipeline(without=["kept"])


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        ("os._exit", "ended its process (exit code 5)"),
        ("sys.exit", "SystemExit: 6"),
        ("raise", "ValueError: odd"),
    ],
)
def test_what_an_open_does_at_a_switch_is_found_out_apart(
    one: OneProcess, odd: str, why: str
) -> None:
    with one.life(step(one, "OpenDoesOdd")) as pipeline:
        with pytest.raises(ConfigurationError) as refused:
            Operation(pipeline).switch("odd", "", params={"odd": odd})
        assert "odd cannot be opened" in str(refused.value)
        assert why in str(refused.value)
        lines = accept(pipeline, 1, 2)
        settle(pipeline)
        assert pipeline.keeper.restarts == 0
    assert one.kept == lines


def test_an_open_that_hangs_is_ended_at_the_deadline(one: OneProcess) -> None:
    (hangs,) = configured_chain(one.settings(step(one, "OpenDoesOdd", odd="hang"))).steps
    with pytest.raises(ConfigurationError, match=r"longer than workers.deadline \(0.5 s\)"):
        try_out(hangs, {}, EventSettings(), one.directory, 0.5)


@pytest.mark.parametrize(
    ("at", "odd", "why"),
    [
        ("check", "sys.exit", "ChecksOdd cannot check its parameters: SystemExit: 6"),
        ("check", "hang", "its Params or its __init__() took longer than workers.deadline"),
        ("memory", "hang", "its keeps_memory() took longer than workers.deadline"),
    ],
)
def test_what_a_class_does_as_params_are_checked_at_a_switch_is_found_out_apart(
    one: OneProcess, at: str, odd: str, why: str
) -> None:
    with one.life(step(one, "ChecksOdd"), workers={"count": 1, "deadline": 0.5}) as pipeline:
        with pytest.raises(ConfigurationError) as refused:
            Operation(pipeline).switch("odd", "", params={"at": at, "odd": odd})
        assert why in str(refused.value)
        lines = accept(pipeline, 1, 2)
        settle(pipeline)
        assert pipeline.intake.chain.number == 1
    assert one.kept == lines


def test_a_keeps_memory_that_exits_stands_in_no_switchs_way(
    one: OneProcess, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), one.life(step(one, "ChecksOdd")) as pipeline:
        told = Operation(pipeline).switch("odd", "", params={"at": "memory"})
        assert told["params"]["at"] == "memory"
    assert "its memory is handed to it as it is" in caplog.text


def test_params_are_checked_in_other_processes_than_the_daemon(one: OneProcess) -> None:
    note = one.directory / "note"
    with one.life(step(one, "ChecksOdd")) as pipeline:
        operation = Operation(pipeline)
        operation.switch("odd", "", params={"note": str(note)})
        operation.switch("odd", "", params={"bad": True})
        operation.switch("odd", "", mode=Mode.SHADOW)
        assert str(os.getpid()) not in note.read_text().split()


def test_a_switch_answers_its_own_offset_also_where_another_one_follows_at_once(
    one: OneProcess,
) -> None:
    with one.life(step(one, "Once")) as pipeline:
        switch = pipeline.switch

        def overtaken(name: str, **change: Any) -> Any:
            done = switch(name, **change)
            accept(pipeline, 1)
            switch(name, mode=Mode.DISABLED, reason="the other one")
            return done

        accept(pipeline, 1)
        with patch.object(pipeline, "switch", overtaken):
            told = Operation(pipeline).switch("odd", "the first", mode=Mode.SHADOW)
        assert (told["mode"], told["offset"]) == (Mode.SHADOW, "2.0")
        assert told["reason"] == "the first"


def test_what_is_tried_out_keeps_no_other_switch_waiting(one: OneProcess) -> None:
    began, end = Event(), Event()

    def slow(tried: Step, *_: object) -> str:
        if tried.name == "odd":
            began.set()
            assert end.wait(LIMIT)
        return ""

    other = {"name": "other", "use": "adjacent"}
    with (
        patch("service.pipeline.try_out", slow),
        one.life(step(one, "Once"), other) as pipeline,
        ThreadPoolExecutor(1) as executor,
    ):
        operation = Operation(pipeline)
        setting = executor.submit(operation.switch, "odd", "", params={"bad": True})
        assert began.wait(LIMIT)
        try:
            operation.switch("odd", "", mode=Mode.SHADOW)
            operation.switch("other", "", params={"window": 60})
            with pytest.raises(NotAccepted, match="other parameters of odd are tried out"):
                operation.switch("odd", "", params={"bad": False})
        finally:
            end.set()
        description = setting.result(LIMIT)
        assert (description["mode"], description["params"]["bad"]) == (Mode.SHADOW, True)
