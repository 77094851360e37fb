from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli import membership
from meshnode.cli.app import app
from meshnode.cli.daemon import Daemon
from meshnode.keep.addresses import Remembered, save_addresses
from meshnode.keep.home import Home
from tests.cli.conftest import FakeDaemon, Terminal

TOKEN = "mesh1-abcdef"


def test_invite_prints_the_token_alone_without_a_terminal(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 1800})
    result = cli.invoke(app, ["invite", "--expires", "30m", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (0, f"{TOKEN}\n")
    _, _, body, authorization = daemon.asked[-1]
    assert body == {"expires_s": 1800, "roles": None, "owner": "", "root": False}
    assert authorization == f"Bearer {Home(home).control_secret()}"


def told(wish: membership.Wish, daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch, qr: bool = True) -> str:
    """What a terminal is shown."""
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    membership.invite(Daemon(daemon.api), wish, as_json=False, qr=qr)
    return out.getvalue()


def test_invite_tells_people_what_to_do_with_it(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 86_400, "roles": ["serve"]})
    printed = told(membership.Wish(86_400, ("serve",), "ann"), daemon, monkeypatch)
    assert f"\n  meshnode join {TOKEN}\n" in printed
    assert "within 24 h" in printed
    assert "It may: be given jobs (serve). Owner: ann.\n" in printed
    assert "root" not in printed


def test_an_invite_that_hands_over_the_root_says_so(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 60, "root": True})
    assert "root of the mesh" in told(membership.Wish(60, root=True), daemon, monkeypatch)


def test_a_qr_code_is_drawn_where_it_fits(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 60})
    monkeypatch.setattr(Terminal, "encoding", "utf-8", raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    assert "█" in told(membership.Wish(60), daemon, monkeypatch)
    assert "█" not in told(membership.Wish(60), daemon, monkeypatch, qr=False)
    monkeypatch.setenv("COLUMNS", "20")
    assert "a QR code needs a terminal of" in told(membership.Wish(60), daemon, monkeypatch)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(Terminal, "encoding", "ascii", raising=False)
    assert "cannot show" in told(membership.Wish(60), daemon, monkeypatch)


def test_what_an_invite_gives_is_asked_for(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/invite", {"token": TOKEN, "expires_s": 86_400})
    line = ["invite", "--role", "serve", "--role", "client", "--role", "serve", "--owner", "ann", "--root"]
    assert cli.invoke(app, [*line, "--home", str(home)]).stdout == f"{TOKEN}\n"
    assert daemon.asked[-1][2] == {"expires_s": 86_400, "roles": ["serve", "client"], "owner": "ann", "root": True}


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


def test_leave_says_which_mesh_was_left_and_what_is_next(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/leave", {"left": "office", "mesh": "home"})
    result = cli.invoke(app, ["leave", "--force", "--home", str(home)])
    assert result.exit_code == 0
    assert 'left mesh "office"' in result.stdout and '"home"' in result.stdout
    assert f"meshnode join TOKEN --home {home}" in result.stdout
    assert daemon.asked[-1][2] == {"force": True}
    as_json = cli.invoke(app, ["leave", "--json", "--home", str(home)])
    assert json.loads(as_json.stdout) == {"left": "office", "mesh": "home", "running": True}


def test_a_refused_leave_says_why(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    refusal = {"error": {"message": "this node holds the root", "code": "invalid_request"}}
    daemon.answer("POST", "/mesh/leave", refusal, status=400)
    result = cli.invoke(app, ["leave", "--home", str(home)])
    assert (result.exit_code, result.stderr) == (1, "meshnode: this node holds the root\n")


def test_leave_without_a_running_node_clears_the_home(cli: CliRunner, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.found_mesh(home.node_key(), "office")
    result = cli.invoke(app, ["leave", "--home", str(home.path)])
    assert (result.exit_code, result.stderr) == (0, "")
    assert 'left mesh "office"' in result.stdout and "at its next start" in result.stdout
    assert home.membership(home.node_key()) is None
    again = cli.invoke(app, ["leave", "--home", str(home.path)])
    assert again.exit_code == 1 and "in no mesh" in again.stderr


def test_the_root_of_a_mesh_with_others_is_not_left_by_a_slip(cli: CliRunner, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    mesh = home.found_mesh(home.node_key(), "office").mesh
    save_addresses(home.addresses, mesh.id, [Remembered(home.node_key().id, ("192.168.1.6:6375",))])
    refused = cli.invoke(app, ["leave", "--home", str(home.path)])
    assert refused.exit_code == 1 and "--root" in refused.stderr and "--force" in refused.stderr
    assert home.membership(home.node_key()) is not None
    assert cli.invoke(app, ["leave", "--force", "--home", str(home.path)]).exit_code == 0


def test_leave_touches_no_home_that_was_never_used(cli: CliRunner, tmp_path: Path) -> None:
    assert cli.invoke(app, ["leave", "--home", str(tmp_path / "new")]).exit_code == 1
    assert not (tmp_path / "new").exists()
