"""The other sources in a running daemon: generator, files and standard input."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.daemon.running import RunningDaemon, eventually, totals_agree
from tests.daemon.switched import event_lines

pytestmark = pytest.mark.timeout(60)


def _generator(**params: Any) -> dict[str, Any]:
    return {"name": "demo", "use": "generator", "params": params}


def _generated(daemon: RunningDaemon, count: int) -> list[int]:
    eventually(lambda: daemon.stats()["emitted"] == count, f"{count} events are made")
    assert daemon.stop() == 0
    return [json.loads(line)["cid"] for line in daemon.kept().splitlines()]


def test_the_generator_makes_as_many_events_as_told_and_the_same_points_from_one_seed(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    runs = []
    for seed in (1, 1, 2):
        source = _generator(rate=5000, count=700, seed=seed, first=10, last=500)
        runs.append(_generated(start_daemon(source=[source]), 700))
        (tmp_path / "kept.ndjson").unlink()
        shutil.rmtree(tmp_path / "var")
    assert runs[0] == runs[1] != runs[2]
    assert all(10 <= cid <= 500 for cid in runs[0])


def test_a_generator_of_nothing_makes_nothing_and_disturbs_nobody(
    start_daemon: StartDaemon,
) -> None:
    sources = [_generator(rate=10, count=0), {"name": "push", "use": "http"}]
    daemon = start_daemon(source=sources)
    daemon.accept('{"cid":1,"time":1}')
    assert daemon.settle()["emitted"] == 1
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_an_endless_generator_ends_with_the_daemon(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(source=[_generator(rate=1000)])
    eventually(lambda: daemon.stats()["emitted"] > 200, "events are made")
    assert totals_agree(daemon.stats())
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_files_are_read_in_order_and_the_daemon_stays(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    first, second = event_lines((n, n) for n in range(30_000)), event_lines([(1, 2)])
    (tmp_path / "a.ndjson").write_bytes(first)
    (tmp_path / "b.ndjson").write_bytes(second + b"bad\n")
    source = {"name": "files", "use": "ndjson", "params": {"paths": ["a.ndjson", "b.ndjson"]}}
    daemon = start_daemon(source=[source])
    eventually(lambda: daemon.stats()["emitted"] == 30_001, "all is read")
    told = "read to its end; lines added later are read at the next start"
    eventually(lambda: f"b.ndjson: {told}" in daemon.log, "the log tells it")
    assert daemon.log.count(f"a.ndjson: {told}") == daemon.log.count(f"b.ndjson: {told}") == 1
    assert daemon.ask("GET", "/readyz").status == 200
    assert daemon.kept() == first + second
    assert [(each["source"], each["line"], each["event"]) for each in daemon.dead()] == [
        ("files", 2, "bad")
    ]
    assert daemon.stats()["deaths"]["no event"]["count"] == 1
    assert "not JSON" in daemon.stats()["deaths"]["no event"]["last"]
    eventually(lambda: "no event: 1 more went to the dead letters" in daemon.log, "the log tells")
    assert totals_agree(daemon.stats())


def _files(*paths: str) -> dict[str, Any]:
    return {"name": "files", "use": "ndjson", "params": {"paths": list(paths)}}


def test_a_missing_file_is_named_and_looked_for_again_and_stops_nothing_else(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemon = start_daemon(source=[_files("absent.ndjson"), {"name": "push", "use": "http"}])
    eventually(lambda: daemon.stats()["sources"], "the source is named")
    assert "absent.ndjson: cannot be read: No such file" in daemon.stats()["sources"]["files"]
    assert "absent.ndjson: cannot be read: No such file" in daemon.log
    daemon.accept('{"cid":1,"time":1}')
    (tmp_path / "absent.ndjson").write_bytes(event_lines([(2, 2)]))
    eventually(lambda: daemon.stats()["emitted"] == 2, "the file is read")
    assert daemon.stats()["sources"] == {}
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.log


def test_half_a_last_line_is_read_once_it_is_whole(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(b'{"cid":1,"time":1}\n{"cid":2,')
    daemon = start_daemon(source=[_files("a.ndjson")])
    eventually(lambda: daemon.stats()["sources"], "the source says what it waits for")
    assert "its last line is not whole" in daemon.stats()["sources"]["files"]
    daemon.process.kill()
    daemon.wait()
    again = start_daemon(source=[_files("a.ndjson")])
    with path.open("ab") as file:
        file.write(b'"time":2}\n')
    eventually(lambda: again.stats()["emitted"] == 2, "the rest is read")
    assert again.kept() == path.read_bytes()
    assert (again.stats()["dead"], again.stats()["sources"]) == (0, {})


@pytest.mark.parametrize("how", ["another file", "cut and written anew"])
def test_another_file_under_the_same_name_is_read_from_its_beginning(
    start_daemon: StartDaemon, tmp_path: Path, how: str
) -> None:
    path = tmp_path / "a.ndjson"
    first, second = event_lines([(1, 1), (2, 2)]), event_lines((n, n) for n in range(3, 9))
    path.write_bytes(first)
    daemon = start_daemon(source=[_files("a.ndjson")])
    eventually(lambda: daemon.stats()["emitted"] == 2, "all is read")
    daemon.process.kill()
    daemon.wait()
    if how == "another file":
        path.rename(tmp_path / "a.ndjson.1")
    path.write_bytes(second)
    again = start_daemon(ready=False, source=[_files("a.ndjson")])
    eventually(lambda: again.stats()["in_flight"] == 0 and again.stats()["accepted"] > 6, "read")
    assert again.kept().endswith(second)
    assert "is another file than the one of which" in again.log
    assert totals_agree(again.stats())


def test_a_file_that_went_before_its_events_were_emitted_is_a_dead_letter(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    path = tmp_path / "a.ndjson"
    path.write_bytes(event_lines([(1, 1), (2, 2)]))
    adjacent = {"name": "adjacent", "use": "adjacent", "params": {"radius": 0}}
    tables: dict[str, Any] = {
        "source": [_files("a.ndjson"), {"name": "push", "use": "http"}],
        "middleware": [adjacent],
    }
    daemon = start_daemon(**tables)
    eventually(lambda: daemon.stats()["emitted"] == 2, "all is read")
    daemon.process.kill()
    daemon.wait()
    path.unlink()
    again = start_daemon(**tables)
    (letter,) = again.dead()
    assert f"{path}: cannot be read any more" in letter["reason"]
    assert letter["event"] == f"{path}: bytes 0 to {2 * len(event_lines([(1, 1)]))}"
    again.accept('{"cid":3,"time":3}')
    assert again.settle()["emitted"] == 1
    assert totals_agree(again.stats())


def test_standard_input_is_read_line_by_line_while_it_comes(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(source=[{"name": "in", "use": "stdin"}], stdin=subprocess.PIPE)
    stdin = daemon.process.stdin
    assert stdin is not None
    stdin.write(b'{"cid":1,"time":1}\n{"cid":2,')
    stdin.flush()
    eventually(lambda: daemon.kept() == b'{"cid":1,"time":1}\n', "a whole line goes through")
    stdin.write(b'"time":2}\nbad\n{"cid":3,"time":3}')
    stdin.close()
    eventually(lambda: daemon.stats()["accepted"] == 4, "the end is read")
    daemon.settle()
    assert daemon.kept() == b'{"cid":1,"time":1}\n{"cid":2,"time":2}\n{"cid":3,"time":3}\n'
    assert [(letter["line"], letter["event"]) for letter in daemon.dead()] == [(3, "bad")]
    assert daemon.ask("GET", "/readyz").status == 200


def test_a_daemon_that_waits_for_standard_input_stops_when_told(start_daemon: StartDaemon) -> None:
    daemon = start_daemon(source=[{"name": "in", "use": "stdin"}], stdin=subprocess.PIPE)
    assert daemon.stop() == 0


def test_sources_of_all_kinds_share_one_order(start_daemon: StartDaemon, tmp_path: Path) -> None:
    (tmp_path / "a.ndjson").write_bytes(event_lines((n, n) for n in range(5000)))
    daemon = start_daemon(
        source=[
            _generator(rate=5000, count=500),
            {"name": "files", "use": "ndjson", "params": {"paths": ["a.ndjson"]}},
            {"name": "push", "use": "http"},
        ]
    )
    body = event_lines((n, n) for n in range(100))
    for _ in range(10):
        daemon.accept(body)
        assert totals_agree(daemon.stats())
    eventually(lambda: daemon.stats()["emitted"] == 6500, "all is emitted")
    assert len(daemon.kept().splitlines()) == 6500
