"""A child is kept running: ready only when it answers, started again when it ends, and why it ended is told."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import pytest
import trio

from meshnode.config.engine import EngineSection
from meshnode.engine.supervisor import Supervisor
from meshnode.errors import EngineFailed, EngineUnavailable
from tests.kit.waiting import PATIENCE_S

pytestmark = pytest.mark.real

SECTION = EngineSection(restart_min_s=0.01, restart_max_s=0.02, start_timeout_s=60)


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", textwrap.dedent(code)]


class Watched:
    """A supervisor whose news are kept."""

    def __init__(self, command: list[str], section: EngineSection = SECTION, refusals: int = 0) -> None:
        self.lines: list[bytes] = []
        self.reasons: list[str] = []
        self.news = trio.Event()
        self._refusals = refusals
        self.supervisor = Supervisor(command, section, self._ready, self._down)

    async def _ready(self, line: bytes) -> None:
        if self._refusals:
            self._refusals -= 1
            raise EngineFailed("not yet")
        self.lines.append(line)
        self.news.set()

    def _down(self, reason: str) -> None:
        self.reasons.append(reason)
        self.news.set()

    async def until(self, *, lines: int = 0, reasons: int = 0) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.supervisor.run)
            with trio.fail_after(PATIENCE_S):
                while len(self.lines) < lines or len(self.reasons) < reasons:
                    self.news = trio.Event()
                    await self.news.wait()
            nursery.cancel_scope.cancel()


async def test_a_child_is_ready_when_it_answers() -> None:
    watched = Watched(python("import signal; print('here', flush=True); signal.pause()"), refusals=2)
    await watched.until(lines=1)
    assert (watched.lines, watched.reasons, watched.supervisor.restarts) == ([b"here"], [], 0)


async def test_a_crashed_child_is_started_again() -> None:
    watched = Watched(python("import sys; print('here', flush=True); sys.exit('out of memory')"))
    await watched.until(reasons=3)
    assert watched.reasons == ["exit status 1: out of memory"] * 3


async def test_a_child_that_says_nothing_is_not_waited_for_for_ever() -> None:
    section = EngineSection(restart_min_s=0.01, start_timeout_s=0.1)
    watched = Watched(python("import signal; signal.pause()"), section)
    await watched.until(reasons=1)
    assert watched.reasons == ["not ready within 0.1 s"]


async def test_a_command_that_does_not_exist_is_not_tried_for_ever(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable):
        await Watched([str(tmp_path / "missing")]).supervisor.run()


async def test_a_child_that_says_it_is_hopeless_is_not_started_again() -> None:
    code = "import sys; print('no such software', file=sys.stderr); sys.exit(3)"
    supervisor = Supervisor([sys.executable, "-c", code], EngineSection(), never_ready, lambda why: None)
    with trio.fail_after(PATIENCE_S), pytest.raises(EngineUnavailable, match="no such software"):
        await supervisor.run()
    assert supervisor.restarts == 0


async def never_ready(line: bytes) -> None:
    raise AssertionError(line)
