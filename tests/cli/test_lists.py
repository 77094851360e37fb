from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli.app import app
from meshnode.keep.home import Home
from tests.cli.conftest import STATUS, FakeDaemon


def test_models_names_who_has_each(cli: CliRunner, home: Path) -> None:
    result = cli.invoke(app, ["models", "--home", str(home)])
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "MODEL      CONTEXT  FEATURES  NODES   SLOTS",
        "llama3:8b  8192     chat      studio  4",
    ]


def test_status_has_this_node_and_a_line_for_each_peer(cli: CliRunner, home: Path) -> None:
    result = cli.invoke(app, ["status", "--home", str(home)])
    assert 'node "studio" (nq4f-7kta)' in result.stdout
    assert "0.0.0.0:6375, advertised as 192.168.1.5:6375" in result.stdout
    assert "trust     ca: whoever has a certificate of this mesh\n" in result.stdout
    assert "1 running, 2 queued, 1 queued at other nodes, 30 answered, 4 failed; up 2 h" in result.stdout
    words = result.stdout.splitlines()[-1].split("  ")
    assert [word.strip() for word in words if word] == [
        "attic[31m (pppp-pppp)", "relay via cellar", "0.4 ms", "qwen:7b", "1", "ann", "claimed", "1 s ago",
    ]  # fmt: skip


def test_status_tells_of_peers_jobs_and_of_commercial_apis(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    cloud = {"providers": ["acme"], "budget": 2.0, "left": 1.5}
    requests = {**STATUS["requests"], "for_peers": 3}
    daemon.answer("GET", "/mesh/status", {**STATUS, "requests": requests, "cloud": cloud})
    text = cli.invoke(app, ["status", "--home", str(home)]).stdout
    assert "1 running, 3 for peers, 2 queued" in text
    assert " cloud     acme; 1.50 of 2.00 left today" in text.splitlines()


def test_what_other_machines_say_cannot_steer_the_terminal(cli: CliRunner, home: Path) -> None:
    for listing in ("status", "peers"):
        assert "\x1b" not in cli.invoke(app, [listing, "--home", str(home)]).stdout


def test_ps_shows_engines_and_requests(cli: CliRunner, home: Path) -> None:
    lines = cli.invoke(app, ["ps", "--home", str(home)]).stdout.splitlines()
    assert lines[1].split() == ["ollama", "ready", "llama3:8b", "1", "4", "2"]
    assert lines[4].split() == ["ollama", "1", "low", "ann", "4", "s"]
    assert lines[-1] == "1 running, 2 queued, 1 queued at other nodes, 30 answered, 4 failed"


@pytest.mark.parametrize(
    ("command", "printed"),
    [
        ("status", STATUS),
        ("models", STATUS["models"]),
        ("peers", STATUS["peers"]),
        ("ps", {"engines": STATUS["engines"], "waiting": STATUS["waiting"], "requests": STATUS["requests"]}),
    ],
)
def test_json_is_what_the_node_said(cli: CliRunner, home: Path, command: str, printed: object) -> None:
    assert json.loads(cli.invoke(app, [command, "--json", "--home", str(home)]).stdout) == printed


def test_an_empty_listing_says_what_to_do(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/status", {"node": {"name": "studio"}})
    assert "start an engine" in cli.invoke(app, ["models", "--home", str(home)]).stdout
    assert "invite" in cli.invoke(app, ["peers", "--home", str(home)]).stdout


def test_another_endpoint_can_be_asked_without_a_home(cli: CliRunner, daemon: FakeDaemon) -> None:
    result = cli.invoke(app, ["models", "--api", f"{daemon.api}/v1"])
    assert "llama3:8b" in result.stdout


def test_another_endpoint_that_asks_for_a_key_gets_the_environments(cli: CliRunner, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/status", {"error": {"message": "no key", "code": "invalid_api_key"}}, status=401)
    cli.invoke(app, ["models", "--api", daemon.api], env={"MESHNODE_API_KEY": "mk_x"})
    assert [authorization for *_, authorization in daemon.asked] == [None, "Bearer mk_x"]


def test_the_homes_own_endpoint_is_the_homes_node(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("GET", "/mesh/status", {"error": {"message": "no key", "code": "invalid_api_key"}}, status=401)
    cli.invoke(app, ["models", "--home", str(home), "--api", f"{daemon.api}/v1"])
    assert daemon.asked[-1][3] == f"Bearer {Home(home).control_secret()}"


def test_the_home_may_come_from_the_environment(cli: CliRunner, home: Path) -> None:
    assert "llama3:8b" in cli.invoke(app, ["models"], env={"MESHNODE_HOME": str(home)}).stdout


def test_the_control_secret_is_not_shown_to_listings(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    cli.invoke(app, ["status", "--home", str(home)])
    assert {authorization for *_, authorization in daemon.asked} == {None}


def test_without_a_node_it_says_how_to_start_one_and_touches_nothing(cli: CliRunner, tmp_path: Path) -> None:
    home = tmp_path / "new"
    result = cli.invoke(app, ["status", "--home", str(home)])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"meshnode: no meshnode runs in {home}; start it with: meshnode up --home {home}\n"
    assert not home.exists()


@pytest.mark.parametrize("facts", [{"pid": 2**30, "api": "http://127.0.0.1:1"}, {"api": 7}, {}])
def test_what_a_killed_node_left_behind_is_no_node(cli: CliRunner, tmp_path: Path, facts: dict[str, object]) -> None:
    Home(tmp_path / "home").write_run(facts)
    result = cli.invoke(app, ["status", "--home", str(tmp_path / "home")])
    assert result.exit_code == 1
    assert "no meshnode runs" in result.stderr


def test_a_process_that_has_the_pid_but_not_the_port_is_no_node(cli: CliRunner, tmp_path: Path) -> None:
    Home(tmp_path / "home").write_run({"pid": os.getpid(), "api": "http://127.0.0.1:1"})
    assert "no meshnode runs" in cli.invoke(app, ["status", "--home", str(tmp_path / "home")]).stderr


def test_errors_are_json_where_json_was_asked_for(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["status", "--json", "--home", str(tmp_path / "new")])
    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["type"] == "NotRunning"


def test_a_server_that_is_no_node_is_an_error(cli: CliRunner, daemon: FakeDaemon) -> None:
    for answer, word in ((b"<html>", "not JSON"), (b"[]", "not a meshnode"), (b'{"node": 7}', "not a meshnode")):
        daemon.answer("GET", "/mesh/status", answer)
        result = cli.invoke(app, ["status", "--api", daemon.api])
        assert result.exit_code == 1
        assert word in result.stderr
