"""Covey commands run one after another in a process that stays: importing torch takes longer than a probe learns."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from queue import Queue
from types import TracebackType
from typing import Any

from tests.support.processes import ENVIRONMENT, ROOT, end


class WarmProcess:
    """A process that runs commands; its complaints go to a file, to be shown when a test fails."""

    def __init__(self, log: Path) -> None:
        self._log = log
        with log.open("ab") as file:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tests.support.probes.trainers"],
                env=ENVIRONMENT,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                text=True,
                start_new_session=True,
            )

    def run(self, *arguments: object) -> str:
        """What a command prints; it must succeed."""
        assert self._popen.stdin is not None and self._popen.stdout is not None
        print(json.dumps([str(a) for a in arguments]), file=self._popen.stdin, flush=True)
        answer = self._popen.stdout.readline()
        code, text = json.loads(answer) if answer else ("lost", "")
        assert code == 0, f"{arguments}: exit {code}\n{text}\n{self._log.read_text()}"
        return str(text)

    def kill(self) -> None:
        """End it."""
        end(self._popen)


class Trainers:
    """Runs `covey train`, `count` at a time; for use as a context, and by several threads."""

    def __init__(self, folder: Path, count: int = 2) -> None:
        self._processes = [WarmProcess(folder / f"trainer-{i}.log") for i in range(count)]
        self._free: Queue[WarmProcess] = Queue()
        for process in self._processes:
            self._free.put(process)

    def __enter__(self) -> Trainers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._processes:
            process.kill()

    def train(self, config: Path) -> dict[str, Any]:
        """A run in the folder of its configuration, the same one each time; its result."""
        process = self._free.get()
        try:
            text = process.run("train", config, "--runs", config.parent, "--json", "--deterministic")
        finally:
            self._free.put(process)
        result = json.loads(text.strip().splitlines()[-1])
        assert isinstance(result, dict)
        return result


def main() -> None:
    """Run the commands that come in, one a line."""
    # What is printed besides is no answer.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        from covey.cli import run

        for line in sys.stdin:
            with contextlib.redirect_stdout(io.StringIO()) as out:
                code = run(json.loads(line))
            print(json.dumps([code, out.getvalue()]), file=answers, flush=True)


if __name__ == "__main__":
    main()
