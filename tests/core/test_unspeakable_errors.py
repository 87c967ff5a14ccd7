"""An error that cannot be written as text is told like any other, wherever a class raises it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from middleware.errors import PenstockError
from middleware.loading import load_middleware
from service.chain import Mode, Step
from service.configured import checked_settings
from service.event_queue import EventQueue
from service.settings import Settings
from service.sources.calls import call_all
from service.sources.source import Surroundings
from tests.core.examples import sequencer
from tests.core.unspeakable import At, SpeechlessSource
from tests.daemon.running import eventually, write_configuration

pytestmark = pytest.mark.timeout(30)

WORDS = "Unspeakable: <exception str() failed>"
SAID = re.escape(WORDS)


def speechless(at: str) -> Step:
    use = "tests.core.unspeakable:Speechless"
    return Step("odd", use, Mode.ENABLED, {"at": at}, shared=True)


def source(at: str) -> tuple[SpeechlessSource, list[str]]:
    """Return a source and what it tells of itself."""
    settings = Settings.model_validate({"sink": [{"name": "out", "use": "stdout"}]})
    told: list[str] = []
    surroundings = Surroundings(
        EventQueue(events=1, size=1), settings, lambda _, problem: told.append(problem), {}
    )
    return SpeechlessSource("odd", At(at=at), surroundings), told


@pytest.mark.parametrize("at", ["params", "__init__", "reads", "open", "close"])
def test_a_step_that_cannot_be_used_says_so(at: str) -> None:
    with pytest.raises(PenstockError, match=SAID):
        speechless(at).try_out()


def test_params_that_a_validator_refuses_without_words_are_refused() -> None:
    with pytest.raises(PenstockError, match="Speechless cannot check its parameters"):
        speechless("value").try_out()


@pytest.mark.parametrize("at", ["open", "snapshot", "restore"])
def test_a_memory_that_cannot_be_had_says_so(at: str) -> None:
    with pytest.raises(PenstockError, match=SAID):
        sequencer([speechless(at)])


def test_a_memory_that_cannot_be_restored_says_so() -> None:
    kept = sequencer([speechless("")]).snapshot_now(0)
    kept.memories["odd"].params["at"] = "restore"
    with pytest.raises(PenstockError, match=SAID):
        sequencer([speechless("restore")], kept)


def test_a_close_is_passed_over(capfd: pytest.CaptureFixture[str]) -> None:
    step = speechless("close")
    step.close(step.opened())
    assert f"close() raised {WORDS}" in capfd.readouterr().err


def test_a_module_that_cannot_be_imported_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    text = "from tests.core.unspeakable import Unspeakable\nraise Unspeakable\n"
    (tmp_path / "speechless_module.py").write_text(text)
    with pytest.raises(PenstockError, match=SAID) as refused:
        load_middleware("speechless_module:Any")
    assert "speechless_module.py:2" in str(refused.value)


@pytest.mark.parametrize("at", ["start", "thread"])
def test_a_source_that_fails_says_so(at: str) -> None:
    odd, told = source(at)
    call_all([odd], "start", lambda: True)
    eventually(lambda: told, "it is told")
    assert WORDS in told[0]
    assert odd.problem == told[0]


@pytest.mark.parametrize("at", ["params", "__init__", "reads"])
def test_a_configured_source_that_cannot_be_made_says_so(tmp_path: Path, at: str) -> None:
    odd = {"name": "odd", "use": "tests.core.unspeakable:SpeechlessSource", "params": {"at": at}}
    path = write_configuration(tmp_path, source=[odd])
    with pytest.raises(PenstockError, match=SAID) as refused:
        checked_settings(path)
    assert 'source[0] "odd"' in str(refused.value)
