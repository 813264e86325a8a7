"""`covey page` serves runs to this machine alone, tells of changes, and changes nothing."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.support.processes import ENVIRONMENT, covey_json, end, write_config
from tests.support.run_files import run_files, write_curves


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    return Path(covey_json("train", write_config(folder / "job.yaml"), "--runs", folder, "--json")["run_dir"])


class Page:
    """`covey page` at work."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "covey", "page", *map(str, arguments)]
        self.process = subprocess.Popen(
            command,
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout.readline()
        (port,) = re.findall(r"http://127\.0\.0\.1:(\d+)/", self.said)
        self.port = int(port)
        self._asked = ExitStack()

    def ask(self, path: str, method: str = "GET", **headers: str) -> http.client.HTTPResponse:
        """The answer to a request; asked again while the server starts."""
        deadline = time.monotonic() + 60
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
            try:
                connection.request(method, path, headers=headers)
                answer = connection.getresponse()
                self._asked.callback(connection.close)
                self._asked.callback(answer.close)
                return answer
            except ConnectionRefusedError:
                connection.close()
                assert time.monotonic() < deadline and self.process.poll() is None
                time.sleep(0.05)

    def end(self) -> None:
        self._asked.close()
        end(self.process)


@pytest.fixture(scope="module")
def page(run: Path) -> Iterator[Page]:
    served = Page(run, "--port", 0)
    yield served
    served.end()


def test_it_shows_what_the_commands_print(page: Page, run: Path) -> None:
    assert run.name in page.said
    (shown,) = json.loads(page.ask("/content.json").read())["runs"]
    assert shown["members"] == covey_json("members", run, "--json")["members"]
    assert shown["summary"]["state"] == "complete" and shown["missing"] == []
    document = page.ask("/").read().decode()
    assert '<script src="views.js"></script>' in document and "<!--" not in document


@pytest.mark.parametrize("name", ["evil.example", "127.0.0.1.evil.example:80", "", "[::2]:8378"])
def test_whoever_asks_by_another_name_gets_nothing(page: Page, name: str) -> None:
    answer = page.ask("/content.json", Host=name)
    assert answer.status == 400 and b"members" not in answer.read()


def test_a_browser_is_told_to_load_nothing_else(page: Page) -> None:
    headers = page.ask("/").headers
    assert headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self';")
    assert headers["X-Content-Type-Options"] == "nosniff" and headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/content.json", 405), ("DELETE", "/", 405), ("GET", "/../config.yaml", 404), ("GET", "/journal", 404)],
)
def test_nothing_can_be_changed_and_nothing_else_read(page: Page, method: str, path: str, status: int) -> None:
    assert page.ask(path, method).status == status


def test_changes_are_told(tmp_path: Path) -> None:
    run = run_files(tmp_path / "run")
    write_curves(run, {"fitness/best": [(0, 1.0)]})
    served = Page(run, "--port", 0)
    try:
        events = served.ask("/events")
        assert events.headers["Content-Type"].startswith("text/event-stream")
        assert events.readline() == b": hello\n"
        write_curves(run, {"fitness/best": [(0, 1.0), (2000, 2.0)]})
        assert next(line for line in events if line.strip()).startswith(b"data: ")
        (shown,) = json.loads(served.ask("/content.json").read())["runs"]
        assert shown["curves"]["fitness/best"] == {"x": [0, 2000], "y": [1.0, 2.0]}
    finally:
        served.end()


def test_a_port_that_is_taken_gives_way_to_the_next_which_is_said(run: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        served = Page(run, "--port", taken)
        try:
            assert taken < served.port < taken + 20
        finally:
            served.end()
