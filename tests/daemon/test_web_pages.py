"""No web page elsewhere reaches the daemon through the browser of someone who looks at it."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest

from service.http_admission import Admission
from service.settings import Address
from tests.daemon.running import PENSTOCK, RunningDaemon, left_behind, write_configuration

pytestmark = pytest.mark.timeout(120)

EVENT = b'{"cid":1,"time":2}'
RESET = "/api/v1/middleware/adjacent/reset"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    """One daemon, of which nothing that is tried here may change anything."""
    directory = tmp_path_factory.mktemp("pages")
    write_configuration(
        directory, middleware=[{"name": "adjacent", "use": "adjacent"}], workers={"count": 1}
    )
    daemon = RunningDaemon(directory)
    daemon.wait_until_ready()
    yield daemon
    daemon.end()
    assert left_behind(directory) == []


def state(daemon: RunningDaemon) -> tuple[int, Any]:
    """Return what a page could have changed."""
    return daemon.stats()["accepted"], daemon.get("/api/v1/middleware")


def status(daemon: RunningDaemon, method: str, path: str, headers: dict[str, str]) -> int:
    """Return how a request is answered, with no header but these."""
    connection = http.client.HTTPConnection(*daemon.address, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        body = EVENT if method == "POST" else b""
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            connection.putheader(name, value)
        connection.endheaders(body)
        return connection.getresponse().status
    finally:
        connection.close()


PATHS = [
    ("GET", "/livez"),
    ("GET", "/api/v1/stats"),
    ("GET", "/api/v1/middleware"),
    ("POST", "/api/v1/events"),
    ("POST", RESET),
    ("PATCH", "/api/v1/middleware/adjacent"),
    ("GET", "/nothing"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:{port}",
        "localhost",
        "127.0.0.1:1",
        "localhost:{port}.evil",
        "",
    ],
)
def test_no_other_host_is_served(daemon: RunningDaemon, method: str, path: str, host: str) -> None:
    before = state(daemon)
    named = {"Host": host.format(port=daemon.address[1])}
    assert status(daemon, method, path, named) == 421
    assert state(daemon) == before


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://localhost:1"])
def test_no_foreign_origin_is_served(
    daemon: RunningDaemon, method: str, path: str, origin: str
) -> None:
    before = state(daemon)
    headers = {"Host": daemon.host, "Origin": origin}
    assert status(daemon, method, path, headers) == 403
    assert status(daemon, "OPTIONS", path, headers) == 403
    assert state(daemon) == before


@pytest.mark.parametrize("site", ["cross-site", "same-site", "anything-else"])
def test_a_page_elsewhere_changes_nothing(daemon: RunningDaemon, site: str) -> None:
    before = state(daemon)
    headers = {"Host": daemon.host, "Sec-Fetch-Site": site}
    for method, path in PATHS:
        if method != "GET":
            assert status(daemon, method, path, headers) == 403
    assert state(daemon) == before
    assert status(daemon, "GET", "/livez", headers) == 200  # a link may lead here


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_it_is_served_by_its_own_names(daemon: RunningDaemon, host: str) -> None:
    named = host.format(port=daemon.address[1])
    for origin in ({}, {"Origin": f"http://{named}", "Sec-Fetch-Site": "same-origin"}):
        assert status(daemon, "POST", "/api/v1/events", {"Host": named, **origin}) == 202
        assert status(daemon, "GET", "/livez", {"Host": named.upper(), **origin}) == 200


def test_a_whole_url_as_target_names_its_own_host(daemon: RunningDaemon) -> None:
    headers = {"Host": daemon.host}
    assert status(daemon, "GET", f"http://{daemon.host}/livez", headers) == 200
    assert status(daemon, "GET", "http://evil.example/livez", headers) == 421


def test_a_host_is_missing_in_http_1_0_only() -> None:
    admission = Admission(Address("::1", 80))
    assert admission.refusal("GET", "1.0", {}, "") is None
    assert admission.refusal("GET", "1.1", {}, "") is not None
    for host in ("[::1]", "[::1]:80", "localhost", "localhost:80", "127.0.0.1"):
        assert admission.refusal("GET", "1.1", {"HOST": host}, "") is None


def test_the_command_line_reaches_it_by_another_of_its_names(daemon: RunningDaemon) -> None:
    url = f"http://localhost:{daemon.address[1]}"
    for command in (["list"], ["reset", "adjacent"]):
        done = subprocess.run(
            [PENSTOCK, "middleware", *command, "--url", url],
            cwd=daemon.directory,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr


PAGE = """<!doctype html><meta charset="utf-8"><iframe name="frame"></iframe>
<form id="form" target="frame" method="post" enctype="text/plain" action="{url}/api/v1/events">
<input name='{{"cid":1,"time":2,"x":"' value='"}}'></form>
<form id="reset" target="frame" method="post" action="{url}{reset}"></form>
<script>
const url = "{url}", event = '{{"cid":1,"time":2}}', json = {{"Content-Type": "application/json"}};
const tries = {{
  plain: () => fetch(url + "/api/v1/events", {{method: "POST", mode: "no-cors", body: event}}),
  cors: () => fetch(url + "/api/v1/events", {{method: "POST", headers: json, body: event}}),
  reset: () => fetch(url + "{reset}", {{method: "POST", headers: json, body: "{{}}"}}),
  bare: () => fetch(url + "{reset}", {{method: "POST", mode: "no-cors"}}),
  patch: () => fetch(url + "/api/v1/middleware/adjacent",
    {{method: "PATCH", headers: json, body: '{{"mode":"disabled"}}'}}),
  beacon: async () => navigator.sendBeacon(url + "/api/v1/events", event),
  read: async () => (await fetch(url + "/api/v1/stats")).text(),
  image: () => new Promise(done => {{
    const image = new Image();
    image.onload = image.onerror = done;
    image.src = url + "{reset}";
  }}),
  form: () => new Promise(done => {{
    document.querySelector("iframe").onload = done; document.getElementById("form").submit();
  }}),
  formReset: () => new Promise(done => {{
    document.querySelector("iframe").onload = done; document.getElementById("reset").submit();
  }}),
}};
(async () => {{
  const told = [];
  for (const [name, attempt] of Object.entries(tries))
    try {{
      const got = await attempt();
      told.push(name + (typeof got == "string" ? " READ" : ""));
    }} catch (error) {{ told.push(name); }}
  await fetch("{done}", {{method: "POST", mode: "no-cors", body: told.join()}});
}})();
</script>"""


class Site:
    """A web page on another port of loopback, which tells what it tried when it is done."""

    def __init__(self, reset: str) -> None:
        self.url = ""  # of what it attacks
        self.told = ""
        self.done = Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = PAGE.format(url=site.url, reset=reset, done=f"{site.address}/done").encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.send_header("Content-Length", str(len(page)))
                self.end_headers()
                self.wfile.write(page)

            def do_POST(self) -> None:
                site.told = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self.send_response(204)
                self.end_headers()
                site.done.set()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join(10)
        self.server.server_close()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site(RESET)
    yield site
    site.close()


def browse(url: str, folder: Path, site: Site) -> None:
    """Look at a page in a real browser until it says that it is done."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is not installed (make system-packages)")
    options = [
        *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *("--disable-dev-shm-usage", f"--user-data-dir={folder / 'browser'}"),
        *("--host-resolver-rules=MAP *.example 127.0.0.1", "--remote-debugging-port=0", url),
    ]
    with (folder / "browser.log").open("wb") as log:
        browser = subprocess.Popen(
            [program, *options],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            assert site.done.wait(60), (folder / "browser.log").read_text()
        finally:
            os.killpg(browser.pid, signal.SIGKILL)
            browser.wait(20)


def test_a_page_in_a_real_browser_changes_and_reads_nothing(
    daemon: RunningDaemon, site: Site, tmp_path: Path
) -> None:
    before = state(daemon)
    site.url = daemon.url
    browse(site.address, tmp_path, site)
    assert site.told.split(",")[-1].startswith("formReset")  # it tried all
    assert "READ" not in site.told
    assert state(daemon) == before
    assert left_behind(tmp_path) == []


def test_a_page_whose_name_leads_here_changes_and_reads_nothing(
    daemon: RunningDaemon, site: Site, tmp_path: Path
) -> None:
    before = state(daemon)
    site.url = f"http://evil.example:{daemon.address[1]}"
    site_port = site.server.server_port
    browse(f"http://evil.example:{site_port}", tmp_path, site)
    assert site.told.split(",")[-1].startswith("formReset")
    assert "READ" not in site.told
    assert state(daemon) == before
    assert left_behind(tmp_path) == []
