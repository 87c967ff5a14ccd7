"""What the signals that reached a process mean, told by the moments at which they came."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from signal import SIGHUP, SIGINT, SIGTERM

import pytest

from service.signals import ONE_PRESS, Stop

pytestmark = pytest.mark.timeout(60)

PROGRAM = """
import signal, sys, threading, time
from service.signals import Stop

stop = Stop()
stop.listen()
if "begun" in sys.argv:
    stop.begin(lambda: "a lock that nobody opens", *([0.2] if "impatient" in sys.argv else []))
print("ready", flush=True)
if "stuck" in sys.argv:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
stop.wait()
print(stop.signal.name)
"""


def stopped(*moments: float) -> Stop:
    """Return what was asked by TERM at each of these moments."""
    stop = Stop()
    stop.begin(lambda: "")
    for moment in moments:
        stop.hear(SIGTERM, moment)
    return stop


def run(*arguments: str, number: signal.Signals) -> subprocess.CompletedProcess[str]:
    """Start a program that waits, and send it a signal once it does."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        output, errors = process.communicate(timeout=30)
        return subprocess.CompletedProcess(PROGRAM, process.returncode, output, errors)


def test_nothing_is_asked_at_first() -> None:
    stop = Stop()
    assert not stop.asked
    assert not stop.at_once


def test_the_first_signal_asks_to_stop() -> None:
    stop = stopped(100)
    assert stop.asked
    assert stop.signal == SIGTERM
    assert not stop.at_once


def test_all_signals_of_one_press_count_as_one() -> None:
    assert not stopped(100, 100, 100 + 1e-6, 100 + 0.9 * ONE_PRESS).at_once


def test_a_signal_a_moment_later_stops_at_once() -> None:
    assert stopped(100, 100 + ONE_PRESS).at_once


def test_asking_changes_nothing() -> None:
    stop = stopped(100)
    assert [stop.asked, stop.at_once, stop.asked, stop.at_once] == [True, False, True, False]


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGHUP])
def test_a_signal_is_heard_while_the_process_waits(number: signal.Signals) -> None:
    done = run("begun", number=number)
    assert (done.returncode, done.stdout) == (0, f"{number.name}\n")


@pytest.mark.parametrize("number", [SIGTERM, SIGINT, SIGHUP])
def test_before_anything_was_begun_a_signal_ends_the_process(number: signal.Signals) -> None:
    done = run(number=number)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", "")


def test_a_process_that_is_stuck_ends_nevertheless_and_says_at_what() -> None:
    done = run("begun", "stuck", "impatient", number=SIGTERM)
    assert done.returncode == 1
    assert "does not end: a lock that nobody opens" in done.stderr


def test_a_hangup_that_is_ignored_from_the_start_stays_ignored() -> None:
    program = PROGRAM.replace("stop.wait()", "stop._woken.wait(1)").replace(
        "print(stop.signal.name)", "print(stop.asked)"
    )
    with subprocess.Popen(
        [shutil.which("nohup") or "nohup", sys.executable, "-c", program, "begun"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(SIGHUP)
        assert process.communicate(timeout=30)[0] == "False\n"
