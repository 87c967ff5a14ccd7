"""The model decides as the specification does, and knows nothing of the daemon's code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.adversaries.model import Adjacent, Model, Post, Switch

VECTORS = [  # cid, time, kept with refresh = seen, with refresh = kept
    (223, 0, True, True),
    (224, 10, False, False),
    (225, 20, False, True),
    (225, 319.9, False, False),
    (226, 619.9, True, True),
    (228, 620, True, True),
    (227, 620, False, False),
    (222, 100, False, False),
    (225, 19, True, True),
]


@pytest.mark.parametrize("refresh", ["seen", "kept"])
def test_the_suppressor_decides_as_specified(refresh: str) -> None:
    adjacent = Adjacent()
    decided = [
        adjacent.keeps({"cid": cid, "time": time}, {"refresh": refresh})
        for cid, time, _, _ in VECTORS
    ]
    assert decided == [seen if refresh == "seen" else kept for _, _, seen, kept in VECTORS]


def test_a_switch_holds_from_its_offset_on_and_a_changed_table_from_the_start_on() -> None:
    model = Model()
    blocklist = {"name": "block", "use": "blocklist", "params": {"cids": [1]}}
    model.chains = [[blocklist], [{**blocklist, "params": {"cids": [2]}}]]
    lines = [b'{"cid":1,"time":0}\n', b'{"cid":2,"time":0}\n']
    model.posts = [Post(0, (1, 0), lines), Post(0, (2, 0), lines), Post(1, (3, 0), lines)]
    model.switches = [Switch(0, (2, 0), "block", {"mode": "disabled"})]
    outcome = model.outcome()
    assert outcome.emitted == [lines[1], *lines, lines[0]]
    assert outcome.dropped == {"block": 2}
    assert outcome.begins == [0, 3]


def test_the_harness_imports_nothing_of_the_daemon() -> None:
    for name in ("model", "harness", "operations", "changed_chain", "stops", "mistaken_classes"):
        path = Path(__file__).with_name(f"{name}.py")
        for node in ast.walk(ast.parse(path.read_text())):
            names = [name.name for name in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            assert not {name.partition(".")[0] for name in names} & {"service", "middleware"}, path
