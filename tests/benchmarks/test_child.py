"""Children say when they are ready, say why they died, and are gone afterwards."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.build import BenchError
from benchmarks.child import free_port, ready_line, running
from tests.kit.waiting import PATIENCE_S

ENVIRONMENT = dict(os.environ)


def test_the_ready_line_is_found_among_other_output() -> None:
    lines = [
        "INFO starting",
        "[1]",
        '{"event":"listening"}',
        '{"event":"ready","port":7}',
        '{"event":"ready","port":8}',
    ]
    assert ready_line(lines) == {"event": "ready", "port": 7}


def test_no_ready_line_is_none() -> None:
    assert ready_line(['{"event": "rea']) is None


def test_a_child_is_ready_and_then_gone(tmp_path: Path) -> None:
    code = 'import signal; print(\'{"event":"ready","port":1}\', flush=True); signal.pause()'
    with running("sleeper", [sys.executable, "-c", code], tmp_path, ENVIRONMENT) as child:
        assert child.wait_ready(PATIENCE_S)["port"] == 1
        pid = child.pid
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_child_that_dies_is_reported_with_its_last_words(tmp_path: Path) -> None:
    code = "import sys; sys.exit('no such model')"
    with (
        running("loser", [sys.executable, "-c", code], tmp_path, ENVIRONMENT) as child,
        pytest.raises(BenchError, match=r"(?s)loser ended with status 1.*no such model"),
    ):
        child.wait_ready(PATIENCE_S)


def test_free_ports_are_ports() -> None:
    assert 1024 <= free_port() <= 65535
