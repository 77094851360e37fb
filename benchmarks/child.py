"""Child processes that never outlive the benchmark: started in their own process group, on given cores, and ended.

Each writes its standard error to a file, whose tail is in the error when it dies. Not for measuring (gauge.py).
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.build import BenchError

TERM_S = 5.0
"""How long a child may take to end after SIGTERM before it is killed."""

TAIL_BYTES = 2000


def free_port() -> int:
    """A loopback TCP port that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ready_line(lines: Iterable[str]) -> dict[str, Any] | None:
    """The first JSON object with `"event": "ready"`; other lines, JSON or not, are passed over."""
    for line in lines:
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and said.get("event") == "ready":
            return said
    return None


class Child:
    """One running program. Its output goes to files `<name>.out` and `<name>.err` in a directory."""

    def __init__(self, name: str, command: list[str], directory: Path, environment: Mapping[str, str]):
        self.name = name
        self._out, self._err = directory / f"{name}.out", directory / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=environment,
                cwd=directory,  # not where this checkout would be found before the one that the environment names
                start_new_session=True,  # a Ctrl-C reaches only the benchmark, which then ends them in order
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def pin(self, cores: set[int]) -> None:
        """Let every thread of the process run on these cores only."""
        for thread in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(ProcessLookupError):  # a thread may end meanwhile
                os.sched_setaffinity(int(thread.name), cores)

    def check(self) -> None:
        """Raises BenchError when the process has ended."""
        code = self._process.poll()
        if code is not None:
            raise BenchError(f"{self.name} ended with status {code}:\n{self._tail()}")

    def wait_ready(self, within_s: float) -> dict[str, Any]:
        """The `ready` object it prints. Raises BenchError when it ends or says nothing in time."""
        give_up = time.monotonic() + within_s
        while time.monotonic() < give_up:
            said = ready_line(self._out.read_text(errors="replace").splitlines())
            if said is not None:
                return said
            self.check()
            time.sleep(0.02)
        raise BenchError(f"{self.name} was not ready within {within_s:.0f} s:\n{self._tail()}")

    def stop(self) -> None:
        """SIGTERM, a while, SIGKILL for the whole group; returns when the process is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGTERM)
        try:
            self._process.wait(TERM_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()

    def _tail(self) -> str:
        text = self._err.read_bytes() or self._out.read_bytes()
        return text[-TAIL_BYTES:].decode(errors="replace")


@contextlib.contextmanager
def running(name: str, command: list[str], directory: Path, environment: Mapping[str, str]) -> Iterator[Child]:
    """A child for as long as the block runs."""
    child = Child(name, command, directory, environment)
    try:
        yield child
    finally:
        child.stop()
