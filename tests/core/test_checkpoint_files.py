"""Checkpoint files: whole or not there, two of them, and damage never passes for a checkpoint."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.chain import ChainVersion
from service.checkpoint import Checkpoint, CheckpointFiles, read_checkpoint
from service.errors import PipelineFailed
from service.journal.entry import Configuration
from tests.core.examples import chain, step

STEPS = chain(step("Even"))


def checkpoint(block: int, chain: ChainVersion = STEPS) -> Checkpoint:
    return Checkpoint(
        block=block,
        sequence=10 * block,
        chain=chain,
        configuration=Configuration({"cid": "cid"}, chain.steps),
        memory=memoryview(b"memory" * block),
        sinks={"kept": {"path": "/kept", "length": block}},
        dead_letters={"block": block},
        origins={"files": {"path": "/in", "stop": 3, "lines": 1}},
        statistics={"settled": block},
    )


@pytest.fixture
def files(tmp_path: Path) -> CheckpointFiles:
    made = CheckpointFiles(tmp_path / "checkpoints")
    assert made.load() is None
    return made


def paths(folder: Path) -> list[Path]:
    return sorted((folder / "checkpoints").iterdir())


def test_the_newest_comes_back_as_it_was_saved(files: CheckpointFiles, tmp_path: Path) -> None:
    for block in (1, 2, 3):
        files.save(checkpoint(block))
    assert CheckpointFiles(tmp_path / "checkpoints").load() == checkpoint(3)


def test_the_journal_is_needed_from_the_older_one_on(
    files: CheckpointFiles, tmp_path: Path
) -> None:
    assert (files.needed, files.oldest_block) == (0, 0)
    files.save(checkpoint(1))
    files.save(checkpoint(4))
    files.save(checkpoint(4))
    assert (files.needed, files.oldest_block) == (10, 1)
    files.save(checkpoint(9))
    assert (files.needed, files.oldest_block) == (40, 4)
    again = CheckpointFiles(tmp_path / "checkpoints")
    again.load()
    assert (again.needed, again.oldest_block) == (40, 4)


def test_half_a_file_is_removed(files: CheckpointFiles, tmp_path: Path) -> None:
    files.save(checkpoint(1))
    (tmp_path / "checkpoints" / "0000000000000002.unfinished").write_bytes(b"penst")
    again = CheckpointFiles(tmp_path / "checkpoints")
    assert again.load() == checkpoint(1)
    assert [path.suffix for path in paths(tmp_path)] == [".checkpoint"]


def test_from_a_damaged_one_the_one_before_it_leads_on(
    files: CheckpointFiles, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files.save(checkpoint(1))
    files.save(checkpoint(2))
    paths(tmp_path)[1].write_bytes(paths(tmp_path)[1].read_bytes()[:-1])
    again = CheckpointFiles(tmp_path / "checkpoints")
    assert again.load() == checkpoint(1)
    assert again.needed == 10
    assert "0000000000000002.checkpoint: this checkpoint is damaged" in caplog.text


def test_when_none_can_be_read_each_is_named_and_what_to_do(
    files: CheckpointFiles, tmp_path: Path
) -> None:
    for block in (1, 2):
        files.save(checkpoint(block))
    for path in paths(tmp_path):
        path.write_bytes(b"penstock checkpoint 1\nof before")
    named = r"(?s)0001\.checkpoint: is no .*0002\.checkpoint: .*start the version of penstock that"
    with pytest.raises(PipelineFailed, match=named):
        CheckpointFiles(tmp_path / "checkpoints").load()


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_flipped_bit_and_no_cut_passes_for_a_checkpoint(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "flips"
    folder.mkdir(exist_ok=True)
    CheckpointFiles(folder).save(checkpoint(1))
    path = folder / "0000000000000001.checkpoint"
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans(), label="cut"):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    else:
        place = data.draw(st.integers(0, 8 * len(content) - 1))
        content[place // 8] ^= 1 << place % 8
    path.write_bytes(content)
    with pytest.raises(PipelineFailed, match=r"0000000000000001[.]checkpoint"):
        read_checkpoint(path)
