from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from meshnode.cli import holder
from meshnode.keep.home import Home


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_the_process_that_listens_is_found(port: int) -> None:
    found = holder.find(port, [])
    assert found is not None
    assert (found.pid, found.name) == (os.getpid(), psutil.Process().name())


def test_a_meshnode_is_recognised_by_its_home(port: int, tmp_path: Path) -> None:
    other, own = tmp_path / "other", tmp_path / "own"
    Home(other).write_run({"pid": 1, "api": ""})
    Home(own).write_run({"pid": os.getpid(), "api": ""})
    found = holder.find(port, [tmp_path / "missing", other, own])
    assert found is not None
    assert found.home == own


def test_a_home_in_the_environment_of_the_process_is_looked_at(
    port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Home(tmp_path / "own").write_run({"pid": os.getpid(), "api": ""})
    monkeypatch.setattr(psutil.Process, "cmdline", lambda self: ["meshnode", "up", "--home", str(tmp_path / "own")])
    found = holder.find(port, [])
    assert found is not None
    assert found.home == tmp_path / "own"


def test_advice_says_who_and_how_to_choose_another(port: int) -> None:
    text = holder.advice(f"127.0.0.1:{port}", {"--api": f"127.0.0.1:{port}"}, [], Path("/srv/two homes"))
    assert f"is in use by {psutil.Process().name()} (process {os.getpid()})" in text
    assert "meshnode up --api 127.0.0.1:0 --home '/srv/two homes'" in text


def test_advice_changes_every_busy_address_and_no_other(port: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        mesh = f"127.0.0.1:{other.getsockname()[1]}"
        text = holder.advice(f"127.0.0.1:{port}", {"--api": f"127.0.0.1:{port}", "--mesh": mesh}, [], None)
    assert "meshnode up --api 127.0.0.1:0 --mesh 127.0.0.1:0" in text
    text = holder.advice(f"127.0.0.1:{port}", {"--api": f"127.0.0.1:{port}", "--mesh": "none"}, [], None)
    assert "--mesh" not in text


def test_advice_without_leave_to_look_still_says_what_to_do(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise psutil.AccessDenied

    monkeypatch.setattr(psutil, "net_connections", refuse)
    text = holder.advice(f"127.0.0.1:{port}", {"--mesh": f"127.0.0.1:{port}"}, [], None)
    assert "may not see" in text
    assert "meshnode up --mesh 127.0.0.1:0" in text
