"""`peers` and what may be done about one: what is asked of the node, and what people are told before and after."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from meshnode.cli import peers
from meshnode.cli.app import app
from meshnode.cli.daemon import Daemon
from meshnode.cli.peers import Revoking
from tests.cli.conftest import STATUS, FakeDaemon, Terminal

ID = "p" * 52
NAMED = {"node": ID, "short": "pppp-pppp", "name": "attic"}
REVOKED = {**NAMED, "also": ["cellar"], "dropped": True, "generation": 3, "local_only": False}
REVOKE = "/mesh/peers/revoke"


def status(*more: dict[str, Any], **mesh: Any) -> dict[str, Any]:
    """The usual status with more peers, and other facts of the mesh."""
    document = copy.deepcopy(STATUS)
    document["peers"][0]["name"] = "attic"
    document["peers"] += more
    document["mesh"] |= mesh
    return document


@pytest.fixture
def asked(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    """A daemon that revokes, asked by somebody at a terminal."""
    daemon.answer("GET", "/mesh/status", status())
    daemon.answer("POST", REVOKE, REVOKED)
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    return daemon


def posts(daemon: FakeDaemon) -> list[Any]:
    return [body for method, path, body, _ in daemon.asked if (method, path) == ("POST", REVOKE)]


def test_a_row_says_who_and_how(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    head, row = cli.invoke(app, ["peers", "--home", str(home)]).stdout.splitlines()
    assert head.split() == ["NAME", "ID", "PATH", "RTT", "ADDRESS", "ROLES", "OWNER", "PINNED", "VERSION", "SEEN"]
    assert [word.strip() for word in row.split("  ") if word] == [
        "attic[31m", "pppp-pppp", "relay via cellar", "0.4 ms", "192.168.1.6:6375", "client, serve", "ann", "yes",
        "0.1.0", "1 s ago",
    ]  # fmt: skip


def test_the_address_in_use_is_shown_where_there_is_one(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    document = status()
    document["peers"][0] |= {"state": "direct", "via": None, "address": "10.0.0.6:6375"}
    daemon.answer("GET", "/mesh/status", document)
    printed = cli.invoke(app, ["peers", "--home", str(home)]).stdout
    assert "10.0.0.6:6375" in printed and "192.168.1.6:6375" not in printed


def test_revoking_asks_first_and_says_what_follows(asked: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    follower = {"id": "c" * 52, "name": "cellar", "invited_by": ID}
    asked.answer("GET", "/mesh/status", status(follower))
    peers.revoke(Daemon(asked.api), Revoking("attic"), as_json=False)
    said = capsys.readouterr()
    assert 'Revoke attic (pppp-pppp) from mesh "home"?' in said.err
    assert "for ever" in said.err
    assert "go with it: cellar (--keep-invited" in said.err
    assert posts(asked) == [{"node": ID, "keep_invited": False}]
    assert "attic (pppp-pppp) is revoked" in said.out
    assert "out with it, invited by it: cellar" in said.out
    assert "generation 3" in said.out


def test_those_that_stay_are_named_too(asked: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    asked.answer("GET", "/mesh/status", status({"id": "c" * 52, "name": "cellar", "invited_by": ID}))
    peers.revoke(Daemon(asked.api), Revoking("pppp-pppp", keep_invited=True), as_json=False)
    assert "Those it invited stay: cellar." in capsys.readouterr().err
    assert posts(asked) == [{"node": ID, "keep_invited": True}]


@pytest.mark.parametrize("said", ["n\n", "\n", "", "yes please\n"])
def test_anything_but_yes_changes_nothing(asked: FakeDaemon, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(said))
    with pytest.raises(peers.NotConfirmed):
        peers.revoke(Daemon(asked.api), Revoking("attic"), as_json=False)
    assert posts(asked) == []


@pytest.mark.parametrize("node", ["attic", "unheard-of"])
def test_with_yes_the_node_decides_who_is_meant(asked: FakeDaemon, node: str) -> None:
    peers.revoke(Daemon(asked.api), Revoking(node, sure=True), as_json=False)
    assert posts(asked) == [{"node": node, "keep_invited": False}]


def test_an_ambiguous_name_is_left_to_the_node_to_refuse(asked: FakeDaemon, capsys: pytest.CaptureFixture[str]) -> None:
    asked.answer("GET", "/mesh/status", status({"id": "q" * 52, "name": "attic"}))
    peers.revoke(Daemon(asked.api), Revoking("attic"), as_json=False)
    assert posts(asked) == [{"node": "attic", "keep_invited": False}]
    assert "Revoke" not in capsys.readouterr().err


def test_in_a_psk_tofu_mesh_it_is_said_that_only_this_node_knows(
    asked: FakeDaemon, capsys: pytest.CaptureFixture[str]
) -> None:
    asked.answer("GET", "/mesh/status", status(trust="psk-tofu"))
    asked.answer("POST", REVOKE, {**REVOKED, "also": [], "local_only": True})
    peers.revoke(Daemon(asked.api), Revoking("attic"), as_json=False)
    said = capsys.readouterr()
    assert "Only this node bars it" in said.err
    assert "barred by this node alone" in said.out and "a new secret on every other machine" in said.out


def test_a_script_is_not_asked(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", REVOKE, REVOKED)
    result = cli.invoke(app, ["peers", "revoke", "attic", "--json", "--home", str(home)])
    assert (result.exit_code, json.loads(result.stdout)) == (0, REVOKED)
    assert result.stderr == ""


def test_a_refusal_is_told_with_its_candidates(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    refusal = {"error": {"message": f"'attic' means 2 nodes: attic ({ID})", "code": "invalid_request"}}
    daemon.answer("POST", REVOKE, refusal, status=400)
    result = cli.invoke(app, ["peers", "revoke", "attic", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert ID in result.stderr


def test_trust_prints_the_whole_id_to_compare(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/peers/trust", {**NAMED, "changed": True, "trust": "ca"})
    result = cli.invoke(app, ["peers", "trust", "attic", "--name", "loft", "--home", str(home)])
    assert daemon.asked[-1][2] == {"node": "attic", "name": "loft"}
    assert ID in result.stdout and "is pinned\n" in result.stdout
    assert "may now be given sensitive requests" in result.stdout
    daemon.answer("POST", "/mesh/peers/trust", {**NAMED, "changed": False, "trust": "pinned"})
    again = cli.invoke(app, ["peers", "trust", "attic", "--home", str(home)]).stdout
    assert "already" in again and "--trust pinned" not in again


def test_forget_says_what_is_gone(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/peers/forget", {**NAMED, "changed": True})
    assert "is forgotten" in cli.invoke(app, ["peers", "forget", "attic", "--home", str(home)]).stdout
    daemon.answer("POST", "/mesh/peers/forget", {**NAMED, "changed": False})
    assert "nothing is kept" in cli.invoke(app, ["peers", "forget", "attic", "--home", str(home)]).stdout


@pytest.mark.parametrize("verb", ["trust", "revoke", "forget"])
def test_what_other_machines_say_cannot_steer_the_terminal(
    cli: CliRunner, home: Path, daemon: FakeDaemon, verb: str
) -> None:
    daemon.answer("POST", f"/mesh/peers/{verb}", {**REVOKED, "name": "attic\x1b[31m\n", "also": ["x\x1b[2J"]})
    result = cli.invoke(app, ["peers", verb, "attic", "--home", str(home)])
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


@pytest.mark.parametrize("verb", ["trust", "revoke", "forget"])
def test_an_answer_that_names_nobody_is_an_error(cli: CliRunner, home: Path, daemon: FakeDaemon, verb: str) -> None:
    daemon.answer("POST", f"/mesh/peers/{verb}", [])
    result = cli.invoke(app, ["peers", verb, "attic", "--home", str(home)])
    assert result.exit_code == 1 and "another version" in result.stderr


def test_each_verb_shows_the_control_secret(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", REVOKE, REVOKED)
    cli.invoke(app, ["peers", "revoke", "attic", "--home", str(home)])
    assert (daemon.asked[-1][3] or "").startswith("Bearer ")
