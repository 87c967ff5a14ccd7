"""The state directory is its user's alone, whatever the umask, and whatever was there before."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import PipelineFailed
from service.privacy import FILES, FOLDERS, keep_private, make_file, make_folder
from service.state_directory import lock_directory

SEGMENT = "journal/0000000000000001.segment"


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o777])
def any_umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.lstat().st_mode & 0o7777


@pytest.mark.usefixtures("any_umask")
def test_what_is_made_is_its_owner_s_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "folder")
    make_file(tmp_path / "folder" / "file")
    assert (mode(tmp_path / "folder"), mode(tmp_path / "folder" / "file")) == (0o700, 0o600)


def test_what_is_there_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("something")
    make_file(tmp_path / "file")
    make_folder(tmp_path)
    assert (tmp_path / "file").read_text() == "something"


def test_what_was_left_open_to_others_is_closed(tmp_path: Path) -> None:
    state = tmp_path / "var"
    paths = [state, *(state / name for name in (*FOLDERS, SEGMENT, *FILES))]
    for path in paths:
        (path.touch if path.suffix or path.name == "lock" else path.mkdir)(mode=0o777)
        path.chmod(0o777)
    (state / "kept.ndjson").touch()
    (state / "kept.ndjson").chmod(0o644)
    keep_private(state)
    assert {mode(path) & 0o077 for path in paths} == {0}
    assert mode(state / "kept.ndjson") == 0o644, "what else is there is not Penstock's"


def test_what_others_put_into_its_folders_is_left_alone(tmp_path: Path) -> None:
    journal = tmp_path / "var" / "journal"
    lost, note, link = journal / "lost+found", journal / "note.txt", journal / "link"
    lost.mkdir(parents=True, mode=0o755)
    note.touch()
    note.chmod(0o644)
    link.symlink_to(note)
    lock_directory(tmp_path / "var").close()
    assert (mode(lost), mode(note), link.is_symlink()) == (0o755, 0o644, True)


def test_a_directory_that_is_closed_to_others_is_named_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = tmp_path / "var"
    state.mkdir()
    state.chmod(0o755)
    for _ in range(2):
        keep_private(state)
    (told,) = caplog.messages
    assert told.startswith(f"{state}: was open to others (mode 755)")


@pytest.mark.parametrize("name", [*FILES, *FOLDERS, SEGMENT])
def test_a_link_is_named_and_nothing_happens_to_what_it_points_to(
    tmp_path: Path, name: str
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    victim.chmod(0o644)
    path = tmp_path / "var" / name
    path.parent.mkdir(parents=True)
    path.symlink_to(victim)
    with pytest.raises(PipelineFailed, match=f"{name}: is a symbolic link"):
        lock_directory(tmp_path / "var")
    assert (victim.read_text(), mode(victim)) == ("precious", 0o644)


@pytest.mark.timeout(20)
def test_a_pipe_in_place_of_the_lock_is_named_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(PipelineFailed, match="lock: is no file"):
        lock_directory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_directory_of_another_user_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "var"
    state.mkdir(mode=0o755)
    os.chown(state, 12345, 12345)
    with pytest.raises(PipelineFailed, match=r"belongs to user 12345.*chown"):
        lock_directory(state)
    assert (mode(state), list(state.iterdir())) == (0o755, [])


def test_a_folder_for_everybody_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, here = tmp_path / "shared", tmp_path / "here"
    for folder, open_mode in ((shared, 0o1777), (here, 0o755)):
        folder.mkdir()
        folder.chmod(open_mode)
    monkeypatch.chdir(here)
    keep_private(shared)
    keep_private(Path())
    assert (mode(shared), mode(here)) == (0o1777, 0o755)
