from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli import membership
from meshnode.cli.app import app
from meshnode.cli.daemon import Daemon
from meshnode.keep.home import Home
from tests.cli.conftest import FakeDaemon

TOKEN = "mesh1-abcdef"


def test_invite_prints_the_token_alone_without_a_terminal(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 1800})
    result = cli.invoke(app, ["invite", "--expires", "30m", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (0, f"{TOKEN}\n")
    _, _, body, authorization = daemon.asked[-1]
    assert body == {"expires_s": 1800}
    assert authorization == f"Bearer {Home(home).control_secret()}"


def test_invite_tells_people_what_to_do_with_it(
    daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 86_400})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    membership.invite(Daemon(daemon.api), 86_400, as_json=False)
    printed = capsys.readouterr().out
    assert f"meshnode join {TOKEN}" in printed
    assert "within 24 h" in printed


def test_invite_as_json(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 86_400})
    result = cli.invoke(app, ["invite", "--json", "--home", str(home)])
    assert json.loads(result.stdout) == {"token": TOKEN, "expires_s": 86_400}


@pytest.mark.parametrize("expires", ["soon", "0s", "-1h", "9999d", "nan", "", "h"])
def test_a_lifetime_that_is_none_is_a_usage_error(cli: CliRunner, home: Path, expires: str) -> None:
    result = cli.invoke(app, ["invite", f"--expires={expires}", "--home", str(home)])
    assert result.exit_code == 2
    assert "--expires" in result.stderr


def test_invite_needs_a_running_node(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["invite", "--home", str(tmp_path / "new")])
    assert result.exit_code == 1
    assert "meshnode up" in result.stderr


@pytest.mark.parametrize("argument", [TOKEN, "-"])
def test_join_asks_the_running_node(cli: CliRunner, home: Path, daemon: FakeDaemon, argument: str) -> None:
    daemon.answer("POST", "/mesh/join", {"mesh": "home", "nodes": ["studio", "attic"]})
    result = cli.invoke(app, ["join", argument, "--home", str(home)], input=f"{TOKEN}\n")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == 'joined mesh "home" with studio, attic'
    assert daemon.asked[-1][2] == {"token": TOKEN}


def test_join_tells_why_it_was_refused(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    refusal = {"error": {"message": "the invite expired an hour ago", "code": "invite_refused"}}
    daemon.answer("POST", "/mesh/join", refusal, status=400)
    result = cli.invoke(app, ["join", TOKEN, "--home", str(home)])
    assert (result.exit_code, result.stderr) == (1, "meshnode: the invite expired an hour ago\n")


def test_join_with_nothing_on_standard_input(cli: CliRunner, home: Path) -> None:
    result = cli.invoke(app, ["join", "-", "--home", str(home)], input="\n")
    assert result.exit_code == 1
    assert "no invite" in result.stderr


def test_an_answer_without_a_token_is_an_error(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/invite", [])
    result = cli.invoke(app, ["invite", "--home", str(home)])
    assert result.exit_code == 1
    assert "has no token" in result.stderr


@pytest.mark.parametrize("token", ["nonsense", "meshnode1-" + "a" * 60])
def test_a_mistyped_invite_is_refused_before_the_first_start(cli: CliRunner, tmp_path: Path, token: str) -> None:
    result = cli.invoke(app, ["join", token, "--home", str(tmp_path / "new")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("meshnode: ")
    assert "invite" in result.stderr
    assert token not in result.stderr
