"""`mesh show`, `rotate` and `secret`: with a running node and without one; the secret never in an argument."""

from __future__ import annotations

import getpass
import json
import stat
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from meshnode.cli import mesh, place
from meshnode.cli.app import app
from meshnode.errors import IdentityError
from meshnode.identity import new_tofu_secret
from meshnode.keep.home import Home
from tests.cli.conftest import STATUS, FakeDaemon, Terminal

SECRET = new_tofu_secret(bytes(range(32)))


def test_show_says_who_is_in_the_mesh_and_who_holds_its_root(cli: CliRunner, home: Path) -> None:
    printed = cli.invoke(app, ["mesh", "show", "--home", str(home)]).stdout
    assert f"home    {STATUS['mesh']['id']}" in printed
    assert "2: studio (this node), attic[31m" in printed
    assert "held by this node" in printed
    assert "generation 2" in printed
    assert "client, relay, serve; owner bob; member until 2099" in printed
    assert "\x1b" not in printed


def test_show_as_json(cli: CliRunner, home: Path) -> None:
    found = json.loads(cli.invoke(app, ["mesh", "show", "--json", "--home", str(home)]).stdout)
    assert found["running"] is True
    assert found["members"][0] == {"id": STATUS["node"]["id"], "name": "studio"}
    assert (found["trust"], found["holds_root"], found["secret_generation"]) == ("ca", True, 2)


def test_show_of_a_home_without_a_node(cli: CliRunner, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    membership = home.found_mesh(home.node_key(), "office", "ann")
    found = json.loads(cli.invoke(app, ["mesh", "show", "--json", "--home", str(home.path)]).stdout)
    assert (found["name"], found["holds_root"], found["owner"], found["running"]) == ("office", True, "ann", False)
    assert found["node"] == home.node_key().id.text
    printed = cli.invoke(app, ["mesh", "show", "--home", str(home.path)]).stdout
    assert "no node runs here" in printed
    assert membership.mesh.secret.hex() not in printed + json.dumps(found)


def test_show_of_a_home_that_was_never_used_leaves_it_so(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["mesh", "show", "--home", str(tmp_path / "new")])
    assert result.exit_code == 0 and "none yet" in result.stdout
    assert not (tmp_path / "new").exists()


def test_show_of_a_psk_tofu_home(cli: CliRunner, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.node_key()
    home.save_tofu_secret(SECRET)
    home.config.write_text('[mesh]\ntrust = "psk-tofu"\n')
    found = json.loads(cli.invoke(app, ["mesh", "show", "--json", "--home", str(home.path)]).stdout)
    assert found["trust"] == "psk-tofu" and found["name"] and found["id"]
    assert SECRET not in json.dumps(found)


def test_rotate_says_the_generation(cli: CliRunner, home: Path, daemon: FakeDaemon) -> None:
    daemon.answer("POST", "/mesh/rotate", {"mesh": "home", "generation": 3})
    assert "generation 3" in cli.invoke(app, ["mesh", "rotate", "--home", str(home)]).stdout
    as_json = cli.invoke(app, ["mesh", "rotate", "--json", "--home", str(home)])
    assert json.loads(as_json.stdout) == {"mesh": "home", "generation": 3}


def test_rotate_needs_a_running_node(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["mesh", "rotate", "--home", str(tmp_path / "new")])
    assert result.exit_code == 1 and "meshnode up" in result.stderr


def test_the_secret_is_made_once_and_printed_alone(cli: CliRunner, tmp_path: Path) -> None:
    line = ["mesh", "secret", "--home", str(tmp_path / "home")]
    first = cli.invoke(app, line)
    assert (first.exit_code, first.stderr) == (0, "")
    assert first.stdout.count("\n") == 1
    assert cli.invoke(app, line).stdout == first.stdout
    found = json.loads(cli.invoke(app, [*line, "--json"]).stdout)
    assert (found["secret"], found["made"]) == (first.stdout.strip(), False)
    assert stat.S_IMODE(Path(found["file"]).stat().st_mode) == 0o600


def test_another_machines_secret_is_kept_from_standard_input(cli: CliRunner, tmp_path: Path) -> None:
    line = ["mesh", "secret", "--home", str(tmp_path / "home")]
    kept = cli.invoke(app, [*line, "-"], input=f"{SECRET}\n")
    assert kept.exit_code == 0
    assert SECRET not in kept.stdout + kept.stderr
    assert "--trust psk-tofu" in kept.stdout
    assert cli.invoke(app, line).stdout == f"{SECRET}\n"


def test_another_meshs_secret_never_replaces_the_one_there_is(cli: CliRunner, tmp_path: Path) -> None:
    line = ["mesh", "secret", "-", "--home", str(tmp_path / "home")]
    assert [cli.invoke(app, line, input=SECRET).exit_code for _ in range(2)] == [0, 0]
    refused = cli.invoke(app, line, input=new_tofu_secret(bytes(32)))
    assert refused.exit_code == 1 and "another mesh" in refused.stderr
    assert Home(tmp_path / "home").tofu_secret() == SECRET


@pytest.mark.parametrize("given", ["", "\n", SECRET[:-1], "nonsense"])
def test_a_mistyped_secret_is_refused_and_not_repeated(cli: CliRunner, tmp_path: Path, given: str) -> None:
    result = cli.invoke(app, ["mesh", "secret", "-", "--home", str(tmp_path / "home")], input=given)
    assert (result.exit_code, result.stdout) == (1, "")
    assert not given.strip() or given not in result.stderr
    assert Home(tmp_path / "home").tofu_secret() is None


def test_a_secret_in_an_argument_is_refused_without_repeating_it(cli: CliRunner, tmp_path: Path) -> None:
    result = cli.invoke(app, ["mesh", "secret", SECRET, "--home", str(tmp_path / "home")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert "command line" in result.stderr and "mesh secret -" in result.stderr
    assert SECRET not in result.stderr


def test_a_terminal_is_warned_of_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Terminal()
    monkeypatch.setattr(sys, "stdout", out)
    mesh.secret(place.Place(tmp_path / "home", usual=True), None, as_json=False)
    assert out.getvalue().count("\n") == 1
    assert "on your screen" in capsys.readouterr().err


def test_a_secret_that_is_typed_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal("never read"))
    monkeypatch.setattr(getpass, "getpass", lambda prompt: SECRET)
    home = place.Place(tmp_path / "home", usual=True)
    mesh.secret(home, "-", as_json=True)
    assert Home(home.path).tofu_secret() == SECRET
    monkeypatch.setattr(getpass, "getpass", lambda prompt: " ")
    with pytest.raises(IdentityError):
        mesh.secret(home, "-", as_json=True)


def test_a_running_node_uses_a_new_secret_after_a_restart(cli: CliRunner, home: Path) -> None:
    kept = cli.invoke(app, ["mesh", "secret", "-", "--home", str(home)], input=SECRET)
    assert "after a restart" in kept.stdout
