from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import msgspec
import pytest

from meshnode.cli import say
from meshnode.cli.report import DownloadReport, EngineReport, Report, read
from meshnode.cli.voice import Lines, Text
from tests.cli.conftest import STATUS, Terminal


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Report:
    monkeypatch.setattr(sys, "argv", ["meshnode"])
    return read(STATUS)


def loading(progress: float) -> EngineReport:
    done = DownloadReport(round(progress * 93 * 2**20), 93 * 2**20)
    return EngineReport("embedded", "embedded", "", "loading", "fetching its model", progress=done)


def test_the_banner_says_what_where_and_what_next(seen: Report) -> None:
    out = io.StringIO()
    voice = Text(say.Steady(out), None)
    voice.ready(seen)
    voice.settled(seen)
    assert out.getvalue().splitlines() == [
        ' meshnode 0.1.0 · node "studio" (nq4f-7kta) · mesh "home" (3 nodes)',
        " gpu       none found; 16 GB memory, 9 GB free",
        " api       http://127.0.0.1:6374/v1   (OpenAI)    key: not needed on loopback",
        " mesh      0.0.0.0:6375    add a machine: meshnode invite",
        " trust     ca: whoever has a certificate of this mesh",
        " engines   ollama @11434 llama3:8b",
        " try       meshnode run llama3:8b hello",
    ]


def test_suggested_commands_name_an_unusual_home(seen: Report) -> None:
    out = io.StringIO()
    Text(say.Steady(out), Path("/srv/b")).settled(seen)
    assert "meshnode run llama3:8b hello --home /srv/b" in out.getvalue()


def test_without_any_model_joining_is_suggested() -> None:
    out = io.StringIO()
    Text(say.Steady(out), None).settled(read({"node": {}}))
    assert "meshnode join TOKEN" in out.getvalue()


def test_a_download_is_a_bar_on_a_terminal_and_a_line_a_tenth_elsewhere(seen: Report) -> None:
    terminal, pipe = Terminal(), io.StringIO()
    for out in (terminal, pipe):
        voice = Text(say.Steady(out), None)
        for percent in range(0, 100, 2):
            voice.engine(loading(percent / 100))
        voice.settled(seen)
    assert terminal.getvalue().count("\n") == 2
    assert "▓" in terminal.getvalue()
    assert pipe.getvalue().count("\n") == 10 + 2
    assert "\r" not in pipe.getvalue()


def test_what_is_said_after_a_bar_leaves_nothing_of_it(seen: Report) -> None:
    out = Terminal()
    voice = Text(say.Steady(out), None)
    voice.engine(loading(0.5))
    width = len(out.getvalue().lstrip("\r"))
    voice.settled(seen)
    assert f"\r{' ' * width}\r engines" in out.getvalue()


def test_a_log_line_stands_on_a_line_of_its_own(seen: Report) -> None:
    out = Terminal()
    voice = Text(say.Steady(out), None)
    log = say.Steady(out, before=voice.clear)
    voice.engine(loading(1.0))
    log.write("model fetched\n")
    log.write("linked\n")
    assert out.getvalue().endswith("\rmodel fetched\nlinked\n")


def test_a_node_that_takes_no_links_is_not_offered_for_inviting(seen: Report) -> None:
    out = io.StringIO()
    Text(say.Steady(out), None).ready(
        msgspec.structs.replace(seen, mesh=msgspec.structs.replace(seen.mesh, address=None))
    )
    assert "only dials out\n" in out.getvalue()
    assert "invite" not in out.getvalue()


def test_a_psk_tofu_mesh_is_joined_by_its_secret(seen: Report) -> None:
    out = io.StringIO()
    mesh = msgspec.structs.replace(seen.mesh, trust="psk-tofu", member_until=None)
    Text(say.Steady(out), None).ready(msgspec.structs.replace(seen, mesh=mesh))
    assert "add a machine: meshnode mesh secret" in out.getvalue()
    assert "trust     psk-tofu: " in out.getvalue()


def test_a_node_that_may_not_invite_is_not_offered_for_inviting(seen: Report) -> None:
    out = io.StringIO()
    mesh = msgspec.structs.replace(seen.mesh, may_invite=False)
    Text(say.Steady(out), None).ready(msgspec.structs.replace(seen, mesh=mesh))
    assert " mesh      0.0.0.0:6375\n" in out.getvalue()


def test_a_revoked_node_says_so_at_its_start(seen: Report) -> None:
    out = io.StringIO()
    mesh = msgspec.structs.replace(seen.mesh, revoked="the root revoked it")
    Text(say.Steady(out), None).ready(msgspec.structs.replace(seen, mesh=mesh))
    assert "this node has been revoked (the root revoked it)" in out.getvalue()


def test_models_met_later_are_something_to_try(seen: Report) -> None:
    out = io.StringIO()
    Text(say.Steady(out), None).met(seen)
    assert out.getvalue().splitlines() == [
        " models    llama3:8b    in a mesh of 3 nodes",
        " try       meshnode run llama3:8b hello",
    ]


def test_every_line_for_programs_is_one_json_object(seen: Report) -> None:
    out = io.StringIO()
    voice = Lines(say.Steady(out))
    voice.ready(seen)
    voice.engine(loading(0.5))
    voice.settled(seen)
    voice.asking(seen.models[0], "how?")
    voice.answered("so")
    voice.stopping(120)
    voice.already(seen)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "ready", "engine", "settled", "asking", "answered", "stopping", "running",
    ]  # fmt: skip
    assert events[0] == {
        "event": "ready", "api": "http://127.0.0.1:6374", "mesh": "0.0.0.0:6375", "node": "n" * 52, "name": "studio",
        "trust": "ca", "member_until": "2099-01-01T00:00:00+00:00", "revoked": False,
    }  # fmt: skip


def test_a_reader_that_left_does_not_end_the_node() -> None:
    end, out = os.pipe()
    os.close(end)
    with open(out, "w") as pipe:
        steady = say.Steady(pipe)
        for _ in range(3):
            steady.write("a line\n")
            steady.flush()
