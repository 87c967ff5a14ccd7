"""``penstock process``: files in, kept lines out, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Command
from tests.daemon.running import (
    PENSTOCK,
    eventually,
    hears,
    left_behind,
    write_configuration,
)
from tests.daemon.switched import event_lines
from tests.sequential import sequential

pytestmark = pytest.mark.timeout(60)

ADJACENT = {"name": "adjacent", "use": "adjacent", "params": {"window": 300.0, "radius": 1}}
CONFIG = ("--config", "penstock.toml")
OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@pytest.fixture(autouse=True)
def _configuration(tmp_path: Path) -> None:
    write_configuration(tmp_path, middleware=[ADJACENT])


def _events(seed: int, count: int) -> bytes:
    choice = random.Random(seed)
    return event_lines((choice.randrange(300), number / 2) for number in range(count))


def test_several_inputs_are_filtered_as_one_stream(penstock: Command, tmp_path: Path) -> None:
    first, second = _events(1, 3000), _events(2, 2000)
    (tmp_path / "a.ndjson").write_bytes(first)
    (tmp_path / "b.ndjson").write_bytes(second.rstrip(b"\n"))
    done = penstock("process", "a.ndjson", "b.ndjson", "--output", "out/kept.ndjson", *CONFIG)
    assert done.returncode == OK
    assert done.stdout == b""
    expected = sequential((first + second).splitlines(keepends=True))
    assert (tmp_path / "out" / "kept.ndjson").read_bytes() == expected
    summary = done.stderr.decode()
    kept = len(expected.splitlines())
    assert [line.split() for line in summary.splitlines()[:3]] == [
        ["accepted", "5,000"],
        ["emitted", f"{kept:,}"],
        ["dropped", "by", "adjacent", f"{5000 - kept:,}"],
    ]
    assert not (tmp_path / "out" / "kept.ndjson.dead").exists()


def test_standard_input_and_output(penstock: Command) -> None:
    lines = _events(3, 5000)
    done = penstock("process", "-", "--output", "-", *CONFIG, stdin=lines)
    assert done.returncode == OK
    assert done.stdout == sequential(lines.splitlines(keepends=True))
    assert b"accepted" in done.stderr


@pytest.mark.parametrize("workers", ["1", "3"])
def test_the_number_of_workers_changes_nothing_but_the_speed(
    penstock: Command, tmp_path: Path, workers: str
) -> None:
    lines = _events(4, 60_000)
    (tmp_path / "in.ndjson").write_bytes(lines)
    arguments = ("in.ndjson", "--output", "kept.ndjson", "--workers", workers, "--json", *CONFIG)
    done = penstock("process", *arguments)
    assert done.returncode == OK
    expected = sequential(lines.splitlines(keepends=True))
    assert (tmp_path / "kept.ndjson").read_bytes() == expected
    summary = json.loads(done.stdout)
    kept = expected.count(b"\n")
    assert summary["accepted"] == 60_000
    assert summary["emitted"] == kept
    assert summary["dropped"] == {"adjacent": 60_000 - kept}
    assert (summary["dead"], summary["shadow"]) == (0, {"adjacent": 0})


def test_an_empty_input_gives_an_empty_output(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").touch()
    assert penstock("process", "in.ndjson", "--output", "kept.ndjson", *CONFIG).returncode == OK
    assert (tmp_path / "kept.ndjson").read_bytes() == b""


def test_dead_letters_go_beside_the_output_with_their_file_and_line(
    penstock: Command, tmp_path: Path
) -> None:
    (tmp_path / "a.ndjson").write_bytes(b'{"cid":1,"time":1}\n\nbad\n')
    (tmp_path / "b.ndjson").write_bytes(b'{"cid":9,"time":1}\nworse')
    done = penstock("process", "a.ndjson", "b.ndjson", "--output", "kept", *CONFIG)
    assert done.returncode == OK
    assert b"kept.dead" in done.stderr
    letters = [json.loads(line) for line in (tmp_path / "kept.dead").read_text().splitlines()]
    assert [(each["source"], each["line"], each["event"]) for each in letters] == [
        ("input-1", 3, "bad"),
        ("input-2", 2, "worse"),
    ]


def test_the_same_command_twice_leaves_the_same_files(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_bytes(b'{"cid":1,"time":1}\nbad\n')
    for _ in range(2):
        penstock("process", "in.ndjson", "--output", "kept", *CONFIG)
    assert (tmp_path / "kept").read_bytes() == b'{"cid":1,"time":1}\n'
    assert len((tmp_path / "kept.dead").read_text().splitlines()) == 1


def test_dead_letters_can_go_elsewhere(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_bytes(b"bad\n")
    penstock("process", "in.ndjson", "--output", "kept", "--dead", "odd.ndjson", *CONFIG)
    assert json.loads((tmp_path / "odd.ndjson").read_text())["event"] == "bad"


def _link(tmp_path: Path) -> str:
    (tmp_path / "link").symlink_to("in.ndjson")
    return "link"


@pytest.mark.parametrize(
    "output",
    [lambda _: "in.ndjson", lambda _: "./in.ndjson", _link],
    ids=["same name", "other spelling", "link"],
)
def test_an_input_is_not_overwritten(
    penstock: Command, tmp_path: Path, output: Callable[[Path], str]
) -> None:
    (tmp_path / "in.ndjson").write_bytes(b'{"cid":1,"time":1}\nbad\n')
    before = (tmp_path / "in.ndjson").read_bytes()
    done = penstock("process", "in.ndjson", "--output", output(tmp_path), *CONFIG)
    assert done.returncode == USAGE
    assert b"would be overwritten" in done.stderr
    assert (tmp_path / "in.ndjson").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("in.ndjson", ["--output", "kept", "--dead", "in.ndjson"]),
        ("kept.dead", ["--output", "kept"]),
        ("dead.ndjson", ["--output", "-"]),
    ],
    ids=["by --dead", "beside the output", "beside standard output"],
)
def test_an_input_does_not_get_dead_letters_either(
    penstock: Command, tmp_path: Path, name: str, arguments: list[str]
) -> None:
    (tmp_path / name).write_bytes(b'{"cid":1,"time":1}\nbad\n')
    done = penstock("process", name, *arguments, *CONFIG)
    assert (tmp_path / name).read_bytes() == b'{"cid":1,"time":1}\nbad\n'
    assert done.returncode == USAGE
    assert b"would be overwritten" in done.stderr


def test_output_and_dead_letters_are_two_files(penstock: Command, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_bytes(b'{"cid":1,"time":1}\nbad\n')
    done = penstock("process", "in.ndjson", "--output", "kept", "--dead", "kept", *CONFIG)
    assert done.returncode == USAGE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.ndjson", "--output", "x"], "absent.ndjson"),
        (["--output", "x"], "INPUT"),
        (["-"], "--output"),
        (["-", "--output", "-", "--json"], "--json"),
        (["-", "--output", "x", "--workers", "0"], "--workers"),
    ],
)
def test_wrong_usage_says_what_is_wrong_and_ends_with_2(
    penstock: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = penstock("process", *arguments, *CONFIG)
    assert done.returncode == USAGE
    assert message in done.stderr.decode()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("folder", "folder: is a folder; name its files"),
        ("absent", "absent: there is no such file"),
    ],
)
def test_what_cannot_be_an_input_is_called_what_it_is(
    penstock: Command, tmp_path: Path, given: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    done = penstock("process", given, "--output", "kept")
    assert done.returncode == 2
    assert said in done.stderr.decode()


def test_an_output_that_cannot_be_written_fails_with_a_message(
    penstock: Command, tmp_path: Path
) -> None:
    (tmp_path / "in.ndjson").write_bytes(_events(1, 10))
    (tmp_path / "folder").mkdir()
    done = penstock("process", "in.ndjson", "--output", "folder", *CONFIG)
    assert done.returncode == FAILED
    assert b"folder" in done.stderr
    assert b"Traceback" not in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_as_good_as_one_that_leads_nowhere(closed: str, tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_bytes(_events(1, 10))
    command = [PENSTOCK, "process", "in.ndjson", "--output", "out.ndjson", *CONFIG]
    done = subprocess.run(
        ["/bin/sh", "-c", f'exec "$@" {closed}', "sh", *command],
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "out.ndjson").read_bytes()


def test_a_command_that_is_told_to_end_while_it_starts_leaves_no_folder(tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    (tmp_path / "in.ndjson").write_bytes(_events(1, 10))
    with subprocess.Popen(
        [PENSTOCK, "process", "in.ndjson", "--output", "out.ndjson", *CONFIG],
        cwd=tmp_path,
        env=os.environ | {"TMPDIR": str(temporary)},
        stderr=subprocess.DEVNULL,
    ) as process:
        eventually(lambda: hears(process.pid), "it hears signals")
        process.terminate()
        process.wait(20)
    assert [*temporary.iterdir()] == []


def test_a_reader_that_has_enough_ends_the_command_with_a_message(tmp_path: Path) -> None:
    (tmp_path / "in.ndjson").write_bytes(event_lines((10 * n, n) for n in range(100_000)))
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [PENSTOCK, "process", "in.ndjson", "--output", "-", *CONFIG],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=stderr,
        ) as process,
    ):
        assert process.stdout is not None
        assert process.stdout.readline() == b'{"cid":0,"time":0.000,"n":0}\n'
        process.stdout.close()
        assert process.wait(20) == FAILED
    message = (tmp_path / "stderr").read_text()
    assert "standard output was closed" in message
    assert "Traceback" not in message
    assert left_behind(tmp_path) == []


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, FAILED)]
)
def test_an_interrupted_run_says_so_and_its_output_is_a_beginning(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    lines = event_lines((10 * n, n) for n in range(1000))
    with (
        (tmp_path / "stderr").open("wb") as stderr,
        subprocess.Popen(
            [PENSTOCK, "process", "-", "--output", "kept", *CONFIG],
            cwd=tmp_path,
            stdin=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        ) as process,
    ):
        assert process.stdin is not None
        process.stdin.write(lines)
        process.stdin.flush()
        kept = tmp_path / "kept"
        eventually(lambda: kept.exists() and kept.read_bytes() == lines, "all is written")
        os.killpg(process.pid, number)
        assert process.wait(20) == code
    assert "interrupted after 1000 events" in (tmp_path / "stderr").read_text()
    assert left_behind(tmp_path) == []


def test_workers_that_are_killed_change_no_byte(tmp_path: Path) -> None:
    """A file of one step that kills its own worker once for each of some events."""
    (tmp_path / "killing.py").write_text(
        "import os\nfrom pathlib import Path\nfrom middleware.contract import Middleware\n"
        "class Killing(Middleware):\n"
        "    reads = ('cid',)\n"
        "    def handle(self, event):\n"
        "        mark = Path(f'killed-{event[\"cid\"]}')\n"
        "        if event['cid'] % 4000 == 5 and not mark.exists():\n"
        "            mark.touch()\n"
        "            os.kill(os.getpid(), 9)\n"
        "        return event\n"
    )
    killing = {"name": "killing", "use": "killing:Killing"}
    write_configuration(tmp_path, middleware=[ADJACENT, killing])
    lines = event_lines((10 * n, n) for n in range(12_000))
    (tmp_path / "in.ndjson").write_bytes(lines)
    done = subprocess.run(
        [PENSTOCK, "process", "in.ndjson", "--output", "kept", "--json", *CONFIG],
        cwd=tmp_path,
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == OK
    assert (tmp_path / "kept").read_bytes() == lines
    assert json.loads(done.stdout)["dead"] == 0


@pytest.mark.parametrize("given", ["<(cat in.ndjson)", "pipe", "/dev/stdin <in.ndjson"])
def test_a_pipe_is_read_as_standard_input_is(tmp_path: Path, given: str) -> None:
    lines = _events(1, 1000)
    (tmp_path / "in.ndjson").write_bytes(lines)
    os.mkfifo(tmp_path / "pipe")
    before = "cat in.ndjson >pipe & " if given == "pipe" else ""
    command = f"{before}exec {PENSTOCK} process {given} --output kept {' '.join(CONFIG)}"
    done = subprocess.run(
        ["/bin/bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == OK, done.stderr
    assert (tmp_path / "kept").read_bytes() == sequential(lines.splitlines(keepends=True))


def test_the_null_device_is_an_empty_input(penstock: Command, tmp_path: Path) -> None:
    assert penstock("process", "/dev/null", "--output", "kept", *CONFIG).returncode == OK
    assert (tmp_path / "kept").read_bytes() == b""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "-", "--output", "kept"], "standard input can be read once"),
        (["in.ndjson", "--output", "a", "--dead", "b"], "must be two files"),
    ],
)
def test_what_cannot_be_read_or_written_is_named(
    penstock: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "in.ndjson").touch()
    (tmp_path / "a").touch()
    os.link(tmp_path / "a", tmp_path / "b")
    done = penstock("process", *arguments, *CONFIG)
    assert done.returncode == USAGE
    assert message in done.stderr.decode()


def test_what_a_class_prints_is_no_data(tmp_path: Path, penstock: Command) -> None:
    (tmp_path / "printing.py").write_text(
        "from middleware.contract import Middleware\nprint('imported')\n"
        "class Printing(Middleware):\n    reads = ('cid',)\n"
        "    def handle(self, event):\n        print('asked')\n        return event\n"
    )
    write_configuration(tmp_path, middleware=[{"name": "printing", "use": "printing:Printing"}])
    lines = event_lines([(1, 1)])
    (tmp_path / "in.ndjson").write_bytes(lines)
    done = penstock("process", "in.ndjson", "--output", "-", *CONFIG)
    assert done.stdout == lines
    assert b"imported" in done.stderr


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"cid,time\n1,2\n", "one JSON object"),
        (gzip.compress(event_lines([(1, 1)])), "compressed"),
        (event_lines([(1, 1), (2, 1)]).decode().encode("utf-16"), "UTF-16"),
        (b'{"cid":1,"time":1700000000000}\n', "milliseconds"),
        (b'{"cid":"a-17","time":1}\n', "integer"),
    ],
    ids=["CSV", "gzip", "UTF-16", "milliseconds", "text for numbers"],
)
def test_an_input_without_any_event_is_told_with_the_reason_and_ends_with_1(
    penstock: Command, tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "in.ndjson").write_bytes(content)
    done = penstock("process", "in.ndjson", "--output", "kept", *CONFIG)
    assert done.returncode == FAILED
    assert "no line of the input is an event" in done.stderr.decode()
    assert reason in done.stderr.decode()
