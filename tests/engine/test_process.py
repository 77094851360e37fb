"""Children: their words are heard, and nothing of them is left however this process leaves them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
import trio

from meshnode.engine.process import ChildProcess
from meshnode.errors import EngineUnavailable
from tests.kit.waiting import soon

pytestmark = pytest.mark.real

GUARD = Path(__file__).parents[2] / "meshnode" / "engine" / "guard.py"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(code)]


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


async def test_its_lines_its_status_and_its_last_words_are_known() -> None:
    lines: list[bytes] = []
    child = ChildProcess(
        python("import sys; print('one'); print('two', end=''); print('sorry', file=sys.stderr); sys.exit(5)")
    )
    assert await child.run(lines.append) == 5
    assert (lines, child.last_words) == ([b"one", b"two"], "sorry")


async def test_a_child_that_writes_without_end_is_remembered_in_part() -> None:
    child = ChildProcess(python("import sys; sys.stderr.write('x' * 1_000_000 + '\\n' * 1000 + 'end')"))
    assert await child.run() == 0
    assert len(child.tail) < 10_000
    assert child.last_words == "end"


async def test_a_command_that_does_not_exist_is_told() -> None:
    with pytest.raises(EngineUnavailable, match="cannot be started"):
        await ChildProcess(["/nonexistent/engine"]).run()


STUBBORN = """
    import signal
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    signal.pause()
"""

WITH_GRANDCHILD = """
    import signal, subprocess, sys
    inner = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    print(inner.pid, flush=True)
    signal.pause()
"""


async def test_leaving_ends_a_child_that_ignores_the_first_signal() -> None:
    child = ChildProcess(python(STUBBORN))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child.run, lambda _: nursery.cancel_scope.cancel())
    assert child.pid is not None and not alive(child.pid)


async def test_leaving_ends_what_the_child_started_too() -> None:
    pids: list[int] = []
    child = ChildProcess(python(WITH_GRANDCHILD))
    async with trio.open_nursery() as nursery:

        def heard(line: bytes) -> None:
            pids.append(int(line))
            nursery.cancel_scope.cancel()

        nursery.start_soon(child.run, heard)
    await soon(lambda: not alive(pids[0]), "its child has ended")


async def test_a_crash_ends_what_the_child_started_too() -> None:
    pids: list[int] = []

    def heard(line: bytes) -> None:
        pids.append(int(line))
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)

    child = ChildProcess(python(WITH_GRANDCHILD))
    assert await child.run(heard) == -signal.SIGKILL
    await soon(lambda: not alive(pids[0]), "its child has ended")


async def test_a_guarded_command_ends_when_its_keeper_is_killed() -> None:
    guarded = [sys.executable, "-P", str(GUARD), *python(STUBBORN.replace('"ready"', "__import__('os').getpid()"))]
    keeper = subprocess.Popen(  # noqa: ASYNC220 - a stand-in for a node, to be killed outright
        python(f"""
            import signal, subprocess
            child = subprocess.Popen({guarded!r}, stdin=subprocess.PIPE, start_new_session=True)
            signal.pause()
        """),
        stdout=subprocess.PIPE,
    )
    assert keeper.stdout is not None
    with keeper.stdout:
        pid = int(await trio.to_thread.run_sync(keeper.stdout.readline))
    assert alive(pid)
    keeper.kill()
    keeper.wait()
    await soon(lambda: not alive(pid), "the guarded command has ended")


async def test_a_guarded_command_keeps_its_exit_status() -> None:
    guarded = [sys.executable, "-P", str(GUARD), *python("raise SystemExit(7)")]
    assert await ChildProcess(guarded).run() == 7
