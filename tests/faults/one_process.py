"""The daemon's storage and pipeline in the process of the test, with real workers; no HTTP."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from service.block import Submission
from service.dead_letter_file import DeadLetterFile
from service.finishing import storage_to_start
from service.left_out import excluding
from service.pipeline import Pipeline
from service.settings import Settings
from service.signals import Stop

LIMIT: Final = 30.0
"""Seconds that anything may take."""

FILE: Final = "service.sinks.ndjson:NdjsonSink"


class OneProcess:
    """One life after the other over one directory."""

    def __init__(self, directory: Path, sink: str = FILE) -> None:
        self.directory = directory
        self._sink = sink
        directory.mkdir(parents=True, exist_ok=True)

    @property
    def kept(self) -> bytes:
        return (self.directory / "kept.ndjson").read_bytes()

    def settings(self, *steps: Mapping[str, Any], **tables: Any) -> Settings:
        params = {"path": self.directory / "kept.ndjson"}
        return Settings.model_validate(
            {
                "middleware": steps,
                "sink": [{"name": "kept", "use": self._sink, "params": params}],
                "workers": {"count": 2},
                "state": {"directory": self.directory / "var", "reserve": 1},
                "block": {"linger": 0},
                **tables,
            }
        )

    def pipeline(
        self,
        *steps: Mapping[str, Any],
        without: Collection[str] = (),
        forget: Collection[str] = (),
        **tables: Any,
    ) -> Pipeline:
        """Start as a daemon does, but for what it starts; raises PipelineFailed."""
        settings, exclusions = excluding(self.settings(*steps, **tables), without)
        storage = storage_to_start(
            settings,
            DeadLetterFile(self.directory / "dead"),
            Stop(),
            exclusions=exclusions,
            forget=forget,
        )
        return Pipeline(settings, storage, lambda: None)

    @contextmanager
    def life(self, *steps: Mapping[str, Any], **how: Any) -> Iterator[Pipeline]:
        """Live one life, started as ``pipeline`` says, and stop it at once."""
        pipeline = self.pipeline(*steps, **how)
        try:
            pipeline.start()
            pipeline.wait_until(lambda: pipeline.ready, lambda: True)
            yield pipeline
        finally:
            pipeline.stop()

    def killed(self, pipeline: Pipeline) -> None:
        """Leave the directory as a kill would now: call where nothing is written, then stop."""
        copy = self.directory.with_name(f"{self.directory.name}-killed")
        shutil.copytree(self.directory, copy, ignore=shutil.ignore_patterns("run-*"))
        pipeline.stop()
        put_back(copy, self.directory)


def put_back(copy: Path, directory: Path) -> None:
    """Let a directory be what its copy is; the output is the same file still, by its inode too."""
    then, now = copy / "kept.ndjson", directory / "kept.ndjson"
    if then.exists() and now.exists():
        now.write_bytes(then.read_bytes())
        now.replace(then)
    shutil.rmtree(directory)
    copy.rename(directory)


def accept(pipeline: Pipeline, *cids: int) -> bytes:
    """Have one block of events confirmed; returns their lines."""
    lines = [json.dumps({"cid": cid, "time": 1.0}).encode() + b"\n" for cid in cids]
    data = b"".join(lines)
    submission = Submission("test", data, len(lines), 1, 1.8e9, None, patient=False)
    pipeline.queue.submit(submission, limit=0).result(LIMIT)
    return data


def settle(pipeline: Pipeline) -> None:
    """Wait until all that was accepted is emitted; raises PipelineFailed."""
    pipeline.wait_until(lambda: pipeline.statistics.totals().in_flight == 0, lambda: True)
