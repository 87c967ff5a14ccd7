"""Whatever an operator's or a producer's request says, it is answered, and never by 5xx."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.daemon.running import RunningDaemon, left_behind, write_configuration

pytestmark = pytest.mark.timeout(120)

ANYTHING = """
from typing import Any
from pydantic import BaseModel
from middleware.contract import Middleware

class Anything(Middleware):
    class Params(BaseModel):
        value: Any = None

    def handle(self, event):
        return event
"""


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon, with a middleware that takes any parameter."""
    directory = tmp_path_factory.mktemp("any")
    (directory / "anything.py").write_text(ANYTHING)
    steps = [{"name": "adjacent", "use": "adjacent"}, {"name": "any", "use": "anything:Anything"}]
    write_configuration(directory, middleware=steps, workers={"count": 1})
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    daemon.end()
    assert left_behind(directory) == []


examples = settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
numbers = st.integers(0, 10**30)
documents = values | st.fixed_dictionaries(
    {},
    optional={
        "mode": st.sampled_from(["enabled", "shadow"]) | values,
        "params": st.fixed_dictionaries({}, optional={"value": values, "window": values}) | values,
        "reason": st.text(st.characters()) | values,
        "offsets": st.lists(st.from_regex(r"[0-9]{1,30}\\.[0-9]{1,30}") | values, max_size=3)
        | values,
        "all": st.booleans() | values,
        "after": st.sampled_from(["1.1", "-1.-1", f"{10**30}.1", "\u0661.1", "1.1.1"]) | values,
        "source": values,
        "middleware": values,
    },
)
bodies = documents.map(json.dumps).map(str.encode) | st.binary(max_size=20)


def statuses(daemon: RunningDaemon, *requests: tuple[str, str, bytes, dict[str, str]]) -> list[int]:
    """Return what each request is answered by, all over one connection."""
    connection = http.client.HTTPConnection(*daemon.address, timeout=30)
    try:
        found = []
        for method, path, body, headers in requests:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            answer = response.read()
            assert response.status < 400 or isinstance(json.loads(answer), dict)
            found.append(response.status)
        return found
    finally:
        connection.close()


@examples
@given(bodies)
@example(b'{"params": ' + b'{"value":' * 990 + b"1" + b"}" * 990 + b"}")
@example(b'{"mode": "shadow", "reason": "\\ud800"}')
@example(b'{"params": {"value": %d}}' % 10**30)
@example(b'{"params": {"value": 1e400}}')
@example(b'{"offsets": ["%d.1"]}' % 10**30)
def test_any_body_of_an_operator_is_answered(daemon: RunningDaemon, body: bytes) -> None:
    kind = {"Content-Type": "application/json"}
    found = statuses(
        daemon,
        ("PATCH", "/api/v1/middleware/any", body, kind),
        ("PATCH", "/api/v1/middleware/adjacent", body, kind),
        ("POST", "/api/v1/middleware/adjacent/reset", body, kind),
        ("POST", "/api/v1/dead-letters/redrive", body, kind),
        ("POST", "/api/v1/dead-letters/discard", body, kind),
    )
    assert set(found) <= {200, 400, 404, 413, 415, 422}


@examples
@given(st.binary(max_size=12).map(lambda text: "".join(f"%{byte:02x}" for byte in text)))
@example("%00")
@example("%2f%00")
@example("9" * 40 + ".1")
def test_any_address_is_answered(daemon: RunningDaemon, text: str) -> None:
    paths = [
        f"/api/v1/middleware/{text}",
        f"/api/v1/dead-letters/{text}",
        f"/api/v1/dead-letters?after={text}",
        f"/api/v1/dead-letters?source={text}&limit=1",
        f"/{text}?{text}",
    ]
    found = statuses(daemon, *[("GET", path, b"", {}) for path in paths])
    assert set(found) <= {200, 400, 404, 405, 422}


@examples
@given(st.text(st.characters(codec="latin-1", exclude_characters="\r\n\0"), max_size=12))
@example("k" * 256)
def test_any_idempotency_key_is_answered(daemon: RunningDaemon, key: str) -> None:
    event = b'{"cid":1,"time":2}'
    headers: dict[str, Any] = {"Idempotency-Key": key.encode("latin-1")}
    for body in (event, event, b'{"cid":2,"time":3}'):
        (status,) = statuses(daemon, ("POST", "/api/v1/events", body, headers))
        assert status in {202, 400, 422}
