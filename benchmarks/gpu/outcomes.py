"""A plugin of pytest: prints the outcome of each test as a line of JSON as soon as it is known."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

MESSAGE_CHARS = 3000
"""Most characters of a failed test's message; of a longer one the end is kept, which says what was wrong."""


def _say(line: dict[str, Any]) -> None:
    assert sys.__stdout__ is not None
    print(json.dumps(line), file=sys.__stdout__, flush=True)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say how a test ended: its call, or what went wrong or was skipped before and after that."""
    if report.when != "call" and report.passed:
        return
    line: dict[str, Any] = {"test": report.nodeid, "outcome": report.outcome, "seconds": round(report.duration, 2)}
    if report.failed:
        line["message"] = report.longreprtext[-MESSAGE_CHARS:]
    if report.skipped and isinstance(report.longrepr, tuple):
        line["message"] = report.longrepr[2]
    _say(line)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Say what could not be collected."""
    if report.failed:
        _say({"test": report.nodeid, "outcome": "failed", "message": report.longreprtext[-MESSAGE_CHARS:]})
